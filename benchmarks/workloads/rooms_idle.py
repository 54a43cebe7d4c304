"""Ten thousand members in one process: how fast they join and leave, and what they take when all is quiet."""

from __future__ import annotations

import time
from collections.abc import Iterator
from functools import partial
from typing import Any

from benchmarks.figures import Figures, Section, Target
from benchmarks.stage import Contestants, Stage

__all__ = ["TARGETS", "sections"]

ROOMS, MEMBERS = 1_000, 10
SECONDS = 10.0
SETTLE = 4.0
TITLE = f"Rooms: {ROOMS:,} of {MEMBERS} members"
KINDS = {f"ours, {kind}": kind for kind in ("def", "async def")}
TARGETS = {TITLE: [Target("connections", name, 3, at_most=True) for name in KINDS]}


def sections(stage: Stage) -> Iterator[Section]:
    """Let them join, wait, and leave."""
    rooms = max(stage.calls(ROOMS), 20)
    section = Section(
        TITLE,
        f"All {rooms * MEMBERS:,} members in one process; 200 joins at once, and all leave at once. "
        f"Idle is what {SECONDS:g} s of presence take: a beat every 3.3 s for the default lease.",
        TARGETS[TITLE],
    )
    with stage.contestants(section) as them:
        for name, kind in KINDS.items():
            them.add(name, partial(partial, _idle, stage, them, kind, rooms), warm=False)
        them.take_turns()
    yield section


def _idle(stage: Stage, them: Contestants, kind: str, rooms: int) -> Figures:
    before = stage.valkey.connections()
    given: dict[str, Any] = {
        "url": stage.valkey.url,
        "name": them.channel("crowd"),
        "rooms": rooms,
        "members": MEMBERS,
    }
    actor = them.actor("our_rooms", "listener", kind=kind, **given)
    try:
        state = actor.ask("state")
        figures: Figures = {
            "connections": stage.valkey.connections() - before,
            "threads": state["threads"],
            "more_rss_mb": state["more_rss_mb"],
            "joins_per_second": state["joins_per_second"],
        }
        time.sleep(SETTLE)
        commands, server, used, begun = (
            stage.valkey.commands(),
            stage.valkey.cpu(),
            actor.cpu(),
            time.monotonic(),
        )
        time.sleep(SECONDS)
        took = time.monotonic() - begun
        figures["idle_commands_per_second"] = (stage.valkey.commands() - commands) / took
        figures["idle_server_percent"] = (stage.valkey.cpu() - server) / took * 100
        figures["idle_listener_percent"] = (actor.cpu() - used) / took * 100
        figures |= actor.ask("leave")
        return figures
    finally:
        actor.close()
        stage.valkey.clear()
