"""Moves work from one place in the store to another, one commit each.

Every change of a workflow is a list of writes that is handed to the store's
writer; what others may know of it, they learn when it is on disk.
"""

from __future__ import annotations

import functools
import importlib.metadata
from collections.abc import Callable, Sequence
from typing import Any, Literal

import attrs
import msgspec
import trio

from minions.errors import SnapshotError
from minions.notices import (
    Notice,
    WorkflowDiscarded,
    WorkflowQuarantined,
    WorkflowRetrying,
    report_of,
)
from minions.runtime.kept import Kept
from minions.runtime.numbers import Numbers
from minions.runtime.table import WorkTable
from minions.runtime.wall import WallClock
from minions.runtime.work import Ended, Mail, Work
from minions.store.port import Keyspace, StateStore, Write
from minions.workflow.layout import key_of, mail_key
from minions.workflow.record import (
    CorruptRecordError,
    EndedRecord,
    QuarantineRecord,
    WorkflowRecord,
    encode_quarantine,
    encode_record,
)
from minions.workflow.stored import Body, difference
from minions.workflow.suspects import marked

__all__ = ["NO_EFFECTS", "Effects", "Ledger", "mail_deletes"]

EndState = Literal["done", "aborted", "cancelled", "discarded"]
# What is kept, in characters, of a message that is too long to be stored.
_BRIEF = 200


@functools.cache
def _version() -> str:
    # Read when it is first needed: reading it costs more than importing us.
    try:
        return importlib.metadata.version("trio-minions")
    except importlib.metadata.PackageNotFoundError:
        return ""


def _nothing() -> None:
    """Be what follows a commit of which nobody else hears."""


@attrs.frozen(eq=False)
class Effects:
    """What a step's commit holds besides its snapshot."""

    writes: Sequence[Write] = ()
    done: Callable[[], None] = _nothing
    """Called when the commit is on disk."""

    def and_taken(self, seq: int, mail: Mail) -> Effects:
        """Return these, and a signal that was taken."""
        gone: Write = (Keyspace.MAIL, mail_key(seq, mail.number), None)
        return Effects([*self.writes, gone], self.done)


NO_EFFECTS = Effects()


