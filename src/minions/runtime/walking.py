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

from minions.declare.outcomes import After
from minions.errors import DefinitionError, SnapshotError, StoreFullError
from minions.runtime.calls import call_user
from minions.runtime.cells import StepCell
from minions.runtime.commit import NO_EFFECTS, Effects
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

    def __init__(
        self, minion: Any, desk: Desk, judge: Judge, go_on: Callable[[Work], None]
    ) -> None:
        self._minion = minion
        self._desk = desk
        self._judge = judge
        self._go_on = go_on
        self._steps = desk.codecs.steps
        self._table = desk.table
        self._ledger = desk.ledger
        self._calls: dict[str, Callable[[], Awaitable[object]]] = {
            name: _call_of(name, getattr(minion, name), spec.timeout)
            for name, spec in self._steps.specs.items()
        }

    async def step(self, cell: StepCell) -> bool:
        """Run a step and hand over what it has reached.

        Returns whether the workflow is told to go on, when that is on disk.
        """
        work = cell.work
        if work.record.crash_count:
            await self._ledger.mark(work)
        try:
            try:
                outcome = await self._calls[cell.step]()
            finally:
                cell.end()
            return self._leave(work, cell, outcome)
        except trio.Cancelled as exc:
            if is_cancelled():
                raise
            await self._judge.raised(work, cell, exc)  # kept from elsewhere
        except BaseException as exc:  # noqa: BLE001  # judged there
            await self._judge.raised(work, cell, exc)
        return False

    # Cells.

    def cell_of(self, work: Work) -> StepCell | None:
        """Make the cell of the step that is next, if there is one."""
        record, cell = work.record, work.cell
        try:
            if cell is not None:  # with the objects that are there
                received = None
                if record.received_type:
                    received = self._desk.codecs.received(record)
                return cell.following(record.step, received)
            return self._opened(work)
        except BaseException as exc:  # noqa: BLE001  # user classes decode, too
            self._judge.undecodable(work, exc)
            return None

    def _opened(self, work: Work) -> StepCell | None:
        """Make the cell of the step at which a snapshot goes on."""
        record, codecs = work.record, self._desk.codecs
        step = self._steps.find(record.step)
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
        if step == END:
            self._finish(work, context)
            return None
        return StepCell(
            self._minion,
            event,
            context,
            False,
            step,
            work,
            self._desk,
            received,
        )

    # After a step.

    def _leave(self, work: Work, cell: StepCell, outcome: object) -> bool:
        """Hand over what the step has reached; say whether it goes on from here.

        Raises:
            StoreFullError: What it emits has no room: the step has failed.
        """
        try:
            following = self._steps.follow(cell.step, outcome)
            port = cell.open_port
            effects = NO_EFFECTS if port is None else port.prepare()
        except StoreFullError:
            raise
        except BaseException as exc:  # noqa: BLE001  # what it returned is the user's
            self._judge.refused(work, exc)
            return False
        try:
            goes_on = self._commit(work, cell, following, effects)
        except SnapshotError as exc:
            _undo(cell)
            self._judge.quarantine(work, "unstorable", exc)
            return False
        except DefinitionError as exc:  # it waits for what cannot be stored
            _undo(cell)
            self._judge.refused(work, exc)
            return False
        if cell.open_port is not None:
            cell.open_port.settle()
        return goes_on

    def _commit(
        self, work: Work, cell: StepCell, following: Following, effects: Effects
    ) -> bool:
        step = following.step
        if step is None:
            self._end(work, cell.context, effects)
            return False
        left = Snapshot(*cell.encoded(), work.key, self._ledger.now())
        if following.after is None:
            record = proceed(work.record, step, left)
            return self._proceed(cell, record, effects)
        return self._wait(work, cell, following, (left, effects))

    def _wait(
        self,
        work: Work,
        cell: StepCell,
        following: Following,
        reached: tuple[Snapshot, Effects],
    ) -> bool:
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
                return self._received(cell, record, effects.and_taken(work.seq, mail))
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
            return False
        self._ledger.cool(self._table, work, record, effects)
        return False

    def _received(
        self, cell: StepCell, record: WorkflowRecord, effects: Effects
    ) -> bool:
        """Go on with a signal that was there."""
        work = cell.work
        if record.step != END:
            return self._proceed(cell, record, effects)
        # Nothing is left to do but to end, which a fresh start finds.
        self._ledger.save(work, record, effects)
        self._table.put_back(work)
        return False

    def _proceed(
        self, cell: StepCell, record: WorkflowRecord, effects: Effects
    ) -> bool:
        """Go on from here when the snapshot is on disk."""
        cell.work.cell = cell
        self._ledger.save(cell.work, record, effects, self._go_on)
        return True

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


def _undo(cell: StepCell) -> None:
    """Give back what the step has reserved: there was no commit."""
    if cell.open_port is not None:
        cell.open_port.undo()


def _call_of(
    step: str, function: Callable[[], Any], limit: float | None
) -> Callable[[], Awaitable[object]]:
    if limit is None:
        return partial(call_user, function)
    return partial(_call_within, limit, step, function)


async def _call_within(limit: float, step: str, function: Callable[[], Any]) -> object:
    """Call a step that has failed when its time is over."""
    # One that ends in the same moment has ended.
    with trio.move_on_after(limit):
        return await call_user(function)
    raise trio.TooSlowError(
        f"step {step!r}: expected it to end within its timeout of"
        f" {limit:g} s, found that it still ran; it was cancelled"
    )
