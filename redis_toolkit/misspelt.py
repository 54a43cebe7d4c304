"""What to say to a call that names an option which there is not: the one that was meant.

Rules: it costs nothing until a call has failed. What a function itself raises passes as it is.
"""

from __future__ import annotations

import functools
import inspect
from collections.abc import Callable, Iterable, Mapping
from typing import Any, ParamSpec, TypeVar, cast

from redis_toolkit.errors import ConfigurationError

__all__ = ["by_name", "meant"]

P = ParamSpec("P")
R = TypeVar("R")


def meant(unknown: Iterable[str], known: Iterable[str]) -> str:
    """Return which options were meant by names that there are not; all there are when that cannot be told."""
    import difflib  # here: it takes half a millisecond, and is for a mistake only

    names = list(known)
    near = [one for name in unknown for one in difflib.get_close_matches(name, names, n=1)]
    if near:
        return f"did you mean {', '.join(f'{one}=' for one in dict.fromkeys(near))}?"
    return f"it has {', '.join(names)}"


def by_name(function: Callable[P, R]) -> Callable[P, R]:
    """Make a function whose options are given by name say which one was meant.

    Raises:
        ConfigurationError: when it is called, with an option that there is not, or with one without its name.
    """
    signature = inspect.signature(function)

    def explained(error: TypeError, args: tuple[Any, ...], kwargs: Mapping[str, Any]) -> Exception:
        try:
            signature.bind(*args, **kwargs)
        except TypeError:
            return _explained(function, signature, args, kwargs) or error
        return error

    if inspect.iscoroutinefunction(function):

        @functools.wraps(function)
        async def awaited(*args: Any, **kwargs: Any) -> Any:
            try:
                called = function(*args, **kwargs)
            except TypeError as error:
                raise explained(error, args, kwargs) from None
            return await called

        return cast("Callable[P, R]", awaited)

    @functools.wraps(function)
    def call(*args: P.args, **kwargs: P.kwargs) -> R:
        try:
            return function(*args, **kwargs)
        except TypeError as error:
            found = explained(error, args, kwargs)
            if found is error:
                raise
            raise found from None

    return call


def _explained(
    function: Callable[..., Any],
    signature: inspect.Signature,
    args: tuple[Any, ...],
    kwargs: Mapping[str, Any],
) -> ConfigurationError | None:
    name = function.__name__
    if name == "__init__":
        name = function.__qualname__.split(".")[-2]
    kinds = [one for one in signature.parameters.values() if one.name != "self"]
    known = [one.name for one in kinds if one.kind in (one.KEYWORD_ONLY, one.POSITIONAL_OR_KEYWORD)]
    unknown = [one for one in kwargs if one not in known]
    if unknown and not any(one.kind is one.VAR_KEYWORD for one in kinds):
        named = ", ".join(f"{one}=" for one in unknown)
        return ConfigurationError(f"{name}() has no option {named}: {meant(unknown, known)}")
    places = [one for one in kinds if one.kind in (one.POSITIONAL_ONLY, one.POSITIONAL_OR_KEYWORD)]
    if len(args) > len(places) + ("self" in signature.parameters):
        options = ", ".join(f"{one.name}=" for one in kinds if one.kind is one.KEYWORD_ONLY)
        return ConfigurationError(f"{name}() takes its options by name{options and ': '}{options}")
    return None
