"""The workflows of one orchestration that wait for a time or a signal.

They are cold: a record and an entry of an index, on disk.  In memory stand their
number, the earliest time at which one may have to wake, and the claims of those who
are about to move one.
"""

from __future__ import annotations

import contextlib
from collections.abc import AsyncIterator, Callable, Iterable
from math import inf

import msgspec
import trio

from minions.runtime.work import nothing

__all__ = ["ColdIndex"]


class ColdIndex(msgspec.Struct, eq=False):
    """What is known in memory of the cold workflows of one orchestration."""

    count: int = 0
    """How many there are, on disk or handed over to the writer."""

    next_due: float = inf
    """No one is due before this time; in seconds since the epoch."""

    is_due: bool = False
    """Whether some are due and there is no room for them yet."""

    # Called when there is room, while some are due.
    _on_room: Callable[[], None] = nothing
    # Handed over to the writer: not to be found on disk yet.
    cooling: set[int] = msgspec.field(default_factory=set)
    # Whoever reads a cold record to move it has a claim on it meanwhile.
    _claims: dict[int, trio.Event] = msgspec.field(default_factory=dict)

    def note(self, until: float | None) -> bool:
        """Hear of a new one; say whether it is due before all others."""
        if until is None or until >= self.next_due:
            return False
        self.next_due = until
        return True

    def hold_back(self, on_room: Callable[[], None]) -> None:
        """Hear that some are due and have no room; ask for it."""
        self.is_due = True
        self._on_room = on_room

    def tell_room(self) -> None:
        """Hear that there may be room."""
        if self.is_due:
            self._on_room()

    async def wait_free(self, seqs: Iterable[int]) -> None:
        """Wait until nobody has a claim on these."""
        while claims := [self._claims[seq] for seq in seqs if seq in self._claims]:
            await claims[0].wait()

    def claim_nowait(self, seqs: Iterable[int]) -> list[int]:
        """Claim those that nobody has claimed."""
        free = [seq for seq in seqs if seq not in self._claims]
        for seq in free:
            self._claims[seq] = trio.Event()
        return free

    def release(self, seq: int) -> None:
        """Give a claim back."""
        self._claims.pop(seq).set()

    @contextlib.asynccontextmanager
    async def claim(self, seq: int) -> AsyncIterator[None]:
        """Keep all others from moving a workflow for the length of the block."""
        while seq in self._claims:
            await self._claims[seq].wait()
        self._claims[seq] = trio.Event()
        try:
            yield
        finally:
            self.release(seq)
