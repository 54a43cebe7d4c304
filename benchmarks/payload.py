"""The bodies that are sent: one small order, and texts of a given size."""

from __future__ import annotations

import json
from typing import Any

__all__ = ["ORDER", "ORDER_JSON", "of_size"]

ORDER: dict[str, Any] = {"order_id": 123, "amount": 9.99, "customer": "alice", "items": [1, 2, 3]}
ORDER_JSON = json.dumps(ORDER, separators=(",", ":")).encode()


def of_size(size: int) -> dict[str, Any]:
    """Return a payload whose JSON has about ``size`` bytes; 0 means the order."""
    if size <= 0:
        return ORDER
    empty = len(json.dumps({"text": ""}, separators=(",", ":")))
    return {"text": "x" * max(size - empty, 0)}
