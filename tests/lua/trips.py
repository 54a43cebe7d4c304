"""What the package does many of at once, or puts into one packet with other things, as round trips of one."""

from __future__ import annotations

from collections.abc import Sequence

from redis_toolkit._core.flow import Call, Flow
from redis_toolkit._core.flows import leases, tasks
from redis_toolkit._core.flows.tasks import Submission, Submitted
from redis_toolkit._core.flows.work import Claim, Claimed, Held, Settled, Settlement, Source
from redis_toolkit.errors import QueueFull


def submit(
    queue: str, task: Submission, priorities: Sequence[str], *, max_pending: int | None = None
) -> Flow[Submitted]:
    """Submit one task; raises `QueueFull`."""
    [done] = yield from tasks.submit_many(queue, (task,), priorities, max_pending=max_pending)
    if isinstance(done, QueueFull):
        raise done
    return done


def claim(source: Source, consumer: str, free: int) -> Flow[Claim]:
    """Take up to `free` entries without waiting, in the order of the streams."""
    [reply] = yield Call((leases.claim_call(source, consumer, free),))
    return leases.read_claim(reply)


def settle(source: Source, consumer: str, settlements: Sequence[Settlement]) -> Flow[Settled]:
    """Settle entries, any number; what did not count is in the result."""
    settled = Settled()
    calls = list(leases.settle_calls(source, consumer, settlements))
    if calls:
        replies = yield Call(tuple(call for call, _ in calls), repeatable=True)
        for reply, (_, batch) in zip(replies, calls, strict=True):
            leases.read_settled(reply, batch, settled)
    return settled


def recover(source: Source, consumer: str, lease_ms: int, most: int) -> Flow[list[Claimed]]:
    """Claim what others have held for a lease without a sign of life, up to `most` of each stream."""
    replies = yield Call(leases.recover_calls(source, consumer, lease_ms, most))
    return [one for place, reply in enumerate(replies) for one in leases.read_recovered(place, reply)]


def release(source: Source, consumer: str, unstarted: Sequence[Held], lease_ms: int) -> Flow[int]:
    """Give back what does not run; returns how many that were."""
    calls = leases.release_calls(source, consumer, unstarted, lease_ms)
    if not calls:
        return 0
    return sum((yield Call(calls, repeatable=True)))
