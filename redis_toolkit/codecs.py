"""How payloads become bytes and bytes become payloads.

Rules:

- A codec has two methods, ``encode(value) -> bytes`` and ``decode(body) -> value``. Whatever it
  raises reaches the user as one `EncodeError` or `DecodeError`.
- Nothing is guessed: bytes that do not decode are an error, never passed on as data.
- JSON and msgpack write the same shapes, so a fleet can move from one to the other:

  ===========================  ===============================================
  Python                       on the wire
  ===========================  ===============================================
  None, bool, int, float, str  as they are
  list, tuple                  array
  dict with str keys           object
  set, frozenset               array, in no particular order
  bytes, bytearray             base64 text in JSON, binary in msgpack
  datetime, date, time         ISO 8601 text
  UUID, Decimal                text
  Enum                         its value
  dataclass, pydantic model    object of its fields
  ===========================  ===============================================

  They come back as what is on the wire; an annotated handler parameter makes a model of it again.
- Never pickle: a payload is data, not code.
"""

from __future__ import annotations

import base64
import dataclasses
import datetime
import decimal
import enum
import json
import uuid
from collections.abc import Callable
from typing import Any, NoReturn, Protocol, runtime_checkable

import msgpack

from redis_toolkit.errors import ConfigurationError, DecodeError, EncodeError

__all__ = ["Codec", "JSONCodec", "MsgpackCodec", "TextCodec", "codec_name", "resolve_codec"]


@runtime_checkable
class Codec(Protocol):
    """What a codec of your own has to offer; its name is ``name`` if it has one, else its class's."""

    def encode(self, value: Any) -> bytes:
        """Return the bytes of a payload."""
        ...

    def decode(self, body: bytes) -> Any:
        """Return the payload of these bytes."""
        ...


def start_of(body: bytes) -> str:
    """Return the start of a body for an error message, on one line whatever it holds."""
    return ascii(body[:60]) + ("..." if len(body) > 60 else "")


def _plain(value: Any) -> Any:
    """Return a value that the encoder knows for one that it does not, or raise TypeError."""
    if isinstance(value, set | frozenset):
        return list(value)
    if isinstance(value, datetime.datetime | datetime.date | datetime.time):
        return value.isoformat()
    if isinstance(value, uuid.UUID | decimal.Decimal):
        return str(value)
    if isinstance(value, enum.Enum):
        return value.value
    if dataclasses.is_dataclass(value) and not isinstance(value, type):
        return {field.name: getattr(value, field.name) for field in dataclasses.fields(value)}
    dump = getattr(value, "model_dump", None)
    if callable(dump) and not isinstance(value, type):
        return dump(mode="json")
    raise TypeError(f"a value of type {type(value).__name__} has no {{}} form: turn it into a dict or text")


def _plain_json(value: Any) -> Any:
    if isinstance(value, bytes | bytearray | memoryview):
        return base64.b64encode(value).decode("ascii")
    return _plain(value)


def _refuse_constant(name: str) -> NoReturn:
    raise ValueError(f"{name} is not JSON")


class JSONCodec:
    """UTF-8 JSON, the default: readable in ``redis-cli`` and by every other language.

    Raises:
        EncodeError: NaN or infinity, a circular structure, a type outside the table above.
        DecodeError: anything that is not one JSON value in UTF-8.
    """

    name = "json"

    def __init__(self) -> None:
        self._encoder = json.JSONEncoder(
            default=_plain_json, separators=(",", ":"), ensure_ascii=False, allow_nan=False
        )
        self._decoder = json.JSONDecoder(parse_constant=_refuse_constant)
        self._write = _c_encoder(self._encoder) or self._encoder.encode
        self._scan: Callable[[str, int], tuple[Any, int]] = self._decoder.scan_once  # type: ignore[attr-defined]

    def encode(self, value: Any) -> bytes:
        """Return the JSON text of a payload as UTF-8."""
        try:
            return self._write(value).encode("utf-8")
        except Exception as error:  # a payload's own code runs here too: properties, model_dump()
            raise EncodeError(_reason(error, "JSON")) from error

    def decode(self, body: bytes) -> Any:
        """Return the value of a JSON text."""
        try:
            text = body.decode("utf-8")
            return self._read(text)
        except (ValueError, RecursionError) as error:
            raise DecodeError(
                f"not JSON ({_reason(error, 'JSON')}), it starts with {start_of(body)}; "
                'for plain text use codec="text"'
            ) from error

    def _read(self, text: str) -> Any:
        """Decode text without white space around it, as most is; the decoder does the rest."""
        try:
            value, end = self._scan(text, 0)
        except StopIteration:
            return self._decoder.decode(text)
        return value if end == len(text) else self._decoder.decode(text)


def _c_encoder(encoder: json.JSONEncoder) -> Callable[[Any], str] | None:
    """Return the C encoder that `json` makes anew for each call, made once; None where there is none.

    It does without the list of containers that are being written: a circular structure ends in a
    RecursionError instead of a ValueError.
    """
    make = getattr(json.encoder, "c_make_encoder", None)
    if make is None:
        return None
    text = json.encoder.encode_basestring
    write = make(None, encoder.default, text, None, ":", ",", False, False, False)
    return lambda value: "".join(write(value, 0))


def _refuse_extension(code: int, _data: bytes) -> NoReturn:
    raise ValueError(f"msgpack extension type {code} is not supported")


class MsgpackCodec:
    """msgpack: smaller and faster than JSON, with binary values.

    Raises:
        EncodeError: an integer beyond 64 bits, a type outside the table above.
        DecodeError: anything that is not exactly one msgpack value with text keys.
    """

    name = "msgpack"

    def encode(self, value: Any) -> bytes:
        """Return the msgpack bytes of a payload."""
        try:
            packed: bytes = msgpack.packb(value, default=_plain)
        except Exception as error:  # a payload's own code runs here too: properties, model_dump()
            raise EncodeError(_reason(error, "msgpack")) from error
        return packed

    def decode(self, body: bytes) -> Any:
        """Return the value of one msgpack body."""
        try:
            return msgpack.unpackb(body, ext_hook=_refuse_extension)
        except (ValueError, TypeError, RecursionError, msgpack.UnpackException) as error:
            raise DecodeError(
                f"not msgpack ({_reason(error, 'msgpack')}), it starts with {start_of(body)}"
            ) from error


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


def _reason(error: BaseException, form: str) -> str:
    text = str(error).replace("{}", form) or type(error).__name__
    if isinstance(error, RecursionError):
        text = "it is nested too deeply, or holds itself"
    return " ".join(text.split())


_BY_NAME: dict[str, type[JSONCodec] | type[MsgpackCodec] | type[TextCodec]] = {
    "json": JSONCodec,
    "msgpack": MsgpackCodec,
    "text": TextCodec,
}


def resolve_codec(codec: str | Codec) -> Codec:
    """Return the codec of a name (``"json"``, ``"msgpack"``, ``"text"``), or the codec itself.

    Raises:
        ConfigurationError: an unknown name, or an object without the two methods.
    """
    if isinstance(codec, str):
        if codec not in _BY_NAME:
            raise ConfigurationError(
                f"codec={codec!r} is unknown: use {', '.join(map(repr, _BY_NAME))} or your own"
            )
        return _BY_NAME[codec]()
    if isinstance(codec, type) or not isinstance(codec, Codec):
        raise ConfigurationError(f"codec={codec!r} needs to be an object with encode(value) and decode(body)")
    return codec


def codec_name(codec: Codec) -> str:
    """Return the name that envelopes carry for a codec: its ``name``, else its class's name."""
    return str(getattr(codec, "name", type(codec).__name__))
