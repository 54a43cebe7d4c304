"""How a message becomes the arguments of a handler.

Rules:

- A parameter named ``channel`` gets the channel's name; one annotated `Message`, `Headers` or ``App``
  gets that. The one other parameter gets the payload, converted to its annotation.
- With several others, a map is spread over them by name. A call with keyword fields is always spread.
  A payload that is no map goes to the only one that has no default, if there is just one.
- A payload that does not fit is a `PayloadMismatch` and the handler is not called.
- What is wrong with a signature is said when it is registered, not when a message comes.
"""

from __future__ import annotations

import functools
import inspect
import logging
import types
import typing
from collections.abc import Callable
from typing import Any

from redis_toolkit.convert import Converter, converter, not_found, strict_fields
from redis_toolkit.errors import ConfigurationError, PayloadMismatch, one_line
from redis_toolkit.message import Headers, Message

__all__ = ["Binding", "handler_name", "is_async", "refuse_generator"]

logger = logging.getLogger("redis_toolkit")

_MISSING = object()


def handler_name(function: Callable[..., Any]) -> str:
    """Return how messages name a handler: its qualified name, else its type."""
    return one_line(str(getattr(function, "__qualname__", None) or type(function).__name__))


def is_async(function: Callable[..., Any]) -> bool:
    """Return whether calling it makes a coroutine: an ``async def``, or an object with such a call."""
    return inspect.iscoroutinefunction(function) or inspect.iscoroutinefunction(type(function).__call__)


def refuse_generator(function: Callable[..., Any]) -> None:
    """Refuse a function that has ``yield``: calling it runs nothing of it.

    Raises:
        ConfigurationError: it has.
    """
    for called in (function, type(function).__call__):
        if inspect.isgeneratorfunction(called) or inspect.isasyncgenfunction(called):
            raise ConfigurationError(
                f"handler {handler_name(function)} has `yield`: return a list, or publish each item"
            )


def _refuse_method(function: Callable[..., Any]) -> None:
    """Refuse a function of a class body, whose first parameter nobody would fill."""
    if not inspect.isfunction(function):
        return
    parameters = list(inspect.signature(function).parameters)
    inside = function.__qualname__.rpartition(".")[0]
    if parameters[:1] in (["self"], ["cls"]) and inside and not inside.endswith("<locals>"):
        kind, name = inside.rpartition(".")[2], function.__name__
        raise ConfigurationError(
            f"handler {handler_name(function)} is a method, and there is no {parameters[0]} to call it with: "
            f"register the bound method, as in app.on({name!r})({kind}().{name})"
        )


def _around(function: Callable[..., Any]) -> dict[str, Any]:
    """Return the local names of the running functions that a function is written in: it may be annotated with
    a class of theirs that its own body does not use, and so does not keep."""
    found: dict[str, Any] = {}
    code, frame = getattr(function, "__code__", None), inspect.currentframe()
    if "<locals>" not in getattr(function, "__qualname__", ""):
        return found
    while frame is not None:
        if _contains(frame.f_code, code):
            found = {**frame.f_locals, **found}  # what is further in hides what is further out
        frame = frame.f_back
    return found


def _contains(outer: types.CodeType, code: object) -> bool:
    inside = [one for one in outer.co_consts if isinstance(one, types.CodeType)]
    return any(one is code or _contains(one, code) for one in inside)


def _always(value: Any) -> Callable[[Message], Any]:
    return lambda _message: value


