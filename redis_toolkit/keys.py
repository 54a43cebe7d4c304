"""Every key and internal channel name, each from a function here. This is wire format.

Rules:

- A name that a user chose stands inside a hash tag, ``{...}``, so that all keys of one channel share
  a cluster slot and one script may touch them together.
- ``{``, ``}`` and ``%`` in such a name are percent-encoded; every other character stays as it is.
- Every key has a TTL, or is on `WITHOUT_TTL`.
"""

from __future__ import annotations

from functools import lru_cache

__all__ = [
    "WITHOUT_TTL",
    "inbox",
    "is_reply_key",
    "once",
    "patterns",
    "reply",
    "requests",
    "room_channel",
    "room_direct",
    "room_log",
    "room_members",
    "room_meta",
    "room_sent",
    "room_user",
    "room_user_channel",
    "room_users",
    "rooms",
    "serve",
    "servers",
    "group_again",
    "group_bodies",
    "group_control",
    "group_counters",
    "group_dead",
    "group_delayed",
    "group_due",
    "group_paused",
    "group_streams",
    "limits",
    "published",
    "stream",
    "task_bodies",
    "task_cancelled",
    "task_control",
    "task_counters",
    "task_dead",
    "task_delayed",
    "task_due",
    "task_lock",
    "task_locks",
    "task_paused",
    "task_place",
    "task_ready",
    "task_record",
    "task_records",
    "task_reply",
    "task_streams",
    "task_submitted",
    "task_waiters",
    "broadcast_dropped",
    "broadcast_id",
    "broadcasts",
    "notification_dropped",
    "notification_events",
    "notification_id",
    "notification_read",
    "notifications",
]

WITHOUT_TTL: frozenset[str] = frozenset(
    {
        "group_again",  # work that nobody has done yet
        "group_bodies",
        "group_counters",  # a few numbers for each group; gone when it is forgotten
        "group_dead",  # somebody has to decide about it
        "group_delayed",
        "group_paused",  # until somebody resumes it
        "limits",  # gone with the last group
        "room_direct",  # history, unless the rooms give it an age (`history_age`)
        "room_log",
        "room_meta",  # what somebody has said about a room
        "stream",
        "task_bodies",
        "task_counters",  # a few numbers for each queue
        "task_dead",
        "task_delayed",
        "task_paused",
        "task_ready",
    }
)
"""Functions whose keys live until their work is done, or somebody decides."""

_ACKNOWLEDGED = "rt:ack:"
_ESCAPES = str.maketrans({"%": "%25", "{": "%7B", "}": "%7D"})


_PLACE = {**_ESCAPES, **str.maketrans({" ": "%20"})}
_SCOPE = {**_ESCAPES, **str.maketrans({":": "%3A"})}


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


def task_place(priority: str) -> str:
    """Return a priority as keys and bodies have it: it ends at the first space there."""
    return priority.translate(_PLACE)


def task_streams(queue: str) -> str:
    """Prefix of the streams of a queue, one for each priority."""
    return f"rt:q:{_tag(queue)}:p:"


def task_ready(queue: str, priority: str) -> str:
    """STREAM with group ``workers``: ready and claimed tasks, ``b`` body, ``a`` attempt if not 1."""
    return task_streams(queue) + task_place(priority)


def task_delayed(queue: str) -> str:
    """ZSET of task id by the server ms when it is due."""
    return f"rt:q:{_tag(queue)}:delayed"


def task_bodies(queue: str) -> str:
    """HASH of task id to ``<priority> <attempt> <envelope>``: what is due later."""
    return f"rt:q:{_tag(queue)}:bodies"


def task_records(queue: str) -> str:
    """Prefix of the records of a queue."""
    return f"rt:q:{_tag(queue)}:task:"


def task_record(queue: str, task_id: str) -> str:
    """HASH: how a task ended, or how far it has come. TTL: as long as results are kept."""
    return task_records(queue) + task_id


def task_waiters(queue: str) -> str:
    """HASH of task id to the addresses that wait for its end, one per line. TTL: past the longest wait."""
    return f"rt:q:{_tag(queue)}:waiters"


