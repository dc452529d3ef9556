"""Hands each notice to all who listen; nobody can hold the runtime up."""

from __future__ import annotations

import weakref
from collections import deque
from collections.abc import AsyncIterator, Callable

import attrs
import trio

from minions.notices import Notice, NoticesLost

__all__ = ["NoticeBus"]

_KEPT = 1000


@attrs.define(eq=False)
class _Reader:
    kept: deque[Notice] = attrs.field(factory=deque)
    lost: int = 0
    closed: bool = False
    came: trio.Event = attrs.field(factory=trio.Event)

    def put(self, notice: Notice) -> None:
        if len(self.kept) == _KEPT:
            self.kept.popleft()
            self.lost += 1
        self.kept.append(notice)
        self.came.set()

    def close(self) -> None:
        self.closed = True
        self.came.set()

    def __aiter__(self) -> _Reader:
        return self

    async def __anext__(self) -> Notice:
        await trio.lowlevel.checkpoint()
        while not (self.lost or self.kept or self.closed):
            self.came = trio.Event()
            await self.came.wait()
        if self.lost:
            lost, self.lost = self.lost, 0
            return NoticesLost(count=lost)
        if self.kept:
            return self.kept.popleft()
        raise StopAsyncIteration


@attrs.define(eq=False)
class NoticeBus:
    """The listeners of one Gru."""

    # Called synchronously; must not raise.
    listeners: list[Callable[[Notice], None]] = attrs.field(factory=list)
    # One that nobody iterates over any more goes by itself.
    _readers: weakref.WeakSet[_Reader] = attrs.field(factory=weakref.WeakSet)
    _closed: bool = False

    def publish(self, notice: Notice) -> None:
        """Hand a notice to everyone."""
        for listener in self.listeners:
            listener(notice)
        for reader in self._readers:
            reader.put(notice)

    def close(self) -> None:
        """End all readers' iterations behind what they have."""
        self._closed = True
        for reader in self._readers:
            reader.close()

    def read(self) -> AsyncIterator[Notice]:
        """Return an iterator over the notices from now on.

        A slow reader loses the oldest, and hears how many.
        """
        reader = _Reader()
        self._readers.add(reader)
        if self._closed:
            reader.close()
        return reader
