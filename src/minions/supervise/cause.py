"""Why a component drains: the chain from it to the origin."""

from __future__ import annotations

import enum

import attrs

from minions.notices import leaves_of

__all__ = ["Cause", "CauseKind", "is_same"]


class CauseKind(enum.Enum):
    """The first reason for which a component begins to drain."""

    CRASH = "crashed"
    START_FAILED = "did not start"
    DEPENDENCY = "lost what it needs"
    STOP = "was stopped"
    RESTART = "was restarted"
    ENDED = "ended"
    CANCELLED = "was cancelled from outside"


@attrs.frozen
class Cause:
    """One link of the chain of causes.

    ``hard`` says that running work is cancelled at once; it is inherited along
    the chain, since what was lost at the origin is lost for all dependents.
    """

    kind: CauseKind
    component: str
    epoch: int
    hard: bool
    text: str = ""
    origin: Cause | None = None

    def passed_on(self, component: str, epoch: int) -> Cause:
        """Return the cause for the dependents of *component*, which drains for this."""
        return Cause(CauseKind.DEPENDENCY, component, epoch, self.hard, origin=self)

    def __str__(self) -> str:
        name = f"{self.component}#{self.epoch}" if self.epoch else self.component
        if self.origin is not None:
            if self.origin.component == self.component:
                return f"dependency {self.origin}"
            return f"dependency {name}: {self.origin}"
        said = f"{name} {self.kind.value}" if name else self.kind.value
        return f"{said}: {self.text}" if self.text else said


def is_same(exc: BaseException, known: BaseException | None) -> bool:
    """Say whether *exc* tells nothing that *known* does not, only by another way."""
    told = {id(leaf) for leaf in leaves_of(known)} if known is not None else set()
    return all(id(leaf) in told for leaf in leaves_of(exc))
