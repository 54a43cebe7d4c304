"""The fields of envelopes: which values they may have, written and read.

Rules: what stands in a field that we send has a UTF-8 form, whatever the text it came from was.
"""

from __future__ import annotations

import traceback
from collections.abc import Mapping
from typing import Any

from redis_toolkit.errors import DecodeError, EncodeError, RemoteError
from redis_toolkit.keys import is_reply_key
from redis_toolkit.message import Headers
from redis_toolkit.tracebacks import since_handler

__all__ = [
    "checked_headers",
    "is_address",
    "is_sendable",
    "read_headers",
    "text_of",
    "traceback_text",
    "utf8",
]


def checked_headers(headers: Mapping[Any, Any]) -> dict[str, str]:
    """Return the headers that a caller gave, as they are sent.

    Raises:
        EncodeError: they are no map of text to text.
    """
    if not isinstance(headers, Mapping):
        raise EncodeError(f"headers are a map of text to text, not {type(headers).__name__}")
    for name, value in headers.items():
        if not isinstance(name, str) or not isinstance(value, str):
            raise EncodeError(f"headers are text by name, {name!r}: {value!r} is not")
    return dict(headers)


def is_sendable(value: Any) -> bool:
    """Return whether it is text with a UTF-8 form: JSON can carry half a surrogate pair, a reply cannot."""
    return isinstance(value, str) and (value.isascii() or utf8(value) == value)


def is_address(value: Any) -> bool:
    """Return whether a reply may be sent there."""
    return is_sendable(value) and is_reply_key(value)


def read_headers(headers: Any) -> Headers:
    """Return the headers in an envelope; empty ones when it has none.

    Raises:
        DecodeError: they are no map of text to text.
    """
    if headers is None:
        return Headers()
    if not isinstance(headers, dict) or not all(
        isinstance(name, str) and isinstance(value, str) for name, value in headers.items()
    ):
        raise DecodeError("the field 'headers' is not a map of text to text")
    return Headers(headers)


def text_of(error: BaseException) -> str:
    """Return what an error reply says of an error."""
    try:
        return utf8(f"{error.type}: {error.message}" if isinstance(error, RemoteError) else str(error))
    except BaseException as failure:  # an error's own code runs here, which may even exit
        return f"(its text cannot be shown: {type(failure).__name__})"


def traceback_text(error: BaseException) -> str:
    """Return the traceback of what a handler raised, as it is sent and kept: from its own first frame on."""
    try:
        return utf8("".join(traceback.format_exception(type(error), error, since_handler(error))))
    except BaseException as failure:  # as in text_of
        return f"(it cannot be shown: {type(failure).__name__})"


def utf8(text: str) -> str:
    """Replace what has no UTF-8 form: an error must reach its caller whatever its text is."""
    return str.encode(text, "utf-8", "backslashreplace").decode("utf-8")
