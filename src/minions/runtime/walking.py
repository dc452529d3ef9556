"""The way of a workflow from step to step.

Each step has a cell of its own, which ends with it: what a step leaves running sees
the workflow no longer.  What a step has decided, changed, taken and emitted is one
commit; the next step begins when that is on disk.
"""

from __future__ import annotations

from collections.abc import Callable
from datetime import UTC, datetime
from typing import TYPE_CHECKING, Any

import trio

from minions.declare.binding import WorkflowCell, WorkflowInfo, current_workflow
from minions.declare.outcomes import After
from minions.errors import DefinitionError, SnapshotError, StoreFullError
from minions.runtime.calls import call_user
from minions.runtime.commit import NO_EFFECTS, Effects
from minions.runtime.effects import StepPort
from minions.runtime.judging import Judge, is_cancelled
from minions.runtime.work import Work
from minions.workflow.record import END, WorkflowRecord
from minions.workflow.transitions import (
    Following,
    Snapshot,
    proceed,
    receive,
    sleep,
    wait,
)

if TYPE_CHECKING:
    from minions.runtime.crew import Desk

__all__ = ["Walker"]


class Walker:
    """Walks the workflows of one incarnation of a minion."""

    def __init__(self, minion: Any, desk: Desk, judge: Judge) -> None:
        self._minion = minion
        self._desk = desk
        self._judge = judge
        self._steps = desk.codecs.steps
        self._table = desk.table
        self._ledger = desk.ledger
        self._functions: dict[str, Callable[[], Any]] = {
            name: getattr(minion, name) for name in self._steps.names
        }

    async def walk(self, work: Work, cleared: Callable[[Work], None]) -> None:
        """Go on until the workflow ends, waits, is interrupted or must wait its turn.

        Args:
            work: The workflow; its snapshot is on disk.
            cleared: Called when a suspect has ended a step.
        """
        cell = self._open_cell(work)
        while cell is not None:
            is_suspect = work.record.crash_count > 0
            if is_suspect:
                await self._ledger.mark(work)
            current_workflow.set(cell)
            try:
                outcome = await self._step(cell)
            except trio.Cancelled as exc:
                if is_cancelled():
                    raise
                await self._judge.raised(work, cell, exc)  # kept from elsewhere
                return
            except BaseException as exc:  # noqa: BLE001  # judged there
                await self._judge.raised(work, cell, exc)
                return
            saved = await self._leave(work, cell, outcome)
            if saved is None:
                return
            if is_suspect:
                cleared(work)
            await saved.wait()
            if self._judge.scope.cancel_called or work.is_cancelled:
                await trio.lowlevel.checkpoint()
            if self._table.is_paused:
                self._table.put_back(work)
                return
            cell = self._next_cell(work, cell)

    async def _step(self, cell: WorkflowCell) -> object:
        """Call one step."""
        info = cell.workflow
        function = self._functions[info.step]
        limit = self._steps.specs[info.step].timeout
        try:
            if limit is None:
                return await call_user(function)
            # One that ends in the same moment has ended.
            with trio.move_on_after(limit):
                return await call_user(function)
            raise trio.TooSlowError(
                f"step {info.step!r}: expected it to end within its timeout of"
                f" {limit:g} s, found that it still ran; it was cancelled"
            )
        finally:
            cell.ended = True
            if cell.port is not None:
                cell.port.ended = True

    # Cells.

    def _open_cell(self, work: Work) -> WorkflowCell | None:
        """Make the cell of the step at which a snapshot goes on, if there is one."""
        record = work.record
        step = self._steps.find(record.step)
        codecs = self._desk.codecs
        try:
            if step is None:
                raise SnapshotError(
                    f"{self._steps.owner}: the snapshot of {work.id} goes on at step"
                    f" {record.step!r}; expected one of {', '.join(self._steps.names)};"
                    " bring the step back, name it in renamed_from, or redrive the"
                    " workflow at another step"
                )
            event = codecs.event_of(work)
            context = codecs.context_of(record)
            received = codecs.received(record)
        except BaseException as exc:  # noqa: BLE001  # user classes decode, too
            self._judge.undecodable(work, exc)
            return None
        if step == END:
            self._finish(work, context)
            return None
        started_at = datetime.fromtimestamp(record.accepted_at, UTC)
        port = StepPort(work, codecs, self._desk.outlets)
        info = WorkflowInfo(
            work.id,
            self._table.id,
            step,
            record.attempt + 1,
            started_at,
            received,
            port,
        )
        return WorkflowCell(self._minion, event, context, info, port)

    def _next_cell(self, work: Work, cell: WorkflowCell) -> WorkflowCell | None:
        """Make the cell of the next step, with the objects that are there."""
        record, received = work.record, None
        if record.received_type:
            try:
                received = self._desk.codecs.received(record)
            except BaseException as exc:  # noqa: BLE001  # user classes decode, too
                self._judge.undecodable(work, exc)
                return None
        port = StepPort(work, self._desk.codecs, self._desk.outlets)
        info = cell.workflow
        info = WorkflowInfo(
            info.id,
            info.orchestration_id,
            record.step,
            1,
            info.started_at,
            received,
            port,
        )
        return WorkflowCell(self._minion, cell.event, cell.context, info, port)

    # After a step.

    async def _leave(
        self, work: Work, cell: WorkflowCell, outcome: object
    ) -> trio.Event | None:
        """Hand over what the step has reached; ``None``: it goes on no more here."""
        port = cell.port
        try:
            following = self._steps.follow(cell.workflow.step, outcome)
            effects = port.prepare()
        except StoreFullError as exc:
            await self._judge.raised(work, cell, exc)
            return None
        except BaseException as exc:  # noqa: BLE001  # what it returned is the user's
            self._judge.refused(work, exc)
            return None
        try:
            saved = self._commit(work, cell, following, effects)
        except SnapshotError as exc:
            port.undo()
            self._judge.quarantine(work, "unstorable", exc)
            return None
        except DefinitionError as exc:  # it waits for what cannot be stored
            port.undo()
            self._judge.refused(work, exc)
            return None
        port.settle()
        return saved

    def _commit(
        self, work: Work, cell: WorkflowCell, following: Following, effects: Effects
    ) -> trio.Event | None:
        step, codecs = following.step, self._desk.codecs
        if step is None:
            self._end(work, cell.context, effects)
            return None
        left = Snapshot(
            codecs.context.type_name,
            codecs.context.encode(cell.context),
            work.key,
            self._ledger.now(),
        )
        if following.after is None:
            record = proceed(work.record, step, left)
            return self._ledger.save(work, record, effects)
        return self._wait(work, cell.port, following, (left, effects))

    def _wait(
        self,
        work: Work,
        port: StepPort,
        following: Following,
        reached: tuple[Snapshot, Effects],
    ) -> trio.Event | None:
        """Wait for a time or a signal, unless that is there already."""
        (left, effects), after = reached, following.after
        step = following.step
        assert step is not None
        if isinstance(after, After):
            record = sleep(work.record, step, left, after.seconds)
        else:
            assert after is not None
            signal_type = self._desk.codecs.signal(after.type).type_name
            mail = port.wants(signal_type)
            if mail is not None:
                port.take(mail)
                record = proceed(work.record, step, left)
                record = receive(record, signal_type, mail.payload, left.now)
                return self._go_on(work, record, effects.and_taken(work.seq, mail))
            record = wait(
                work.record,
                step,
                left,
                signal_type=signal_type,
                timeout=after.timeout,
            )
        if work.is_cancelled:
            # The step has ended all the same, and has taken and emitted.
            self._ledger.save(work, proceed(work.record, step, left), effects)
            self._judge.interrupted(work, None)
            return None
        self._ledger.cool(self._table, work, record, effects)
        return None

    def _go_on(
        self, work: Work, record: WorkflowRecord, effects: Effects
    ) -> trio.Event | None:
        saved = self._ledger.save(work, record, effects)
        if record.step != END:
            return saved
        # Nothing is left to do but to end, which a fresh start finds.
        self._table.put_back(work)
        return None

    def _finish(self, work: Work, context: Any) -> None:
        """End a workflow whose last step waited before the end."""
        try:
            self._end(work, context, NO_EFFECTS)
        except SnapshotError as exc:
            self._judge.quarantine(work, "unstorable", exc)

    def _end(self, work: Work, context: Any, effects: Effects) -> None:
        codec, encoded = self._desk.codecs.context, None
        if self._ledger.kept.keep:
            encoded = codec.type_name, codec.encode(context)
        self._ledger.ends.end(
            self._table,
            work,
            state="done",
            context=context,
            encoded=encoded,
            effects=effects,
        )