def task_reply(queue: str, wait_id: str) -> str:
    """LIST of reply envelopes for one sync caller that waits for a task. TTL 60 s."""
    return f"rt:q:{_tag(queue)}:reply:{wait_id}"


def task_cancelled(queue: str) -> str:
    """ZSET of task id by the server ms when it is forgotten: cancelled, not yet ended.

    No TTL of its own is needed: it is swept by that time, and gone with its last member.
    """
    return f"rt:q:{_tag(queue)}:cancelled"


def task_locks(queue: str) -> str:
    """Prefix of the locks of a queue."""
    return f"rt:q:{_tag(queue)}:unique:"


def task_lock(queue: str, unique_key: str) -> str:
    """STRING, the id of the one task with a unique key. TTL: the fallback, should the task vanish."""
    return task_locks(queue) + unique_key


def task_submitted(queue: str, task_id: str) -> str:
    """STRING: a task with this id, which its caller chose, was submitted. TTL: as long as that counts."""
    return f"rt:q:{_tag(queue)}:id:{task_id}"


def task_dead(queue: str) -> str:
    """STREAM of dead letters: body, id, type, from, reason, error, traceback, attempt, deliveries, at."""
    return f"rt:q:{_tag(queue)}:dead"


def task_paused(queue: str) -> str:
    """STRING, there while a queue is paused."""
    return f"rt:q:{_tag(queue)}:paused"


def task_counters(queue: str) -> str:
    """HASH of outcome to number."""
    return f"rt:q:{_tag(queue)}:stats"


def task_due(queue: str) -> str:
    """Pub/Sub channel: the server ms of a task that is due before all others."""
    return f"rt:q:{_tag(queue)}:due"


def task_control(queue: str) -> str:
    """Pub/Sub channel: ``cancel <id>``, ``pause``, ``resume``, ``released``."""
    return f"rt:q:{_tag(queue)}:control"


def stream(channel: str) -> str:
    """STREAM with one group for each durable one: the events of a channel, ``b`` body."""
    return f"rt:c:{_tag(channel)}:stream"


def limits(channel: str) -> str:
    """HASH of the limits of a channel's groups: ``limit:``, ``keep:``, ``dropped:<group>``, two numbers."""
    return f"rt:c:{_tag(channel)}:meta"


def published(channel: str, event_id: str) -> str:
    """STRING, the entry of an event whose id its publisher chose. TTL: as long as that counts."""
    return f"rt:c:{_tag(channel)}:id:{event_id}"


def group_streams(channel: str, group: str) -> str:
    """Prefix of what one group has: the stream of what it takes again is ``again``."""
    return f"rt:c:{_tag(channel)}:g:{group.translate(_ESCAPES)}:"


def group_delayed(channel: str, group: str) -> str:
    """ZSET of event id by the server ms when the group takes it again."""
    return group_streams(channel, group) + "delayed"


def group_bodies(channel: str, group: str) -> str:
    """HASH of event id to ``again <attempt> <body>``: what the group takes again later."""
    return group_streams(channel, group) + "bodies"


def group_again(channel: str, group: str) -> str:
    """STREAM of what the group takes again now: ``b`` body, ``i`` event id, ``a`` attempt."""
    return group_streams(channel, group) + "again"


def group_dead(channel: str, group: str) -> str:
    """STREAM of dead letters, with the fields of a task's."""
    return group_streams(channel, group) + "dead"


def group_counters(channel: str, group: str) -> str:
    """HASH of outcome to number."""
    return group_streams(channel, group) + "stats"


def group_paused(channel: str, group: str) -> str:
    """STRING, there while a group is paused."""
    return group_streams(channel, group) + "paused"


def group_control(channel: str, group: str) -> str:
    """Pub/Sub channel: ``pause``, ``resume``, ``released``."""
    return group_streams(channel, group) + "control"


def group_due(channel: str, group: str) -> str:
    """Pub/Sub channel: the server ms of an event that the group takes again before all others."""
    return group_streams(channel, group) + "due"


