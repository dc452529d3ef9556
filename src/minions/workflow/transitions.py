"""What follows a step, an attempt or a wake: decided here, without clock and I/O.

Every transition is a function of a record and of what has happened, and returns the
next record; :func:`minions.workflow.stored.difference` makes writes of the two.
"""

from __future__ import annotations

from collections.abc import Sequence
from typing import Literal

import attrs
import msgspec

from minions.declare.outcomes import After, Done, GoTo, Wait
from minions.declare.steps import StepSpec
from minions.errors import AbortWorkflow, DefinitionError
from minions.notices import leaves_of
from minions.workflow.record import END, READY, WorkflowRecord

__all__ = [
    "Following",
    "Snapshot",
    "StepTable",
    "judge",
    "proceed",
    "receive",
    "retry",
    "sleep",
    "wait",
    "wake",
]


class Following(msgspec.Struct, frozen=True):
    """What a step has decided: where to go on, and after what."""

    step: str | None
    """The next step; ``None``: the workflow is done."""

    after: After | Wait | None = None
    """What the next step waits for."""


@attrs.frozen
class StepTable:
    """The steps of a minion as its workflows walk through them, by name."""

    owner: str
    """The minion's identity, for messages."""

    names: tuple[str, ...]
    specs: dict[str, StepSpec]
    # Former name to present name.
    _renamed: dict[str, str]
    # What follows each step that returns nothing.
    _in_order: dict[str, Following]

    @classmethod
    def of(cls, owner: str, steps: Sequence[StepSpec]) -> StepTable:
        """Make the table of the steps of one minion."""
        names = tuple(step.name for step in steps)
        return cls(
            owner,
            names,
            {step.name: step for step in steps},
            {s.renamed_from: s.name for s in steps if s.renamed_from is not None},
            {
                name: Following(next_name)
                for name, next_name in zip(names, (*names[1:], None), strict=True)
            },
        )

    def find(self, saved: str) -> str | None:
        """Return the present name of the step that a snapshot names next.

        Empty means the first one.  ``None``: the step is gone.
        """
        if not saved:
            return self.names[0]
        if saved in self.specs or saved == END:
            return saved
        return self._renamed.get(saved)

    def follow(self, step: str, outcome: object) -> Following:
        """Say what follows *step*, which has returned *outcome*.

        Raises:
            DefinitionError: The step returned something that means nothing, or
                sends the workflow to a step that is not there.
        """
        if outcome is None:
            return self._in_order[step]
        if isinstance(outcome, Done):
            return Following(None)
        if not isinstance(outcome, GoTo | After | Wait):
            raise DefinitionError(
                f"{self.owner}: step {step!r}: expected None, GoTo, After, Wait or Done"
                f" to be returned, found {outcome!r}; return one of these"
            )
        if outcome.step is not None and outcome.step not in self.specs:
            raise DefinitionError(
                f"{self.owner}: step {step!r}: expected {type(outcome).__name__} to"
                f" name one of {', '.join(self.names)}, found {outcome.step!r}; name"
                " one of these"
            )
        if isinstance(outcome, GoTo):
            return Following(outcome.step)
        # The last one waits, too, before its workflow ends.
        return Following(outcome.step or self._in_order[step].step or END, outcome)


def judge(exc: BaseException) -> Literal["aborted", "failed"]:
    """Say what an exception of a step means for its workflow; groups by leaves."""
    if all(isinstance(leaf, AbortWorkflow) for leaf in leaves_of(exc)):
        return "aborted"
    return "failed"


class Snapshot(msgspec.Struct, frozen=True, gc=False):
    """What a step has left behind."""

    context_type: str
    context: bytes
    key: bytes | None
    now: float
    """Seconds since the epoch."""


def proceed(record: WorkflowRecord, step: str, left: Snapshot) -> WorkflowRecord:
    """Go on: a step has ended, and another one follows."""
    # By position: this is made once per step.
    return WorkflowRecord(
        record.orchestration,
        record.event_type,
        record.event,
        left.context_type,
        left.context,
        step,
        record.accepted_at,
        0,
        left.key,
        0,
        READY,
        left.now,
    )


def sleep(
    record: WorkflowRecord, step: str, left: Snapshot, seconds: float
) -> WorkflowRecord:
    """Sleep: a step has ended, and another one follows after some time."""
    following = proceed(record, step, left)
    return msgspec.structs.replace(
        following, state="sleeping", until=left.now + seconds
    )


def wait(
    record: WorkflowRecord,
    step: str,
    left: Snapshot,
    *,
    signal_type: str,
    timeout: float | None,
) -> WorkflowRecord:
    """Wait: a step has ended, and another one follows when a signal is there."""
    following = proceed(record, step, left)
    until = None if timeout is None else left.now + timeout
    return msgspec.structs.replace(
        following, state="waiting", until=until, waits=signal_type
    )


def receive(
    record: WorkflowRecord, signal_type: str, payload: bytes, now: float
) -> WorkflowRecord:
    """Take the signal that it waits for, or that was there before it began to."""
    return msgspec.structs.replace(
        wake(record, now), received_type=signal_type, received=payload
    )


def retry(
    record: WorkflowRecord, *, now: float, delay: float, problem: str
) -> WorkflowRecord:
    """Try again: an attempt has failed; the context is as before it."""
    return msgspec.structs.replace(
        record,
        attempt=record.attempt + 1,
        state="retrying" if delay else READY,
        since=now,
        until=now + delay if delay else None,
        problem=problem,
        crash_count=0,
        is_marked=False,
    )


def wake(record: WorkflowRecord, now: float) -> WorkflowRecord:
    """Wake: the time has come."""
    return msgspec.structs.replace(record, state=READY, since=now, until=None, waits="")
