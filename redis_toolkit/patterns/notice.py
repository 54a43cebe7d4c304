"""One notification, as it is sent and as it is read.

Rules:

- On the wire a notification is a JSON object, whatever the codec of the app: the server's script adds ``id``
  and ``timestamp`` to it. ``id`` is always the server's; a ``timestamp`` of the sender's stays.
- Whatever else comes on the channels, or stands in the streams, is refused with a `DecodeError`.
"""

from __future__ import annotations

import datetime
from collections.abc import Mapping
from typing import Any

from redis_toolkit._core.flows.notifications import Kept, Limits, Notice, NoticeId
from redis_toolkit.calls import checked_id
from redis_toolkit.codecs import JSONCodec, codec_name
from redis_toolkit.errors import ConfigurationError, DecodeError, EncodeError
from redis_toolkit.jobs import seconds_of
from redis_toolkit.settings import check_whole
from redis_toolkit.wire import Wire

__all__ = ["KEEP", "MAX_AGE", "Notices", "ids_of", "limits_of"]

KEEP = 1_000
"""How many unread notifications of one user are kept, and how many broadcasts."""
MAX_AGE = datetime.timedelta(days=30)
RESERVED = ("id", "rt")
"""Fields that a sender cannot use: the notification's id, and the mark of envelopes."""
ADDED = 256
"""Bytes that the server adds to a notification, at most."""


def limits_of(keep: int, max_age: float | datetime.timedelta) -> Limits:
    """Return how many are kept, and for how long.

    Raises:
        ConfigurationError: one of them cannot be.
    """
    check_whole("keep", keep)
    return Limits(keep, max(int(seconds_of("max_age", max_age, least=1.0) * 1000), 1))


class Notices:
    """Writes and reads notifications.

    Args:
        wire: that of the app: its limit counts, and its codec must be one that others may write too.

    Raises:
        ConfigurationError: the codec takes signed payloads only.
    """

    def __init__(self, wire: Wire) -> None:
        if getattr(wire.codec, "exclusive", False):
            raise ConfigurationError(
                f"notifications are JSON without a signature, and codec {codec_name(wire.codec)!r} takes "
                "signed payloads only: give them an app of their own"
            )
        self._out = Wire(JSONCodec(), wire.max_payload)
        self._in = Wire(JSONCodec(), wire.max_payload + ADDED)

    def outgoing(self, user: str | None, notification: Any, id: str | None) -> Notice:
        """Return a notification as it is sent.

        Raises:
            EncodeError: it cannot be written, is no map, or is too large.
            ConfigurationError: a field or the id cannot be.
        """
        body = self._out.bare(notification)
        fields = notification if isinstance(notification, Mapping) else self._out.codec.decode(body)
        if not isinstance(fields, Mapping):
            raise EncodeError(
                f"a notification is a map such as {{'text': 'hello'}}, not {type(notification).__name__}"
            )
        for name in RESERVED:
            if name in fields:
                raise ConfigurationError(
                    f"the field {name!r} of a notification is not its sender's: name it otherwise; "
                    "to have a repeat shown once, pass id="
                )
        user_json = self._out.codec.encode(user)
        return Notice(body, user, user_json, checked_id(id), timed="timestamp" not in fields)

    def incoming(self, body: bytes) -> dict[str, Any]:
        """Return what came on a channel.

        Raises:
            DecodeError: it is no map, or cannot be read.
        """
        return _map(self._in.read_live(body)[0])

    def kept(self, item: Kept) -> dict[str, Any]:
        """Return a notification that was kept, as it was published.

        Raises:
            DecodeError: it is no map, or cannot be read.
        """
        fields = _map(self._in.fields(item.body))
        return {"id": str(item.id), "timestamp": item.id.ms / 1000, **fields}


def ids_of(ids: tuple[object, ...]) -> list[NoticeId]:
    """Return ids that a caller has named.

    Raises:
        ConfigurationError: one of them is none.
    """
    found = []
    for one in ids:
        notice_id = NoticeId.read(one.get("id") if isinstance(one, Mapping) else one)
        if notice_id is None:
            raise ConfigurationError(
                f"{ascii(one)[:80]} is no id of a notification: pass the field 'id' of what unread() returns"
            )
        found.append(notice_id)
    return found


def _map(value: Any) -> dict[str, Any]:
    if not isinstance(value, dict):
        raise DecodeError(f"a notification is a map, not {type(value).__name__}")
    return value
