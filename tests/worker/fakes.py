"""What the tests inside one process share: handlers without an app, raw requests, a started engine."""

from __future__ import annotations

import json
import threading
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from typing import Any

from redis_toolkit.binding import Binding
from redis_toolkit.codecs import Codec, resolve_codec
from redis_toolkit.globs import is_glob
from redis_toolkit.routing import Handler
from redis_toolkit.wire import Wire


def handler_of(
    function: Callable[..., Any], *names: str, codec: str | Codec = "json", limit: int = 1024, **options: Any
) -> Handler:
    """Return a handler as `App.on` would register it."""
    channels = tuple(name for name in names if not is_glob(name))
    globs = tuple(name for name in names if is_glob(name))
    return Handler(Binding(function), Wire(resolve_codec(codec), limit), channels, globs, **options)


def request_body(data: Any = None, **fields: Any) -> bytes:
    """Return the envelope of a request with id "7" and an address for the reply."""
    envelope = {"id": "7", "reply_to": "rt:c:{add}:reply:7", "data": data, **fields}
    return json.dumps({name: value for name, value in envelope.items() if value is not ...}).encode()


def item(data: Any = None, expiry_ms: int = 0, **fields: Any) -> bytes:
    """Return a request as it stands in a list."""
    return b"%d %s" % (expiry_ms, request_body(data, **fields))


@contextmanager
def no_threads_left(*prefixes: str) -> Iterator[None]:
    """Assert that the block leaves no thread with one of these names behind."""
    yield
    for thread in threading.enumerate():
        if thread.name.startswith(prefixes):
            thread.join(timeout=30)
            assert not thread.is_alive(), f"{thread.name} still runs"
