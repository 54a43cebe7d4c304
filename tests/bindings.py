"""What the tests of bindings share: models, and a call with one message."""

from __future__ import annotations

import dataclasses
from collections.abc import Callable
from typing import Any

import pydantic

from redis_toolkit.binding import Binding
from redis_toolkit.message import Message


class Order(pydantic.BaseModel):
    id: int
    note: str = ""


@dataclasses.dataclass
class Line:
    sku: str
    count: int = 1


def bind(
    function: Callable[..., Any], data: Any = None, *, spread: bool = False, app: Any = None, **more: Any
) -> Any:
    """Register a function and give it one message."""
    message = Message(more.pop("channel", "orders"), data, **more)
    return Binding(function, app).call(message, spread=spread)
