"""What an exception of a step means: interrupted, aborted or failed.

A step's exception is judged only when its minion is known to be well.  Often a
step hears of a broken connection before the resource is known to be down; so an
exception waits for the settle window, and if the minion begins to drain hard
meanwhile, the step was interrupted, whatever it raised.
"""

from __future__ import annotations

import trio

from minions.declare.binding import WorkflowCell
from minions.declare.specification import MinionSpec
from minions.notices import WorkflowInterrupted, leaves_of, report_of
from minions.runtime.ledger import Ledger
from minions.runtime.table import WorkTable
from minions.runtime.work import Work
from minions.supervise import Group, Incarnation
from minions.workflow.transitions import judge

__all__ = ["Judge"]


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
        self.scope: trio.CancelScope = trio.CancelScope()
        """Around all steps; cancelling it interrupts them."""

    async def raised(self, work: Work, cell: WorkflowCell, exc: BaseException) -> None:
        """Judge what a step has raised, once the minion is known to be well."""
        if self._group.leave_if_exit(exc):
            self.interrupted(work, exc)
            return
        cancelled = any(isinstance(leaf, trio.Cancelled) for leaf in leaves_of(exc))
        if cancelled or self._is_interrupted():
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
        if judge(exc) == "aborted":
            reason = str(report_of(exc))
            self._ledger.end(
                self._table,
                work,
                state="aborted",
                context=cell.context,
                reason=reason,
            )
        else:
            self.failed(work, exc)

    def _is_interrupted(self) -> bool:
        cause = self._incarnation.cause
        return (
            self.scope.cancel_called
            or (cause is not None and cause.hard)
            # It may have crashed while it drained softly for another reason.
            or self._incarnation.has_broken_need()
        )

    def interrupted(self, work: Work, exc: BaseException | None) -> None:
        """Put a workflow back: its step had no outcome."""
        if work.seq not in self._table.works or work.state != "running":
            return
        self._table.put_back(work)
        self._group.notify(
            WorkflowInterrupted(
                orchestration=self._table.id,
                workflow=work.id,
                step=work.record.step,
                report=report_of(exc) if exc is not None else None,
            )
        )

    def failed(self, work: Work, exc: BaseException) -> None:
        """End or quarantine a workflow, as its class says."""
        if self._spec.on_failure == "discard":
            self._ledger.discard(self._table, work, exc)
        else:
            self.quarantine(work, "failed", exc)

    def quarantine(self, work: Work, reason: str, exc: BaseException) -> None:
        """Put a workflow where it waits for a person."""
        hold = self._spec.key_on_quarantine == "hold"
        self._ledger.quarantine(
            self._table, work, reason=reason, exc=exc, hold_key=hold
        )
