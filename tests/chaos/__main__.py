"""The long form: ``python -m tests.chaos``; a worker is killed every second until all work is done.

In between all connections are cut, the server is killed and started again, and so are supervisors.
``$CHAOS_SEED`` repeats the choices of an earlier run. The exit status is 1 if anything was lost, or was where
it must not be.
"""

from __future__ import annotations

import argparse
import sys
import tempfile
import time
from contextlib import ExitStack
from pathlib import Path

from tests.chaos.plan import Load
from tests.chaos.run import Chaos, Outcome, chosen_seed
from tests.chaos.turmoil import Blow
from tests.kit.waiting import eventually

SHOWN = 40
CLEANED = 400.0
"""Seconds within which workers have removed what dead ones left; they look after a minute or two at first."""
FEW = 3
OTHERS: tuple[Blow | None, ...] = ("cut", "cut", "restart", "stop", "behead", "stall", *[None] * 9)
"""What else happens within 15 kills, in an order that chance decides."""


def main() -> int:
    parser = argparse.ArgumentParser(prog="python -m tests.chaos", description=__doc__)
    parser.add_argument("--tasks", type=int, default=20_000)
    parser.add_argument("--events", type=int, default=20_000)
    parser.add_argument("--rate", type=float, default=500, help="tasks and events per second")
    parser.add_argument("--lease", type=float, default=3, help="seconds")
    parser.add_argument("--every", type=float, default=1, help="seconds between two kills")
    parser.add_argument(
        "--limit", type=float, default=1800, help="seconds after which nobody is killed any more"
    )
    given = parser.parse_args()
    load = Load(given.tasks, given.events, given.rate, given.lease, crew=3, singles=3)
    seed = chosen_seed()
    print(f"CHAOS_SEED={seed}", flush=True)
    with tempfile.TemporaryDirectory() as directory, ExitStack() as stack:
        chaos = Chaos(Path(directory), load, seed, stack)
        chaos.begin()
        make_trouble(chaos, given.every, time.monotonic() + given.limit)
        outcome = chaos.finish(lambda: janitors_clean_up(chaos))
    report(outcome)
    return int(bool(outcome.problems))


def make_trouble(chaos: Chaos, every: float, until: float) -> None:
    """Deal blows as long as there is work: a kill each time, and after some of them another blow as well."""
    said, others = 0.0, list[Blow | None]()
    while chaos.at_work and time.monotonic() < until:
        time.sleep(every)
        chaos.turmoil.deal("kill")
        others = others or chaos.turmoil.shuffled(OTHERS)
        if other := others.pop():
            chaos.turmoil.deal(other)
        if time.monotonic() - said > 10:
            said = time.monotonic()
            print(f"{chaos.share:.0%} done; {dict(chaos.turmoil.dealt)}", flush=True)


def janitors_clean_up(chaos: Chaos) -> None:
    """Wait until the workers have removed the consumers of those that were killed."""
    most = chaos.workers.size + FEW
    print("all is done; waiting until what dead workers left is cleaned up", flush=True)

    def look() -> bool:
        chaos.workers.replace_the_dead()
        return all(number <= most for number in chaos.remains.consumers().values())

    eventually(look, CLEANED, f"at most {most} consumers: {chaos.remains.consumers()}")


def report(outcome: Outcome) -> None:
    print(outcome)
    for problem in outcome.problems[:SHOWN]:
        print("WRONG:", problem)
    print(
        f"{len(outcome.problems)} problems" if outcome.problems else "nothing was lost, nothing was left over"
    )


if __name__ == "__main__":
    sys.exit(main())
