"""Makes of a decoded payload what a handler's annotation asks for.

Rules:

- Models are validated: pydantic models by ``model_validate``, dataclasses field by field. A field that
  is annotated ``int``, ``float``, ``str``, ``bool``, ``list`` or ``dict`` takes just that (``float`` also a
  whole number).
- Types that travel as text (datetime, UUID, Decimal, Enum, bytes ...) are made of that text again.
- Lists, tuples, sets, dicts and ``X | None`` of these are looked into. Everything else is passed on as
  it is, at no cost: a handler's own ``x: int`` is not checked.
- A payload that does not fit is a `PayloadMismatch` that names the place in it.
- Nothing is made of what is annotated with a name that cannot be found; `not_found` says which those are.
"""

from __future__ import annotations

import base64
import dataclasses
import datetime
import enum
import sys
import types
import typing
import uuid
from collections.abc import Callable, Iterator
from typing import Any

from redis_toolkit.errors import PayloadMismatch, one_line

__all__ = ["Converter", "converter", "not_found"]

Converter = Callable[[Any, str], Any]
"""Given a value and its place in the payload, returns the converted value."""
Make = Callable[[Any], Converter | None]

_FROM_TEXT: dict[Any, Callable[[str], Any]] = {
    datetime.datetime: datetime.datetime.fromisoformat,
    datetime.date: datetime.date.fromisoformat,
    datetime.time: datetime.time.fromisoformat,
    uuid.UUID: uuid.UUID,
    bytes: lambda text: base64.b64decode(text, validate=True),
}
_PLAIN: dict[type, tuple[type, ...]] = {
    int: (int,),
    float: (float, int),
    str: (str,),
    bool: (bool,),
    list: (list,),
    dict: (dict,),
}
_SEQUENCES: dict[Any, Callable[[list[Any]], Any]] = {list: list, set: set, frozenset: frozenset, tuple: tuple}


def converter(annotation: Any) -> Converter | None:
    """Return what converts a payload to an annotation, or None when nothing needs to be done."""
    if isinstance(annotation, type):
        if annotation in _FROM_TEXT or annotation is getattr(sys.modules.get("decimal"), "Decimal", None):
            return _from_text(annotation)
        if hasattr(annotation, "model_validate"):
            return _pydantic(annotation)
        if dataclasses.is_dataclass(annotation):
            return _dataclass(annotation)
        if issubclass(annotation, enum.Enum):
            return _enum(annotation)
    origin, args = typing.get_origin(annotation), typing.get_args(annotation)
    if origin is typing.Annotated:
        return converter(args[0])
    if origin in (typing.Union, types.UnionType):
        return _optional(args)
    if annotation in (set, frozenset, tuple) or origin in _SEQUENCES:
        return _sequence(origin or annotation, args)
    if origin is dict and len(args) == 2:
        return _mapping(converter(args[1]))
    return None


def _field_converter(annotation: Any) -> Converter | None:
    """Return what `converter` does for a field of a dataclass, where plain types are checked as well."""
    origin, args = typing.get_origin(annotation), typing.get_args(annotation)
    if isinstance(annotation, type) and annotation in _PLAIN:
        return _plain(annotation)
    if origin in (typing.Union, types.UnionType):
        return _optional(args, _field_converter)
    if origin in _SEQUENCES:
        return _sequence(origin, args, _field_converter)
    if origin is dict and len(args) == 2:
        return _mapping(_field_converter(args[1]) or _anything)
    return converter(annotation)


def _anything(value: Any, _place: str) -> Any:
    return value


def _plain(kind: type) -> Converter:
    kinds = _PLAIN[kind]

    def convert(value: Any, place: str) -> Any:
        if type(value) not in kinds and not (isinstance(value, kind) and not isinstance(value, bool)):
            raise PayloadMismatch(f"{place} is {type(value).__name__}, not {kind.__name__}")
        return value

    return convert


def _name(annotation: Any) -> str:
    return getattr(annotation, "__name__", str(annotation))


def _from_text(kind: type) -> Converter:
    parse = _FROM_TEXT.get(kind, kind)

    def convert(value: Any, place: str) -> Any:
        if isinstance(value, kind):
            return value
        if not isinstance(value, str):
            raise PayloadMismatch(f"{place} is {type(value).__name__}, and {_name(kind)} is made of text")
        try:
            return parse(value)
        except (ValueError, ArithmeticError) as error:
            raise PayloadMismatch(
                f"{place} is no {_name(kind)}: {str(error) or ascii(value)[:80]}"
            ) from error

    return convert


def _pydantic(model: Any) -> Converter:
    def convert(value: Any, place: str) -> Any:
        try:
            return model.model_validate(value)
        except ValueError as error:
            problems = "; ".join(
                f"{'.'.join(map(_shown, problem['loc'])) or place}: {problem['msg']}"
                for problem in getattr(error, "errors", list)()
            )
            raise PayloadMismatch(f"{place} is no {_name(model)}: {problems or error}") from error

    return convert


def _enum(kind: type[enum.Enum]) -> Converter:
    def convert(value: Any, place: str) -> Any:
        try:
            return kind(value)
        except ValueError as error:
            raise PayloadMismatch(f"{place} is no {kind.__name__}: {error}") from error

    return convert


