"""Brings back what was parked on a resource at a rate that the resource survives.

A workflow is parked while something that its minion needs is down.  When that comes
back, thousands may have gathered; sent on at once, they would bring it down again.
An outage shorter than a second is an ordinary restart, after which nothing is paced.
"""

from __future__ import annotations

from collections.abc import Callable, Iterable
from math import inf
from random import Random

import attrs
import trio

from minions.runtime.work import Work

__all__ = ["OUTAGE", "Outage", "Pacer"]

OUTAGE: float = 1.0
"""Seconds for which a resource must be down before its return is paced."""


@attrs.define(eq=False)
class Outage:
    """How long a minion has waited for what it needs."""

    # By trio's clock; None: its last life ended for another reason.
    _began: float | None = None

    paced_until: float = -inf
    """What was due before is paced; in seconds since the epoch."""

    def begin(self, now: float | None) -> None:
        """Hear that the minion has gone, or is to come up, at *now*.

        ``None``: not because something that it needs is down.
        """
        self._began = now

    def seconds(self, now: float) -> float:
        """Return for how long, now that all that it needs is up."""
        return 0.0 if self._began is None else now - self._began


class Pacer:
    """Permits, so many per second, for the workflows that were parked."""

    def __init__(self, rate: float, random: Random) -> None:
        self._rate = rate
        self._random = random
        self._parked = 0
        self._permits = 0
        self._is_running = False

    def park(self, works: Iterable[Work]) -> bool:
        """Hear of those that are to come back in their turn; say whether to run."""
        for work in works:
            work.is_paced = True
            self._parked += 1
        return self._parked > 0 and not self._is_running

    def admits(self, work: Work) -> bool:
        """Say whether a workflow may go on now."""
        return not work.is_paced or self._permits > 0

    def passed(self, work: Work) -> None:
        """Hear that one goes on."""
        if work.is_paced:
            work.is_paced = False
            self._parked -= 1
            self._permits -= 1

    def emptied(self) -> None:
        """Hear that nobody is in the line: who was parked and left was cancelled."""
        self._parked = self._permits = 0

    async def run(self, dispatch: Callable[[], None]) -> None:
        """Give permits as long as there are parked ones."""
        self._is_running = True
        while self._parked > 0:
            # Jittered, so that several minions do not come back in step.
            await trio.sleep(self._random.uniform(0.5, 1.5) / self._rate)
            self._permits = min(self._permits + 1, self._parked)
            dispatch()
        self._is_running = False
