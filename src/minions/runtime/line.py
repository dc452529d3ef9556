"""Workflows that wait in the order of their arrival."""

from __future__ import annotations

from collections.abc import Iterator, Mapping
from heapq import heappop, heappush

import msgspec

from minions.runtime.work import Work

__all__ = ["Line"]


class Line(msgspec.Struct, eq=False):
    """Workflows of state "ready"; whoever is put back, comes to its old place."""

    # All that have not ended, by number.
    _works: Mapping[int, Work]
    # Invariant: a heap, since one may be put back among a hundred thousand.  It may
    # hold some that have left.
    _heap: list[tuple[int, Work]] = msgspec.field(default_factory=list)

    def __bool__(self) -> bool:
        """Say whether anybody may be here."""
        return bool(self._heap)

    def __iter__(self) -> Iterator[Work]:
        """Return all that may be here, in no order."""
        return (work for _, work in self._heap)

    def put(self, work: Work) -> None:
        """Let one wait here."""
        heappush(self._heap, (work.seq, work))

    def take(self) -> Work | None:
        """Return the first one; it waits here no more."""
        heap = self._heap
        while heap:
            work = heappop(heap)[1]
            # One that was cancelled in the line is in no table any more.
            if self._works.get(work.seq) is work and work.state == "ready":
                return work
        return None
