"""Makes of a decoded payload what a handler's annotation asks for.

Rules:

- Models are validated: pydantic models by ``model_validate``, dataclasses field by field. A field that
  is annotated ``int``, ``float``, ``str``, ``bool``, ``list`` or ``dict`` takes just that (``float`` also a
  whole number).
- Types that travel as text (datetime, UUID, Decimal, Enum, bytes ...) are made of that text again.
- Lists, tuples, sets, dicts and ``X | None`` of these are looked into. Everything else is passed on as
  it is, at no cost: a handler's own ``x: int`` is not checked.
- A payload that does not fit is a `PayloadMismatch` that names the place in it.
"""

from __future__ import annotations

import base64
import contextlib
import dataclasses
import datetime
import decimal
import enum
import sys
import types
import typing
import uuid
from collections.abc import Callable
from typing import Any

from redis_toolkit.errors import PayloadMismatch

__all__ = ["Converter", "converter"]

Converter = Callable[[Any, str], Any]
"""Given a value and its place in the payload, returns the converted value."""
Make = Callable[[Any], Converter | None]

_FROM_TEXT: dict[Any, Callable[[str], Any]] = {
    datetime.datetime: datetime.datetime.fromisoformat,
    datetime.date: datetime.date.fromisoformat,
    datetime.time: datetime.time.fromisoformat,
    uuid.UUID: uuid.UUID,
    decimal.Decimal: decimal.Decimal,
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
        if annotation in _FROM_TEXT:
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
    parse = _FROM_TEXT[kind]

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


def _hints(kind: Any) -> dict[str, Any]:
    """Return the types of a dataclass's fields. When a name in them cannot be found (an import for type
    checkers only), the others still are, and that one is taken as none."""
    try:
        return typing.get_type_hints(kind)
    except NameError:
        scope = vars(sys.modules[kind.__module__])
        found = {}
        for field in dataclasses.fields(kind):
            with contextlib.suppress(NameError):
                lone = type("_", (), {"__annotations__": {"it": field.type}})
                found[field.name] = typing.get_type_hints(lone, scope)["it"]
        return found


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
