"""Hands each notice to all who listen; nobody can hold the runtime up."""

from __future__ import annotations

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
    came: trio.Event = attrs.field(factory=trio.Event)

    def put(self, notice: Notice) -> None:
        if len(self.kept) == _KEPT:
            self.kept.popleft()
            self.lost += 1
        self.kept.append(notice)
        self.came.set()


@attrs.define(eq=False)
class NoticeBus:
    """The listeners of one Gru."""

    # Called synchronously; must not raise.
    listeners: list[Callable[[Notice], None]] = attrs.field(factory=list)
    _readers: list[_Reader] = attrs.field(factory=list)
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
            reader.came.set()

    async def read(self) -> AsyncIterator[Notice]:
        """Iterate over the notices from now on; a slow reader loses the oldest."""
        reader = _Reader()
        self._readers.append(reader)
        try:
            while True:
                if reader.lost:
                    lost, reader.lost = reader.lost, 0
                    yield NoticesLost(count=lost)
                if reader.kept:
                    yield reader.kept.popleft()
                elif self._closed:
                    return
                else:
                    reader.came = trio.Event()
                    await reader.came.wait()
        finally:
            self._readers.remove(reader)
