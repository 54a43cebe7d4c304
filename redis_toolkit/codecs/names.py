"""Which codec a name stands for. Rules: names are those of the documentation; anything else is an error."""

from __future__ import annotations

from collections.abc import Callable

from redis_toolkit.codecs.json_codec import JSONCodec
from redis_toolkit.codecs.msgpack_codec import MsgpackCodec
from redis_toolkit.codecs.orjson_codec import OrjsonCodec
from redis_toolkit.codecs.protocol import Codec
from redis_toolkit.codecs.text_codec import TextCodec
from redis_toolkit.errors import ConfigurationError

__all__ = ["resolve_codec"]

_BY_NAME: dict[str, Callable[[], Codec]] = {
    "json": JSONCodec,
    "msgpack": MsgpackCodec,
    "text": TextCodec,
    "orjson": OrjsonCodec,
}


def resolve_codec(codec: str | Codec) -> Codec:
    """Return the codec of a name (``"json"``, ``"msgpack"``, ``"text"``, ``"orjson"``), or the codec itself.

    Raises:
        ConfigurationError: an unknown name, an object without the two methods, or orjson is not installed.
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
