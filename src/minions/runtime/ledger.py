"""Moves work from one place in the store to another, one commit each.

Every change of a workflow is a list of writes that is handed to the store's
writer; what others may know of it, they learn when it is on disk.
"""

from __future__ import annotations

import functools
import importlib.metadata
import time
from collections.abc import Callable
from typing import Any, Literal

import attrs
import msgspec
import trio

from minions.errors import SnapshotError
from minions.notices import (
    Notice,
    WorkflowDiscarded,
    WorkflowQuarantined,
    report_of,
)
from minions.runtime.work import Ended, Work, WorkTable
from minions.store.port import Keyspace, StateStore, Write
from minions.workflow.layout import key_of
from minions.workflow.record import (
    QuarantineRecord,
    WorkflowRecord,
    encode_quarantine,
    encode_record,
    seal,
)

__all__ = ["Ledger"]


@functools.cache
def _version() -> str:
    # Read when it is first needed: reading it costs more than importing us.
    try:
        return importlib.metadata.version("trio-minions")
    except importlib.metadata.PackageNotFoundError:
        return ""


# Numbers are reserved in blocks, so that one ended long ago is never given again.
_BLOCK = 4096
_NEXT = b"next_seq"
# What is kept, in characters, of a message that is too long to be stored.
_BRIEF = 200


@attrs.define(eq=False)
class Ledger:
    """Writes to the store in the words of workflows."""

    store: StateStore
    notify: Callable[[Notice], None]
    # The next free sequence number, and the end of the block that the store knows.
    next_seq: int = 1
    reserved: int = 1
    _wall: Callable[[], float] = attrs.field(init=False)

    def __attrs_post_init__(self) -> None:
        clock = trio.lowlevel.current_clock()
        if type(clock).__name__ == "SystemClock":
            self._wall = time.time
        else:
            # Wall time is that of the beginning plus what trio says has passed.
            began = time.time() - trio.current_time()
            self._wall = lambda: began + trio.current_time()

    def now(self) -> float:
        """Return the wall time, in seconds since the epoch."""
        return self._wall()

    def note_seq(self, seq: int) -> None:
        """Hear of a number that is in use: a damaged count must not give it again."""
        self.next_seq = max(self.next_seq, seq + 1)

    def take_seq(self) -> int:
        """Return a new sequence number.

        The block that it is of is committed before, on its own: a call of emit
        that used it first may be cancelled while others of the block are not.
        """
        seq = self.next_seq
        if seq >= self.reserved:
            reserved = seq + _BLOCK
            value = seal(_NEXT, reserved.to_bytes(8, "big"))
            self.store.write_nowait([(Keyspace.META, _NEXT, value)])
            self.reserved = reserved
        self.next_seq = seq + 1
        return seq

    def save(self, work: Work, record: WorkflowRecord) -> trio.Event:
        """Hand over a snapshot; the event is set when it is on disk.

        Raises:
            SnapshotError: It is too large.  Nothing was handed over.
        """
        key, value = encode_record(work.seq, record)
        saved = trio.Event()

        def done() -> None:
            if work.record is record:
                work.saved = True
            saved.set()

        previous, was_saved = work.record, work.saved
        work.record, work.saved = record, False
        try:
            self.store.write_nowait([(Keyspace.RECORD, key, value)], done)
        except BaseException:
            work.record, work.saved = previous, was_saved
            raise
        return saved

    def end(
        self,
        table: WorkTable,
        work: Work,
        *,
        state: Literal["done", "aborted"],
        context: Any,
        reason: str = "",
    ) -> None:
        """Hand over an end: the place is free, the rest waits for the disk."""
        ended = Ended(state, work.record, context, reason)
        self._leave(table, work)

        def done() -> None:
            table.release_key(work)
            table.tell_end(work, ended)

        self.store.write_nowait([(Keyspace.RECORD, key_of(work.seq), None)], done)
        table.on_room()

    def discard(self, table: WorkTable, work: Work, exc: BaseException) -> None:
        """End a failed workflow whose class wants it so."""
        report = report_of(exc)
        ended = Ended("discarded", work.record, None, str(report))
        self._leave(table, work)
        notice = WorkflowDiscarded(
            orchestration=table.id,
            workflow=work.id,
            step=work.record.step,
            reason="failed",
            report=report,
        )

        def done() -> None:
            self.notify(notice)
            table.release_key(work)
            table.tell_end(work, ended)

        self.store.write_nowait([(Keyspace.RECORD, key_of(work.seq), None)], done)
        table.on_room()

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
        record = msgspec.structs.replace(work.record, key=work.key)
        quarantined = QuarantineRecord(
            record=record,
            reason=reason,
            message=str(report),
            exception=report.traceback,
            quarantined_at=self.now(),
            code_version=_version(),
        )
        ended = Ended("quarantined", record, None, f"{reason}: {report}")
        self._leave(table, work)
        table.quarantined[work.seq] = work.key
        notice = WorkflowQuarantined(
            orchestration=table.id,
            workflow=work.id,
            step=record.step,
            reason=reason,
            report=report,
        )

        def done() -> None:
            self.notify(notice)
            if not hold_key:
                table.release_key(work)
            table.tell_end(work, ended)

        self._write_quarantine(work.seq, quarantined, done)
        table.on_room()

    def _write_quarantine(
        self, seq: int, record: QuarantineRecord, done: Callable[[], None]
    ) -> None:
        """Move it; a report that makes the record too large is left out."""
        brief = msgspec.structs.replace(
            record, message=record.message[:_BRIEF], exception=""
        )
        for attempt in (record, brief, msgspec.structs.replace(brief, message="")):
            writes = _quarantine_writes(seq, attempt)
            try:
                self.store.write_nowait(writes, done)
            except SnapshotError:
                continue
            return
        # Not even the bare record fits.  It stays where it is: it is tried and
        # quarantined again when the store is opened the next time.
        self.store.write_nowait((), done)

    @staticmethod
    def _leave(table: WorkTable, work: Work) -> None:
        del table.works[work.seq]
        table.ending.add(work.seq)
        table.ends.up()


def _quarantine_writes(seq: int, record: QuarantineRecord) -> list[Write]:
    key, value = encode_quarantine(seq, record)
    return [(Keyspace.RECORD, key, None), (Keyspace.QUARANTINE, key, value)]


def read_next(value: bytes) -> int:
    """Read the first sequence number that was never given, from the store."""
    return int.from_bytes(value, "big")
