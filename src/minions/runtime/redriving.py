"""What a person decides: send a workflow on again, discard it, cancel it, signal it.

A workflow that is not in memory is moved under a claim on it, so that a timer, a
signal and a person never move the same one at once.
"""

from __future__ import annotations

from collections.abc import Callable, Iterator, Mapping
from typing import Any

import msgspec
import trio

from minions.errors import DefinitionError, NotRunningError, SnapshotError
from minions.runtime.codecs import Codecs
from minions.runtime.ends import BRIEF
from minions.runtime.ledger import Ledger
from minions.runtime.registry import Found, Registry, read_mail
from minions.runtime.table import WorkTable
from minions.runtime.work import Mail, Work, nothing
from minions.store.port import Keyspace, Write
from minions.workflow.layout import key_of, mail_key
from minions.workflow.record import (
    READY,
    EndedRecord,
    QuarantineRecord,
    SignalRecord,
    WorkflowRecord,
    decode_record,
    encode_signal,
)
from minions.workflow.stored import difference
from minions.workflow.transitions import receive

__all__ = ["Hand"]


class Hand(msgspec.Struct, frozen=True, eq=False):
    """Moves workflows by hand, for :class:`~minions.runtime.workflows.Workflows`."""

    _ledger: Ledger
    _registry: Registry
    _codecs: Mapping[str, Codecs]

    # Quarantined ones.

    async def redrive(self, seq: int, *, step: str | None, context: Any) -> None:
        """Send a quarantined workflow on; see ``Workflows.redrive``."""
        holder = self._registry.quarantined_in(seq)
        async with holder.cold.claim(seq):
            holder = self._registry.quarantined_in(seq)
            body = await self._registry.read_quarantined(seq)
            old, table = body.record, holder
            if not old.orchestration:  # could not be read when the store was opened
                old = decode_record(key_of(seq), old.event)
                table = self._registry.tables.get(old.orchestration, holder)
            record = self._edited(table, old, step, context)
            _, holds = holder.quarantined[seq]
            mail = await read_mail(self._ledger.store, seq)
            work = Work(seq, record, key=record.key, holds=holds, mail=mail)
            await self._move(table, work, (body, holds))
            del holder.quarantined[seq]
        table.woken([work])
        table.on_change()

    async def _move(
        self, table: WorkTable, work: Work, before: tuple[QuarantineRecord, bool]
    ) -> None:
        writes = difference(work.seq, before, (work.record, work.holds))
        table.works[work.seq] = work
        try:
            await self._ledger.store.write(writes)
        except BaseException:
            del table.works[work.seq]
            raise

    def _edited(
        self, table: WorkTable, old: WorkflowRecord, step: str | None, context: Any
    ) -> WorkflowRecord:
        record = msgspec.structs.replace(
            old,
            attempt=0,
            state=READY,
            since=self._ledger.now(),
            until=None,
            crash_count=0,
            is_marked=False,
        )
        codecs = self._codecs.get(table.id)
        if step is not None:
            if codecs is not None and codecs.steps.find(step) is None:
                raise DefinitionError(
                    f"{codecs.steps.owner}: expected a step to redrive at, one of"
                    f" {', '.join(codecs.steps.names)}, found {step!r}; name one of"
                    " these"
                )
            record = msgspec.structs.replace(
                record, step=step, received_type="", received=b""
            )
        if context is None:
            return record
        if codecs is None:
            raise NotRunningError(
                f"{table.id}: expected this orchestration to be started, to store a"
                " new context; start it first"
            )
        return msgspec.structs.replace(
            record,
            context=codecs.context.encode(context),
            context_type=codecs.context.type_name,
        )

    async def discard(self, seq: int) -> None:
        """End a quarantined workflow for good; see ``Workflows.discard``."""
        table = self._registry.quarantined_in(seq)
        async with table.cold.claim(seq):
            table = self._registry.quarantined_in(seq)
            key, holds = table.quarantined[seq]
            body = await self._body(seq)
            mails = await read_mail(self._ledger.store, seq)
            writes: list[Write] = [(Keyspace.QUARANTINE, key_of(seq), None)]
            if body is not None:
                writes = difference(seq, (body, holds), None)
            writes += [(Keyspace.MAIL, mail_key(seq, m.number), None) for m in mails]
            for keeping, undo in self._keepings(seq, body):
                try:
                    await self._ledger.store.write([*writes, *keeping])
                except BaseException as exc:  # then it never happened
                    undo()
                    if isinstance(exc, SnapshotError) and keeping:
                        continue
                    raise
                break
            del table.quarantined[seq]
        table.release_key(seq, key)
        table.counts["discarded"] = table.counts.get("discarded", 0) + 1
        table.on_change()

    async def _body(self, seq: int) -> QuarantineRecord | None:
        """Read a quarantined workflow; ``None``: it is damaged."""
        try:
            return await self._registry.read_quarantined(seq)
        except SnapshotError:
            return None

    def _keepings(
        self, seq: int, body: QuarantineRecord | None
    ) -> Iterator[tuple[list[Write], Callable[[], None]]]:
        """Iterate over what keeps a discarded one for a while, and what undoes that.

        For each that is too large to be stored there is a smaller one; the last is
        none.
        """
        kept = self._ledger.kept
        # One without an orchestration could not be read.
        if kept.keep and body is not None and body.record.orchestration:
            now, reason = self._ledger.now(), f"{body.reason}: {body.message}"
            for said in (reason, reason[:BRIEF]):
                ended = EndedRecord(body.record, "discarded", said, now)
                yield kept.add(seq, ended), kept.undoing()
        yield [], nothing

    # Unfinished ones.

    async def cancel(self, seq: int) -> WorkTable | None:
        """Ask for the end of a workflow; return whose end is to be waited for.

        ``None``: it has ended meanwhile, and that is on disk.
        """
        is_known = False
        while (ending := self._registry.ending_in(seq)) is None:
            try:
                found = await self._registry.find(seq)
            except KeyError:
                if is_known:
                    return None
                raise
            if is_known and isinstance(found.body, EndedRecord):
                return None
            table, is_known = _unfinished(found), True
            if found.work is None:
                if await self._end_cold(table, seq):
                    return table
            elif self._stop(table, found.work):
                return table
            else:  # its record is on the way to the disk
                await self._ledger.store.barrier()
                await trio.lowlevel.checkpoint()
        return ending

    def _stop(self, table: WorkTable, work: Work) -> bool:
        """Cancel one in memory; say whether that could be done."""
        if work.state == "accepting":
            return False
        work.is_cancelled = True
        if work.state == "running":
            if work.scope is not None:
                work.scope.cancel(reason=f"{work.id} was cancelled")
            return True
        self._ledger.ends.end(table, work, state="cancelled", context=None)
        return True

    async def _end_cold(self, table: WorkTable, seq: int) -> bool:
        """Cancel one on disk; say whether it was there still."""
        async with table.cold.claim(seq):
            try:
                body = (await self._registry.find(seq)).body
            except KeyError:  # somebody else has cancelled it
                return False
            if not isinstance(body, WorkflowRecord):
                return False
            mail = await read_mail(self._ledger.store, seq)
            work = Work(seq, body, key=body.key, holds=body.key is not None, mail=mail)
            table.works[seq] = work
            table.cold.count -= 1
            self._ledger.ends.end(table, work, state="cancelled", context=None)
            return True

    # Signals.

    async def signal(self, seq: int, payload: object) -> None:
        """Send a signal to a workflow; see ``Workflows.signal``."""
        while True:
            found = await self._registry.find(seq)
            table = _alive(found)
            codecs = self._codecs.get(table.id)
            if codecs is None:
                raise NotRunningError(
                    f"w{seq}: expected that its orchestration {table.id} is started,"
                    " found that it is not, so that its signals are not known; start"
                    " it first"
                )
            codec = codecs.check_signal(payload)
            name, data = codec.type_name, codec.encode(payload)
            if found.work is not None:
                await self._deliver(found.work, name, data)
                return
            async with table.cold.claim(seq):
                found = await self._registry.find(seq)
                if found.work is None:
                    await self._post(_alive(found), found, name, data)
                    return

    def _mail(self, seq: int, name: str, data: bytes) -> tuple[Mail, Write]:
        number = self._ledger.numbers.take()
        key = mail_key(seq, number)
        signal = SignalRecord(name, data, self._ledger.now())
        write = (Keyspace.MAIL, key, encode_signal(key, signal))
        return Mail(number, name, data), write

    async def _deliver(self, work: Work, name: str, data: bytes) -> None:
        """Hand a signal to a workflow in memory.

        It is there at once: what the workflow commits comes behind the signal.
        """
        mail, write = self._mail(work.seq, name, data)
        saved = trio.Event()
        self._ledger.store.write_nowait([write], saved.set)
        work.deliver(mail)
        await saved.wait()

    async def _post(
        self, table: WorkTable, found: Found, name: str, data: bytes
    ) -> None:
        """Leave a signal for a workflow on disk, or wake it."""
        seq, body = found.seq, found.body
        if (
            isinstance(body, WorkflowRecord)
            and body.state == "waiting"
            and body.waits == name
        ):
            record = receive(body, name, data, self._ledger.now())
            mail = await read_mail(self._ledger.store, seq)
            holds = body.key is not None
            work = Work(seq, record, key=body.key, holds=holds, mail=mail)
            saved = trio.Event()
            self._ledger.thaw(table, [(work, (body, holds))], done=saved.set)
            await saved.wait()
            return
        _, write = self._mail(seq, name, data)
        await self._ledger.store.write([write])


def _alive(found: Found) -> WorkTable:
    """Return the table of a workflow that has not ended.

    Raises:
        NotRunningError: It has ended, and is kept.
        KeyError: Its record is damaged.
    """
    if isinstance(found.body, EndedRecord):
        raise NotRunningError(
            f"w{found.seq}: expected a workflow that goes on, found that it is"
            f" {found.body.state}; look it up with gru.workflows.get"
        )
    if found.table is None:
        raise KeyError(f"w{found.seq}")
    return found.table


def _unfinished(found: Found) -> WorkTable:
    """Return the table of a workflow that may be cancelled; raises likewise."""
    table = _alive(found)
    if isinstance(found.body, QuarantineRecord):
        raise KeyError(f"w{found.seq} is quarantined; discard it instead")
    return table
