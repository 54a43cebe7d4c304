"""Driving a flow by hand: send it answers, look at the steps it asks for."""

from __future__ import annotations

from typing import Any, TypeVar

from redis_toolkit._core.flow import Call, Exchange, ExchangeMany, Flow

T = TypeVar("T")


class Driven:
    """A flow with the steps it has asked for so far, and its result once it has one."""

    def __init__(self, flow: Flow[Any]) -> None:
        self._flow = flow
        self.steps: list[Call | Exchange | ExchangeMany] = []
        self.result: Any = None
        self.ended = False
        self._advance(lambda: next(flow))

    def answer(self, value: Any) -> Driven:
        """Send what came of the last step."""
        self._advance(lambda: self._flow.send(value))
        return self

    def fail(self, error: Exception) -> Driven:
        """Throw what went wrong with the last step."""
        self._advance(lambda: self._flow.throw(error))
        return self

    def last(self, kind: type[T]) -> T:
        """Return the step that waits for an answer."""
        assert not self.ended
        step = self.steps[-1]
        assert isinstance(step, kind)
        return step

    def _advance(self, action: Any) -> None:
        assert not self.ended
        try:
            self.steps.append(action())
        except StopIteration as end:
            self.result, self.ended = end.value, True
        except BaseException:
            self.ended = True
            raise
