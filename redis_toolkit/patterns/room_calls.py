"""What is done with a room, as flows: for every driver alike, and checked before anything is sent."""

from __future__ import annotations

from collections.abc import Mapping
from contextlib import suppress
from typing import Any

from redis_toolkit import keys
from redis_toolkit._core.flow import Flow
from redis_toolkit._core.flows import rooms
from redis_toolkit._core.flows.rooms import Entry, Kept
from redis_toolkit.calls import checked_id
from redis_toolkit.errors import DecodeError
from redis_toolkit.patterns.room_views import Member, member_of
from redis_toolkit.patterns.user_name import checked_user
from redis_toolkit.room_message import id_of, read_entry, read_map, write_map, write_message
from redis_toolkit.settings import check_whole

__all__ = ["MAX_HISTORY", "RoomCalls"]

MAX_HISTORY = 100_000
"""Messages that one call reads at most."""


class RoomCalls:
    """Makes flows of calls about one room.

    Args:
        room: its id.
        kept: what is kept of it.
        max_payload: bytes of a message, at most.
    """

    def __init__(self, room: str, kept: Kept, max_payload: int) -> None:
        self._room = room
        self._kept = kept
        self._max_payload = max_payload

    def send(self, user: object, text: Any, id: str | None, extra: Mapping[str, Any]) -> Flow[str]:
        """Return the flow of `ChatRoom.send_message`."""
        name = checked_user(user)
        body = self._body("message", name, text, id, {}, extra)
        return rooms.send(self._room, name, body, self._kept, id)

    def send_direct(self, user: object, to: object, text: Any, id: str | None) -> Flow[str]:
        """Return the flow of `ChatRoom.send_direct`."""
        name, other = checked_user(user), checked_user(to)
        body = self._body("direct", name, text, id, {"to": other}, {})
        return rooms.send_direct(self._room, name, other, body, self._kept, id)

    def typing(self, user: object) -> Flow[None]:
        """Return the flow of `ChatRoom.typing`."""
        fields = {"type": "typing", "user": checked_user(user), "text": ""}
        return rooms.announce(self._room, write_map(fields, self._max_payload, "this message"))

    def history(self, limit: int, before: str | None, after: str | None) -> Flow[list[dict[str, Any]]]:
        """Return the flow of `ChatRoom.history`."""
        return self._history(keys.room_log(self._room), limit, before, after)

    def direct_history(
        self, user: object, limit: int, before: str | None, after: str | None
    ) -> Flow[list[dict[str, Any]]]:
        """Return the flow of `ChatRoom.direct_history`."""
        key = keys.room_direct(self._room, checked_user(user))
        return self._history(key, limit, before, after)

    def members(self) -> Flow[list[Member]]:
        """Return the flow of `ChatRoom.members`."""
        found = yield from rooms.members(self._room)
        members = [member_of(one) for one in found]
        return sorted((one for one in members if one is not None), key=lambda one: one.user)

    def metadata(self) -> Flow[dict[str, Any]]:
        """Return the flow of `ChatRoom.metadata`."""
        found = yield from rooms.metadata(self._room)
        fields = {}
        for name, value in found.items():
            with suppress(DecodeError):  # not written by us
                fields[name] = read_map(value)
        return fields

    def set_metadata(self, fields: dict[str, Any]) -> Flow[None]:
        """Return the flow of `ChatRoom.set_metadata`."""
        said = {
            name: write_map({"": value}, self._max_payload, f"metadata {ascii(name)[:80]}")[4:-1]
            for name, value in fields.items()
            if value is not None
        }
        return rooms.set_metadata(self._room, said, [name for name in fields if fields[name] is None])

    def _history(
        self, key: str, limit: int, before: str | None, after: str | None
    ) -> Flow[list[dict[str, Any]]]:
        check_whole("limit", limit)
        for name, given in (("before", before), ("after", after)):
            if given is not None:
                id_of(given, name)
        return _read(rooms.history(key, min(limit, MAX_HISTORY), before, after), self._max_payload)

    def _body(
        self, kind: str, user: str, text: Any, id: str | None, more: dict[str, Any], extra: Mapping[str, Any]
    ) -> bytes:
        fields = {"type": kind, "user": user, **more, "text": text}
        if checked_id(id) is not None:
            fields["client_id"] = id
        return write_message(fields, extra, self._max_payload)


def _read(flow: Flow[list[Entry]], max_payload: int) -> Flow[list[dict[str, Any]]]:
    """Read entries as messages; what somebody else has put among them is left out."""
    found = yield from flow
    messages = []
    for entry in found:
        try:
            messages.append(read_entry(*entry, max_payload))
        except DecodeError:
            continue
    return messages
