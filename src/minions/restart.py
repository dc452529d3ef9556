"""May a component start again, and when.

Nothing here waits or reads a clock: times come in as arguments, so that the
rules are tested with numbers.
"""

from __future__ import annotations

from collections import deque
from typing import TYPE_CHECKING

import attrs

if TYPE_CHECKING:
    from random import Random

    from minions.options import Backoff

__all__ = ["LEAST_DELAY", "BackoffState", "RestartWindow"]

LEAST_DELAY = 0.01
"""Seconds, whatever the policy says, between two tries that no budget bounds."""


@attrs.define
class RestartWindow:
    """The recent restarts of one component, or of all together."""

    max_restarts: int
    within: float
    # Times of the restarts still inside the window, oldest first.
    # Invariant: never more than max_restarts of them.
    _times: deque[float] = attrs.field(factory=deque, init=False)

    def has_room(self, now: float) -> bool:
        """Say whether one more restart at *now* is inside the limit."""
        while self._times and now - self._times[0] >= self.within:
            self._times.popleft()
        return len(self._times) < self.max_restarts

    def admit(self, now: float) -> bool:
        """Record one restart at *now*, or say that the limit is reached."""
        if not self.has_room(now):
            return False
        self._times.append(now)
        return True

    def clear(self) -> None:
        """Forget the past: an operator has taken over."""
        self._times.clear()


@attrs.define
class BackoffState:
    """How often in a row something failed, and the delay that follows."""

    policy: Backoff
    failures: int = 0

    def next_delay(self, random: Random, *, bounded: bool = True) -> float:
        """Count one failure and return the seconds to wait after it.

        The delay is at most ``min(cap, base * factor ** failures_before)`` and
        at least half of that.

        Args:
            random: Draws the jitter.
            bounded: Whether something else bounds how often it is tried.  If not,
                the delay is at least ``LEAST_DELAY``, also with ``base = 0``: what
                fails in no time and for ever must not take all of it.
        """
        policy = self.policy
        exponent = min(self.failures, 1000)
        try:
            whole = min(policy.cap, policy.base * policy.factor**exponent)
        except OverflowError:
            whole = policy.cap
        self.failures += 1
        delay = whole * (0.5 + 0.5 * random.random())
        return delay if bounded else max(delay, LEAST_DELAY)

    def clear(self) -> None:
        """Begin anew: it was up long enough."""
        self.failures = 0
