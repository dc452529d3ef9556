"""Reads at open what an earlier process left: subscriptions and their work."""

from __future__ import annotations

from collections.abc import AsyncIterator, Callable

from minions.errors import SnapshotError
from minions.notices import WorkflowQuarantined, report_of
from minions.runtime.ledger import Ledger, read_next
from minions.runtime.table import WorkTable
from minions.runtime.work import Bounds, Work
from minions.store.port import Keyspace, StateStore
from minions.workflow.layout import sequence_of
from minions.workflow.record import (
    CorruptRecordError,
    QuarantineRecord,
    WorkflowRecord,
    decode_quarantine,
    decode_record,
    encode_quarantine,
    unseal,
)
from minions.workflow.subscription import SubscriptionRecord, decode_subscription

__all__ = ["Restored", "restore"]

_PAGE = 1000
MakeTable = Callable[[str, Bounds], WorkTable]
Restored = list[tuple[SubscriptionRecord, WorkTable]]


async def restore(
    store: StateStore,
    ledger: Ledger,
    tables: dict[str, WorkTable],
    make_table: MakeTable,
) -> Restored:
    """Fill *tables* from the store; return the subscriptions in their order.

    Raises:
        StoreError: The store cannot be read, or a subscription is damaged.
    """
    raw = await store.read(Keyspace.META, b"next_seq")
    if raw is not None:
        ledger.next_seq = ledger.reserved = read_next(unseal(b"next_seq", raw))
    found: Restored = []
    async for key, value in _scan(store, Keyspace.SUBSCRIPTION):
        record = decode_subscription(key, value)
        bounds = Bounds(
            record.max_in_flight,
            record.max_backlog,
            record.max_unfinished,
            "reject" if record.overflow == "reject" else "wait",
        )
        table = tables[record.orchestration] = make_table(record.orchestration, bounds)
        found.append((record, table))
    found.sort(key=lambda pair: pair[0].order)
    async for key, value in _scan(store, Keyspace.RECORD):
        saved = await _read(store, ledger, key, value)
        if saved is not None:
            table = _table(tables, make_table, saved.orchestration)
            table.put_back(Work(sequence_of(key), saved, saved=True, key=saved.key))
    await _restore_quarantine(store, ledger, tables, make_table)
    return found


async def _restore_quarantine(
    store: StateStore,
    ledger: Ledger,
    tables: dict[str, WorkTable],
    make_table: MakeTable,
) -> None:
    async for key, value in _scan(store, Keyspace.QUARANTINE):
        seq = sequence_of(key)
        ledger.note_seq(seq)
        try:
            quarantined = decode_quarantine(key, value).record
        except SnapshotError:  # listed as what it is, and may be discarded
            quarantined = WorkflowRecord("", "", value, "", b"", "", 0.0)
        table = _table(tables, make_table, quarantined.orchestration)
        table.quarantined[seq] = quarantined.key


def _table(
    tables: dict[str, WorkTable], make_table: MakeTable, orchestration: str
) -> WorkTable:
    if orchestration not in tables:
        tables[orchestration] = make_table(orchestration, Bounds())
    return tables[orchestration]


async def _read(
    store: StateStore, ledger: Ledger, key: bytes, value: bytes
) -> WorkflowRecord | None:
    """Read one record; one that cannot be read is put into quarantine."""
    seq = sequence_of(key)
    ledger.note_seq(seq)
    try:
        return decode_record(key, value)
    except SnapshotError as exc:
        # It is moved as it is, so that a person can look at the bytes.
        corrupt = QuarantineRecord(
            record=WorkflowRecord("", "", value, "", b"", "", ledger.now()),
            reason="corrupt" if isinstance(exc, CorruptRecordError) else "incompatible",
            message=str(exc),
            exception="",
            quarantined_at=ledger.now(),
            code_version="",
        )
        moved = encode_quarantine(seq, corrupt)
        await store.write([(Keyspace.RECORD, key, None), (Keyspace.QUARANTINE, *moved)])
        ledger.notify(
            WorkflowQuarantined(
                orchestration="",
                workflow=f"w{seq}",
                step="",
                reason=corrupt.reason,
                report=report_of(exc),
            )
        )
        return None


async def _scan(
    store: StateStore, keyspace: Keyspace
) -> AsyncIterator[tuple[bytes, bytes]]:
    after: bytes | None = None
    while True:
        page = await store.page(keyspace, after=after, limit=_PAGE)
        for item in page:
            yield item
        if len(page) < _PAGE:
            return
        after = page[-1][0]
