"""``gru.workflows``: look at workflows, wait for them, send them on again."""

from __future__ import annotations

from collections.abc import AsyncIterator, Iterable, Mapping
from functools import partial
from typing import TYPE_CHECKING, Any

import msgspec
import trio

from minions.declare.binding import current_workflow
from minions.errors import NotRunningError, SnapshotError
from minions.runtime.calls import caller
from minions.runtime.inspection import Inspector, Workflow
from minions.runtime.listing import Listing
from minions.runtime.redriving import Hand
from minions.runtime.registry import Registry, seq_of
from minions.runtime.table import WorkTable
from minions.runtime.work import Ended
from minions.workflow.record import (
    EndedRecord,
    QuarantineRecord,
)

if TYPE_CHECKING:
    from minions.runtime.codecs import Codecs
    from minions.runtime.ledger import Ledger

__all__ = ["Workflows"]

_MOST_UNASKED = 1000


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
        self._inspector = Inspector(ledger, codecs)
        self._registry = Registry(ledger, tables)
        self._hand = Hand(ledger, self._registry, codecs)
        self._listing = Listing(ledger, tables, self._inspector, self._registry)
        self._unasked = _Unasked()

    async def list(
        self, *, state: str | None = None, orchestration: str | None = None
    ) -> AsyncIterator[Workflow]:
        """Iterate over all that have not ended, and over ended ones if asked for.

        First those in memory, in order of arrival, then those that wait for a time
        or a signal, then the quarantined ones, likewise.  One that moves meanwhile is
        not missed; if it wakes behind our back, it may come twice.

        Args:
            state: Only those in this state.  An end, such as ``"done"``: those of
                the ended ones that are kept.
            orchestration: Only those of the orchestration with this id.
        """
        async for workflow in self._listing.all(state, orchestration):
            if state in (None, workflow.state) and orchestration in (
                None,
                workflow.orchestration_id,
            ):
                yield workflow

    async def get(self, workflow_id: str) -> Workflow:
        """Return one that has not ended, or that is kept.

        Raises:
            KeyError: There is none of this id, or it has ended and is not kept.
        """
        seq = seq_of(workflow_id)
        try:
            found = await self._registry.find(seq)
        except SnapshotError as exc:
            return self._inspector.damaged(seq, b"", exc)
        await trio.lowlevel.checkpoint()
        return self._inspector.show(found)

    async def wait(self, workflow_id: str) -> Workflow:
        """Return the workflow when its end is on disk, or its quarantine.

        Raises:
            KeyError: There is none of this id, or it had ended before and is not
                kept.
            NotRunningError: Gru has stopped before it ended.
            trio.BusyResourceError: A step waits for its own workflow.
        """
        seq = seq_of(workflow_id)
        if self._is_inside(workflow_id):
            raise trio.BusyResourceError(
                f"{workflow_id}: expected another workflow, found that it waits for"
                " itself; wait for it from outside"
            )
        ended = self._unasked.take(seq)
        if ended is not None:
            await trio.lowlevel.checkpoint()
            return self._inspector.closed(seq, ended)
        return await self._wait(seq)

    def _is_inside(self, workflow_id: str) -> bool:
        """Say whether a step of this workflow asks; another Gru has the same ids."""
        cell, inside = current_workflow.get(None), caller()
        if cell is None or cell.ended or cell.workflow.id != workflow_id:
            return False
        table = getattr(inside.life, "table", None) if inside is not None else None
        return any(mine is table for mine in self._tables.values())

    async def _wait(self, seq: int) -> Workflow:
        table = _ending_in(self._tables.values(), seq)
        if table is None:
            found = await self._registry.find(seq)
            if isinstance(found.body, QuarantineRecord | EndedRecord):
                return self._inspector.show(found)
            table = found.table or _ending_in(self._tables.values(), seq)
        if table is None:
            raise KeyError(f"w{seq}")
        ended = await _wait_end(table, seq)
        if ended is None:
            raise NotRunningError(
                f"w{seq}: expected that it ends, found that its Gru has stopped first;"
                f" it is saved, and goes on when {table.id} is started again"
            )
        self._unasked.take(seq)
        return self._inspector.closed(seq, ended)

    def remember(self, ids: tuple[str | None, ...]) -> None:
        """Keep the ends of these for one call of :meth:`wait`."""
        for workflow_id in ids:
            if workflow_id is not None:
                seq = seq_of(workflow_id)
                table = _ending_in(self._tables.values(), seq)
                if table is not None and seq in table.works:
                    keep = partial(self._unasked.keep, seq)
                    table.waiters.setdefault(seq, []).append(keep)

    async def signal(self, workflow_id: str, payload: object) -> None:
        """Send a signal to a workflow; return when it is on disk.

        It is kept until a ``Wait`` or a ``receive`` of the workflow takes it, or
        the workflow ends.

        Args:
            workflow_id: Of one that has not ended.
            payload: An instance of a class that the minion's code names in a
                ``Wait`` or ``receive``, or lists in its attribute ``signals``.

        Raises:
            KeyError: There is none of this id, or it has ended and is not kept.
            NotRunningError: It has ended and is kept, or its orchestration is not
                started in this process.
            SnapshotError: The payload cannot be stored.
            TypeError: The minion knows no such class of signals.

        Cancellation:
            The signal may have been sent.
        """
        await self._hand.signal(seq_of(workflow_id), payload)

    async def cancel(self, workflow_id: str) -> None:
        """End a workflow, whatever it does; return when that is on disk.

        Its step is cancelled; a step that ends in the same moment has ended, and if
        it was the last one, that end counts.  From a step of its own it asks only.
        One whose end is on its way, since somebody else has cancelled it, say, is
        waited for.

        Raises:
            KeyError: There is none of this id, or it has ended and is not kept, or
                it is quarantined.
            NotRunningError: It has ended and is kept; or Gru has stopped first.
        """
        seq = seq_of(workflow_id)
        table = await self._hand.cancel(seq)
        if table is None or self._is_inside(workflow_id):
            return
        if seq in table.works or seq in table.ending:
            if await _wait_end(table, seq) is None:
                raise NotRunningError(
                    f"{workflow_id}: expected that it ends, found that its Gru has"
                    " stopped first; it is saved, and goes on when it is started again"
                )
            self._unasked.take(seq)

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
        seq = seq_of(workflow_id)
        await self._hand.redrive(seq, step=step, context=context)
        # Its next end is another one.
        self._unasked.take(seq)

    async def discard(self, workflow_id: str) -> None:
        """End a quarantined workflow for good.

        Raises:
            KeyError: No workflow of this id is quarantined.
        """
        seq = seq_of(workflow_id)
        await self._hand.discard(seq)
        self._unasked.take(seq)


class _Unasked(msgspec.Struct, eq=False):
    """Ends of workflows that came through gru.emit and that nobody waited for yet.

    The caller of emit may be scheduled after a short workflow's end.
    """

    _ends: dict[int, Ended] = msgspec.field(default_factory=dict)

    def keep(self, seq: int, ended: Ended | None) -> None:
        """Keep an end; the oldest go."""
        if ended is None:
            return
        self._ends[seq] = ended
        while len(self._ends) > _MOST_UNASKED:
            del self._ends[next(iter(self._ends))]

    def take(self, seq: int) -> Ended | None:
        """Return an end, once."""
        return self._ends.pop(seq, None)


def _ending_in(tables: Iterable[WorkTable], seq: int) -> WorkTable | None:
    """Return where a workflow is in memory, or its end on the way to the disk."""
    for table in tables:
        if seq in table.works or seq in table.ending:
            return table
    return None


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
            if not waiters:
                table.waiters.pop(seq, None)
    return found[0]
