"""Reads at open what an earlier process left: subscriptions and their work."""

from __future__ import annotations

from collections.abc import Callable

import msgspec

from minions.errors import SnapshotError
from minions.notices import WorkflowQuarantined, report_of
from minions.runtime.ledger import Ledger
from minions.runtime.numbers import NEXT, read_next
from minions.runtime.registry import scan
from minions.runtime.table import WorkTable
from minions.runtime.work import Bounds, Mail, Work
from minions.store.port import Keyspace, StateStore, Write
from minions.workflow.layout import mark_of, sequence_of, time_of
from minions.workflow.record import (
    WorkflowRecord,
    decode_quarantine,
    decode_record,
    decode_signal,
    unseal,
)
from minions.workflow.stored import difference
from minions.workflow.subscription import SubscriptionRecord, decode_subscription
from minions.workflow.suspects import after_crash

__all__ = ["Restorer"]

MakeTable = Callable[[str, Bounds], WorkTable]
Restored = list[tuple[SubscriptionRecord, WorkTable]]
_HASH_SIZE = 16


class Restorer:
    """Fills the tables of one Gru from its store."""

    def __init__(
        self,
        store: StateStore,
        ledger: Ledger,
        tables: dict[str, WorkTable],
        make_table: MakeTable,
    ) -> None:
        self._store = store
        self._ledger = ledger
        self._tables = tables
        self._make_table = make_table
        # By the hash of its id, as it stands in keys.
        self._by_mark: dict[bytes, WorkTable] = {}
        self._works: dict[int, Work] = {}
        # Those whose record cannot be read: nobody can tell which key they held.
        self._unreadable: set[int] = set()

    async def restore(self, max_crashes: int) -> Restored:
        """Read all; return the subscriptions in their order.

        Raises:
            StoreError: The store cannot be read, or a subscription is damaged.
        """
        raw = await self._store.read(Keyspace.META, NEXT)
        if raw is not None:
            self._ledger.numbers.begin_at(read_next(unseal(NEXT, raw)))
        found = await self._subscriptions()
        await self._hot()
        await self._quarantined()
        await self._cold()
        await self._holders()
        await self._mail()
        async for key, _ in scan(self._store, Keyspace.ENDED_AGE):
            self._ledger.numbers.note(sequence_of(key))
            self._ledger.kept.note(time_of(key), sequence_of(key))
        if self._store.unclean:
            await self._suspect(max_crashes)
        return found

    def _table(self, orchestration: str) -> WorkTable:
        table = self._tables.get(orchestration)
        if table is None:
            table = self._make_table(orchestration, Bounds())
            self._tables[orchestration] = table
        self._by_mark[mark_of(orchestration)] = table
        return table

    async def _subscriptions(self) -> Restored:
        found: Restored = []
        async for key, value in scan(self._store, Keyspace.SUBSCRIPTION):
            record = decode_subscription(key, value)
            table = self._table(record.orchestration)
            table.bounds = Bounds(
                record.max_in_flight,
                record.max_backlog,
                record.max_unfinished,
                "reject" if record.overflow == "reject" else "wait",
            )
            found.append((record, table))
        found.sort(key=lambda pair: pair[0].order)
        return found

    async def _hot(self) -> None:
        async for key, value in scan(self._store, Keyspace.RECORD):
            seq = sequence_of(key)
            self._ledger.numbers.note(seq)
            try:
                record = decode_record(key, value)
            except SnapshotError as exc:
                await self._give_up(seq, Keyspace.RECORD, value, exc)
                continue
            work = Work(seq, record, saved=True, key=record.key)
            self._works[seq] = work
            self._table(record.orchestration).put_back(work)

    async def _give_up(
        self, seq: int, space: Keyspace, value: bytes, exc: SnapshotError
    ) -> None:
        """Put one that cannot be read into quarantine: the others go on."""
        self._unreadable.add(seq)
        reason = await self._ledger.ends.quarantine_raw(seq, space, value, exc)
        self._ledger.notify(
            WorkflowQuarantined(
                orchestration="",
                workflow=f"w{seq}",
                step="",
                reason=reason,
                report=report_of(exc),
            )
        )

    async def _quarantined(self) -> None:
        async for key, value in scan(self._store, Keyspace.QUARANTINE):
            seq = sequence_of(key)
            self._ledger.numbers.note(seq)
            try:
                record = decode_quarantine(key, value).record
            except SnapshotError:  # listed as what it is, and may be discarded
                record = WorkflowRecord("", "", value, "", b"", "", 0.0)
            if not record.orchestration:
                self._unreadable.add(seq)
            self._table(record.orchestration).quarantined[seq] = (record.key, False)

    async def _cold(self) -> None:
        """Count those that wait, and see when the first of each wakes."""
        mark, table = b"", None
        async for key, _ in scan(self._store, Keyspace.TIMER):
            if key[:_HASH_SIZE] != mark:
                mark = key[:_HASH_SIZE]
                table = self._by_mark.get(mark) or await self._table_of_cold(key)
                if table is not None:
                    table.cold.note(time_of(key))
            self._ledger.numbers.note(sequence_of(key))
            if table is not None:
                table.cold.count += 1

    async def _table_of_cold(self, key: bytes) -> WorkTable | None:
        """Find the orchestration of an index entry that nothing else names."""
        value = await self._store.read(Keyspace.COLD, key[-8:])
        if value is None:
            return None
        try:
            return self._table(decode_record(key[-8:], value).orchestration)
        except SnapshotError:
            return None

    async def _holders(self) -> None:
        """Let keys be held by those who held them."""
        async for key, value in scan(self._store, Keyspace.KEY):
            table = self._by_mark.get(key[:_HASH_SIZE])
            try:
                seq = sequence_of(unseal(key, value))
            except SnapshotError:  # who holds it writes it anew; fsck finds it
                continue
            if seq in self._unreadable:
                await self._store.write([(Keyspace.KEY, key, None)])
                continue
            if table is None:
                continue
            held = key[_HASH_SIZE:]
            table.keys.stand_in(seq, held)
            if seq in self._works:
                self._works[seq].holds = True
            if seq in table.quarantined:
                table.quarantined[seq] = (held, True)

    async def _mail(self) -> None:
        """Give the signals to those that are in memory."""
        async for key, value in scan(self._store, Keyspace.MAIL):
            self._ledger.numbers.note(sequence_of(key))
            work = self._works.get(sequence_of(key[:8]))
            if work is None:
                continue
            try:
                signal = decode_signal(key, value)
            except SnapshotError:  # it stays, and a check of the store finds it
                continue
            work.deliver(Mail(sequence_of(key), signal.type, signal.payload))

    async def _suspect(self, max_crashes: int) -> None:
        """Raise the count of all that were in flight, in one transaction."""
        writes: list[Write] = []
        guilty: list[Work] = []
        for work in self._works.values():
            record = after_crash(work.record)
            if record.crash_count > max_crashes:
                guilty.append(work)
                continue
            before = work.record, work.holds
            writes += difference(work.seq, before, (record, work.holds))
            work.record = record
        if writes:
            await self._store.write(writes)
        for work in guilty:
            error = SnapshotError(
                f"{work.id}: its step {work.record.step!r} was running at each of"
                f" {work.record.crash_count + 1} ends of the process in a row that"
                " were no ordered ones; mend what ends the process, then redrive it"
            )
            table = self._tables[work.record.orchestration]
            work.record = msgspec.structs.replace(work.record, crash_count=0)
            # Whether it is to hold its key its class says, when that is started.
            self._ledger.ends.quarantine(
                table, work, reason="crashed", exc=error, hold_key=True
            )
