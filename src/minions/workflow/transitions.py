"""What follows a step: decided here, without a clock and without I/O."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Literal

import attrs

from minions.declare.outcomes import Done, GoTo
from minions.declare.steps import StepSpec
from minions.errors import AbortWorkflow, DefinitionError
from minions.notices import leaves_of

__all__ = ["StepTable", "judge"]


@attrs.frozen
class StepTable:
    """The steps of a minion as its workflows walk through them, by name."""

    owner: str
    """The minion's identity, for messages."""

    names: tuple[str, ...]
    # Former name to present name.
    _renamed: dict[str, str]

    @classmethod
    def of(cls, owner: str, steps: Sequence[StepSpec]) -> StepTable:
        """Make the table of the steps of one minion."""
        renamed = {s.renamed_from: s.name for s in steps if s.renamed_from is not None}
        return cls(owner, tuple(s.name for s in steps), renamed)

    def find(self, saved: str) -> str | None:
        """Return the present name of the step that a snapshot names next.

        Empty means the first one.  ``None``: the step is gone.
        """
        if not saved:
            return self.names[0]
        if saved in self.names:
            return saved
        return self._renamed.get(saved)

    def after(self, step: str, outcome: object) -> str | None:
        """Return the step that follows *step*; ``None``: the workflow is done.

        Raises:
            DefinitionError: The step returned something that means nothing, or
                sends the workflow to a step that is not there.
        """
        if outcome is None:
            index = self.names.index(step) + 1
            return self.names[index] if index < len(self.names) else None
        if isinstance(outcome, Done):
            return None
        if not isinstance(outcome, GoTo):
            raise DefinitionError(
                f"{self.owner}: step {step!r}: expected None, GoTo or Done to be"
                f" returned, found {outcome!r}; return one of these"
            )
        if outcome.step not in self.names:
            raise DefinitionError(
                f"{self.owner}: step {step!r}: expected GoTo one of"
                f" {', '.join(self.names)}, found {outcome.step!r}; name one of these"
            )
        return outcome.step


def judge(exc: BaseException) -> Literal["aborted", "failed"]:
    """Say what an exception of a step means for its workflow; groups by leaves."""
    if all(isinstance(leaf, AbortWorkflow) for leaf in leaves_of(exc)):
        return "aborted"
    return "failed"
