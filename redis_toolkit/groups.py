"""`Groups`: looks after the durable groups of channels, each call in two forms, to wait for and to await.

Rules: as in `talking.py`. What is asked is made here, once for both forms.
"""

from __future__ import annotations

from collections.abc import Iterable

from redis_toolkit._core.flow import Flow
from redis_toolkit._core.flows import durable, leases
from redis_toolkit._core.flows.durable import GroupInfo
from redis_toolkit.codecs import Codec
from redis_toolkit.dead_letters import DeadLetter, dead_letter, entries_of, requeued
from redis_toolkit.grouping import checked_group
from redis_toolkit.routing import checked_channel
from redis_toolkit.settings import check_whole
from redis_toolkit.talking import Talking
from redis_toolkit.wire import Wire

__all__ = ["Groups"]


class Groups(Talking):
    """Talks on channels, and looks after their durable groups."""

    def groups(self, channel: str) -> list[GroupInfo]:
        """Return how each durable group of a channel does (``XINFO GROUPS``).

        Args:
            channel: exact name.

        Returns:
            One `GroupInfo` for each: ``lag`` events not claimed yet, ``pending`` claimed and not finished,
            ``later`` to be tried again, ``dead`` letters, the ``oldest`` event that it has not finished.

        Raises:
            RedisToolkitError: the server cannot be reached or refuses.
        """
        return self._run("groups", durable.groups(checked_channel(channel)))

    async def agroups(self, channel: str) -> list[GroupInfo]:
        """Await what `groups` does: the same parameters, results and errors."""
        return await self._async_driver.run(durable.groups(checked_channel(channel)))

    def dead(
        self,
        channel: str,
        group: str,
        *,
        limit: int = 100,
        after: str = "0-0",
        codec: str | Codec | None = None,
    ) -> list[DeadLetter]:
        """Return events that a group has given up, the oldest first (``XRANGE``).

        Args:
            channel: exact name.
            group: the group.
            limit: how many at most.
            after: the ``entry`` of the letter behind which to go on.
            codec: another codec than the app's, to read their payloads.

        Raises:
            GroupUnknown: the channel has no such group; says which it has.
            RedisToolkitError: the server cannot be reached or refuses.

        Example:
            ``app.requeue("orders", "billing", [one for one in app.dead("orders", "billing") if ...])``
        """
        return self._run("dead", self._dead(channel, group, limit, after, codec))

    async def adead(
        self,
        channel: str,
        group: str,
        *,
        limit: int = 100,
        after: str = "0-0",
        codec: str | Codec | None = None,
    ) -> list[DeadLetter]:
        """Await what `dead` does: the same parameters, results and errors."""
        return await self._async_driver.run(self._dead(channel, group, limit, after, codec))

    def requeue(self, channel: str, group: str, letters: Iterable[DeadLetter | str] | None = None) -> int:
        """Put dead letters of a group back, as first attempts.

        Args:
            channel: exact name.
            group: the group.
            letters: what `dead` returned, or their entries; None means all of them.

        Returns:
            How many were put back. One that is gone by now does not count.

        Raises:
            GroupUnknown: the channel has no such group; says which it has.
            RedisToolkitError: the server cannot be reached or refuses. Those that were put back before stay.
        """
        return self._run("requeue", self._requeue(channel, group, letters))

    async def arequeue(
        self, channel: str, group: str, letters: Iterable[DeadLetter | str] | None = None
    ) -> int:
        """Await what `requeue` does: the same parameters, results and errors."""
        return await self._async_driver.run(self._requeue(channel, group, letters))

    def forget_group(self, channel: str, group: str) -> bool:
        """Remove a durable group with all it has not finished, its retries and dead letters.

        Args:
            channel: exact name.
            group: the group. When workers still serve it, they make it again, from now on.

        Returns:
            True: it was there, and is gone.

        Raises:
            GroupUnknown: the channel has no such group; says which it has.
            RedisToolkitError: the server cannot be reached or refuses.
        """
        return self._run("forget_group", self._forget(channel, group))

    async def aforget_group(self, channel: str, group: str) -> bool:
        """Await what `forget_group` does: the same parameters, results and errors."""
        return await self._async_driver.run(self._forget(channel, group))

    def _dead(
        self, channel: str, group: str, limit: int, after: str, codec: str | Codec | None
    ) -> Flow[list[DeadLetter]]:
        wire: Wire = self._calls.wire_of(codec)
        source = durable.group_source(checked_channel(channel), checked_group(group))
        check_whole("limit", limit)
        letters = yield from leases.dead(source, limit, after)
        if not letters:
            yield from durable.check_group(channel, group)
        return [dead_letter(letter, lambda body: wire.read_live(body)[0]) for letter in letters]

    def _requeue(self, channel: str, group: str, letters: Iterable[DeadLetter | str] | None) -> Flow[int]:
        source = durable.group_source(checked_channel(channel), checked_group(group))
        return self._revived(channel, group, requeued(source, entries_of(letters)))

    def _revived(self, channel: str, group: str, requeuing: Flow[int]) -> Flow[int]:
        count = yield from requeuing
        if not count:
            yield from durable.check_group(channel, group)
        return count

    def _forget(self, channel: str, group: str) -> Flow[bool]:
        return self._forgotten(checked_channel(channel), checked_group(group))

    def _forgotten(self, channel: str, group: str) -> Flow[bool]:
        there = yield from durable.forget_group(channel, group)
        if not there:
            yield from durable.check_group(channel, group)
        return there
