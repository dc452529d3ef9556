"""Wakes cold workflows when their time has come.

One task for all orchestrations of a Gru: it sleeps until the earliest time that any
index names, and reads the index then, in pages.  A workflow that is due becomes
``ready`` in a commit, so that it fires once, whatever the clock does afterwards.

Those that are due come before new events, and no more of them than there is room for
are in memory; those that queue behind a key take no room from them, since one of
them may hold it.  While the minion is down, or drains, they stay where they are.
"""

from __future__ import annotations

from collections.abc import Iterable, Mapping
from math import inf

import msgspec
import trio

from minions.errors import SnapshotError
from minions.notices import WorkflowQuarantined, report_of
from minions.runtime.ledger import Ledger
from minions.runtime.registry import read_mail
from minions.runtime.table import WorkTable
from minions.runtime.work import Work
from minions.store.port import Keyspace
from minions.workflow.layout import holder_key, key_of, mark_of, sequence_of, time_of
from minions.workflow.record import WorkflowRecord, decode_record
from minions.workflow.transitions import wake

__all__ = ["Waker"]

_PAGE = 256
# A wall clock may be set, and a machine may sleep, without anybody's being told.
_LONGEST_SLEEP = 60.0


class Waker(msgspec.Struct, eq=False):
    """Wakes the cold workflows of one Gru."""

    _ledger: Ledger
    _tables: Mapping[str, WorkTable]
    _poked: trio.Event = msgspec.field(default_factory=trio.Event)

    def poke(self) -> None:
        """Hear that something is due earlier, or that there is room."""
        self._poked.set()

    @trio.lowlevel.enable_ki_protection
    async def run(self) -> None:
        """Wake what is due, for ever."""
        while True:
            self._poked = trio.Event()
            for table in [*self._tables.values()]:
                if not _is_awake(table) or table.cold.next_due > self._ledger.now():
                    continue
                if _room(table) > 0:
                    await self._wake_due(table)
                else:
                    table.cold.hold_back(self.poke)
            with trio.move_on_after(self._delay()):
                await self._poked.wait()

    def _delay(self) -> float:
        """Return the seconds until the next one is due."""
        due = min(
            (
                table.cold.next_due
                for table in self._tables.values()
                if _is_awake(table) and (_room(table) > 0 or not table.cold.is_due)
            ),
            default=inf,
        )
        longest = _LONGEST_SLEEP if self._ledger.wall.is_real else inf
        return max(0.0, min(due - self._ledger.now(), longest))

    async def _wake_due(self, table: WorkTable) -> None:
        cold, prefix = table.cold, mark_of(table.id)
        limit = min(_PAGE, _room(table))
        # Before the page is read: what is noted meanwhile is not lost.
        cold.next_due = inf
        page = await self._ledger.store.page(
            Keyspace.TIMER, after=prefix, limit=limit + 1
        )
        now = self._ledger.now()
        found = [key for key, _ in page if key.startswith(prefix)]
        # Some are awake already, or cancelled, and the disk does not know it yet.
        keys = [key for key in found if not _has_left(table, sequence_of(key))]
        timers = {sequence_of(key): key for key in keys if time_of(key) <= now}
        due = [*timers][:limit]
        left = keys[len(due) :]
        if left:
            cold.note(time_of(left[0]))
        cold.is_due = False
        if left and time_of(left[0]) <= now:
            cold.hold_back(self.poke)
        claimed = cold.claim_nowait(due)
        try:
            works = [
                w for seq in claimed if (w := await self._read(table, timers[seq]))
            ]
            self._thaw(table, works)
        finally:
            for seq in claimed:
                cold.release(seq)
        if not cold.is_due:
            table.on_room()
        if len(keys) < len(found):
            cold.note(now)
            await self._ledger.store.barrier()
        if len(claimed) < len(due):
            # Somebody has just sent one a signal, or reads it to cancel it.
            cold.note(now)
            await cold.wait_free(due)
        await trio.lowlevel.checkpoint()

    async def _read(
        self, table: WorkTable, timer: bytes
    ) -> tuple[Work, WorkflowRecord] | None:
        """Read a cold workflow; one that cannot be read is put into quarantine."""
        store, seq = self._ledger.store, sequence_of(timer)
        value = await store.read(Keyspace.COLD, key_of(seq))
        if value is None:  # it went meanwhile
            return None
        try:
            record = decode_record(key_of(seq), value)
        except SnapshotError as exc:
            await self._give_up(table, timer, value, exc)
            return None
        work = Work(
            seq,
            wake(record, self._ledger.now()),
            key=record.key,
            holds=record.key is not None,
            mail=await read_mail(store, seq),
            is_paced=(record.until or 0.0) <= table.outage.paced_until,
        )
        return work, record

    async def _give_up(
        self, table: WorkTable, timer: bytes, value: bytes, exc: SnapshotError
    ) -> None:
        seq = sequence_of(timer)
        held = table.keys.held_by(seq)
        await self._ledger.ends.quarantine_raw(
            seq, Keyspace.COLD, value, exc, timer=timer
        )
        if held is not None:
            entry = holder_key(table.id, held)
            await self._ledger.store.write([(Keyspace.KEY, entry, None)])
            table.release_key(seq, held)
        table.cold.count -= 1
        table.quarantined[seq] = (None, False)
        self._ledger.notify(
            WorkflowQuarantined(
                orchestration=table.id,
                workflow=f"w{seq}",
                step="",
                reason="corrupt",
                report=report_of(exc),
            )
        )

    def _thaw(
        self, table: WorkTable, works: Iterable[tuple[Work, WorkflowRecord]]
    ) -> None:
        self._ledger.thaw(table, [(w, (record, w.holds)) for w, record in works])


def _is_awake(table: WorkTable) -> bool:
    return table.engine is not None and not table.is_resting


def _has_left(table: WorkTable, seq: int) -> bool:
    return seq in table.works or seq in table.ending


def _room(table: WorkTable) -> int:
    """Say how many may wake."""
    room = table.bounds.max_in_flight - len(table.works)
    return room + table.queued if room <= 0 else room
