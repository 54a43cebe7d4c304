"""`Hearer`: what a `Subscriber` tells what it hears."""

from __future__ import annotations

from typing import Protocol

__all__ = ["Hearer"]


class Hearer(Protocol):
    """Somebody who hears channels. All of it is called by the reader's thread, or by who enters."""

    @property
    def channels(self) -> tuple[bytes, ...]:
        """Exact names."""

    def hear(self, channel: bytes, body: bytes) -> None:
        """Take a message."""

    def cut(self, since: float, reason: str) -> None:
        """Know that messages may be missed from a time (wall-clock seconds) on, until `back`."""

    def back(self) -> None:
        """Know that it is subscribed again."""
