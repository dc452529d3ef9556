"""What runs a minion: each event's workflow, step by step, in a task of its own.

No cancel scope and no nursery is made per step: one scope per incarnation
interrupts all of them.  An interrupted workflow had no outcome: it goes back to
its place in the table, with its last snapshot.

What a step's exception means is judged in :mod:`~minions.runtime.judging`.
"""

from __future__ import annotations

from collections.abc import Callable
from contextvars import Context
from datetime import UTC, datetime
from functools import partial
from typing import Any

import trio

from minions.declare.binding import WorkflowCell, WorkflowInfo, current_workflow
from minions.declare.specification import MinionSpec
from minions.errors import DefinitionError, SnapshotError
from minions.runtime.calls import call_user, call_user_sync, work_for
from minions.runtime.codecs import Codecs
from minions.runtime.judging import Judge
from minions.runtime.keys import key_bytes
from minions.runtime.ledger import Ledger
from minions.runtime.lives import ComponentLife
from minions.runtime.table import WorkTable
from minions.runtime.work import Work
from minions.supervise import Cause, Group, Incarnation, RunEnd
from minions.workflow.record import WorkflowRecord

__all__ = ["MinionLife"]


class MinionLife(ComponentLife):
    """One incarnation of a minion."""

    def __init__(
        self,
        group: Group,
        spec: MinionSpec,
        incarnation: Incarnation,
        *,
        config: object,
        table: WorkTable,
        ledger: Ledger,
        codecs: Codecs,
        context: Context,
    ) -> None:
        super().__init__(group, spec, incarnation, config)
        self._spec = spec
        self._steps = codecs.steps
        self._functions: dict[str, Callable[[], Any]] = {}
        self.table: WorkTable = table
        self._ledger = ledger
        self._codecs = codecs
        self._context = context
        self._nursery: trio.Nursery | None = None
        self._judge = Judge(group, incarnation, spec, table=table, ledger=ledger)
        self._idle = trio.Event()

    # What the group calls.

    def bodies(self) -> list[Callable[[], Any]]:
        """Run the user's ``run`` and the steps side by side."""
        return [self.run, self.work]

    @trio.lowlevel.enable_ki_protection
    async def work(self) -> RunEnd:
        """Start workflows until drained."""
        work_for(self.incarnation)
        self._functions = {
            name: getattr(self.value, name) for name in self._steps.names
        }
        with self._judge.scope:
            async with trio.open_nursery() as self._nursery:
                if self.incarnation.cause is None:
                    if self._spec.key_on_quarantine == "hold":
                        self.table.hold_quarantined()
                    self.table.engine = self
                    self.dispatch()
                    self.table.on_room()
                await trio.sleep_forever()
        return RunEnd.RETURNED

    def begin_drain(self, cause: Cause) -> None:
        """Take no new work; on a hard drain interrupt what runs."""
        if self.table.engine is self:
            self.table.engine = None
            self.table.on_room()
        if cause.hard:
            self._judge.scope.cancel(reason=str(cause))
        elif not self.table.running:
            self._idle.set()

    async def drained(self) -> None:
        """Wait for the running steps' workflows."""
        if self.table.running:
            await self._idle.wait()

    def cut(self) -> None:
        """Interrupt what is still running."""
        self._judge.scope.cancel(reason=f"{self.incarnation}: the grace is over")

    async def release(self, problem: BaseException | None) -> None:
        """Shut down; all steps have ended."""
        self.table.forget_keys()
        await super().release(problem)

    # Starting workflows.

    def dispatch(self) -> None:
        """Start what is ready, as far as there is room."""
        table, limit = self.table, self._spec.max_in_flight
        while (
            table.ready
            and table.running < limit
            and table.engine is self
            and self._nursery is not None
        ):
            work = table.take_ready()
            if self._may_run(work):
                work.state = "running"
                table.running += 1
                self._context.run(
                    partial(self._nursery.start_soon, self._run, work, name=work.id)
                )

    def _may_run(self, work: Work) -> bool:
        """Compute the key at take-up; queue behind another of the same key."""
        if not self._spec.has_key:
            return True
        try:
            key = work.key or work.record.key
            if key is None:
                event = self._codecs.event_of(work)
                key = key_bytes(call_user_sync(self.value.key, event))
        except BaseException as exc:  # noqa: BLE001  # the user's, or undecodable data
            if self.group.leave_if_exit(exc):
                self.table.put_back(work)
                return False
            reason = "incompatible" if isinstance(exc, SnapshotError) else "key"
            self._ledger.quarantine(self.table, work, reason=reason, exc=exc)
            return False
        if self.table.hold_key(work, key):
            return True
        work.state = "queued"
        return False

    @trio.lowlevel.enable_ki_protection
    async def _run(self, work: Work) -> None:
        """Run one workflow as far as it goes."""
        work_for(self.incarnation)
        try:
            if not work.saved:  # its incarnation ended before the disk was done
                await self._ledger.store.barrier()
            cell = self._open_cell(work)
            if cell is not None:
                await self._walk(work, cell)
        except trio.Cancelled:
            self._judge.interrupted(work, None)
            raise
        finally:
            self.table.running -= 1
            if not self.table.running and self.table.engine is None:
                self._idle.set()
            self.dispatch()

    def _open_cell(self, work: Work) -> WorkflowCell | None:
        record = work.record
        step = self._steps.find(record.step)
        try:
            if step is None:
                raise SnapshotError(
                    f"{self._spec.identity}: the snapshot of {work.id} goes on at step"
                    f" {record.step!r}; expected one of {', '.join(self._steps.names)};"
                    " bring the step back, name it in renamed_from, or redrive the"
                    " workflow at another step"
                )
            event = self._codecs.event_of(work)
            context = self._codecs.context_of(record)
        except BaseException as exc:  # noqa: BLE001  # user classes decode, too
            if self.group.leave_if_exit(exc):
                self._judge.interrupted(work, exc)
            else:
                self._judge.quarantine(work, "incompatible", exc)
            return None
        info = WorkflowInfo(
            id=work.id,
            orchestration_id=self.table.id,
            step=step,
            attempt=record.attempt + 1,
            started_at=datetime.fromtimestamp(record.accepted_at, UTC),
        )
        return WorkflowCell(self.value, event, context, info)

    async def _walk(self, work: Work, cell: WorkflowCell) -> None:
        """Go from step to step; each has a cell of its own, which ends with it."""
        while True:
            current_workflow.set(cell)
            step = cell.workflow.step
            try:
                outcome = await self._step(cell)
            except trio.Cancelled:
                raise
            except BaseException as exc:  # noqa: BLE001  # judged below
                await self._judge.raised(work, cell, exc)
                return
            following = self._save(work, cell, step, outcome)
            if following is None:
                return
            next_step, saved = following
            await saved.wait()
            if self._judge.scope.cancel_called:
                await trio.lowlevel.checkpoint()
            info = cell.workflow
            info = WorkflowInfo(
                info.id, info.orchestration_id, next_step, 1, info.started_at
            )
            cell = WorkflowCell(self.value, cell.event, cell.context, info)

    async def _step(self, cell: WorkflowCell) -> object:
        """Call one step; what it leaves running behind sees the workflow no longer."""
        try:
            return await call_user(self._functions[cell.workflow.step])
        finally:
            cell.ended = True

    def _save(
        self, work: Work, cell: WorkflowCell, step: str, outcome: object
    ) -> tuple[str, trio.Event] | None:
        """Hand over what the step has reached; ``None``: there is no next step."""
        try:
            next_step = self._steps.after(step, outcome)
        except DefinitionError as exc:
            self._judge.failed(work, exc)
            return None
        if next_step is None:
            self._ledger.end(self.table, work, state="done", context=cell.context)
            return None
        old = work.record
        try:
            record = WorkflowRecord(
                old.orchestration,
                old.event_type,
                old.event,
                self._codecs.context.type_name,
                self._codecs.context.encode(cell.context),
                next_step,
                old.accepted_at,
                0,
                work.key,
            )
            return next_step, self._ledger.save(work, record)
        except SnapshotError as exc:
            self._judge.quarantine(work, "unstorable", exc)
            return None
