"""What a caller says, as flows: `App`'s talking methods and their checks, for every driver alike.

Rules: what cannot be sent is refused here, before a driver is asked: names, payloads, headers, options.
"""

from __future__ import annotations

from collections.abc import Iterable, Mapping
from typing import Any, TypeGuard

from redis_toolkit._core.flow import Flow
from redis_toolkit._core.flows import events, requests
from redis_toolkit._core.ids import new_id
from redis_toolkit.codecs import Codec, resolve_codec
from redis_toolkit.errors import ConfigurationError, StreamFull
from redis_toolkit.globs import rank
from redis_toolkit.misspelt import meant
from redis_toolkit.routing import checked_channel
from redis_toolkit.settings import MAX_SECONDS, check_whole
from redis_toolkit.wire import Wire

__all__ = ["UNSET", "Calls", "checked_id", "milliseconds"]

UNSET: Any = object()
"""Stands for a payload that was not given, as None is one."""

MAX_ID = 200
"""Characters of an id that a caller chooses."""
REQUEST_OPTIONS = ("timeout", "retries", "headers", "codec")
Headers = Mapping[str, str] | None


class Calls:
    """Makes flows of calls.

    Args:
        wire: the app's codec and size limit.
    """

    def __init__(self, wire: Wire) -> None:
        self._wire = wire

    def publish(
        self,
        channel: str,
        data: Any,
        headers: Headers = None,
        codec: str | Codec | None = None,
        id: str | None = None,
    ) -> Flow[int]:
        """Return the flow of `App.publish`."""
        event = events.Event(self.wire_of(codec).live(data, headers), checked_id(id))
        return _receivers(events.publish(checked_channel(channel), event))

    def publish_many(
        self, channel: str, payloads: Iterable[Any], headers: Headers, codec: str | Codec | None
    ) -> Flow[list[int]]:
        """Return the flow of `App.publish_many`."""
        wire = self.wire_of(codec)
        some = [events.Event(wire.live(data, headers)) for data in _listed(payloads)]
        return _all_receivers(events.publish_many(checked_channel(channel), some))

    def request(
        self,
        channel: str,
        data: Any,
        fields: dict[str, Any],
        *,
        timeout: float,
        retries: int,
        headers: Headers,
        codec: str | Codec | None,
    ) -> Flow[Any]:
        """Return the flow of `App.request`."""
        if fields and data is not UNSET:
            raise ConfigurationError(_both(fields))
        check_whole("retries", retries, least=0)
        call = requests.OutgoingRequest(
            checked_channel(channel),
            new_id(),
            fields or (None if data is UNSET else data),
            headers,
            spread=bool(fields),
        )
        wire, timeout_ms = self.wire_of(codec), milliseconds(timeout)
        return requests.request(call, wire, rank, timeout_ms=timeout_ms, retries=retries)

    def request_many(
        self,
        channel: str,
        payloads: Iterable[Any],
        *,
        timeout: float,
        window: int,
        headers: Headers,
        codec: str | Codec | None,
        return_exceptions: bool,
    ) -> Flow[list[Any]]:
        """Return the flow of `App.request_many`."""
        check_whole("window", window)
        channel, together = checked_channel(channel), new_id()
        calls = [
            requests.OutgoingRequest(channel, f"{together}.{number}", data, headers, reply_id=together)
            for number, data in enumerate(_listed(payloads))
        ]
        wire, timeout_ms = self.wire_of(codec), milliseconds(timeout)
        flow = requests.request_many(calls, wire, rank, timeout_ms=timeout_ms, window=window)
        return flow if return_exceptions else _raising(flow)

    def wire_of(self, codec: str | Codec | None) -> Wire:
        """Return what writes and reads with a codec; None stands for the app's."""
        return self._wire if codec is None else Wire(resolve_codec(codec), self._wire.max_payload)


def _both(fields: Iterable[str]) -> str:
    """Return what to say of a request with a payload and with keywords that are no options."""
    near = meant(fields, REQUEST_OPTIONS)
    named = ", ".join(f"{one}=" for one in fields)
    if near.startswith("did"):
        return f"request() has no option {named}: {near} (With a payload, keywords are options.)"
    return (
        f"request() takes one payload or keyword fields, not both, and has no option {named}: "
        f"its options are {', '.join(REQUEST_OPTIONS)}"
    )


def _receivers(flow: Flow[events.Published]) -> Flow[int]:
    return (yield from flow).receivers


def _all_receivers(flow: Flow[list[events.Published | StreamFull]]) -> Flow[list[int]]:
    receivers = []
    for done in (yield from flow):
        if isinstance(done, StreamFull):
            raise done
        receivers.append(done.receivers)
    return receivers


def checked_id(id: object) -> str | None:
    """Return the id that a caller has chosen, if it can be one.

    Raises:
        ConfigurationError: it is no text of 1 to 200 characters.
    """
    if id is None:
        return None
    if not isinstance(id, str) or not 0 < len(id) <= MAX_ID or not id.isprintable():
        raise ConfigurationError(f"id={ascii(id)[:80]} must be printable text of 1 to {MAX_ID} characters")
    return id


def _listed(payloads: Any) -> Iterable[Any]:
    """Return several payloads; not the parts of what is meant as one.

    Raises:
        ConfigurationError: they are text, bytes, a map or a model, or cannot be iterated over.
    """
    one = isinstance(payloads, str | bytes | bytearray | memoryview | Mapping) or hasattr(
        payloads, "model_dump"
    )
    if one or not isinstance(payloads, Iterable):
        raise ConfigurationError(
            f"payloads come as a list of them, not as {type(payloads).__name__}: for one, write [payload]"
        )
    return payloads


def _raising(flow: Flow[list[Any]]) -> Flow[list[Any]]:
    """Return the flow with the first exception among its results raised instead."""
    results = yield from flow
    for result in results:
        if isinstance(result, Exception):
            raise result
    return results


def milliseconds(timeout: object) -> int:
    """Return a timeout in ms.

    Raises:
        ConfigurationError: no number, or none from 0 to `MAX_SECONDS`.
    """
    # The type first: `int | float` is made anew each time, and this is asked for each request.
    if not (type(timeout) is float or _is_number(timeout)) or not 0 < timeout <= MAX_SECONDS:
        raise ConfigurationError(
            f"timeout={timeout!r} must be a number of seconds, over 0 and up to {MAX_SECONDS:,}"
        )
    return int(timeout * 1000) or 1


def _is_number(value: object) -> TypeGuard[float]:
    return isinstance(value, int | float) and not isinstance(value, bool)
