"""Ends of workflows, and what comes before a person decides: one commit each."""

from __future__ import annotations

import functools
from collections.abc import Callable
from typing import TYPE_CHECKING, Any, Literal

import msgspec

from minions.errors import SnapshotError
from minions.notices import (
    CrashReport,
    Notice,
    WorkflowDiscarded,
    WorkflowQuarantined,
    report_of,
)
from minions.runtime.commit import NO_EFFECTS, Effects
from minions.runtime.table import WorkTable, step_of, tell_room
from minions.runtime.work import Ended, Work
from minions.store.port import Keyspace, Write
from minions.workflow.layout import holder_key, key_of, mail_key
from minions.workflow.record import (
    READY,
    CorruptRecordError,
    EndedRecord,
    QuarantineRecord,
    WorkflowRecord,
    encode_quarantine,
)
from minions.workflow.stored import difference

if TYPE_CHECKING:
    from minions.runtime.ledger import Ledger

__all__ = ["BRIEF", "Ends"]

EndState = Literal["done", "aborted", "cancelled", "discarded"]
BRIEF = 200
"""What is kept, in characters, of a message that is too long to be stored."""


@functools.cache
def _version() -> str:
    # Read when it is first needed, and so is the reader imported: each takes longer
    # than most of our modules.  No end may fail for the lack of it.
    try:
        from importlib.metadata import version  # noqa: PLC0415  # see above

        return version("trio-minions")
    except (ImportError, OSError):  # not installed, or no file can be opened
        return ""


