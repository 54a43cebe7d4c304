"""What is done with notifications, as flows: for every driver alike, and checked before anything is sent."""

from __future__ import annotations

import datetime
import logging
from typing import Any

from redis_toolkit._core.flow import Flow
from redis_toolkit._core.flows import notifications as flows
from redis_toolkit._core.flows.notifications import START, Kept, Limits, NoticeId, Position
from redis_toolkit.codecs import JSONCodec
from redis_toolkit.errors import DecodeError
from redis_toolkit.patterns.notice import Notices, ids_of, limits_of
from redis_toolkit.patterns.user_name import checked_user
from redis_toolkit.settings import check_whole
from redis_toolkit.wire import Wire

__all__ = ["Inbox"]

logger = logging.getLogger("redis_toolkit")


class Inbox:
    """Makes flows of calls about notifications.

    Args:
        wire: the app's codec and size limit.
        keep: how many are kept of each user, and of the broadcasts.
        max_age: for how many seconds, or a ``timedelta``.

    Attributes:
        notices: writes and reads them.
        limits: what is kept.
    """

    def __init__(self, wire: Wire, keep: int, max_age: float | datetime.timedelta) -> None:
        self.notices = Notices(wire)
        self.limits: Limits = limits_of(keep, max_age)

    def send(self, user_id: object, notification: Any, id: str | None) -> Flow[str]:
        """Return the flow of `NotificationSystem.send_notification`."""
        return self._send(self.notices.outgoing(checked_user(user_id), notification, id))

    def broadcast(self, notification: Any, id: str | None) -> Flow[str]:
        """Return the flow of `NotificationSystem.broadcast`."""
        return self._send(self.notices.outgoing(None, notification, id))

    def unread(self, user_id: object, limit: int, after: object) -> Flow[list[dict[str, Any]]]:
        """Return the flow of `NotificationSystem.unread`."""
        check_whole("limit", limit)
        since = START if after is None else Position.after(ids_of((after,))[0])
        return self._unread(checked_user(user_id), limit, since)

    def count(self, user_id: object) -> Flow[int]:
        """Return the flow of `NotificationSystem.unread_count`."""
        return self._count(checked_user(user_id))

    def mark_read(self, user_id: object, ids: tuple[object, ...]) -> Flow[int]:
        """Return the flow of `NotificationSystem.mark_read`."""
        user, named = checked_user(user_id), ids_of(ids)
        event = JSONCodec().encode({"ids": [str(one) for one in named], "all": False})
        return flows.mark_read(user, list(dict.fromkeys(named)), event, self.limits)

    def mark_all_read(self, user_id: object) -> Flow[int]:
        """Return the flow of `NotificationSystem.mark_all_read`."""
        event = JSONCodec().encode({"ids": [], "all": True})
        return flows.mark_all(checked_user(user_id), event, self.limits)

    def dropped(self, user_id: object) -> Flow[int]:
        """Return the flow of `NotificationSystem.dropped`."""
        return flows.dropped(None if user_id is None else checked_user(user_id))

    def readable(self, item: Kept) -> dict[str, Any] | None:
        """Return a notification that was kept; None, and a log line, for what is none."""
        try:
            return self.notices.kept(item)
        except DecodeError as error:
            logger.warning("left out the notification %s: %s", item.id, error)
            return None

    def _send(self, notice: flows.Notice) -> Flow[str]:
        sent: NoticeId = yield from flows.send(notice, self.limits)
        return str(sent)

    def _unread(self, user: str, limit: int, since: Position) -> Flow[list[dict[str, Any]]]:
        found = yield from flows.unread(user, self.limits, limit=limit, after=since)
        read = [self.readable(item) for item in found.items]
        return [notification for notification in read if notification is not None]

    def _count(self, user: str) -> Flow[int]:
        found = yield from flows.unread(user, self.limits, limit=0, count=True)
        return found.count
