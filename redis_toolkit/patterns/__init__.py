"""Ready-made patterns on top of `App`."""

from __future__ import annotations

from redis_toolkit.patterns.chat_room import ChatRoom
from redis_toolkit.patterns.membership import Joining, Membership
from redis_toolkit.patterns.notifications import NotificationSystem, UserNotificationClient
from redis_toolkit.patterns.queue_stats import QueueStats
from redis_toolkit.patterns.reliable_messaging import ReliableMessaging
from redis_toolkit.patterns.request_response import RequestResponse
from redis_toolkit.patterns.room_views import Member, RoomInfo
from redis_toolkit.patterns.task import AsyncTask, Task
from redis_toolkit.patterns.task_call import TaskCall
from redis_toolkit.patterns.task_handle import TaskHandle
from redis_toolkit.patterns.task_options import TaskOptions
from redis_toolkit.patterns.task_queue import TaskQueue

__all__ = [
    "NotificationSystem",
    "ReliableMessaging",
    "RequestResponse",
    "UserNotificationClient",
    # rooms
    "ChatRoom",
    "Joining",
    "Member",
    "Membership",
    "RoomInfo",
    # queues and what they hand out
    "AsyncTask",
    "QueueStats",
    "Task",
    "TaskCall",
    "TaskHandle",
    "TaskOptions",
    "TaskQueue",
]
