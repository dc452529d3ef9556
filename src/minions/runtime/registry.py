"""Finds a workflow wherever it stands: in memory, cold, quarantined, or kept."""

from __future__ import annotations

from collections.abc import AsyncIterator, Callable, Mapping

import msgspec

from minions.errors import SnapshotError
from minions.runtime.ledger import Ledger
from minions.runtime.table import WorkTable
from minions.runtime.work import Mail, Work
from minions.store.port import Keyspace, StateStore
from minions.workflow.layout import key_of, sequence_of
from minions.workflow.record import (
    EndedRecord,
    QuarantineRecord,
    WorkflowRecord,
    decode_ended,
    decode_quarantine,
    decode_record,
    decode_signal,
)
from minions.workflow.stored import Body

__all__ = ["Found", "Registry", "read_mail", "scan", "seq_of"]

_PAGE = 1000


class Found(msgspec.Struct, frozen=True, eq=False):
    """A workflow, and where it stands."""

    seq: int
    table: WorkTable | None
    """Of its orchestration; ``None`` if its record cannot be read."""

    work: Work | None = None
    """If it is in memory."""

    body: Body | None = None
    """If it is cold, quarantined or kept."""


class Registry(msgspec.Struct, frozen=True, eq=False):
    """The workflows of one Gru, by number."""

    ledger: Ledger
    tables: Mapping[str, WorkTable]

    async def find(self, seq: int) -> Found:
        """Return where a workflow stands.

        Raises:
            KeyError: There is none of this number, or it has ended and is not kept.
            SnapshotError: Its record cannot be read.
        """
        store = self.ledger.store
        while True:
            found = self.in_memory(seq)
            if found is not None:
                return found
            if self._is_moving(seq):
                await store.barrier()
            for space, read in _READ.items():
                value = await store.read(space, key_of(seq))
                if value is not None and self.in_memory(seq) is None:
                    body = read(key_of(seq), value)
                    if not self._has_ended(body):
                        record = (
                            body if isinstance(body, WorkflowRecord) else body.record
                        )
                        table = self.tables.get(record.orchestration)
                        return Found(seq, table, body=body)
            if self.in_memory(seq) is None and not self._is_moving(seq):
                raise KeyError(f"w{seq}")

    def _has_ended(self, body: object) -> bool:
        return isinstance(body, EndedRecord) and self.ledger.kept.is_over(
            body.ended_at, self.ledger.now()
        )

    def in_memory(self, seq: int) -> Found | None:
        """Return a workflow that is in memory."""
        for table in self.tables.values():
            work = table.works.get(seq)
            if work is not None:
                return Found(seq, table, work)
        return None

    def _is_moving(self, seq: int) -> bool:
        """Say whether the disk does not know yet where it stands."""
        return any(
            seq in table.ending or seq in table.cold.cooling
            for table in self.tables.values()
        )

    def ending_in(self, seq: int) -> WorkTable | None:
        """Return the table of a workflow whose end is on its way to the disk."""
        for table in self.tables.values():
            if seq in table.ending and seq not in table.quarantined:
                return table
        return None

    async def settle(self) -> None:
        """Wait until the disk knows where those stand that have left the memory."""
        if any(table.ending or table.cold.cooling for table in self.tables.values()):
            await self.ledger.store.barrier()

    def quarantined_in(self, seq: int) -> WorkTable:
        """Return the table of a quarantined workflow.

        Raises:
            KeyError: No workflow of this number is quarantined.
        """
        for table in self.tables.values():
            if seq in table.quarantined:
                return table
            if seq in table.works:
                raise KeyError(f"w{seq} is {table.works[seq].state}, not quarantined")
        raise KeyError(f"w{seq}")

    async def read_quarantined(self, seq: int) -> QuarantineRecord:
        """Return a quarantined workflow.

        Raises:
            KeyError: It is none.
            SnapshotError: It cannot be read.
        """
        if self._is_moving(seq):
            await self.ledger.store.barrier()
        value = await self.ledger.store.read(Keyspace.QUARANTINE, key_of(seq))
        if value is None:
            raise KeyError(f"w{seq}")
        return decode_quarantine(key_of(seq), value)


_READ: dict[Keyspace, Callable[[bytes, bytes], Body]] = {
    Keyspace.COLD: decode_record,
    Keyspace.QUARANTINE: decode_quarantine,
    Keyspace.ENDED: decode_ended,
}


async def scan(
    store: StateStore, space: Keyspace, prefix: bytes = b""
) -> AsyncIterator[tuple[bytes, bytes]]:
    """Iterate over a keyspace, or over the keys that begin with *prefix*."""
    after = prefix or None
    while True:
        page = await store.page(space, after=after, limit=_PAGE)
        for key, value in page:
            if not key.startswith(prefix):
                return
            yield key, value
        if len(page) < _PAGE:
            return
        after = page[-1][0]


async def read_mail(store: StateStore, seq: int) -> list[Mail]:
    """Return the signals to a workflow that were not taken, oldest first.

    One that is damaged is passed over: it stays, and a check of the store finds it.
    """
    found: list[Mail] = []
    async for key, value in scan(store, Keyspace.MAIL, key_of(seq)):
        try:
            signal = decode_signal(key, value)
        except SnapshotError:
            continue
        found.append(Mail(sequence_of(key), signal.type, signal.payload))
    return found


def seq_of(workflow_id: str) -> int:
    """Read the number of a workflow from its id.

    Raises:
        KeyError: It is no id.
    """
    number = workflow_id[1:]
    if workflow_id[:1] != "w" or not (number.isascii() and number.isdigit()):
        raise KeyError(workflow_id)
    return int(number)
