"""What an exception of a step means: interrupted, aborted or failed.

A step's exception is judged only when its minion is known to be well.  Often a
step hears of a broken connection before the resource is known to be down; so an
exception waits for the settle window, and if the minion begins to drain hard
meanwhile, the step was interrupted, whatever it raised.
"""

from __future__ import annotations

import math

import msgspec
import trio

from minions.declare.specification import MinionSpec
from minions.errors import ComponentBroken, DependencyLost, SnapshotError
from minions.notices import WorkflowInterrupted, leaves_of, report_of
from minions.retry import delay_after, is_retried
from minions.runtime.cells import StepCell
from minions.runtime.ledger import Ledger
from minions.runtime.table import WorkTable, step_of
from minions.runtime.work import Work
from minions.supervise import Group, Incarnation
from minions.workflow.transitions import judge, retry

__all__ = ["Judge", "is_cancelled"]

# In characters: what a record says of its last failure.
_LONGEST = 500


def is_cancelled() -> bool:
    """Say whether a cancellation is due here; else one that is raised was kept."""
    return trio.current_effective_deadline() == -math.inf


def _holds_cancelled(exc: BaseException) -> bool:
    return any(isinstance(leaf, trio.Cancelled) for leaf in leaves_of(exc))


def _has_broken(exc: BaseException) -> bool:
    """Say whether a call of the step has made its callee raise ``ComponentBroken``.

    Such a step runs again after the restart, and breaks the callee again: for ever,
    if nobody counts.
    """
    lost = [leaf for leaf in leaves_of(exc) if isinstance(leaf, DependencyLost)]
    return any(isinstance(leaf.__cause__, ComponentBroken) for leaf in lost)


class Judge:
    """Judges the steps of one incarnation of a minion."""

    def __init__(
        self,
        group: Group,
        incarnation: Incarnation,
        spec: MinionSpec,
        *,
        table: WorkTable,
        ledger: Ledger,
    ) -> None:
        self._group = group
        self._incarnation = incarnation
        self._spec = spec
        self._table = table
        self._ledger = ledger
        self._policies = {step.name: step.retry for step in spec.steps}
        self.scope: trio.CancelScope = trio.CancelScope()
        """Around all steps."""
        self.is_interrupting: bool = False
        """Whether they are interrupted, and no other one may begin."""

    def interrupt(self, reason: str) -> None:
        """Interrupt all steps."""
        self.is_interrupting = True
        self.scope.cancel(reason=reason)

    async def raised(self, work: Work, cell: StepCell, exc: BaseException) -> None:
        """Judge what a step has raised, once the minion is known to be well."""
        if self._group.leave_if_exit(exc):
            self.interrupted(work, exc)
            return
        if (is_cancelled() and _holds_cancelled(exc)) or self._is_interrupted():
            self.interrupted(work, exc)
            # Under a cancelled scope this is where the task ends.
            await trio.lowlevel.checkpoint()
            return
        if self._spec.dependencies:
            try:
                await trio.sleep(self._group.options.settle)
            except trio.Cancelled:
                self.interrupted(work, exc)
                raise
            if self._is_interrupted():
                self.interrupted(work, exc)
                return
        if work.is_cancelled:
            self.interrupted(work, exc)
        elif judge(exc) == "aborted":
            self._ledger.ends.end(
                self._table,
                work,
                state="aborted",
                context=cell.context,
                encoded=self._encoded(cell) if self._ledger.kept.keep else None,
                reason=str(report_of(exc)),
            )
        elif not self._retried(work, cell.step, exc):
            self.failed(work, exc)

    @staticmethod
    def _encoded(cell: StepCell) -> tuple[str, bytes] | None:
        """Return what is to be kept of the context; ``None``: as it was before."""
        try:
            return cell.encoded()
        except SnapshotError:
            return None

    def _retried(self, work: Work, step: str, exc: BaseException) -> bool:
        """Try the step again, if it asks for that and may."""
        policy, failures = self._policies.get(step), work.record.attempt + 1
        if policy is None or not is_retried(policy, exc, failures):
            return False
        before = msgspec.structs.replace(work.record, key=work.key, step=step)
        # An exception may say what UTF-8 cannot hold.
        text = str(report_of(exc))[:_LONGEST].encode(errors="backslashreplace")
        now = self._ledger.now()
        delay = delay_after(policy, failures, self._group.random)
        for problem in (text.decode(), ""):
            record = retry(before, now=now, delay=delay, problem=problem)
            try:
                self._ledger.retry(self._table, work, record, exc)
            except SnapshotError:  # with this text it is above max_record
                continue
            return True
        return False

    def _is_interrupted(self) -> bool:
        cause = self._incarnation.cause
        return (
            self.is_interrupting
            or (cause is not None and cause.hard)
            # It may have crashed while it drained softly for another reason.
            or self._incarnation.has_broken_need()
        )

    def interrupted(self, work: Work, exc: BaseException | None) -> None:
        """Put a workflow back: its step had no outcome."""
        if work.seq not in self._table.works or work.state != "running":
            return
        if work.is_cancelled:
            self._ledger.ends.end(self._table, work, state="cancelled", context=None)
            return
        if exc is not None and _has_broken(exc):
            work.breaks += 1
            if work.breaks > self._group.options.max_crashes:
                self.quarantine(work, "crashed", exc)
                return
        work.is_interrupted = True
        self._table.put_back(work)
        self._group.notify(
            WorkflowInterrupted(
                orchestration=self._table.id,
                workflow=work.id,
                step=step_of(self._table, work.record),
                report=report_of(exc) if exc is not None else None,
            )
        )

    def undecodable(self, work: Work, exc: BaseException) -> None:
        """Judge what was raised while a snapshot became objects."""
        if self._group.leave_if_exit(exc):
            self.interrupted(work, exc)
        else:
            self.quarantine(work, "incompatible", exc)

    def refused(self, work: Work, exc: BaseException) -> None:
        """Judge what was raised by what a step has returned."""
        if self._group.leave_if_exit(exc):
            self.interrupted(work, exc)
        else:
            self.failed(work, exc)

    def failed(self, work: Work, exc: BaseException) -> None:
        """End or quarantine a workflow, as its class says."""
        if self._spec.on_failure == "discard" and not work.is_cancelled:
            self._ledger.ends.discard(self._table, work, exc)
        else:
            self.quarantine(work, "failed", exc)

    def quarantine(self, work: Work, reason: str, exc: BaseException) -> None:
        """Put a workflow where it waits for a person, unless that wants its end."""
        if work.is_cancelled:
            self.interrupted(work, exc)
            return
        hold = self._spec.key_on_quarantine == "hold"
        self._ledger.ends.quarantine(
            self._table, work, reason=reason, exc=exc, hold_key=hold
        )
