"""What is told of rooms: who is there, and which rooms there are. Plain values."""

from __future__ import annotations

from dataclasses import dataclass, field
from datetime import UTC, datetime
from typing import Any

from redis_toolkit._core.flows.rooms import UserConnections
from redis_toolkit.errors import DecodeError
from redis_toolkit.room_message import read_map

__all__ = ["Member", "RoomInfo", "member_of"]


@dataclass(frozen=True, slots=True)
class Member:
    """A user who is in a room.

    Attributes:
        user: the name.
        since: when the first of the connections joined that are there now (UTC, the server's clock).
        metadata: what the newest of them said when it joined.
        connections: how many of them there are, in all processes.
    """

    user: str
    since: datetime
    metadata: dict[str, Any] = field(default_factory=dict)
    connections: int = 1


@dataclass(frozen=True, slots=True)
class RoomInfo:
    """A room that has members.

    Attributes:
        name: its id.
        members: how many users are there; two connections of one are one.
    """

    name: str
    members: int


def member_of(found: UserConnections) -> Member | None:
    """Return the member that connections make; None when there are none left."""
    if not found.connections:
        return None
    since = datetime.fromtimestamp(found.connections[0][0] / 1000, UTC)
    try:
        metadata = read_map(found.connections[-1][1])
    except DecodeError:
        metadata = {}  # not written by us
    return Member(found.user, since, metadata if isinstance(metadata, dict) else {}, len(found.connections))
