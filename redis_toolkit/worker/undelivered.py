"""What a caller gets instead of a reply that the server has no memory for.

Rules:

- For want of memory a server refuses the push of a reply, but not a script that has begun with what is
  always allowed. So the caller gets a short error in place of its reply, at once.
- Other refusals (a missing right, a foreign value, a full disk) would meet the error as well, on every
  server: the caller is left to its timeout. Engines count and log what was not delivered.
- No I/O here: engines send it.
"""

from __future__ import annotations

from redis_toolkit._core.flow import Command
from redis_toolkit._core.flows import serving
from redis_toolkit._core.recovery import sort
from redis_toolkit.codecs import JSONCodec, MsgpackCodec
from redis_toolkit.wire import Wire, reply_id

__all__ = ["instead_of"]

_ROOM = 4096
_JSON, _MSGPACK = Wire(JSONCodec(), _ROOM), Wire(MsgpackCodec(), _ROOM)


def instead_of(push: Command, why: Exception) -> list[Command]:
    """Return what tells the callers of a refused push, if anything does.

    Args:
        push: an ``RPUSH`` of replies, as `serving.push_replies` makes it.
        why: the server's answer to it.
    """
    if "OOM" not in str(_error(why, "")):
        return []
    _, reply_to, *bodies = push
    errors = [_error_for(body, why) for body in bodies if isinstance(body, bytes)]
    told = [error for error in errors if error is not None]
    return [serving.push_refusals(str(reply_to), told)] if told else []


def _error_for(body: bytes, why: Exception) -> bytes | None:
    """Return an error reply to the request of a reply; None when that has no id."""
    whose = reply_id(body)
    if whose is None:
        return None
    error = _error(why, f"the reply of {len(body):,} bytes to a request that was executed")
    return (_MSGPACK if body[:1] >= b"\x80" else _JSON).error_reply(whose, error)


def _error(why: Exception, what: str) -> Exception:
    return sort(why, sent=True, where="the server", doing=what).error
