"""The short form of `make chaos`: some hundred tasks and events, seven blows."""

from __future__ import annotations

from contextlib import ExitStack
from pathlib import Path

import pytest

from tests.chaos.plan import Load
from tests.chaos.run import Chaos, chosen_seed
from tests.chaos.turmoil import Blow
from tests.kit.waiting import eventually

BLOWS: tuple[Blow, ...] = ("kill", "kill", "kill", "cut", "restart", "stop", "stall")
SHORT = Load(tasks=500, events=500, rate=250, lease=2, crew=2, singles=1)


@pytest.mark.fault(1, "durable", "tasks")
@pytest.mark.fault(2, "durable", "tasks")
@pytest.mark.fault(9, "durable", "tasks")
@pytest.mark.fault(14, "durable", "tasks")
def test_nothing_is_lost(tmp_path: Path) -> None:
    seed = chosen_seed()
    print(f"CHAOS_SEED={seed}")
    with ExitStack() as stack:
        chaos = Chaos(tmp_path, SHORT, seed, stack)
        chaos.begin()
        blows = chaos.turmoil.shuffled(BLOWS)
        for place, blow in enumerate(blows, 1):
            due = place / (len(blows) + 2)
            eventually(lambda due=due: chaos.share >= due, 120, f"{due:.0%} of the work")  # type: ignore[misc]
            chaos.turmoil.deal(blow)
        outcome = chaos.finish()
        print(outcome)
        assert not outcome.problems, f"CHAOS_SEED={seed}\n" + "\n".join(outcome.problems[:20])
