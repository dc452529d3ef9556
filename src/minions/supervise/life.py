"""What the group asks of one incarnation of a component."""

from __future__ import annotations

import enum
from collections.abc import Awaitable, Callable, Sequence
from typing import TYPE_CHECKING, Literal

import attrs
import trio

from minions.options import Restart

if TYPE_CHECKING:
    from minions.supervise.cause import Cause
    from minions.supervise.incarnation import Incarnation

__all__ = ["Life", "Plan", "RunEnd"]


class RunEnd(enum.Enum):
    """What it means that :meth:`Life.run` has returned."""

    RETURNED = "its run() has returned"
    """The restart type decides: a crash, or up without it."""

    ENDED = "ended"
    """There is nothing left to do for ever; the component stops."""


class Life:
    """One incarnation's hooks, in the order in which they are called.

    ``acquire`` and ``release`` are called in one task, with the same cancel
    scopes around them, so that a context manager can be entered in the one and
    left in the other.  All others may be left as they are.
    """

    async def acquire(self) -> None:
        """Get what the component needs to serve; honour cancellation."""

    async def run(self) -> RunEnd:
        """Work until cancelled, or say what it means to be done."""
        await trio.sleep_forever()
        raise AssertionError  # pragma: no cover  # sleep_forever never returns

    def bodies(self) -> Sequence[Callable[[], Awaitable[RunEnd]]]:
        """Return what works from ready until drained, each in a task of its own."""
        return [self.run]

    def begin_drain(self, cause: Cause) -> None:
        """Hear, once and synchronously, that the incarnation begins to go.

        Called before the dependents are told.  If ``cause.hard`` cancel what is
        running, else take no new work.
        """

    async def drained(self) -> None:
        """Return when nothing runs any more that was worth waiting for.

        Awaited after a soft ``begin_drain`` only, for at most the grace.
        """

    def cut(self) -> None:
        """Cancel what is still running; it may be asked more than once.

        The grace of a soft drain is over, or what would be finished has lost what
        it needs.
        """

    async def release(self, problem: BaseException | None) -> None:
        """Give back what ``acquire`` got.

        Args:
            problem: A ``Cancelled`` by a scope that the component itself opened
                in ``acquire`` and that is being unwound; it must reach that scope.
        """


@attrs.frozen(kw_only=True, eq=False)
class Plan:
    """A component as the group knows it."""

    name: str
    """Unique in the group; it names tasks and appears in every message."""

    make: Callable[[Incarnation], Life]
    """Make a fresh life.  What it raises is a failed start."""

    needs: tuple[str, ...] = ()
    """Names that must be up before it starts; they are leased while it lives."""

    wants: tuple[str, ...] = ()
    """Names that it leases if they are up, or come up in time."""

    restart: Restart = attrs.field(factory=Restart)
    on_exhausted: Literal["stop"] | None = None
    """``"stop"`` ends the group when the component has failed for good."""

    def __attrs_post_init__(self) -> None:
        overlap = set(self.needs) & set(self.wants)
        object.__setattr__(
            self, "wants", tuple(w for w in self.wants if w not in overlap)
        )
