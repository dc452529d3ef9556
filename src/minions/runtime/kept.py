"""The ended workflows that are kept for a while, as ``keep`` says."""

from __future__ import annotations

from collections import deque
from collections.abc import Callable

import msgspec

from minions.store.port import Keyspace, Write
from minions.workflow.layout import age_key, key_of
from minions.workflow.record import EndedRecord
from minions.workflow.stored import entries

__all__ = ["Kept"]

# Those whose time is over go with a later end, a few at a time.
_AT_ONCE = 8


class Kept(msgspec.Struct, eq=False):
    """Which ended workflows the store holds, and until when."""

    keep: float
    """Seconds for which they stay; 0: none is kept."""

    max_kept: int
    # Time of the end and number, oldest first.
    _ages: deque[tuple[float, int]] = msgspec.field(default_factory=deque)
    # Those that the last call of add let go.
    _gone: list[tuple[float, int]] = msgspec.field(default_factory=list)

    def add(self, seq: int, ended: EndedRecord) -> list[Write]:
        """Return what keeps one more, and lets older ones go."""
        writes: list[Write] = [*entries(seq, ended)]
        self._ages.append((ended.ended_at, seq))
        return writes + self._expired(ended.ended_at)

    def undo(self) -> None:
        """Hear that what the last call of :meth:`add` returned was not written."""
        self._ages.pop()
        self._ages.extendleft(reversed(self._gone))
        self._gone = []

    def undoing(self) -> Callable[[], None]:
        """Return what undoes the last call of :meth:`add`, also after other calls."""
        entry, gone = self._ages[-1], self._gone

        def undo() -> None:
            # It may have gone with a later end, if few are kept.
            if entry in self._ages:
                self._ages.remove(entry)
            self._ages.extendleft(reversed(gone))

        return undo

    def note(self, at: float, seq: int) -> None:
        """Hear of one that the store holds; they come in the order of their ends."""
        self._ages.append((at, seq))

    def is_over(self, at: float, now: float) -> bool:
        """Say whether one that ended at *at* is kept no longer."""
        return now - at >= self.keep

    def _expired(self, now: float) -> list[Write]:
        writes: list[Write] = []
        self._gone = []
        while self._ages and len(writes) < 2 * _AT_ONCE:
            at, seq = self._ages[0]
            if len(self._ages) <= self.max_kept and not self.is_over(at, now):
                break
            self._gone.append(self._ages.popleft())
            writes.append((Keyspace.ENDED, key_of(seq), None))
            writes.append((Keyspace.ENDED_AGE, age_key(at, seq), None))
        return writes
