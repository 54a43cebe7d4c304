"""A room in which people talk while a fault lasts, and an account of what each of them has heard.

Rules: members of every kind stay (callbacks and iterations, in threads and on a loop; one of them by two
connections), others come and go; messages are sent from threads and on a loop, with an id of their own and
without. The log itself, read past all that may be broken, is the truth: when it ends, each member has heard
all of it, once and in order; it has each acknowledged message once, and what was sent with an id exactly
once; and each user joins and leaves by turns.
"""

from __future__ import annotations

import asyncio
import json
from bisect import bisect_left, bisect_right
from collections import defaultdict
from collections.abc import Callable, Iterable
from concurrent.futures import Future
from contextlib import suppress
from itertools import pairwise
from typing import Any

from redis_toolkit import App, Gap, OutcomeUnknown, ServerUnreachable, keys
from redis_toolkit.patterns import ChatRoom, Membership
from tests.faults.flowing import Flowing
from tests.kit.servers import Server
from tests.kit.waiting import eventually

__all__ = ["WAYS", "Heard", "Id", "Talk", "id_of", "said_in"]

ROOM = "lobby"
KEPT = 1_000_000
WAYS = ("called", "called with id", "awaited", "awaited with id")
STAYING = {"ann": 2, "ben": 1, "cid": 1}
"""Who stays, by how many connections."""
DIRECT = 5
"""Of so many messages with an id one is for ann only."""
PAUSE = 0.005
LONG = 30.0

Id = tuple[int, int]


def id_of(text: str) -> Id:
    """Return an id as it is compared."""
    ms, _, number = text.partition("-")
    return int(ms), int(number)


def said_in(server: Server, *names: str) -> dict[Id, dict[str, Any]]:
    """Return what some logs hold, in order."""
    found: dict[Id, dict[str, Any]] = {}
    for name in names:
        for entry, fields in server.execute("XRANGE", name, "-", "+"):
            found[id_of(entry)] = json.loads(fields["b"])
    return dict(sorted(found.items()))


class Heard:
    """One stay of one user, and what was heard in it: messages and gaps, in their order."""

    def __init__(self, user: str) -> None:
        self.user = user
        self.items: list[dict[str, Any] | Gap] = []
        self.membership: Membership | None = None

    def hear(self, message: dict[str, Any]) -> None:
        self.items.append(message)

    async def hear_later(self, message: dict[str, Any]) -> None:
        await asyncio.sleep(0)
        self.items.append(message)

    def hear_gap(self, gap: Gap) -> None:
        self.items.append(gap)

    @property
    def gaps(self) -> list[Gap]:
        return [one for one in self.items if isinstance(one, Gap)]

    @property
    def messages(self) -> list[dict[str, Any]]:
        return [one for one in self.items if isinstance(one, dict) and one["id"]]

    @property
    def ids(self) -> list[Id]:
        return [id_of(one["id"]) for one in self.messages]

    def ways(self) -> dict[str, int]:
        """Return how many messages of each way of sending were heard."""
        seen = dict.fromkeys(WAYS, 0)
        for one in self.messages:
            if one["type"] == "message" and one.get("way") in seen:
                seen[one["way"]] += 1
        return seen

    def runs(self) -> list[list[Id]]:
        """Return the ids that were heard between gaps."""
        runs: list[list[Id]] = [[]]
        for one in self.items:
            if isinstance(one, Gap):
                runs.append([])
            elif one["id"]:
                runs[-1].append(id_of(one["id"]))
        return [run for run in runs if run]


