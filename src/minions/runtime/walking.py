"""The way of a workflow from step to step.

Each step has a cell of its own, which ends with it: what a step leaves running sees
the workflow no longer.  What a step has decided, changed, taken and emitted is one
commit; the next step begins when that is on disk.
"""

from __future__ import annotations

from collections.abc import Awaitable, Callable
from functools import partial
from typing import Any

import trio

from minions.declare.binding import current_workflow
from minions.declare.outcomes import After
from minions.errors import DefinitionError, SnapshotError, StoreFullError
from minions.runtime.calls import call_user
from minions.runtime.cells import StepCell
from minions.runtime.commit import NO_EFFECTS, Effects, Saving
from minions.runtime.desk import Desk
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
        self._calls: dict[str, Callable[[], Awaitable[object]]] = {
            name: _call_of(getattr(minion, name), spec.timeout)
            for name, spec in self._steps.specs.items()
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
                try:
                    outcome = await self._calls[cell.step]()
                finally:
                    cell.end()
                saved = self._leave(work, cell, outcome)
            except trio.Cancelled as exc:
                if is_cancelled():
                    raise
                await self._judge.raised(work, cell, exc)  # kept from elsewhere
                return
            except BaseException as exc:  # noqa: BLE001  # judged there
                await self._judge.raised(work, cell, exc)
                return
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

    # Cells.

    def _open_cell(self, work: Work) -> StepCell | None:
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
        return StepCell(self._minion, event, context, step, work, self._desk, received)

    def _next_cell(self, work: Work, cell: StepCell) -> StepCell | None:
        """Make the cell of the next step, with the objects that are there."""
        record, received = work.record, None
        if record.received_type:
            try:
                received = self._desk.codecs.received(record)
            except BaseException as exc:  # noqa: BLE001  # user classes decode, too
                self._judge.undecodable(work, exc)
                return None
        return cell.following(record.step, received)

    # After a step.

    def _leave(self, work: Work, cell: StepCell, outcome: object) -> Saving | None:
        """Hand over what the step has reached; ``None``: it goes on no more here.

        Raises:
            StoreFullError: What it emits has no room: the step has failed.
        """
        try:
            following = self._steps.follow(cell.step, outcome)
            effects = cell.prepare()
        except StoreFullError:
            raise
        except BaseException as exc:  # noqa: BLE001  # what it returned is the user's
            self._judge.refused(work, exc)
            return None
        try:
            saved = self._commit(work, cell, following, effects)
        except SnapshotError as exc:
            cell.undo()
            self._judge.quarantine(work, "unstorable", exc)
            return None
        except DefinitionError as exc:  # it waits for what cannot be stored
            cell.undo()
            self._judge.refused(work, exc)
            return None
        cell.settle()
        return saved

    def _commit(
        self, work: Work, cell: StepCell, following: Following, effects: Effects
    ) -> Saving | None:
        step = following.step
        if step is None:
            self._end(work, cell.context, effects)
            return None
        codec = self._desk.codecs.context
        left = Snapshot(
            codec.type_name, codec.encode(cell.context), work.key, self._ledger.now()
        )
        if following.after is None:
            record = proceed(work.record, step, left)
            return self._ledger.save(work, record, effects)
        return self._wait(work, cell, following, (left, effects))

    def _wait(
        self,
        work: Work,
        cell: StepCell,
        following: Following,
        reached: tuple[Snapshot, Effects],
    ) -> Saving | None:
        """Wait for a time or a signal, unless that is there already."""
        (left, effects), after = reached, following.after
        step = following.step
        assert step is not None
        if isinstance(after, After):
            record = sleep(work.record, step, left, after.seconds)
        else:
            assert after is not None
            signal_type = self._desk.codecs.signal(after.type).type_name
            mail = cell.port.wants(signal_type)
            if mail is not None:
                cell.port.take(mail)
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
    ) -> Saving | None:
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


def _call_of(
    function: Callable[[], Any], limit: float | None
) -> Callable[[], Awaitable[object]]:
    if limit is None:
        return partial(call_user, function)
    return partial(_call_within, limit, function)


async def _call_within(limit: float, function: Callable[[], Any]) -> object:
    """Call a step that has failed when its time is over."""
    # One that ends in the same moment has ended.
    with trio.move_on_after(limit):
        return await call_user(function)
    raise trio.TooSlowError(
        f"step {function.__name__!r}: expected it to end within its timeout of"
        f" {limit:g} s, found that it still ran; it was cancelled"
    )
