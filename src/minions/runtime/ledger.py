"""Moves work from one place in the store to another, one commit each.

Every change of a workflow is a list of writes that is handed to the store's
writer; what others may know of it, they learn when it is on disk.
"""

from __future__ import annotations

from collections.abc import Callable

import attrs
import msgspec
import trio

from minions.errors import SnapshotError
from minions.notices import (
    Notice,
    WorkflowRetrying,
    report_of,
)
from minions.runtime.commit import NO_EFFECTS, Effects, Saving
from minions.runtime.ends import Ends
from minions.runtime.kept import Kept
from minions.runtime.numbers import Numbers
from minions.runtime.table import WorkTable, tell_room
from minions.runtime.wall import WallClock
from minions.runtime.work import Work, nothing
from minions.store.port import Keyspace, StateStore, Write
from minions.workflow.record import (
    WorkflowRecord,
    encode_record,
)
from minions.workflow.stored import Body, difference
from minions.workflow.suspects import marked

__all__ = ["Ledger"]


def _nothing_more(_: Work) -> None:
    pass


@attrs.define(eq=False)
class Ledger:
    """Writes to the store in the words of workflows."""

    store: StateStore
    notify: Callable[[Notice], None]
    numbers: Numbers
    kept: Kept
    wall: WallClock = attrs.field(factory=WallClock)
    ends: Ends = attrs.field(init=False, default=attrs.Factory(Ends, takes_self=True))
    # Told when a cold workflow is due before all others.
    on_cold: Callable[[], None] = nothing

    def now(self) -> float:
        """Return the wall time, in seconds since the epoch."""
        return self.wall.now()

    # Steps.

    def save(
        self,
        work: Work,
        record: WorkflowRecord,
        effects: Effects = NO_EFFECTS,
        then: Callable[[Work], None] = _nothing_more,
    ) -> None:
        """Hand over a snapshot; *then* is called when it is on disk.

        Raises:
            SnapshotError: It is too large.  Nothing was handed over.
        """
        holds = work.key is not None
        if holds is work.holds:
            # The common case of the difference between two snapshots.
            writes: list[Write] = [(Keyspace.RECORD, *encode_record(work.seq, record))]
        else:
            writes = difference(work.seq, (work.record, work.holds), (record, holds))
        if effects.writes:
            writes += effects.writes

        saving = Saving(work, record, effects, then)
        before = work.record, work.saved, work.holds
        work.record, work.saved, work.holds = record, False, holds
        try:
            self.store.write_nowait(writes, saving.done)
        except BaseException:
            work.record, work.saved, work.holds = before
            raise

    def cool(
        self,
        table: WorkTable,
        work: Work,
        record: WorkflowRecord,
        effects: Effects = NO_EFFECTS,
    ) -> None:
        """Hand over a snapshot that waits for a time or a signal.

        Raises:
            SnapshotError: It is too large.  Nothing was handed over.
        """
        before, after = (work.record, work.holds), (record, work.key is not None)
        writes = [*difference(work.seq, before, after), *effects.writes]
        seq, until = work.seq, record.until

        def done() -> None:
            table.cold.cooling.discard(seq)
            effects.done()
            if table.cold.note(until):
                self.on_cold()

        # Before the hand-over: a store in memory calls back at once.
        table.cool(work)
        try:
            self.store.write_nowait(writes, done)
        except BaseException:
            table.uncool(work)
            raise
        tell_room(table)

    def retry(
        self,
        table: WorkTable,
        work: Work,
        record: WorkflowRecord,
        exc: BaseException,
    ) -> None:
        """Hand over that an attempt has failed and another one follows."""
        report = report_of(exc)
        delay = record.until - record.since if record.until is not None else 0.0
        notice = WorkflowRetrying(
            orchestration=table.id,
            workflow=work.id,
            step=record.step,
            attempt=record.attempt,
            delay=delay,
            report=report,
        )
        if record.until is None:
            self.save(work, record)
            table.put_back(work)
        else:
            self.cool(table, work, record)
        self.notify(notice)

    async def mark(self, work: Work) -> None:
        """Commit that a suspect's step begins; it holds its key from then on."""
        record = msgspec.structs.replace(marked(work.record), key=work.key)
        saved = trio.Event()
        try:
            self.save(work, record, then=lambda _: saved.set())
        except SnapshotError:  # the record has no room for it: it runs unmarked
            return
        await saved.wait()

    def thaw(
        self,
        table: WorkTable,
        moved: list[tuple[Work, tuple[Body, bool]]],
        done: Callable[[], None] = nothing,
    ) -> None:
        """Hand over that cold workflows become ready; they start when that is on disk.

        Args:
            table: Theirs.
            moved: Each as it is to be, and what stands in the store.
            done: Called when it is on disk.

        Raises:
            SnapshotError: A signal makes one too large.  Nothing was handed over.
        """
        if not moved:
            return
        writes: list[Write] = []
        for work, before in moved:
            writes += difference(work.seq, before, (work.record, work.holds))
        works = [work for work, _ in moved]

        def woken() -> None:
            table.woken(works)
            done()

        for work in works:
            table.works[work.seq] = work
        table.cold.count -= len(works)
        try:
            self.store.write_nowait(writes, woken)
        except BaseException:
            for work in works:
                del table.works[work.seq]
            table.cold.count += len(works)
            raise