class Ends(msgspec.Struct, frozen=True, eq=False):
    """Ends workflows, or puts them into quarantine."""

    _ledger: Ledger

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

        Raises:
            SnapshotError: It is done, and its last context is too large to be kept.
                Nothing was handed over.
        """
        record = work.record
        if encoded is not None:
            record = msgspec.structs.replace(
                record, context_type=encoded[0], context=encoded[1]
            )
        writes = _deletes(work)
        if effects.writes:
            writes += effects.writes
        ended = Ended(state, record, context, reason)
        self._leave(table, work)

        def done() -> None:
            effects.done()
            if notice is not None:
                self._ledger.notify(notice)
            if work.key is not None:
                table.release_key(work.seq, work.key)
            table.tell_end(work, ended)

        try:
            self._write_end(work.seq, ended, writes, done)
        except SnapshotError:
            table.works[work.seq] = work
            table.ending.discard(work.seq)
            table.ends.down()
            raise
        tell_room(table)

    def _write_end(
        self,
        seq: int,
        ended: Ended,
        writes: list[Write],
        done: Callable[[], None],
    ) -> None:
        """Hand an end over; a reason that makes it too large to keep is left out."""
        store, kept = self._ledger.store, self._ledger.kept
        if not kept.keep:
            store.write_nowait(writes, done)
            return
        now, reason = self._ledger.now(), ended.reason
        for said in (reason, reason[:BRIEF]):
            body = EndedRecord(ended.record, ended.state, said, now)
            try:
                store.write_nowait([*writes, *kept.add(seq, body)], done)
            except SnapshotError:
                kept.undo()
                if ended.state == "done":  # it is the context that is too large
                    raise
                continue
            return
        # Not even the bare record fits: it ends, and is not kept.
        store.write_nowait(writes, done)

    def discard(self, table: WorkTable, work: Work, exc: BaseException) -> None:
        """End a failed workflow whose class wants it so."""
        report = report_of(exc)
        notice = WorkflowDiscarded(
            orchestration=table.id,
            workflow=work.id,
            step=step_of(table, work.record),
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
        quarantined = self._quarantined(work, reason, report)
        record = quarantined.record
        ended = Ended("quarantined", record, None, f"{reason}: {report}")
        holds = hold_key and table.keys.holds(work.seq, work.key)
        self._leave(table, work)
        table.quarantined[work.seq] = (work.key, holds)
        notice = WorkflowQuarantined(
            orchestration=table.id,
            workflow=work.id,
            step=step_of(table, record),
            reason=reason,
            report=report,
        )

        def done() -> None:
            self._ledger.notify(notice)
            if holds and work.key is not None:
                table.keys.stand_in(work.seq, work.key)
            else:
                table.release_key(work.seq, work.key)
            table.tell_end(work, ended)

        self._write_quarantine(work, quarantined, holds=holds, done=done)
        tell_room(table)

    def let_keys_go(self, table: WorkTable) -> None:
        """Let the keys go that quarantined workflows hold: their class wants it so.

        Whose class is not known yet, when the store is opened, holds its key till
        then.
        """
        held = [seq for seq, (_, holds) in table.quarantined.items() if holds]
        # Who is claimed is just being redriven, or discarded with its key.
        for seq in table.cold.claim_nowait(held):
            key, _ = table.quarantined[seq]
            assert key is not None
            table.quarantined[seq] = (key, False)
            entry: Write = (Keyspace.KEY, holder_key(table.id, key), None)
            release = functools.partial(table.release_key, seq, key)
            self._ledger.store.write_nowait([entry], release)
            table.cold.release(seq)

    def _quarantined(
        self, work: Work, reason: str, report: CrashReport
    ) -> QuarantineRecord:
        record = msgspec.structs.replace(
            work.record, key=work.key, crash_count=0, is_marked=False
        )
        return QuarantineRecord(
            record=record,
            reason=reason,
            message=str(report),
            exception=report.traceback,
            quarantined_at=self._ledger.now(),
            code_version=_version(),
        )

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
            record, message=record.message[:BRIEF], exception=""
        )
        before = work.record, work.holds
        for attempt in (record, brief, msgspec.structs.replace(brief, message="")):
            try:
                writes = difference(work.seq, before, (attempt, holds))
                self._ledger.store.write_nowait(writes, done)
            except SnapshotError:
                continue
            return
        # Not even the bare record fits.  It stays where it is: it is tried and
        # quarantined again when the store is opened the next time.
        self._ledger.store.write_nowait((), done)

    async def quarantine_raw(
        self,
        seq: int,
        space: Keyspace,
        value: bytes,
        exc: SnapshotError,
        *,
        timer: bytes | None = None,
    ) -> str:
        """Move what cannot be read as it is, so that a person can look at the bytes.

        With the key under which its time stands, if it has one.  Returns the reason,
        when it is on disk.
        """
        reason = "corrupt" if isinstance(exc, CorruptRecordError) else "incompatible"
        now = self._ledger.now()
        found = QuarantineRecord(
            record=WorkflowRecord("", "", value, "", b"", "", now),
            reason=reason,
            message=str(exc),
            exception="",
            quarantined_at=now,
            code_version=_version(),
        )
        moved = encode_quarantine(seq, found)
        writes: list[Write] = [(space, key_of(seq), None)]
        if timer is not None:
            writes.append((Keyspace.TIMER, timer, None))
        await self._ledger.store.write([*writes, (Keyspace.QUARANTINE, *moved)])
        return reason

    @staticmethod
    def _leave(table: WorkTable, work: Work) -> None:
        del table.works[work.seq]
        table.ending.add(work.seq)
        table.ends.up()
        if work.state == "queued":
            # Until its end is on disk it stands in the queue, but not for its turn.
            work.state = "away"
            table.queued -= 1


def _deletes(work: Work) -> list[Write]:
    """Return what takes a workflow away, with the signals for it."""
    if work.holds or work.record.state != READY:
        writes = difference(work.seq, (work.record, work.holds), None)
    else:  # the common case of it
        writes = [(Keyspace.RECORD, key_of(work.seq), None)]
    for mail in work.mail:
        writes.append((Keyspace.MAIL, mail_key(work.seq, mail.number), None))
    return writes
