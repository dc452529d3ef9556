"""Brings back what was parked on a resource at a rate that the resource survives.

A workflow is parked while something that its minion needs is down.  When that comes
back, thousands may have gathered; sent on at once, they would bring it down again.
An outage shorter than a second is an ordinary restart, after which nothing is paced.
"""

from __future__ import annotations

from collections.abc import Callable
from math import inf
from random import Random

import msgspec
import trio

__all__ = ["OUTAGE", "Outage", "Pacer"]

OUTAGE: float = 1.0
"""Seconds for which a resource must be down before its return is paced."""


class Outage(msgspec.Struct, eq=False):
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
    """Lets the workflows that were parked go on, so many per second."""

    def __init__(self, rate: float, random: Random) -> None:
        self._rate = rate
        self._random = random
        self.is_running: bool = False

    async def run(self, let_one_go: Callable[[], bool]) -> None:
        """Let one after the other go, until that says that there is none."""
        is_left = True
        while is_left:
            # Jittered, so that several minions do not come back in step.
            await trio.sleep(self._random.uniform(0.5, 1.5) / self._rate)
            is_left = let_one_go()
        self.is_running = False