@attrs.define(eq=False)
class Ledger:
    """Writes to the store in the words of workflows."""

    store: StateStore
    notify: Callable[[Notice], None]
    numbers: Numbers
    kept: Kept
    wall: WallClock = attrs.field(factory=WallClock)
    # Told when a cold workflow is due before all others.
    on_cold: Callable[[], None] = _nothing

    def now(self) -> float:
        """Return the wall time, in seconds since the epoch."""
        return self.wall.now()

    # Steps.

    def save(
        self, work: Work, record: WorkflowRecord, effects: Effects = NO_EFFECTS
    ) -> trio.Event:
        """Hand over a snapshot; the event is set when it is on disk.

        Raises:
            SnapshotError: It is too large.  Nothing was handed over.
        """
        saved = trio.Event()
        holds = work.key is not None
        if holds is work.holds:
            # The common case of the difference between two snapshots.
            writes: list[Write] = [(Keyspace.RECORD, *encode_record(work.seq, record))]
        else:
            writes = difference(work.seq, (work.record, work.holds), (record, holds))
        if effects.writes:
            writes += effects.writes

        def done() -> None:
            if work.record is record:
                work.saved = True
            effects.done()
            saved.set()

        before = work.record, work.saved, work.holds
        work.record, work.saved, work.holds = record, False, holds
        try:
            self.store.write_nowait(writes, done)
        except BaseException:
            work.record, work.saved, work.holds = before
            raise
        return saved

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
        table.on_room()

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

    def mark(self, work: Work) -> trio.Event:
        """Hand over that a suspect's step begins."""
        return self.save(work, marked(work.record))

    def thaw(
        self,
        table: WorkTable,
        moved: list[tuple[Work, tuple[Body, bool]]],
        done: Callable[[], None] = _nothing,
    ) -> None:
        """Hand over that cold workflows become ready; they start when that is on disk.

        Args:
            table: Theirs.
            moved: Each as it is to be, and what stands in the store.
            done: Called when it is on disk.
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
        self.store.write_nowait(writes, woken)

    # Ends.

    def end(
        self,
        table: WorkTable,
        work: Work,
        *,
        state: EndState,
        context: Any,
        encoded: tuple[str, bytes] | None = None,
        reason: str = "",
        effects: Effects = NO_EFFECTS,
        notice: Notice | None = None,
    ) -> None:
        """Hand over an end: the place is free, the rest waits for the disk.

        Args:
            table: Where it stands.
            work: The workflow.
            state: Its end.
            context: The object that its last step left.
            encoded: The name of its type, and its bytes, if it is to be kept.
            reason: Why it has ended.
            effects: What else the last step has done.
            notice: Told when the end is on disk.
        """
        record = work.record
        if encoded is not None:
            record = msgspec.structs.replace(
                record, context_type=encoded[0], context=encoded[1]
            )
        writes = difference(work.seq, (work.record, work.holds), None)
        writes += mail_deletes(work)
        if self.kept.keep:
            kept = EndedRecord(record, state, reason, self.now())
            writes += self.kept.add(work.seq, kept)
        writes += effects.writes
        ended = Ended(state, record, context, reason)
        self._leave(table, work)

        def done() -> None:
            effects.done()
            if notice is not None:
                self.notify(notice)
            table.release_key(work.seq, work.key)
            table.tell_end(work, ended)

        self.store.write_nowait(writes, done)
        table.on_room()

    def discard(self, table: WorkTable, work: Work, exc: BaseException) -> None:
        """End a failed workflow whose class wants it so."""
        report = report_of(exc)
        notice = WorkflowDiscarded(
            orchestration=table.id,
            workflow=work.id,
            step=work.record.step,
            reason="failed",
            report=report,
        )
        self.end(
            table,
            work,
            state="discarded",
            context=None,
            reason=str(report),
            notice=notice,
        )

    def quarantine(
        self,
        table: WorkTable,
        work: Work,
        *,
        reason: str,
        exc: BaseException,
        hold_key: bool = False,
    ) -> None:
        """Put a workflow that cannot go on where it waits for a person."""
        report = report_of(exc)
        record = msgspec.structs.replace(
            work.record, key=work.key, crash_count=0, is_marked=False
        )
        quarantined = QuarantineRecord(
            record=record,
            reason=reason,
            message=str(report),
            exception=report.traceback,
            quarantined_at=self.now(),
            code_version=_version(),
        )
        ended = Ended("quarantined", record, None, f"{reason}: {report}")
        holds = hold_key and table.keys.holds(work.seq, work.key)
        self._leave(table, work)
        table.quarantined[work.seq] = (work.key, holds)
        notice = WorkflowQuarantined(
            orchestration=table.id,
            workflow=work.id,
            step=record.step,
            reason=reason,
            report=report,
        )

        def done() -> None:
            self.notify(notice)
            if holds and work.key is not None:
                table.keys.stand_in(work.seq, work.key)
            else:
                table.release_key(work.seq, work.key)
            table.tell_end(work, ended)

        self._write_quarantine(work, quarantined, holds=holds, done=done)
        table.on_room()

    def _write_quarantine(
        self,
        work: Work,
        record: QuarantineRecord,
        *,
        holds: bool,
        done: Callable[[], None],
    ) -> None:
        """Move it; a report that makes the record too large is left out."""
        brief = msgspec.structs.replace(
            record, message=record.message[:_BRIEF], exception=""
        )
        before = work.record, work.holds
        for attempt in (record, brief, msgspec.structs.replace(brief, message="")):
            try:
                writes = difference(work.seq, before, (attempt, holds))
                self.store.write_nowait(writes, done)
            except SnapshotError:
                continue
            return
        # Not even the bare record fits.  It stays where it is: it is tried and
        # quarantined again when the store is opened the next time.
        self.store.write_nowait((), done)

    async def quarantine_raw(
        self, seq: int, space: Keyspace, value: bytes, exc: SnapshotError
    ) -> str:
        """Move what cannot be read as it is, so that a person can look at the bytes.

        Returns the reason, when it is on disk.
        """
        reason = "corrupt" if isinstance(exc, CorruptRecordError) else "incompatible"
        now = self.now()
        found = QuarantineRecord(
            record=WorkflowRecord("", "", value, "", b"", "", now),
            reason=reason,
            message=str(exc),
            exception="",
            quarantined_at=now,
            code_version=_version(),
        )
        moved = encode_quarantine(seq, found)
        await self.store.write(
            [(space, key_of(seq), None), (Keyspace.QUARANTINE, *moved)]
        )
        return reason

    @staticmethod
    def _leave(table: WorkTable, work: Work) -> None:
        del table.works[work.seq]
        table.ending.add(work.seq)
        table.ends.up()


def mail_deletes(work: Work) -> list[Write]:
    """Return what takes the signals of a workflow away."""
    return [
        (Keyspace.MAIL, mail_key(work.seq, mail.number), None) for mail in work.mail
    ]
