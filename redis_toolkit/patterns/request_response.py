"""`RequestResponse`: ask on a channel and get a response, also from a plain Pub/Sub subscriber.

Rules:

- A channel that an app serves is asked as `App.request` does: one worker answers, errors come back.
- Otherwise the request is published as ``{"id", "response_channel", "data"}``, and the first message on
  ``response_channel`` is the response, as it is. One subscription serves all calls of an instance.
- Nobody there at all is said at once.
"""

from __future__ import annotations

import logging
import queue
import secrets
import threading
import time
from collections.abc import Callable
from typing import Any

from redis_toolkit.app import App
from redis_toolkit.binding import Binding
from redis_toolkit.calls import milliseconds
from redis_toolkit.envelope_fields import text_of
from redis_toolkit.errors import NoResponders, RequestTimeout
from redis_toolkit.message import ExactChannel, Message
from redis_toolkit.misspelt import by_name
from redis_toolkit.patterns.running import Created, Running, Stopping, sibling
from redis_toolkit.strange import tamed
from redis_toolkit.tracebacks import OF_HANDLER

__all__ = ["RequestResponse"]

logger = logging.getLogger("redis_toolkit")


class RequestResponse(Stopping):
    """Requests on one channel.

    Args:
        channel: exact name.
        app: whose server and codec are used; or
        url: the server; see `App`.

    Example:
        ```python
        prices = RequestResponse("prices")
        with prices.serve(lambda item: {"price": 3}):
            print(prices.send_request("tea", timeout=2))
        ```
    """

    @by_name
    def __init__(self, channel: str = "requests", *, app: App | None = None, url: str | None = None) -> None:
        self.channel = ExactChannel(channel)
        self._app = sibling(app, url)
        self._created = Created()
        self._answers: dict[str, queue.SimpleQueue[Any]] = {}
        self._listener: App | None = None
        self._prefix = f"responses:{secrets.token_hex(8)}"
        self._lock = threading.Lock()

    def send_request(self, request_data: Any, timeout: float = 5) -> Any:
        """Ask, and return the response.

        Args:
            request_data: the payload.
            timeout: seconds to wait for the response.

        Raises:
            RequestTimeout: none came in time; a builtin ``TimeoutError``.
            NoResponders: nobody serves or hears the channel; also a ``TimeoutError``, at once.
            RemoteError: the app that serves the channel raised.
            OutcomeUnknown: the connection was cut meanwhile.

        It blocks, also in an ``async def`` handler, where it stops the whole event loop until the response
        is there: a handler on that same loop cannot be who answers. `App.arequest` does not block.
        """
        deadline = time.monotonic() + milliseconds(timeout) / 1000
        try:
            call = self._app._calls.request(
                self.channel, request_data, {}, timeout=timeout, retries=0, headers=None, codec=None
            )
            return self._app._driver.run(call)
        except NoResponders:
            return self._ask_plain(request_data, deadline)

    def serve(self, handler: Callable[..., Any]) -> Running:
        """Answer requests with a handler, in the background; returns once they can be sent.

        Args:
            handler: called with the payload; parameters as in `App.on`. What it returns is the response.

        Returns:
            What runs: ``stop()`` it, or use it as a context manager.

        Raises:
            ConfigurationError: the handler or the channel cannot work.
            RedisToolkitError: the server cannot be reached or refuses.

        Plain requests, published as this module's rules say, are answered too: by a message on their
        ``response_channel`` with the return value, or with ``{"id", "error": {"type", "message"}}``.
        They reach every instance that serves, as Pub/Sub does.
        """
        app = self._app.sibling()
        app.on(self.channel, events=False)(handler)
        app.on(self.channel, requests=False)(_PlainServer(app, Binding(handler, app)).handler)
        app._start_anywhere()
        return self._created.add(Running(app, f"server of {str(self.channel)!r}", self._created.forget))

    def stop(self) -> None:
        """Stop what `serve` has started, and the subscription for responses. May be called again."""
        self._created.stop()
        with self._lock:
            listener, self._listener = self._listener, None
        if listener is not None:
            listener._stop_anywhere()

    def __repr__(self) -> str:
        return f"{type(self).__name__}({str(self.channel)!r} on {self._app!r})"

    def _ask_plain(self, data: Any, deadline: float) -> Any:
        self._listen()
        request_id = secrets.token_hex(8)
        response_channel = f"{self._prefix}:{request_id}"
        answers = self._answers[response_channel] = queue.SimpleQueue()
        try:
            request = {"id": request_id, "response_channel": response_channel, "data": data}
            if self._app._driver.run(self._app._calls.publish(self.channel, request, None, None)) == 0:
                raise NoResponders(
                    f"nobody serves or hears {str(self.channel)!r}: start a server for it first"
                )
            return answers.get(timeout=max(deadline - time.monotonic(), 0.001))
        except queue.Empty:
            raise RequestTimeout(
                f"no response to request {request_id} on {str(self.channel)!r} by the deadline"
            ) from None
        finally:
            del self._answers[response_channel]

    def _listen(self) -> None:
        with self._lock:
            if self._listener is not None:
                return
            listener = self._app.sibling()
            listener.on(f"{self._prefix}:*")(self._take)
            listener._start_anywhere()
            self._listener = listener

    def _take(self, data: Any, channel: str) -> None:
        answers = self._answers.get(channel)
        if answers is not None:
            answers.put(data)


class _PlainServer:
    """Answers requests that were published instead of sent."""

    def __init__(self, app: App, binding: Binding) -> None:
        self._app = app
        self._binding = binding

    @property
    def handler(self) -> Callable[[Message], Any]:
        """What hears the channel: of the kind of the handler that answers."""
        return self._answer_async if self._binding.is_async else self._answer

    def _answer(self, message: Message) -> None:
        request = self._read(message)
        if request is not None:
            try:
                response = self._binding.call(request)
            except Exception as error:
                response = self._failed(request, error)
            self._app.publish(message.data["response_channel"], response)

    async def _answer_async(self, message: Message) -> None:
        request = self._read(message)
        if request is not None:
            try:
                response = await self._binding.call(request)
            except Exception as error:
                response = self._failed(request, error)
            await self._app.apublish(message.data["response_channel"], response)

    def _read(self, message: Message) -> Message | None:
        request = message.data
        if (
            not isinstance(request, dict)
            or not isinstance(request.get("response_channel"), str)
            or "data" not in request
        ):
            logger.warning(
                "ignored a message on %r that is no request: it lacks response_channel or data",
                message.channel,
            )
            return None
        return Message(message.channel, request["data"], message.headers, str(request.get("id")))

    def _failed(self, request: Message, error: BaseException) -> dict[str, Any]:
        error = tamed(error)
        logger.warning(
            "handler %s failed on a request on %r",
            self._binding.name,
            request.channel,
            exc_info=error,
            extra=OF_HANDLER,
        )
        return {"id": request.id, "error": {"type": type(error).__name__, "message": text_of(error)}}
