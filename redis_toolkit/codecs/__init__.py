"""How payloads become bytes and bytes become payloads.

Rules:

- A codec has two methods, ``encode(value) -> bytes`` and ``decode(body) -> value`` (`protocol`).
  Whatever it raises reaches the user as one `EncodeError` or `DecodeError`.
- Nothing is guessed: bytes that do not decode are an error, never passed on as data.
- JSON and msgpack write the same shapes within the same limits (`payload`), so a fleet can move from
  one to the other:

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

from redis_toolkit.codecs.json_codec import JSONCodec
from redis_toolkit.codecs.msgpack_codec import MsgpackCodec
from redis_toolkit.codecs.names import resolve_codec
from redis_toolkit.codecs.orjson_codec import OrjsonCodec
from redis_toolkit.codecs.protocol import Codec, codec_name, start_of
from redis_toolkit.codecs.signed_codec import SignedCodec
from redis_toolkit.codecs.text_codec import TextCodec

__all__ = [
    "Codec",
    "JSONCodec",
    "MsgpackCodec",
    "OrjsonCodec",
    "SignedCodec",
    "TextCodec",
    "codec_name",
    "resolve_codec",
    "start_of",
]
