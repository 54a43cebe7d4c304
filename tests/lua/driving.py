"""Carrying out flows on a server step by step, and looking at what it stores, byte for byte."""

from __future__ import annotations

from typing import Any, TypeVar

import redis

from redis_toolkit._core.flow import Call, Command, Exchange, Flow, by_text
from tests.kit.servers import Server

T = TypeVar("T")


def send(server: Server, *commands: Command) -> list[Any]:
    """Return the replies of commands in one packet, as hiredis reads them: errors are among them."""
    with redis.Redis(host="127.0.0.1", port=server.port, protocol=2, socket_timeout=30) as client:
        connection: Any = client.connection_pool.get_connection()
        connection.send_packed_command(connection.pack_commands(commands))
        replies = []
        for _ in commands:
            try:
                replies.append(connection.read_response())
            except redis.ResponseError as error:
                replies.append(error)
        client.connection_pool.release(connection)
        return replies


def drive(server: Server, flow: Flow[T], first: Any = None) -> T:
    """Carry out a flow, and return its result; an error reply is thrown into it.

    `first` is its step that waits for an answer, when it has been begun already.
    """
    try:
        step = first or next(flow)
        while True:
            assert isinstance(step, Call), step
            replies = send(server, *(by_text(command) for command in step.commands))
            failed = [reply for reply in replies if isinstance(reply, Exception)]
            step = flow.throw(failed[0]) if failed else flow.send(replies)
    except StopIteration as end:
        result: T = end.value
        return result


def exchange(server: Server, flow: Flow[Any], first: Any = None) -> tuple[Exchange, Any]:
    """Send a step of a flow that is an exchange, as a sync driver would; returns what it said.

    `first` is that step, when the flow has been begun already.
    """
    step = first or next(flow)
    assert isinstance(step, Exchange)
    request = step.request
    [reply] = send(server, by_text(request.build(request.reply_key, step.deadline.timeout_ms)))
    return step, reply


def text(value: Any) -> Any:
    """Return a reply with its bytes as text."""
    if isinstance(value, bytes):
        return value.decode("utf-8")
    return [text(one) for one in value] if isinstance(value, list) else value


def ask(server: Server, *command: Any) -> Any:
    """Return the reply to one command as text, without redis-py's reading of it."""
    [reply] = send(server, command)
    if isinstance(reply, Exception):
        raise reply
    return text(reply)


def entries(server: Server, key: str) -> list[tuple[str, dict[str, str]]]:
    """Return what a stream holds: entry id and fields."""
    found = ask(server, "XRANGE", key, "-", "+")
    return [(entry, dict(zip(flat[::2], flat[1::2], strict=True))) for entry, flat in found]


def pending(server: Server, key: str, group: str) -> dict[str, tuple[str, int]]:
    """Return who holds which entry of a stream, and its delivery count."""
    return {row[0]: (row[1], row[3]) for row in ask(server, "XPENDING", key, group, "-", "+", 1000)}


def fields(server: Server, key: str) -> dict[str, str]:
    """Return a hash."""
    flat = ask(server, "HGETALL", key)
    return dict(zip(flat[::2], flat[1::2], strict=True))


def scores(server: Server, key: str) -> dict[str, int]:
    """Return a sorted set whose scores are server ms."""
    flat = ask(server, "ZRANGE", key, 0, -1, "WITHSCORES")
    return {name: int(score) for name, score in zip(flat[::2], flat[1::2], strict=True)}
