"""JSON by orjson: the same wire format and the same rules as `JSONCodec`, in less time.

Rules:

- orjson turns NaN into null and long numbers into floats without a word, and takes the last of
  duplicate keys. So it is never the judge: whenever it refuses something, or may have changed
  something, `JSONCodec` does the work instead.
- What orjson has read is written again: the same bytes prove that nothing was lost.
"""

from __future__ import annotations

import functools
import importlib
import math
from typing import Any

from redis_toolkit.codecs.json_codec import TOO_DEEP, JSONCodec, plain_json
from redis_toolkit.codecs.json_text import DEEP, MANY, has_too_many_parts, structure
from redis_toolkit.codecs.payload import MAX_DEPTH, TOO_MANY
from redis_toolkit.errors import ConfigurationError, DecodeError

__all__ = ["OrjsonCodec"]

_SCALARS = frozenset({type(None), bool, int, str})


class OrjsonCodec(JSONCodec):
    """JSON written and read by orjson, from the extra ``fast``; others may use `JSONCodec` meanwhile.

    Raises:
        ConfigurationError: orjson is not installed.
        EncodeError: as `JSONCodec`.
        DecodeError: as `JSONCodec`.

    Example:
        ```python
        app = App(codec="orjson")
        ```
    """

    name = "orjson"

    def __init__(self) -> None:
        super().__init__()
        try:
            orjson = importlib.import_module("orjson")
        except ImportError as error:
            raise ConfigurationError('codec="orjson" needs orjson: pip install orjson') from error
        option = orjson.OPT_PASSTHROUGH_DATACLASS | orjson.OPT_PASSTHROUGH_DATETIME
        option |= orjson.OPT_PASSTHROUGH_SUBCLASS
        self._dumps = functools.partial(orjson.dumps, default=_plain, option=option)
        self._loads = orjson.loads
        self._dump = orjson.dumps

    def encode(self, value: Any) -> bytes:
        """Return the JSON text of a payload as UTF-8."""
        try:
            body: bytes = self._dumps(value)
        except Exception:  # JSONCodec may know better, and says where in the payload it is
            return super().encode(value)
        if b"null" in body and not _is_finite(value):
            return super().encode(value)
        if _may_be_deep(body) and structure(body)[1] > MAX_DEPTH:
            return super().encode(value)
        if len(body) > MANY and has_too_many_parts(body):
            return super().encode(value)
        return body

    def decode(self, body: bytes) -> Any:
        """Return the value of a JSON text."""
        if len(body) > MANY and has_too_many_parts(body):
            raise self._refused(body, ValueError(TOO_MANY))
        try:
            value = self._loads(body)
            if self._dump(value) != body:
                return super().decode(body)
        except DecodeError:
            raise
        except Exception:
            return super().decode(body)
        if _may_be_deep(body) and structure(body)[1] > MAX_DEPTH:
            raise self._refused(body, ValueError(TOO_DEEP))
        return value


def _may_be_deep(body: bytes) -> bool:
    return len(body) > DEEP and body.count(b"[") + body.count(b"{") > MAX_DEPTH


def _plain(value: Any) -> Any:
    """Return what `plain_json` does; orjson asks for subclasses too, which `json` takes for their base."""
    if isinstance(value, str):
        return str.__str__(value)
    if isinstance(value, int):
        return int.__index__(value)
    if isinstance(value, float):
        return float.__float__(value)
    if isinstance(value, dict):
        return dict(value.items())
    if isinstance(value, list | tuple):
        return list(value)
    return plain_json(value)


def _is_finite(value: Any) -> bool:
    """Return whether each null can only be a None: False too when there is more to it than plain values."""
    waiting = [value]
    for item in waiting:
        kind = type(item)
        if kind is dict:
            waiting += item.values()
        elif kind is list or kind is tuple:
            waiting += item
        elif kind is float:
            if not math.isfinite(item):
                return False
        elif kind not in _SCALARS:
            return False
    return True