def _dataclass(kind: Any) -> Converter:
    hints = _hints(kind)
    fields = {field.name: field for field in dataclasses.fields(kind) if field.init}
    required = {
        name
        for name, field in fields.items()
        if field.default is dataclasses.MISSING and field.default_factory is dataclasses.MISSING
    }
    inner: dict[str, Converter | None] = {}

    def convert(value: Any, place: str) -> Any:
        if isinstance(value, kind):
            return value
        if not isinstance(value, dict):
            raise PayloadMismatch(
                f"{place} is {type(value).__name__}, and {kind.__name__} is made of a map of its fields"
            )
        if missing := required - value.keys():
            raise PayloadMismatch(f"{place} lacks {_listed(missing)} of {kind.__name__}")
        if unknown := value.keys() - fields.keys():
            raise PayloadMismatch(f"{place} has {_listed(unknown)}, which {kind.__name__} does not have")
        if not inner:  # made on first use, so that a dataclass may contain itself
            inner.update({name: _field_converter(hints.get(name)) for name in fields})
        values = {
            name: (make(value[name], f"{place}.{name}") if (make := inner[name]) else value[name])
            for name in value
        }
        try:
            return kind(**values)
        except (TypeError, ValueError) as error:
            raise PayloadMismatch(f"{place} is no {kind.__name__}: {error}") from error

    return convert


def not_found(annotation: Any, seen: set[Any] | None = None) -> Iterator[str]:
    """Return what is not known of an annotation: the fields of dataclasses whose types cannot be found.

    Args:
        annotation: it; what it contains is looked at too.
        seen: dataclasses that have been looked at.
    """
    seen = set() if seen is None else seen
    origin, args = typing.get_origin(annotation), typing.get_args(annotation)
    if origin in (typing.Union, types.UnionType) and _optional(args, lambda _: _anything) is None:
        return  # nothing is made of it anyway
    for arg in args[:1] if origin is typing.Annotated else args:
        yield from not_found(arg, seen)
    kind = annotation
    if not isinstance(kind, type) or not dataclasses.is_dataclass(kind) or hasattr(kind, "model_validate"):
        return
    if kind in seen:
        return
    seen.add(kind)
    hints = _hints(kind)
    for field in dataclasses.fields(kind):
        hint = hints.get(field.name)
        if isinstance(hint, _NotFound):
            if field.init:
                where = f"the field {field.name!r} of {one_line(kind.__name__)}"
                yield f"{field.type!r} of {where} cannot be found ({hint.why})"
        else:
            yield from not_found(hint, seen)


class _NotFound(typing.NamedTuple):
    """Stands for the type of a field that cannot be found, and is converted to by nothing."""

    why: str


def _hints(kind: Any) -> dict[str, Any]:
    """Return the types of a dataclass's fields. When one of them cannot be found (an import for type
    checkers only), the others still are."""
    try:
        return typing.get_type_hints(kind)
    except Exception:  # what stands there may be any expression: each field by itself
        return {field.name: _hint(kind, field) for field in dataclasses.fields(kind)}


def _hint(kind: Any, field: dataclasses.Field[Any]) -> Any:
    owner = [  # of the classes that have this very field, the first one that had it
        one for one in kind.__mro__ if vars(one).get("__dataclass_fields__", {}).get(field.name) is field
    ][-1]
    lone = type("_", (), {"__annotations__": {"it": field.type}})
    try:
        scope = vars(sys.modules[owner.__module__])
        return typing.get_type_hints(lone, scope, dict(vars(owner)))["it"]
    except Exception as error:
        return _NotFound(one_line(str(error)))


def _optional(args: tuple[Any, ...], of: Make = converter) -> Converter | None:
    """Convert ``X | None``. Of other unions nothing is guessed: the value is passed on as it is."""
    others = [arg for arg in args if arg is not type(None)]
    make = of(others[0]) if len(others) == 1 else None
    if make is None:
        return None
    return lambda value, place: None if value is None else make(value, place)


def _sequence(kind: Any, args: tuple[Any, ...], of: Make = converter) -> Converter | None:
    build = _SEQUENCES[kind]
    fixed = kind is tuple and args and args[-1] is not Ellipsis
    makes = [of(arg) for arg in args if arg is not Ellipsis]
    if kind is list and not any(makes):
        return None

    def convert(value: Any, place: str) -> Any:
        if not isinstance(value, list | tuple | set | frozenset):
            raise PayloadMismatch(f"{place} is {type(value).__name__}, not a list")
        if fixed and len(value) != len(makes):
            raise PayloadMismatch(f"{place} has {len(value)} items, not {len(makes)}")
        items = []
        for number, item in enumerate(value):
            make = makes[number] if fixed else (makes[0] if makes else None)
            items.append(make(item, f"{place}[{number}]") if make else item)
        try:
            return build(items)
        except TypeError as error:
            raise PayloadMismatch(f"{place} is no {_name(kind)}: {error}") from error

    return convert


def _mapping(make: Converter | None) -> Converter | None:
    if make is None:
        return None

    def convert(value: Any, place: str) -> Any:
        if not isinstance(value, dict):
            raise PayloadMismatch(f"{place} is {type(value).__name__}, not a map")
        return {name: make(item, f"{place}.{_shown(name)}") for name, item in value.items()}

    return convert


def _shown(name: object) -> str:
    """Return a name from a payload as it may stand in a log line: on one line, whatever it holds."""
    return ascii(name)[1:-1] if isinstance(name, str) else str(name)


def _listed(names: Any) -> str:
    return ", ".join(repr(name) for name in sorted(map(str, names)))
