"""One workflow in memory, its bounds, its end, and who works on it."""

from __future__ import annotations

from typing import TYPE_CHECKING, Any, Literal, Protocol

import msgspec
import trio

from minions.workflow.record import WorkflowRecord

if TYPE_CHECKING:
    from minions.runtime.cells import StepCell

__all__ = ["Bounds", "Ended", "Engine", "Mail", "Work", "WorkState", "nothing"]

WorkState = Literal["accepting", "ready", "running", "queued", "away"]


def nothing() -> None:
    """Be what is called when nobody wants to know."""


class Mail(msgspec.Struct, frozen=True):
    """A signal that was sent to a workflow in memory and not taken."""

    number: int
    type: str
    """The name of the payload's type."""

    payload: bytes


class Work(msgspec.Struct, eq=False):
    """One workflow that has not ended and is not cold."""

    seq: int
    record: WorkflowRecord
    """Its last snapshot: on disk, or handed over to the writer."""

    event: Any = None
    """The event, once somebody needs it as an object."""

    saved: bool = False
    """Whether the snapshot is on disk: only then may its next step begin."""

    state: WorkState = "accepting"
    key: bytes | None = None
    """What it is ordered by, once the minion has taken it up."""

    holds: bool = False
    """Whether the store says that it holds its key."""

    mail: list[Mail] | tuple[()] = ()
    """The signals for it, oldest first."""

    arrival: trio.Event | None = None
    """Set when a signal comes, if a step waits for one."""

    cell: StepCell | None = None
    """The step that has ended, while another one is to follow it."""

    scope: trio.CancelScope | None = None
    """Around its step, while that runs."""

    is_cancelled: bool = False
    """Whether somebody has asked for its end."""

    is_interrupted: bool = False
    """Whether it ran when its minion went: it comes back unpaced."""

    breaks: int = 0
    """How often one of its calls has broken what its minion needs."""

    is_paced: bool = False
    """Whether it was parked, and comes back in its turn."""

    @property
    def id(self) -> str:
        """The workflow's id, for people and programs."""
        return f"w{self.seq}"

    def __lt__(self, other: Work) -> bool:
        """Sort by number: a line may still hold one that has gone and come back."""
        return self.seq < other.seq

    def deliver(self, mail: Mail) -> None:
        """Add a signal, and wake the steps that wait for one."""
        self.mail = [*self.mail, mail]
        if self.arrival is not None:
            self.arrival.set()

    async def wait_mail(self) -> None:
        """Wait for the next signal."""
        if self.arrival is None or self.arrival.is_set():
            self.arrival = trio.Event()
        await self.arrival.wait()


class Bounds(msgspec.Struct, frozen=True):
    """How much may be accepted, and what happens beyond it."""

    max_in_flight: int = 1000
    max_backlog: int = 10_000
    max_unfinished: int = 10_000_000
    overflow: Literal["wait", "reject"] = "wait"


class Ended(msgspec.Struct, frozen=True):
    """How a workflow ended, for those who wait for it."""

    state: Literal["done", "aborted", "cancelled", "discarded", "quarantined"]
    record: WorkflowRecord
    """Its last snapshot."""

    context: Any
    """The object that its last step left, if that is known."""

    reason: str = ""


class Engine(Protocol):
    """The minion's side, while it is up."""

    def dispatch(self) -> None:
        """Start what is ready, as far as there is room."""
