"""Looks at all workflows, in memory and on disk, while they move."""

from __future__ import annotations

from collections.abc import AsyncIterator, Iterable, Mapping

import msgspec
import trio

from minions.errors import SnapshotError
from minions.runtime.inspection import Inspector, Workflow
from minions.runtime.ledger import Ledger
from minions.runtime.registry import Found, Registry, scan
from minions.runtime.table import WorkTable
from minions.store.port import Keyspace
from minions.workflow.layout import sequence_of
from minions.workflow.record import decode_ended, decode_record

__all__ = ["Listing"]

_HOT = {"ready", "running", "queued", "parked"}
_COLD = {"sleeping", "retrying", "waiting", "parked"}
_ENDED = {"done", "aborted", "cancelled", "discarded"}


class Listing(msgspec.Struct, frozen=True, eq=False):
    """The workflows of one Gru, one after the other."""

    _ledger: Ledger
    _tables: Mapping[str, WorkTable]
    _show: Inspector
    _registry: Registry

    async def all(
        self, state: str | None, orchestration: str | None
    ) -> AsyncIterator[Workflow]:
        """Iterate over the places where a workflow in this state may stand."""
        hot = state is None or state in _HOT
        # Workflows move while the caller looks at others.
        seen: set[int] = set()
        places = [
            (hot, self._hot(orchestration, seen)),
            (state is None or state in _COLD, self._cold(seen)),
            (hot, self._hot(orchestration, seen)),  # those that have woken since
            (state in (None, "quarantined"), self._quarantined(seen)),
            (state in _ENDED, self._kept()),
        ]
        for is_wanted, workflows in places:
            if is_wanted:
                async for workflow in workflows:
                    yield workflow

    async def _hot(
        self, orchestration: str | None, seen: set[int]
    ) -> AsyncIterator[Workflow]:
        for seq, table in _in_memory(self._tables.values(), orchestration):
            await trio.lowlevel.checkpoint()
            work = table.works.get(seq)
            if work is not None and seq not in seen:
                seen.add(seq)
                yield self._show.show(Found(seq, table, work))

    async def _cold(self, seen: set[int]) -> AsyncIterator[Workflow]:
        await self._registry.settle()
        async for key, value in scan(self._ledger.store, Keyspace.COLD):
            seq = sequence_of(key)
            if seq not in seen and self._registry.in_memory(seq) is None:
                yield self._show_cold(key, value)

    async def _quarantined(self, seen: set[int]) -> AsyncIterator[Workflow]:
        await self._registry.settle()
        async for key, value in scan(self._ledger.store, Keyspace.QUARANTINE):
            if sequence_of(key) not in seen:
                yield self._show.quarantined_or_damaged(key, value)

    async def _kept(self) -> AsyncIterator[Workflow]:
        async for key, value in scan(self._ledger.store, Keyspace.ENDED):
            try:
                ended = decode_ended(key, value)
            except SnapshotError:  # in no state, and a check of the store finds it
                continue
            if not self._ledger.kept.is_over(ended.ended_at, self._ledger.now()):
                yield self._show.kept(sequence_of(key), ended)

    def _show_cold(self, key: bytes, value: bytes) -> Workflow:
        seq = sequence_of(key)
        try:
            record = decode_record(key, value)
        except SnapshotError as exc:
            return self._show.damaged(seq, value, exc)
        table = self._tables.get(record.orchestration)
        return self._show.show(Found(seq, table, body=record))


def _in_memory(
    tables: Iterable[WorkTable], orchestration: str | None
) -> list[tuple[int, WorkTable]]:
    """Return the workflows in memory, in order of arrival."""
    chosen = [t for t in tables if orchestration in (None, t.id)]
    works = [(seq, table) for table in chosen for seq in table.works]
    return sorted(works, key=lambda pair: pair[0])
