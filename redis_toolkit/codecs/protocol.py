"""What a codec is: two methods, and perhaps a name.

Rules: whatever a codec raises reaches the user as one `EncodeError` or `DecodeError`; a message about
bytes shows their start, on one line.
"""

from __future__ import annotations

from typing import Any, Protocol, runtime_checkable

__all__ = ["Codec", "codec_name", "start_of"]


@runtime_checkable
class Codec(Protocol):
    """What a codec of your own has to offer; its name is ``name`` if it has one, else its class's.

    With ``exclusive = True`` it reads only what itself has written: an envelope with a payload that
    did not go through it is refused.
    """

    def encode(self, value: Any) -> bytes:
        """Return the bytes of a payload; whatever it raises becomes an `EncodeError`."""
        ...

    def decode(self, body: bytes) -> Any:
        """Return the payload of these bytes; whatever it raises becomes a `DecodeError`."""
        ...


def codec_name(codec: Codec) -> str:
    """Return the name that envelopes carry for a codec: its ``name``, else its class's name."""
    return str(getattr(codec, "name", type(codec).__name__))


def start_of(body: bytes) -> str:
    """Return the start of a body for an error message, on one line whatever it holds."""
    return ascii(body[:60]) + ("..." if len(body) > 60 else "")
