"""``gru.workflows``: look at workflows, wait for them, send them on again."""

from __future__ import annotations

from collections.abc import AsyncIterator, Mapping
from functools import partial
from typing import TYPE_CHECKING, Any

import msgspec
import trio

from minions.declare.binding import current_workflow
from minions.errors import DefinitionError, NotRunningError
from minions.runtime.calls import caller
from minions.runtime.inspection import Inspector, Workflow
from minions.runtime.table import WorkTable
from minions.runtime.work import Ended, Work
from minions.store.port import Keyspace
from minions.workflow.layout import key_of
from minions.workflow.record import (
    QuarantineRecord,
    WorkflowRecord,
    decode_quarantine,
    decode_record,
    encode_record,
)

if TYPE_CHECKING:
    from minions.runtime.codecs import Codecs
    from minions.runtime.ledger import Ledger

__all__ = ["Workflows"]

_PAGE = 100


class Workflows:
    """The workflows of one Gru."""

    def __init__(
        self,
        ledger: Ledger,
        tables: Mapping[str, WorkTable],
        codecs: Mapping[str, Codecs],
    ) -> None:
        self._ledger = ledger
        self._tables = tables
        self._codecs = codecs
        self._inspector = Inspector(codecs)
        # Ends of workflows that came through gru.emit and that nobody waited for
        # yet: the caller of emit may be scheduled after a short workflow's end.
        self._unasked: dict[int, Ended] = {}

    async def list(
        self, *, state: str | None = None, orchestration: str | None = None
    ) -> AsyncIterator[Workflow]:
        """Iterate over all that have not ended.

        First those that go on, in order of arrival, then the quarantined ones,
        likewise.

        Args:
            state: Only those in this state.
            orchestration: Only those of the orchestration with this id.
        """
        chosen = [
            table
            for table in self._tables.values()
            if orchestration in (None, table.id)
        ]
        if state != "quarantined":
            works = sorted(
                ((w.seq, t) for t in chosen for w in t.works.values()),
                key=lambda pair: pair[0],
            )
            for seq, table in works:
                work = table.works.get(seq)
                if work is not None and state in (None, work.state):
                    await trio.lowlevel.checkpoint()
                    yield self._inspector.present(work)
        if state in (None, "quarantined"):
            async for workflow in self._quarantined(orchestration):
                yield workflow

    async def _quarantined(self, orchestration: str | None) -> AsyncIterator[Workflow]:
        after: bytes | None = None
        while True:
            page = await self._ledger.store.page(
                Keyspace.QUARANTINE, after=after, limit=_PAGE
            )
            for key, value in page:
                workflow = self._inspector.shown_or_damaged(key, value)
                if orchestration in (None, workflow.orchestration_id):
                    yield workflow
            if len(page) < _PAGE:
                return
            after = page[-1][0]

    async def get(self, workflow_id: str) -> Workflow:
        """Return one that has not ended.

        Raises:
            KeyError: There is none of this id, or it has ended.
        """
        seq = _seq_of(workflow_id)
        for table in self._tables.values():
            if seq in table.works:
                await trio.lowlevel.checkpoint()
                return self._inspector.present(table.works[seq])
        return self._inspector.shown(seq, await self._read_quarantined(seq))

    async def wait(self, workflow_id: str) -> Workflow:
        """Return the workflow when its end is on disk, or its quarantine.

        Raises:
            KeyError: There is none of this id, or it had ended before.
            NotRunningError: Gru has stopped before it ended.
            trio.BusyResourceError: A step waits for its own workflow.
        """
        seq = _seq_of(workflow_id)
        if self._is_inside(workflow_id):
            raise trio.BusyResourceError(
                f"{workflow_id}: expected another workflow, found that it waits for"
                " itself; wait for it from outside"
            )
        ended = self._unasked.pop(seq, None)
        if ended is None:
            ended = await self._wait(seq)
        else:
            await trio.lowlevel.checkpoint()
        return self._inspector.closed(seq, ended)

    def _is_inside(self, workflow_id: str) -> bool:
        """Say whether a step of this workflow asks; another Gru has the same ids."""
        cell, inside = current_workflow.get(None), caller()
        if cell is None or cell.ended or cell.workflow.id != workflow_id:
            return False
        table = getattr(inside.life, "table", None) if inside is not None else None
        return any(mine is table for mine in self._tables.values())

    async def _wait(self, seq: int) -> Ended:
        for table in self._tables.values():
            if seq in table.works or seq in table.ending:
                break
            if seq in table.quarantined:
                record = await self._read_quarantined(seq)
                reason = f"{record.reason}: {record.message}"
                return Ended("quarantined", record.record, None, reason)
        else:
            raise KeyError(f"w{seq}")
        ended = await _wait_end(table, seq)
        if ended is None:
            raise NotRunningError(
                f"w{seq}: expected that it ends, found that its Gru has stopped first;"
                f" it is saved, and goes on when {table.id} is started again"
            )
        self._unasked.pop(seq, None)
        return ended

    def remember(self, ids: tuple[str | None, ...]) -> None:
        """Keep the ends of these for one call of :meth:`wait`."""
        for workflow_id in ids:
            if workflow_id is None:
                continue
            seq = _seq_of(workflow_id)
            for table in self._tables.values():
                if seq in table.works:
                    keep = partial(self._keep, seq)
                    table.waiters.setdefault(seq, []).append(keep)

    def _keep(self, seq: int, ended: Ended | None) -> None:
        if ended is None:
            return
        self._unasked[seq] = ended
        while len(self._unasked) > _MOST_UNASKED:
            del self._unasked[next(iter(self._unasked))]

    async def redrive(
        self, workflow_id: str, *, step: str | None = None, context: Any = None
    ) -> None:
        """Send a quarantined workflow on again, from its last snapshot.

        Returns when it is on disk as unfinished.

        Args:
            workflow_id: Of a quarantined one.
            step: Go on at this step; without it, at the one that failed.
            context: Go on with this context.

        Raises:
            KeyError: No workflow of this id is quarantined.
            SnapshotError: The context cannot be stored, or the record not be read.
            NotRunningError: A context is given and its orchestration is not started.
            DefinitionError: The minion has no such step.
        """
        seq = _seq_of(workflow_id)
        table = self._table_of_quarantined(seq)
        old = (await self._read_quarantined(seq)).record
        if not old.orchestration:  # could not be read when the store was opened
            old = decode_record(key_of(seq), old.event)
            table = self._tables.get(old.orchestration, table)
        record = self._edited(table, old, step, context)
        holder = self._table_of_quarantined(seq)
        held = holder.quarantined.pop(seq)
        key, value = encode_record(seq, record)
        work = Work(seq, record, key=record.key)
        table.works[seq] = work
        try:
            await self._ledger.store.write(
                [(Keyspace.QUARANTINE, key, None), (Keyspace.RECORD, key, value)]
            )
        except BaseException:
            del table.works[seq]
            holder.quarantined[seq] = held
            raise
        work.saved = True
        table.put_back(work)
        if table.engine is not None:
            table.engine.dispatch()
        table.on_change()

    def _edited(
        self, table: WorkTable, old: WorkflowRecord, step: str | None, context: Any
    ) -> WorkflowRecord:
        record = msgspec.structs.replace(old, attempt=0)
        codecs = self._codecs.get(table.id)
        if step is not None:
            if codecs is not None and codecs.steps.find(step) is None:
                raise DefinitionError(
                    f"{codecs.steps.owner}: expected a step to redrive at, one of"
                    f" {', '.join(codecs.steps.names)}, found {step!r}; name one of"
                    " these"
                )
            record = msgspec.structs.replace(record, step=step)
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

    async def discard(self, workflow_id: str) -> None:
        """End a quarantined workflow for good.

        Raises:
            KeyError: No workflow of this id is quarantined.
        """
        seq = _seq_of(workflow_id)
        table = self._table_of_quarantined(seq)
        key = table.quarantined.pop(seq)
        try:
            await self._ledger.store.write([(Keyspace.QUARANTINE, key_of(seq), None)])
        except BaseException:
            table.quarantined[seq] = key
            raise
        for work in [*table.keys.get(key, ())] if key is not None else ():
            if work.seq == seq:
                table.release_key(work)
        table.counts["discarded"] = table.counts.get("discarded", 0) + 1
        table.on_change()

    def _table_of_quarantined(self, seq: int) -> WorkTable:
        for table in self._tables.values():
            if seq in table.quarantined:
                return table
            if seq in table.works:
                raise KeyError(f"w{seq} is {table.works[seq].state}, not quarantined")
        raise KeyError(f"w{seq}")

    async def _read_quarantined(self, seq: int) -> QuarantineRecord:
        if any(seq in table.ending for table in self._tables.values()):
            await self._ledger.store.barrier()
        value = await self._ledger.store.read(Keyspace.QUARANTINE, key_of(seq))
        if value is None:
            raise KeyError(f"w{seq}")
        return decode_quarantine(key_of(seq), value)


_MOST_UNASKED = 1000


async def _wait_end(table: WorkTable, seq: int) -> Ended | None:
    """Wait for the end of a workflow; ``None``: none comes any more."""
    if table.closed and seq not in table.ending:
        await trio.lowlevel.checkpoint()
        return None
    found: list[Ended | None] = []
    came = trio.Event()

    def tell(ended: Ended | None) -> None:
        found.append(ended)
        came.set()

    table.waiters.setdefault(seq, []).append(tell)
    try:
        await came.wait()
    finally:
        waiters = table.waiters.get(seq, [])
        if tell in waiters:
            waiters.remove(tell)
    return found[0]


def _seq_of(workflow_id: str) -> int:
    number = workflow_id[1:]
    if workflow_id[:1] != "w" or not (number.isascii() and number.isdigit()):
        raise KeyError(workflow_id)
    return int(number)
