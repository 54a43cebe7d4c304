"""Notifications: two devices of one user, one of them offline for a while, and a dashboard that watches all.

Run it:  .venv/bin/python examples/notifications.py
"""

from __future__ import annotations

import threading
from typing import Any

from redis_toolkit import App
from redis_toolkit.patterns import NotificationSystem, UserNotificationClient

# A private server, started for this script. Any other works as well: redis://localhost:6379/0
app = App("embedded://")
notifications = NotificationSystem(app=app)
watched = threading.Semaphore(0)


@app.on("notifications:all")
def dashboard(user_id: str | None, notification: dict[str, Any]) -> None:
    print(f"dashboard: to {user_id or 'everybody'}: {notification['text']}")
    watched.release()


def on_phone(text: str, urgent: bool = False) -> None:
    print("phone:    ", text, "(!)" if urgent else "")


def on_laptop(notification: dict[str, Any]) -> None:
    print("laptop:   ", notification["text"])
    laptop.mark_read(notification)


with app, UserNotificationClient("ada", on_phone, on_phone, app=app):
    notifications.send_notification("ada", {"text": "Your order has left", "urgent": True}, id="order-7-left")
    notifications.send_notification("ada", {"text": "Your order has left", "urgent": True}, id="order-7-left")
    notifications.broadcast({"text": "Maintenance at nine"})
    for _ in range(2):
        watched.acquire()

print("her phone is off;", notifications.unread_count("ada"), "are unread")

# The laptop comes later, and gets first what is unread.
with UserNotificationClient("ada", on_laptop, on_laptop, catch_up=True, app=app) as laptop:
    notifications.send_notification("ada", {"text": "Your order is there"})

print("read on the laptop;", notifications.unread_count("ada"), "are unread")
