"""Plain text. Rules: a payload is a str and nothing else; bytes that are not UTF-8 are an error."""

from __future__ import annotations

from typing import Any

from redis_toolkit.codecs.protocol import start_of
from redis_toolkit.errors import DecodeError, EncodeError

__all__ = ["TextCodec"]


class TextCodec:
    """Plain UTF-8 text, for channels that carry no JSON.

    Raises:
        EncodeError: the payload is not a str.
        DecodeError: the bytes are not UTF-8.
    """

    name = "text"

    def encode(self, value: Any) -> bytes:
        """Return the text as UTF-8."""
        if not isinstance(value, str):
            raise EncodeError(f'codec="text" sends str, not {type(value).__name__}')
        try:
            return value.encode("utf-8")
        except UnicodeEncodeError as error:
            raise EncodeError(f"this text has no UTF-8 form: {error}") from error

    def decode(self, body: bytes) -> str:
        """Return the text of UTF-8 bytes."""
        try:
            return body.decode("utf-8")
        except UnicodeDecodeError as error:
            raise DecodeError(f"not UTF-8 text, it starts with {start_of(body)}") from error
