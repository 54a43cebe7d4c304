"""The envelope of a task: what stands in field ``b`` of an entry of a queue. This is wire format.

Rules:

- It is a map with plain field names, written and read as the envelopes of `wire` are: in JSON, in msgpack,
  or in msgpack around the bytes of another codec. Unknown fields are ignored.
- Always there: ``id`` and ``task`` (text), and ``data`` (any payload).
- If wanted: ``headers`` (text by name), ``spread`` (true: ``data`` is a map of the handler's parameters),
  ``unique`` (text, the unique key that the task holds), ``priority`` (text, as its caller named it),
  ``reply_to`` (a reply key, which gets the reply besides those who wait), ``submitted`` and ``expires``
  (whole numbers, the server's ms). ``id``, ``task``, ``unique`` and ``reply_to`` come first when we write
  it: they are found by `envelope_head` in what is too large to be read.
- By hand: ``XADD rt:q:{jobs}:p:normal * b '{"id":"1","task":"add","data":{"a":1,"b":2}}'``.
- Whatever cannot be read is one `DecodeError`; if its id is known, an `UnreadableEnvelope`.
"""

from __future__ import annotations

from collections.abc import Mapping
from functools import lru_cache
from typing import Any

from redis_toolkit.codecs import start_of
from redis_toolkit.codecs.json_codec import quoted
from redis_toolkit.envelope_fields import is_address, is_sendable, read_headers
from redis_toolkit.errors import DecodeError
from redis_toolkit.message import Headers
from redis_toolkit.record import Record
from redis_toolkit.wire import UnreadableEnvelope, Wire

__all__ = ["Task", "read_task", "task_fields", "task_payload", "write_plain_task", "write_task"]

_RARE = frozenset({"unique", "reply_to", "expires"})
_OPTIONAL: dict[str, type] = {
    "unique": str,
    "priority": str,
    "reply_to": str,
    "expires": int,
    "submitted": int,
}


class Task(Record):
    """A task as its worker, or who looks at a dead letter, reads it.

    Attributes:
        id: its id.
        type: which handler it is for.
        data: the decoded payload.
        headers: text by name.
        spread: whether the payload is a map of parameters.
        unique: the unique key that it holds, or "".
        priority: as its caller named it, or None.
        reply_to: an address that gets its reply, or None.
        submitted_ms: the server's ms when it was submitted, as far as its caller knew, or None.
        expires_ms: the server's ms from which on it is not begun any more, or None.
    """

    __slots__ = (
        "data",
        "expires_ms",
        "headers",
        "id",
        "priority",
        "reply_to",
        "spread",
        "submitted_ms",
        "type",
        "unique",
    )

    def __init__(
        self,
        id: str,
        type: str,
        data: Any,
        headers: Headers,
        spread: bool = False,
        unique: str = "",
        priority: str | None = None,
        reply_to: str | None = None,
        submitted_ms: int | None = None,
        expires_ms: int | None = None,
    ) -> None:
        self.id = id
        self.type = type
        self.data = data
        self.headers = headers
        self.spread = spread
        self.unique = unique
        self.priority = priority
        self.reply_to = reply_to
        self.submitted_ms = submitted_ms
        self.expires_ms = expires_ms


def write_task(
    wire: Wire,
    id: str,
    type: str,
    data: Any,
    *,
    headers: Mapping[str, str] | None = None,
    spread: bool = False,
    unique: str | None = None,
    priority: str | None = None,
    reply_to: str | None = None,
    submitted_ms: int | None = None,
    expires_ms: int | None = None,
) -> bytes:
    """Return the envelope of a task.

    Raises:
        EncodeError: the codec cannot write the payload, or a header is not text.
        PayloadTooLarge: the envelope is over the limit.
    """
    fields: dict[str, Any] = {"id": id, "task": type}
    if unique:
        fields["unique"] = unique
    if reply_to is not None:
        fields["reply_to"] = reply_to
    if spread:
        fields["spread"] = True
    if priority is not None:
        fields["priority"] = priority
    if submitted_ms is not None:
        fields["submitted"] = submitted_ms
    if expires_ms is not None:
        fields["expires"] = expires_ms
    return wire.envelope(fields, data, headers)


def write_plain_task(
    wire: Wire, id: str, type: str, data: Any, priority: str, submitted_ms: int, *, spread: bool
) -> bytes:
    """Return what `write_task` does, for a task that has no more fields than these; raises as that does.

    What stands before the payload is text that is the same for each task of a kind, but for two fields.
    The id is one of `new_id`, which JSON need not quote.
    """
    if wire.joins:
        return wire.joined(f'{{"id":"{id}",{_kind(type, priority, spread)}{submitted_ms},"data":', data)
    return write_task(wire, id, type, data, spread=spread, priority=priority, submitted_ms=submitted_ms)


@lru_cache(1024)
def _kind(type: str, priority: str, spread: bool) -> str:
    spreads = '"spread":true,' if spread else ""
    return f'"task":{quoted(type)},{spreads}"priority":{quoted(priority)},"submitted":'


def read_task(wire: Wire, body: bytes) -> Task:
    """Return the task in an envelope.

    Raises:
        UnreadableEnvelope: its id can be read and the rest cannot.
        DecodeError: not even that.
    """
    fields = task_fields(wire, body)
    data, headers = task_payload(wire, fields)
    return Task(
        fields["id"],
        fields["task"],
        data,
        headers,
        fields.get("spread") is True,
        fields.get("unique") or "",
        fields.get("priority"),
        fields.get("reply_to"),
        fields.get("submitted"),
        fields.get("expires"),
    )


def task_fields(wire: Wire, body: bytes) -> dict[str, Any]:
    """Return the fields of an envelope: ``id``, ``task`` and ``data`` are there, others are of their types.

    The payload may be in another codec than the wire's: `task_payload` reads it, with the handler's.

    Raises:
        UnreadableEnvelope: its id can be read and the rest cannot.
        DecodeError: not even that.
    """
    fields = wire.fields(body)
    if not isinstance(fields, dict) or not is_sendable(fields.get("id")):
        raise DecodeError(f"a task is a map with a text field 'id', this starts with {start_of(body)}")
    if not is_sendable(fields.get("task")):
        raise UnreadableEnvelope("the task has no text field 'task'", fields["id"])
    if "data" not in fields:
        raise UnreadableEnvelope("the task has no field 'data'", fields["id"])
    if len(fields) > 3:
        _check_optional(fields)
    return fields


def task_payload(wire: Wire, fields: dict[str, Any]) -> tuple[Any, Headers]:
    """Return payload and headers from the fields of an envelope.

    Raises:
        UnreadableEnvelope: the payload is in another codec, or the headers are not text.
    """
    try:
        return wire.payload(fields), read_headers(fields.get("headers"))
    except DecodeError as error:
        raise UnreadableEnvelope(str(error), fields["id"]) from error


def _check_optional(fields: dict[str, Any]) -> None:
    priority = fields.get("priority", "")
    plain = type(priority) is str and priority.isascii() and type(fields.get("submitted", 0)) is int
    if plain and _RARE.isdisjoint(fields):
        return  # so it is mostly
    for name, value in fields.items():
        kind = _OPTIONAL.get(name)
        if kind is None or value is None:
            continue
        why = ""
        if kind is int:
            why = "" if type(value) is int else "is not a whole number of ms"
        elif not is_sendable(value):
            why = "is not text"
        elif name == "reply_to" and not is_address(value):
            why = f"is not a reply key: {start_of(value.encode())}"
        if why:
            raise UnreadableEnvelope(f"the field {name!r} of the task {why}", fields["id"])
