"""Lets suspects run a few at a time; see :mod:`minions.workflow.suspects`."""

from __future__ import annotations

from collections import deque
from collections.abc import Mapping

import msgspec

from minions.runtime.work import Work
from minions.workflow.suspects import AT_ONCE, degree_of

__all__ = ["Suspicion"]


class Suspicion(msgspec.Struct, eq=False):
    """The suspects of one incarnation of a minion."""

    # By number: the degree with which it runs.
    _running: dict[int, int] = msgspec.field(default_factory=dict)
    _waiting: dict[int, deque[Work]] = msgspec.field(default_factory=dict)

    def admit(self, work: Work) -> bool:
        """Say whether a workflow may run now; else it waits here for its turn."""
        degree = degree_of(work.record)
        if not degree:
            return True
        at_once = sum(1 for running in self._running.values() if running == degree)
        if at_once < AT_ONCE[degree]:
            self._running[work.seq] = degree
            return True
        self._waiting.setdefault(degree, deque()).append(work)
        return False

    def clear(self, work: Work, works: Mapping[int, Work]) -> Work | None:
        """Hear that one runs no longer, or is cleared; return whose turn it is.

        Args:
            work: The one.
            works: All that have not ended: who was cancelled has no turn.
        """
        degree = self._running.pop(work.seq, 0)
        waiting = self._waiting.get(degree)
        while waiting:
            following = waiting.popleft()
            if works.get(following.seq) is following:
                return following
        return None

    def forget(self) -> list[Work]:
        """Return all that wait: the minion has gone."""
        waiting = [work for queue in self._waiting.values() for work in queue]
        self._waiting.clear()
        self._running.clear()
        return waiting