class Binding:
    """The parameters of one handler, looked at once.

    Args:
        function: the handler.
        app: what a parameter annotated with its class gets.

    Raises:
        ConfigurationError: the signature cannot be served.

    Attributes:
        scope: whose the things are that it does once, see `Message.once`.
    """

    def __init__(self, function: Callable[..., Any], app: object = None) -> None:
        self.function = function
        self.name = handler_name(function)
        self.scope = self.name
        self.is_async = is_async(function)
        refuse_generator(function)
        _refuse_method(function)
        self.app = app
        self._fields: dict[str, tuple[inspect.Parameter, Converter | None]] = {}
        self._special: dict[str, Callable[[Message], Any]] = {}
        self._takes_rest = False
        self._positional: list[str] = []
        for parameter, annotation in self._annotated():
            self._sort(parameter, annotation)
        if isinstance(function, functools.partial):
            for name, value in function.keywords.items():  # fixed: the payload has no say in them
                self._fields.pop(name, None)
                self._special[name] = _always(value)
        self._single = self._only_field()
        self._direct = (
            self._single is not None
            and not self._special
            and self._fields[self._single[0]][0].kind is not inspect.Parameter.KEYWORD_ONLY
        )

    def call(self, message: Message, *, spread: bool = False) -> Any:
        """Call the handler with the arguments that a message gives it, and return what it returns.

        For an ``async def`` handler that is its coroutine.

        Args:
            message: the message.
            spread: whether the payload is a map of parameters, because the caller wrote it as
                keyword fields.

        Raises:
            PayloadMismatch: the payload does not fit; the handler was not called.
        """
        if self._single is not None and not spread:
            name, make = self._single
            value = make(message.data, name) if make else message.data
            if self._direct:
                return self.function(value)
            arguments = {name: value}
        else:
            arguments = self._spread(message, spread)
        for name, get in self._special.items():
            arguments[name] = get(message)
        if not self._positional:
            return self.function(**arguments)
        positional = [arguments.pop(name) for name in self._positional if name in arguments]
        return self.function(*positional, **arguments)

    @property
    def bare(self) -> Callable[[Any], Any] | None:
        """The handler itself, if all it takes is the payload as it is; else None."""
        return self.function if self._direct and self._single is not None and not self._single[1] else None

    @property
    def payload(self) -> inspect.Signature:
        """What a caller passes: the signature without annotations, and without what the message gives."""
        parameters = inspect.signature(self.function).parameters
        none = inspect.Parameter.empty
        passed = [
            one.replace(annotation=none) for one in parameters.values() if one.name not in self._special
        ]
        return inspect.Signature(passed)

    @property
    def fields(self) -> frozenset[str] | None:
        """The fields of a map that it takes; None when it takes any."""
        if self._takes_rest:
            return None
        if self._single is None:
            return frozenset(self._fields)
        return strict_fields(self._resolved(self._fields[self._single[0]][0]))

    def result_converter(self) -> Converter | None:
        """Return what converts a result that has travelled to the function's return annotation."""
        annotation = inspect.signature(self.function).return_annotation
        result = inspect.Parameter("result", inspect.Parameter.KEYWORD_ONLY, annotation=annotation)
        return converter(self._resolved(result))

    def _annotated(self) -> list[tuple[inspect.Parameter, Any]]:
        try:
            parameters = list(inspect.signature(self.function).parameters.values())
        except (TypeError, ValueError) as error:
            raise ConfigurationError(f"{self.name} cannot be a handler: {error}") from error
        return [(parameter, self._resolved(parameter)) for parameter in parameters]

    def _resolved(self, parameter: inspect.Parameter) -> Any:
        """Return what an annotation names. One that cannot be found (an import for type checkers only)
        is taken as none, which is said where it matters."""
        annotation = parameter.annotation
        if not isinstance(annotation, str):
            return annotation
        function = inspect.unwrap(getattr(self.function, "func", self.function))
        function = getattr(function, "__func__", function)
        if not hasattr(function, "__globals__"):
            function = getattr(function, "__init__" if isinstance(function, type) else "__call__", function)
        scope = {**getattr(function, "__globals__", {}), **_around(function)}
        names = getattr(getattr(function, "__code__", None), "co_freevars", ())
        for name, cell in zip(names, getattr(function, "__closure__", None) or (), strict=False):
            try:
                scope[name] = cell.cell_contents
            except ValueError:
                continue
        try:
            return typing.get_type_hints(type("_", (), {"__annotations__": {"it": annotation}}), scope)["it"]
        except Exception as error:
            named = parameter.name != "channel" and parameter.kind is not parameter.VAR_KEYWORD
            logger.log(
                logging.WARNING if named else logging.DEBUG,
                "handler %s: the annotation %r of its parameter %r cannot be found (%s), so nothing is made "
                "of the payload: define it at module level, or import it there at run time",
                self.name,
                annotation,
                parameter.name,
                one_line(str(error)),
            )
            return inspect.Parameter.empty

    def _sort(self, parameter: inspect.Parameter, annotation: Any) -> None:
        name, kind = parameter.name, parameter.kind
        if kind is parameter.VAR_POSITIONAL:
            raise ConfigurationError(
                f"handler {self.name} has *{name}: name its parameters, or take one and unpack it"
            )
        if kind is parameter.VAR_KEYWORD:
            self._takes_rest = True
            return
        if kind is parameter.POSITIONAL_ONLY:
            self._positional.append(name)
        if annotation is Message:
            self._special[name] = self._handing_over
        elif annotation is Headers:
            self._special[name] = lambda message: message.headers
        elif self.app is not None and annotation in type(self.app).__mro__[:-1]:
            self._special[name] = lambda _message: self.app
        elif name == "channel":
            self._special[name] = lambda message: message.channel
        else:
            self._fields[name] = (parameter, converter(annotation))
            for what in not_found(annotation):
                logger.warning(
                    "handler %s: the annotation %s, so nothing is made of it: define it at module level "
                    "before the handler, or import it there at run time",
                    self.name,
                    what,
                )

    def _handing_over(self, message: Message) -> Message:
        """Return a message that knows whose it is: only those whose handler asks for it need to."""
        message._handler = self
        return message

    def _only_field(self) -> tuple[str, Converter | None] | None:
        """Return the one parameter that takes the whole payload, if the handler has just that."""
        if len(self._fields) != 1 or self._takes_rest:
            return None
        [(name, (_, make))] = self._fields.items()
        return name, make

    def _spread(self, message: Message, spread: bool) -> dict[str, Any]:
        data = message.data
        if not self._fields and not self._takes_rest and not spread:
            return {}
        if not isinstance(data, dict):
            required = [name for name, (one, _) in self._fields.items() if one.default is one.empty]
            if len(required) == 1 and not spread:  # the others keep their defaults
                name = required[0]
                make = self._fields[name][1]
                return {name: make(data, name) if make else data}
            raise PayloadMismatch(
                f"handler {self.name} takes {self._listed()}, so the payload has to be a map of them, "
                f"not {type(data).__name__}"
            )
        arguments: dict[str, Any] = {}
        left = len(data)
        for name, (parameter, make) in self._fields.items():
            value = data.get(name, _MISSING)
            if value is not _MISSING:
                left -= 1
                arguments[name] = make(value, name) if make else value
            elif parameter.default is parameter.empty:
                way_out = self._way_out(name, message, spread=spread) if data else ""
                raise PayloadMismatch(
                    f"handler {self.name} takes {self._listed()}: {name!r} is missing{way_out}"
                )
            elif parameter.kind is parameter.POSITIONAL_ONLY:
                arguments[name] = parameter.default  # else those behind it would move up
        if not left:
            return arguments
        rest = {name: value for name, value in data.items() if name not in self._fields}
        if not self._takes_rest:
            unknown = ", ".join(repr(name) for name in rest)
            raise PayloadMismatch(
                f"handler {self.name} takes {self._listed()}: it has no parameter {unknown}"
            )
        if clash := rest.keys() & self._special.keys():
            raise PayloadMismatch(
                f"handler {self.name} gets {', '.join(sorted(clash))} from the message, not the payload"
            )
        return {**arguments, **rest}

    def _way_out(self, missing: str, message: Message, *, spread: bool) -> str:
        """Return what to do about a parameter that is missing from a map of fields: which field was meant, or
        that one parameter takes the payload as a whole."""
        data = message.data
        unknown = [name for name in data if name not in self._fields]
        if self._takes_rest or not unknown:
            return ""
        import difflib  # here: it takes half a millisecond, and is for a mistake only

        near = difflib.get_close_matches(missing, [name for name in unknown if isinstance(name, str)], n=1)
        needed = [name for name, (one, _) in self._fields.items() if one.default is one.empty]
        others = [name for name in needed if name not in data and name != missing]
        one_payload = f"request({message.channel!r}, {{...}})" if spread and self._single is not None else ""
        if near or (len(unknown) == 1 and not others):
            said = f", and it has no parameter {(near or unknown)[0]!r}: was {missing!r} meant?"
            return said + (
                f" (One payload with such fields is {one_payload}.)" if one_payload and not near else ""
            )
        fields = ", ".join(map(str, data))
        return one_payload and (
            f"; the fields {fields} came as keywords, which are spread by name: "
            f"send one payload, {one_payload}"
        )

    def _listed(self) -> str:
        return ", ".join(repr(name) for name in self._fields) or "nothing"
