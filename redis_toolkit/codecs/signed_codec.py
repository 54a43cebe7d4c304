"""Payloads with a signature in front: HMAC-SHA256, for servers where not everybody is to be believed.

Rules:

- A signed body is 32 bytes of HMAC-SHA256 and the inner codec's bytes, which it covers. Nothing is
  decoded before its signature has been compared, in constant time.
- The payload is covered and nothing else: not headers, channel or id, and not an error reply. There
  is no protection against a replay; a payload that must not count twice carries its own id and time.
"""

from __future__ import annotations

import hashlib
import hmac
from typing import Any

from redis_toolkit.codecs.json_codec import JSONCodec
from redis_toolkit.codecs.names import resolve_codec
from redis_toolkit.codecs.protocol import Codec, codec_name
from redis_toolkit.errors import ConfigurationError, DecodeError

__all__ = ["SignedCodec"]

_SIZE = hashlib.sha256().digest_size
_SHORTEST_KEY = 16


class SignedCodec:
    """Signs what another codec writes, and reads only what was signed.

    Args:
        codec: the codec inside, by name or as an object.
        key: the secret that signs, at least 16 bytes; text is taken as UTF-8.
        *older_keys: secrets whose signatures are accepted too, while a fleet changes its key.

    Raises:
        ConfigurationError: an unknown codec, or a key that is too short.
        EncodeError: as the codec inside.
        DecodeError: the signature is missing or of none of the keys; else as the codec inside.

    Example:
        ```python
        app = App(codec=SignedCodec("json", os.environ["NEW_KEY"], os.environ["OLD_KEY"]))
        ```
    """

    exclusive = True

    def __init__(self, codec: str | Codec, key: bytes | str, *older_keys: bytes | str) -> None:
        self._codec = resolve_codec(codec)
        self._keys = [_checked(secret) for secret in (key, *older_keys)]
        inner = "json" if isinstance(self._codec, JSONCodec) else codec_name(self._codec)
        self.name = f"signed-{inner}"

    def encode(self, value: Any) -> bytes:
        """Return the signature and the bytes of a payload."""
        body = self._codec.encode(value)
        return hmac.digest(self._keys[0], body, "sha256") + body

    def decode(self, body: bytes) -> Any:
        """Return the payload of signed bytes."""
        signature, content = body[:_SIZE], body[_SIZE:]
        for key in self._keys:
            if hmac.compare_digest(hmac.digest(key, content, "sha256"), signature):
                return self._codec.decode(content)
        raise DecodeError(f"the payload has no valid signature (codec {self.name!r}): another key, or none")


def _checked(key: object) -> bytes:
    secret = key.encode("utf-8") if isinstance(key, str) else key
    if not isinstance(secret, bytes) or len(secret) < _SHORTEST_KEY:
        raise ConfigurationError(f"a key of a SignedCodec needs at least {_SHORTEST_KEY} bytes")
    return secret
