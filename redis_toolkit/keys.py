"""Every key and internal channel name, each from a function here. This is wire format.

Rules:

- A name that a user chose stands inside a hash tag, ``{...}``, so that all keys of one channel share
  a cluster slot and one script may touch them together.
- ``{``, ``}`` and ``%`` in such a name are percent-encoded; every other character stays as it is.
- Every key has a TTL, or is on `WITHOUT_TTL`.
"""

from __future__ import annotations

from functools import lru_cache

__all__ = ["WITHOUT_TTL", "inbox", "is_reply_key", "patterns", "reply", "requests", "serve", "servers"]

WITHOUT_TTL: frozenset[str] = frozenset()
"""Keys that may live for ever. None so far: even the registries expire with their last server."""

_ESCAPES = str.maketrans({"%": "%25", "{": "%7B", "}": "%7D"})


@lru_cache(4096)
def _tag(name: str) -> str:
    return "{" + name.translate(_ESCAPES) + "}"


def requests(channel: str) -> str:
    """LIST of ``<expiry ms> <envelope>``: requests that wait for a server. TTL: past their expiry."""
    return f"rt:c:{_tag(channel)}:requests"


def servers(channel: str) -> str:
    """ZSET of process name by expiry in server ms: the live servers of a channel. TTL: two leases."""
    return f"rt:c:{_tag(channel)}:servers"


def serve(channel: str) -> str:
    """Pub/Sub channel that every server of a channel subscribes to; nothing is published there.

    Its number of subscribers shows that a server is connected, also when the ZSET was lost.
    """
    return f"rt:c:{_tag(channel)}:serve"


def reply(channel: str, request_id: str) -> str:
    """LIST of reply envelopes for one sync call. TTL 60 s."""
    return f"rt:c:{_tag(channel)}:reply:{request_id}"


def inbox(client: str, generation: int) -> str:
    """LIST of reply envelopes for all async calls of one event loop, a new one per connection. TTL 60 s."""
    return f"rt:i:{{{client}.{generation}}}"


def patterns() -> str:
    """ZSET of glob by expiry in server ms: the globs that answer requests. TTL: two leases."""
    return "rt:patterns"


def is_reply_key(key: str) -> bool:
    """Return whether a server may push a reply to this key: a caller's reply list or an inbox."""
    kind = key[:6]
    return kind == "rt:i:{" or (kind == "rt:c:{" and "}:reply:" in key)