def room_channel(room: str) -> str:
    """Pub/Sub channel: what is said in a room, as JSON; the name is public."""
    return f"chat:room:{room}"


def room_user_channel(room: str, user: str) -> str:
    """Pub/Sub channel: what one user of a room is told directly, or tells others."""
    return f"rt:r:{_tag(room)}:user:{user}"


def room_log(room: str) -> str:
    """STREAM of what was said in a room: ``b``, a message without its id."""
    return f"rt:r:{_tag(room)}:log"


def room_direct(room: str, user: str) -> str:
    """STREAM of what one user of a room was told directly, or told others: ``b``."""
    return f"rt:r:{_tag(room)}:d:{user}"


def room_members(room: str) -> str:
    """ZSET of user by expiry in server ms: who is in a room. TTL: an hour, so that the lost are announced."""
    return f"rt:r:{_tag(room)}:members"


def room_users(room: str) -> str:
    """Prefix of what is known of the users of a room; the name of a user is the rest of the key."""
    return f"rt:r:{_tag(room)}:u:"


def room_user(room: str, user: str) -> str:
    """HASH of connection to ``<expiry ms> <since ms> <metadata>``. TTL: two leases."""
    return room_users(room) + user


def room_meta(room: str) -> str:
    """HASH of field to JSON: what somebody has said about a room."""
    return f"rt:r:{_tag(room)}:meta"


def room_sent(room: str, user: str, client_id: str) -> str:
    """STRING, the entry of a message whose id its sender chose. TTL: as long as that counts."""
    return f"rt:r:{_tag(room)}:sent:{user.translate(_SCOPE)}:{client_id}"


def rooms() -> str:
    """ZSET of room by the server ms when it had members last. TTL: an hour."""
    return "rt:rooms"


def once(channel: str, scope: str, name: str) -> str:
    """STRING: a handler has done this already (`Message.once`). TTL: as long as the handler has said."""
    return f"rt:o:{_tag(channel)}:{scope.translate(_SCOPE)}:{name}"


def acknowledged(channel: str) -> str:
    """Return the name of the channel in whose stream ``ReliableMessaging`` keeps the messages of another."""
    return _ACKNOWLEDGED + channel


def shown_channel(channel: str) -> str:
    """Return how a user knows a channel: that of `acknowledged` by the one whose messages it has."""
    return channel.removeprefix(_ACKNOWLEDGED)


def is_reply_key(key: str) -> bool:
    """Return whether a reply may be pushed to this key: a caller's reply list or an inbox."""
    kind = key[:6]
    return kind == "rt:i:{" or (kind in ("rt:c:{", "rt:q:{") and "}:reply:" in key)


def notifications(user: str) -> str:
    """STREAM of a user's unread notifications, ``b`` body. TTL: as long as they are kept."""
    return f"rt:n:{_tag(user)}:unread"


def notification_dropped(user: str) -> str:
    """HASH: ``dropped``, how many unread ones made room, and ``upto``, the last of them. TTL: as they."""
    return f"rt:n:{_tag(user)}:dropped"


def notification_read(user: str) -> str:
    """HASH of what a user has read of the broadcasts: ``upto``, and ids after it. TTL: as they are kept."""
    return f"rt:n:{_tag(user)}:read"


def notification_id(user: str, chosen: str) -> str:
    """STRING, the entry of a notification whose id its sender chose. TTL: as long as that counts."""
    return f"rt:n:{_tag(user)}:id:{chosen}"


def notification_events(user: str) -> str:
    """Pub/Sub channel: what one of a user's devices has marked as read."""
    return f"rt:n:{_tag(user)}:events"


def broadcasts() -> str:
    """STREAM of the notifications for everybody, ``b`` body. TTL: as long as they are kept."""
    return "rt:b:{broadcast}:stream"


def broadcast_dropped() -> str:
    """HASH of broadcasts that made room, as that of a user. TTL: as they are kept."""
    return "rt:b:{broadcast}:dropped"


def broadcast_id(chosen: str) -> str:
    """STRING, the entry of a broadcast whose id its sender chose. TTL: as long as that counts."""
    return f"rt:b:{{broadcast}}:id:{chosen}"
