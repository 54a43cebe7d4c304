"""Messages to rooms of ten members: how many per second, their time on the way, and a slow member."""

from __future__ import annotations

from collections.abc import Callable, Iterator
from functools import partial
from typing import Any

from benchmarks.actor import Actor, ActorFailed
from benchmarks.environments import OURS
from benchmarks.figures import Figures, Section, Target
from benchmarks.servers import NatsServer, Valkey
from benchmarks.stage import Contestants, Stage

__all__ = ["TARGETS", "sections"]

ROOMS, MEMBERS = 100, 10
WARM, MESSAGES, CALLERS = 2_000, 30_000, 200
RATES, SECONDS = (1_000, 5_000), 2.0
SLOW, SLOW_RATE = 0.002, 1_000
FAN_OUT, ON_TIME = "Rooms: messages to 10 members each", "Rooms: time on the way"
LAGGING = "Rooms: one slow member"
FLOOR, NATS = "redis-py Pub/Sub", "nats-py"
KINDS = {f"ours, {kind}": kind for kind in ("def", "async def", "iteration")}
NOBODY = "{}, nobody slow"
LAGGARDS = {f"ours, {kind}, one slow": kind for kind in ("def", "async def")}
TARGETS = {
    FAN_OUT: [
        target
        for name in KINDS
        for target in (
            Target("per_second", name, 10_000),
            Target("per_second", name, None, NATS),
            Target("per_second", name, None, FLOOR),
        )
    ],
    ON_TIME: [
        Target("p50_ms", f"{name}, {rate:,}/s", None, f"{NATS}, {rate:,}/s")
        for rate in RATES
        for name in KINDS
    ],
    LAGGING: [
        target
        for name, kind in LAGGARDS.items()
        for target in (
            Target("p50_ms", name, None, NOBODY.format(f"ours, {kind}")),
            Target("missed", name, 0, at_most=True),
        )
    ],
}
Offer = Callable[[Actor], Figures]


def sections(stage: Stage) -> Iterator[Section]:
    """Measure floods, then rates, then a room with a slow member."""
    rooms = (
        f"{ROOMS} rooms of {MEMBERS} members, all of them in one process; another one sends to them in turns."
    )
    flood = Section(
        FAN_OUT,
        f"{rooms} As many messages as {CALLERS} callers of `asend_message` get through, from the first that "
        "is sent to the last that is heard; each is heard ten times.",
        TARGETS[FAN_OUT],
    )
    count = stage.calls(MESSAGES)
    yield _measured(stage, flood, {"": lambda sender: sender.ask("flood", count=count, callers=CALLERS)})
    paced = Section(
        ON_TIME,
        f"{rooms} At a fixed rate; from when a message is due to each of its ten callbacks.",
        TARGETS[ON_TIME],
    )
    offers: dict[str, Offer] = {f", {rate:,}/s": partial(_offer, rate=rate) for rate in RATES}
    yield _measured(stage, paced, offers)
    yield _slow(stage)


def _offer(sender: Actor, rate: float) -> Figures:
    figures: Figures = sender.ask("offer", rate=rate, seconds=SECONDS)
    return figures


def _measured(stage: Stage, section: Section, offers: dict[str, Offer]) -> Section:
    with stage.contestants(section) as them:

        def pair(
            program: str, environment: str, server: Valkey | NatsServer, **given: Any
        ) -> tuple[Actor, Actor]:
            common: dict[str, Any] = {"url": server.url, "name": them.channel("room"), "rooms": ROOMS}
            listener = them.actor(program, "listener", environment, members=MEMBERS, **common, **given)
            sender = them.actor(program, "publisher", environment, **common)
            _heard(listener, sender, lambda sender: sender.ask("flood", count=WARM, callers=CALLERS))
            return listener, sender

        def add(name: str, start: Callable[[], tuple[Actor, Actor]], server: Valkey | NatsServer) -> None:
            actors: list[tuple[Actor, Actor]] = []

            def prepare(offer: Offer) -> Callable[[], Figures]:
                if not actors:
                    actors.append(start())
                listener, sender = actors[0]
                return them.costed(server, lambda: _heard(listener, sender, offer), listener, sender)

            for ending, offer in offers.items():
                them.add(name + ending, partial(prepare, offer), warm=False)

        for name, kind in KINDS.items():
            add(name, partial(pair, "our_rooms", OURS, stage.valkey, kind=kind), stage.valkey)
        if stage.nats is not None:
            add(NATS, partial(pair, "nats_rooms", "nats", stage.nats), stage.nats)
        else:
            section.failures[NATS] = stage.without_nats
        add(FLOOR, partial(pair, "redis_rooms", OURS, stage.valkey), stage.valkey)
        them.take_turns()
    stage.valkey.clear()
    return section


def _heard(listener: Actor, sender: Actor, offer: Offer) -> Figures:
    """Return the figures of one round of messages, all of which have to be heard."""
    listener.ask("begin")
    sent = offer(sender)
    heard = listener.ask("heard", count=int(sent["calls"]) * MEMBERS)
    if heard["heard"] != sent["calls"] * MEMBERS:
        raise ActorFailed(f"{heard['heard']} of {sent['calls'] * MEMBERS} messages were heard")
    return {
        "calls": sent["calls"],
        "per_second": sent["calls"] / (heard["last"] - sent["begun"]),
        "p50_ms": heard["p50_ms"],
        "p99_ms": heard["p99_ms"],
    }


def _slow(stage: Stage) -> Section:
    section = Section(
        LAGGING,
        f"One room of {MEMBERS} members, {SLOW_RATE:,} messages/s for {SECONDS:g} s; the callback of one "
        f"member sleeps {SLOW * 1e3:g} ms. Times on the way are those of the other members; `missed` is what "
        "the slow one has not heard in the end, `late s` how long after the others it has heard all.",
        TARGETS[LAGGING],
    )
    with stage.contestants(section) as them:
        for name, kind in LAGGARDS.items():
            them.add(NOBODY.format(f"ours, {kind}"), partial(_room, stage, them, kind, 0.0), warm=False)
            them.add(name, partial(_room, stage, them, kind, SLOW), warm=False)
        them.take_turns()
    stage.valkey.clear()
    return section


def _room(stage: Stage, them: Contestants, kind: str, slow: float) -> Callable[[], Figures]:
    common: dict[str, Any] = {"url": stage.valkey.url, "name": them.channel("room"), "rooms": 1}
    listener = them.actor("our_rooms", "listener", members=MEMBERS, kind=kind, slow=slow, **common)
    sender = them.actor("our_rooms", "publisher", **common)
    others = MEMBERS - (slow > 0)

    def once() -> Figures:
        listener.ask("begin")
        sent = _offer(sender, SLOW_RATE)
        calls = int(sent["calls"])
        heard = listener.ask("heard", count=calls * others)
        figures = {
            "calls": calls,
            "per_second": calls / (heard["last"] - sent["begun"]),
            "p50_ms": heard["p50_ms"],
            "p99_ms": heard["p99_ms"],
        }
        if slow:
            late = listener.ask("late", count=calls)
            figures |= {"missed": calls - late["heard"], "late_s": late["last"] - heard["last"]}
        return figures

    return them.costed(stage.valkey, once, listener)
