"""`NotificationSystem`: notifications for one user or for everybody, kept until they have been read.

Rules:

- A notification is published to the clients that are connected, and kept as unread until one of the user's
  devices marks it as read. That a client's handler has got it does not make it read.
- A broadcast is kept once, for all users. Who has not marked it as read has not read it, also who is new.
- What one of a user's devices has read, all of them have.
- What is kept is limited in number and in age. What makes room for later ones is counted.
"""

from __future__ import annotations

import datetime
from typing import Any

from redis_toolkit.app import App
from redis_toolkit.misspelt import by_name
from redis_toolkit.patterns.inbox import Inbox
from redis_toolkit.patterns.notice import KEEP, MAX_AGE
from redis_toolkit.patterns.notification_client import UserNotificationClient
from redis_toolkit.patterns.running import Stopping, sibling

__all__ = ["NotificationSystem", "UserNotificationClient"]


class NotificationSystem(Stopping):
    """Sends notifications, and knows what has not been read.

    A user id is text, whatever characters it has, or a whole number, which is its digits.

    Args:
        app: whose server is used; or
        url: the server; see `App`.
        keep: how many unread notifications are kept of each user, and how many broadcasts. The oldest make
            room for later ones, see `dropped`.
        max_age: seconds, or a ``timedelta``, for which they are kept. Give all parts of a program the same.

    Raises:
        ConfigurationError: one of them cannot work.

    Example:
        ```python
        notifications = NotificationSystem()
        notifications.send_notification("ada", {"text": "Your order has left"})
        notifications.broadcast({"text": "Maintenance at 9"})
        for notification in notifications.unread("ada"):
            print(notification["text"])
        notifications.mark_all_read("ada")
        ```
    """

    @by_name
    def __init__(
        self,
        *,
        app: App | None = None,
        url: str | None = None,
        keep: int = KEEP,
        max_age: float | datetime.timedelta = MAX_AGE,
    ) -> None:
        self._app = sibling(app, url)
        self._inbox = Inbox(self._app._calls.wire_of(None), keep, max_age)

    # -- sending ----------------------------------------------------------------------------------

    @by_name
    def send_notification(self, user_id: str | int, notification: Any, *, id: str | None = None) -> str:
        """Send a notification to one user: to the clients that are connected, and kept until it is read.

        Args:
            user_id: whose it is.
            notification: a map, or a model that is written as one. It is not changed. It has no field ``id``
                of its own; ``timestamp`` (seconds, on the server's clock) is added unless it has one.
            id: names it for 24 hours: another one with the same id to this user is not sent. With it, a send
                whose outcome is unknown is repeated until the deadline.

        Returns:
            Its id, which is also its field ``id``; ids only grow. With ``id=`` that of the first one.

        Raises:
            ConfigurationError: the user, a field or the id cannot be. Nothing was sent.
            EncodeError: it is no map, cannot be written, or is too large. Nothing was sent.
            StoreFull: the server has reached its memory limit. Nothing was sent.
            ServerUnreachable: no connection within ``command_timeout``. Nothing was sent.
            OutcomeUnknown: the connection was cut while it was on its way.
        """
        return self._app._run("send_notification", self._inbox.send(user_id, notification, id))

    @by_name
    async def asend_notification(
        self, user_id: str | int, notification: Any, *, id: str | None = None
    ) -> str:
        """Await what `send_notification` does: the same parameters, results and errors."""
        return await self._app._async_driver.run(self._inbox.send(user_id, notification, id))

    @by_name
    def broadcast(self, notification: Any, *, id: str | None = None) -> str:
        """Send a notification to everybody: to all clients that are connected; others find it unread.

        It is stored once, however many users there are. Parameters, result and errors are those of
        `send_notification`.
        """
        return self._app._run("broadcast", self._inbox.broadcast(notification, id))

    @by_name
    async def abroadcast(self, notification: Any, *, id: str | None = None) -> str:
        """Await what `broadcast` does: the same parameters, results and errors."""
        return await self._app._async_driver.run(self._inbox.broadcast(notification, id))

    # -- reading ----------------------------------------------------------------------------------

    @by_name
    def unread(
        self, user_id: str | int, limit: int = 100, *, after: str | None = None
    ) -> list[dict[str, Any]]:
        """Return what a user has not read, broadcasts too, oldest first.

        Args:
            user_id: whose.
            limit: how many at most.
            after: the id of a notification: those that came later.

        Returns:
            Notifications as they were sent, each with ``id`` and ``timestamp``. The id of a broadcast begins
            with ``b``.
        """
        return self._app._run("unread", self._inbox.unread(user_id, limit, after))

    @by_name
    async def aunread(
        self, user_id: str | int, limit: int = 100, *, after: str | None = None
    ) -> list[dict[str, Any]]:
        """Await what `unread` does: the same parameters, results and errors."""
        return await self._app._async_driver.run(self._inbox.unread(user_id, limit, after))

    def unread_count(self, user_id: str | int) -> int:
        """Return how many notifications a user has not read, broadcasts too."""
        return self._app._run("unread_count", self._inbox.count(user_id))

    async def aunread_count(self, user_id: str | int) -> int:
        """Await what `unread_count` does: the same parameters, results and errors."""
        return await self._app._async_driver.run(self._inbox.count(user_id))

    def mark_read(self, user_id: str | int, *ids: Any) -> int:
        """Mark notifications as read, for all devices of a user.

        Args:
            user_id: whose.
            *ids: their ids, or the notifications themselves; without any, none is marked.

        Returns:
            How many were unread.

        Raises:
            ConfigurationError: something is no id.
            StoreFull: the server has no memory for what is read of the broadcasts. Those to the user alone
                can be marked then, one by one.
        """
        return self._app._run("mark_read", self._inbox.mark_read(user_id, ids))

    async def amark_read(self, user_id: str | int, *ids: Any) -> int:
        """Await what `mark_read` does: the same parameters, results and errors."""
        return await self._app._async_driver.run(self._inbox.mark_read(user_id, ids))

    def mark_all_read(self, user_id: str | int) -> int:
        """Mark all notifications that a user has now as read, for all devices.

        Args:
            user_id: whose.

        Returns:
            How many were unread.

        Raises:
            StoreFull: the server has no memory for what is read of the broadcasts.
        """
        return self._app._run("mark_all_read", self._inbox.mark_all_read(user_id))

    async def amark_all_read(self, user_id: str | int) -> int:
        """Await what `mark_all_read` does: the same parameters, results and errors."""
        return await self._app._async_driver.run(self._inbox.mark_all_read(user_id))

    def dropped(self, user_id: str | int | None = None) -> int:
        """Return how many unread notifications have made room for later ones, as ``keep`` says.

        Args:
            user_id: whose; None: how many broadcasts.

        The count is kept as long as notifications are, from the last one that was dropped on.
        """
        return self._app._run("dropped", self._inbox.dropped(user_id))

    async def adropped(self, user_id: str | int | None = None) -> int:
        """Await what `dropped` does: the same parameters, results and errors."""
        return await self._app._async_driver.run(self._inbox.dropped(user_id))

    # -- living -----------------------------------------------------------------------------------

    def stop(self) -> None:
        """Close what is open and idle. May be called again; a later call connects anew."""
        self._app._connections.close()