class Talk(Flowing):
    """Talk from `calling`, by whom others come and go, to `serving`, whose members stay.

    Args:
        serving: an app without handlers.
        calling: one that talks.
        watching: an app that the fault does not meet; its member takes out who is lost.
        server: whose logs are read.
        whole: False where the server forgets what it was given; then what a member has not heard of what
            was acknowledged lies in a gap.
        stays: False where the fault lasts for longer than a lease, so that members are taken for lost.
    """

    def __init__(
        self,
        serving: App,
        calling: App,
        watching: App,
        server: Server,
        *,
        whole: bool = True,
        stays: bool = True,
    ) -> None:
        super().__init__(serving, calling, threads=8)
        self.server, self.whole, self.stays = server, whole, stays
        self.room, self.others, self.watched = (
            ChatRoom(ROOM, app=app, history_count=KEPT) for app in (serving, calling, watching)
        )
        self.heard: list[Heard] = []
        self.stayed: list[Heard] = []
        """What those heard who came and went, each time."""
        self.sent: dict[str, Id] = {}
        """What was acknowledged, and is for all."""
        self.direct: dict[str, Id] = {}
        """What was acknowledged, and is for ann only."""
        self.tried: set[str] = set()
        self._eve: Membership | None = None

    # -- living -----------------------------------------------------------------------------------

    def __enter__(self) -> Talk:  # an app without handlers is not started
        try:
            self._begin()
        except BaseException as error:
            self.__exit__(type(error), error, None)
            raise
        return self

    def _begin(self) -> None:
        self._eve = self.watched.join("eve", lambda message: None)
        self._hearing: list[Future[Any]] = []
        self._parts.append(_Then(self._leave))
        self._take_seats()
        for number, way in enumerate(WAYS):
            self._running.append(self._pool.submit(self._talk, way, bool(number % 2), number >= 2))
        for awaited in (False, True):
            self._running.append(self._pool.submit(self._come_and_go, f"moth {awaited}", awaited))

    def _take_seats(self) -> None:
        async def ajoin(*args: Any, **options: Any) -> Membership:
            return await self.room.ajoin(*args, **options)

        async def iterate(seat: Heard) -> None:
            async for message in seat.membership or ():  # type: ignore[union-attr]
                seat.hear(message)

        def loop(seat: Heard) -> None:
            for message in seat.membership or ():
                seat.hear(message)

        for user, awaited, called in (("ann", 0, 1), ("ben", 1, 1), ("cid", 0, 0), ("ann", 1, 0)):
            seat = Heard(user)
            options: dict[str, Any] = {"since": "0-0", "on_gap": seat.hear_gap}
            hear = None if not called else seat.hear_later if awaited else seat.hear
            if awaited:
                seat.membership = self._background.run(ajoin(user, hear, **options))
            else:
                seat.membership = self.room.join(user, hear, **options)
            if not called:
                following = iterate(seat) if awaited else None
                self._hearing.append(
                    self._pool.submit(self._background.run, following)
                    if following is not None
                    else self._pool.submit(loop, seat)
                )
            self.heard.append(seat)

    def _leave(self) -> None:
        for seat in self.heard:
            if seat.membership is not None:
                seat.membership.stop()
        for hearing in self._hearing:
            hearing.result(60)
        self._background.run(self.serving.astop())
        if self._eve is not None:
            self._eve.stop()

    def flows(self, more: int = 3) -> None:
        """Wait until all who stay hear what is sent from now on, in each way, and are in the room."""
        before = [seat.ways() for seat in self.heard]

        def again() -> bool:
            self._fails_within(0)
            return all(
                seat.ways()[way] - seen[way] >= more
                for seat, seen in zip(self.heard, before, strict=True)
                for way in WAYS
            )

        try:
            eventually(again, LONG, what="messages that are heard again")
            eventually(self._are_there, LONG, what=f"{STAYING} in the room")
        except AssertionError as error:
            error.add_note(f"heard: {[seat.ways() for seat in self.heard]}, before: {before}")
            error.add_note(f"outcomes: {self.outcomes}, members: {self.watched.members()}")
            raise

    def _are_there(self) -> bool:
        there = {one.user: one.connections for one in self.watched.members()}
        return all(there.get(user) == connections for user, connections in STAYING.items())

    def nobody_stays(self) -> bool:
        """Return whether all who stay are taken for lost."""
        return not any(one.user in STAYING for one in self.watched.members())

    # -- who talks, and who comes and goes --------------------------------------------------------

    def _either(
        self, awaited: bool, called: Callable[..., Any], later: Callable[..., Any], *args: Any
    ) -> Any:
        return self._background.run(later(*args)) if awaited else called(*args)

    def _talk(self, way: str, with_id: bool, awaited: bool) -> None:
        number = 0
        while not self._enough.wait(PAUSE):
            number += 1
            text = f"{way} {number}"
            direct = with_id and number % DIRECT == 0
            options: dict[str, Any] = {"id": text} if with_id else {}
            if not direct:
                options["way"] = way
            name, to = ("send_direct", ("ann",)) if direct else ("send_message", ())
            send = getattr(self.others, "a" * awaited + name)
            self.tried.add(text)
            while True:  # with an id, it is sent until that is acknowledged
                entry = self._sent(awaited, send, "dan", *to, text, **options)
                if entry:
                    (self.direct if direct else self.sent)[text] = id_of(entry)
                if entry or not with_id:
                    break

    def _sent(self, awaited: bool, send: Callable[..., Any], *args: Any, **options: Any) -> str | None:
        try:
            done = send(*args, **options)
            entry: str = self._background.run(done) if awaited else done
        except (OutcomeUnknown, ServerUnreachable) as error:
            self._count(error)
            return None
        return entry

    def _count(self, error: Exception) -> None:
        with self._lock:
            self.outcomes[type(error).__name__] += 1

    def _come_and_go(self, user: str, awaited: bool) -> None:
        async def visit(seat: Heard, enough: int) -> None:
            joining = self.others.ajoin(user, history=enough, on_gap=seat.hear_gap)
            async with joining as membership:
                with suppress(TimeoutError):  # in the end nobody says so much
                    async with asyncio.timeout(0.5):
                        async for message in membership:
                            seat.hear(message)
                            if len(seat.items) >= enough:
                                break

        turn = 0
        while not self._enough.wait(PAUSE):
            turn += 1
            seat = Heard(user)
            try:
                if awaited:
                    self._background.run(visit(seat, 5 + turn % 20))
                else:
                    with self.others.join(user, seat.hear, history=turn % 20, on_gap=seat.hear_gap):
                        self._enough.wait(0.02 * (turn % 4))
            except (OutcomeUnknown, ServerUnreachable) as error:
                self._count(error)
            self.stayed.append(seat)

    # -- the account ------------------------------------------------------------------------------

    def _settle(self) -> None:
        last = ""
        while not last:
            last = self._sent(False, self.others.send_message, "dan", "the end", id="the end") or ""
        end = id_of(last)
        try:
            eventually(
                lambda: all(seat.ids and seat.ids[-1] >= end for seat in self.heard), LONG, what="the end"
            )
        except AssertionError as error:
            error.add_note(f"{last}; ends: {[(seat.user, seat.items[-1:]) for seat in self.heard]}")
            raise
        eventually(self._are_there, LONG, what=f"{STAYING} in the room")

    def _check(self) -> None:
        if self.whole:
            self._all_of_it()
        sent, direct = sorted(self.sent.values()), sorted(self.direct.values())
        for seat in (*self.heard, *self.stayed):
            heard = set(seat.ids)
            for run in seat.runs():
                assert all(one < other for one, other in pairwise(run)), f"{seat.user} heard something twice"
                due = [*_between(sent, run), *(_between(direct, run) if seat.user == "ann" else ())]
                missing = [one for one in due if one not in heard]
                assert not missing, f"{seat.user} has not heard {missing[:9]}, without a gap"
        eventually(lambda: self.watched.members() == [], LONG, what="nobody in the room")

    def _all_of_it(self) -> None:
        log = said_in(self.server, keys.room_log(ROOM))
        direct = {user: said_in(self.server, keys.room_direct(ROOM, user)) for user in ("ann", "dan")}
        assert direct["ann"] == direct["dan"]
        entries = defaultdict(list)
        for entry, message in (*log.items(), *direct["ann"].items()):
            if message["user"] == "dan":
                entries[message["text"]].append(entry)
        assert set(entries) - {"the end"} <= self.tried
        assert max(map(len, entries.values())) == 1, "a message that was sent once, or with an id, came twice"
        for text, entry in (*self.sent.items(), *self.direct.items()):
            assert entries[text] == [entry]
        for seat in self.heard:
            whole = sorted({**log, **direct["ann"]} if seat.user == "ann" else log)
            own = {entry for entry, one in log.items() if _is_presence(one, seat.user)}
            expected = [entry for entry in whole if entry not in own]
            assert seat.ids == expected[: len(seat.ids)], _differ(seat, expected)
            assert not seat.gaps
        ids = list(log)
        for seat in self.stayed:
            others = [entry for entry in seat.ids if not _is_presence(log[entry], seat.user)]
            whole = [entry for entry in _between(ids, others) if not _is_presence(log[entry], seat.user)]
            assert others == whole, _differ(seat, whole)
        self._by_turns(log.values())

    def _by_turns(self, messages: Iterable[dict[str, Any]]) -> None:
        turns: dict[str, list[str]] = defaultdict(list)
        for one in messages:
            if one["type"] in ("join", "leave"):
                turns[one["user"]].append(one["type"])
        for user, kinds in turns.items():
            assert kinds[::2] == ["join"] * len(kinds[::2]), user
            assert kinds[1::2] == ["leave"] * len(kinds[1::2]), user
        for user in STAYING:
            assert turns[user][-1] == "leave"
            if self.stays:
                assert turns[user] == ["join", "leave"], f"{user} was taken for lost: {turns[user]}"


class _Then:
    """What is done when the parts of a flow are stopped."""

    def __init__(self, stop: Callable[[], None]) -> None:
        self.stop = stop


def _is_presence(message: dict[str, Any], user: str) -> bool:
    return message["type"] in ("join", "leave") and bool(message["user"] == user)


def _between(ids: list[Id], run: list[Id]) -> list[Id]:
    """Return those of some sorted ids that are neither before nor behind what was heard."""
    return ids[bisect_left(ids, run[0]) : bisect_right(ids, run[-1])] if run else []


def _differ(seat: Heard, expected: list[Id]) -> str:
    heard = seat.ids
    missing = [one for one in expected if one not in set(heard)]
    more = [one for one in heard if one not in set(expected)]
    twice = len(heard) - len(set(heard))
    return (
        f"{seat.user}: {len(heard)} of {len(expected)}; missing {missing[:9]}, more {more[:9]}, {twice} twice"
    )
