"""Ready-made patterns on top of `App`."""

from __future__ import annotations

from redis_toolkit.patterns.reliable_messaging import ReliableMessaging
from redis_toolkit.patterns.request_response import RequestResponse

__all__ = ["ReliableMessaging", "RequestResponse"]
