"""Where a pipeline's events are accepted: one intake per pipeline, owned by Gru.

An event is accepted for every subscription of its pipeline, whether the minion is
up or not: one record each, and the cursor, in one commit.  Calls are let in in
their order; a call that finds no room waits here, and so does the source.
"""

from __future__ import annotations

from collections import deque
from collections.abc import Callable, Sequence
from functools import partial
from typing import Any

import attrs
import msgspec
import outcome
import trio

from minions.errors import SnapshotError, StoreFullError
from minions.notices import EventsRejected, Notice
from minions.runtime.codecs import SourceCodecs
from minions.runtime.event_ids import EventIds, check_ids, pick_new, put_together
from minions.runtime.ledger import Ledger
from minions.runtime.table import WorkTable
from minions.runtime.work import Work
from minions.store.port import Keyspace, Write
from minions.workflow.record import WorkflowRecord, encode_record

__all__ = ["Call", "Intake"]

Ids = tuple[str | None, ...]


class Call(msgspec.Struct, eq=False):
    """One call of emit: what it hands over, and the task that waits for room."""

    events: Sequence[Any]
    data: Sequence[bytes]
    writes: list[Write]
    # What the cursor becomes, as it is stored.
    position: bytes | None = None
    task: trio.lowlevel.Task | None = None
    works: list[tuple[WorkTable, Work]] = msgspec.field(default_factory=list)
    ids: list[Ids] = msgspec.field(default_factory=list)
    # Count the subscriptions that let an event go, if the call comes true.
    rejections: list[Callable[[], None]] | None = None

    def accepted(self) -> None:
        """Hear that its writes are on disk."""
        for count in self.rejections or ():
            count()
        for table, work in self.works:
            table.accepted(work)

    def withdraw(self) -> None:
        """Give the places back: the write never happened."""
        for table, work in self.works:
            table.withdraw(work)


@attrs.define(eq=False)
class Intake:
    """Accepts the events of one pipeline."""

    pipeline: str
    ledger: Ledger
    notify: Callable[[Notice], None]
    # Known once an orchestration is started.
    codecs: SourceCodecs | None = None
    # None: the pipeline remembers no ids.
    event_ids: EventIds | None = None
    # The cursor that was last committed, as it is stored: the source may go on to
    # change the object, and its next life must not begin at what is not committed.
    position: bytes | None = None
    # In the order of subscription.
    tables: list[WorkTable] = attrs.field(factory=list)
    # Calls that wait for room, in their order.
    queue: deque[Call] = attrs.field(factory=deque)
    # Whether gru.starting() holds the source.
    held: bool = False
    # Whether an orchestration has let it begin.
    released: bool = False
    exhausted: bool = False
    _moved: trio.Event = attrs.field(factory=trio.Event, init=False)
    _cursor_busy: bool = attrs.field(default=False, init=False)

    # Room.

    def has_room(self) -> bool:
        """Say whether the source may go on: somebody hears it, and all have room."""
        return bool(self.tables) and not self.queue and self._fits(1)

    def _fits(self, count: int) -> bool:
        for table in self.tables:
            if table.bounds.overflow != "reject" and not table.has_room(count):
                return False
        return True

    def waits_for(self) -> list[str]:
        """Name the subscriptions for whose room the source waits."""
        return [
            t.id
            for t in self.tables
            if t.bounds.overflow == "wait" and not t.has_room(1)
        ]

    def moved(self) -> None:
        """Hear that there may be room, or that a hold has ended."""
        while self.queue and self._fits(len(self.queue[0].events)):
            call = self.queue.popleft()
            self.reserve(call)
            assert call.task is not None
            trio.lowlevel.reschedule(call.task)
        self._moved.set()

    def exhaust(self) -> None:
        """Hear that the source has ended: no event comes any more."""
        self.exhausted = True
        for table in self.tables:
            table.is_exhausted = True

    def refuse_waiting(self) -> None:
        """Answer the calls that wait for room: nothing will make any."""
        closed = f"{self.pipeline}: it stops, and this event was not accepted"
        while self.queue:
            task = self.queue.popleft().task
            assert task is not None
            error = outcome.Error(trio.ClosedResourceError(closed))
            trio.lowlevel.reschedule(task, error)

    async def wait_room(self) -> None:
        """Wait for room, now that there is none."""
        await self._wait_moved()
        while not self.has_room():
            await self._wait_moved()

    async def wait_begin(self) -> None:
        """Wait until the source may begin."""
        while self.held or not self.released:
            await self._wait_moved()

    async def _wait_moved(self) -> None:
        if self._moved.is_set():
            self._moved = trio.Event()
        await self._moved.wait()

    # Accepting.

    def accept_nowait(self, event: Any) -> None:
        """Accept what ``produce_event`` has returned, above a bound if need be.

        Raises:
            TypeError: It is of another class.
            SnapshotError: It cannot be stored.
        """
        call = self._call([event], None)
        self.reserve(call)
        try:
            self.ledger.store.write_nowait(call.writes, call.accepted)
        except BaseException as exc:
            _undo(self, call, exc)
            raise

    @trio.lowlevel.enable_ki_protection
    async def emit(
        self,
        events: Sequence[Any],
        cursor: Any = None,
        event_ids: Sequence[str | None] = (),
    ) -> tuple[Ids, ...]:
        """Accept all events in one commit, or none; return when it is done.

        One whose id is known starts nothing, and gets what the first one got.
        """
        if cursor is not None and self._cursor_busy:
            raise trio.BusyResourceError(
                f"{self.pipeline}: expected one emit with a cursor at a time, found a"
                " second one; await the first, since positions have an order"
            )
        call = self._call(events, cursor)
        _check_size(self.tables, len(events))
        if event_ids:
            check_ids(self.pipeline, event_ids, len(events))
        self._cursor_busy = self._cursor_busy or cursor is not None
        try:
            if self.event_ids is None or not any(event_ids):
                return await self._accept(call)
            async with self.event_ids.claim(event_ids) as known:
                new = pick_new(event_ids, known)
                call.events = [call.events[index] for index in new]
                call.data = [call.data[index] for index in new]
                mine = await self._accept(call, [event_ids[index] for index in new])
                return put_together(event_ids, known, dict(zip(new, mine, strict=True)))
        finally:
            if cursor is not None:
                self._cursor_busy = False

    async def _accept(
        self, call: Call, ids: Sequence[str | None] = ()
    ) -> tuple[Ids, ...]:
        """Accept a call whose events are all new, or that has none left."""
        if call.events:  # what is known needs no room
            await self._enter(call)
        if any(ids) and self.event_ids is not None:
            new = zip(ids, call.ids, strict=True)
            call.writes += self.event_ids.writes({i: w for i, w in new if i})
        try:
            await self.ledger.store.write(call.writes)
        except BaseException as exc:
            _undo(self, call, exc)
            raise
        if call.position is not None:
            self.position = call.position
        call.accepted()
        return tuple(call.ids)

    async def _enter(self, call: Call) -> None:
        """Reserve the places, or wait in line for them."""
        if not self.queue and self._fits(len(call.events)):
            self.reserve(call)
            return
        call.task = trio.lowlevel.current_task()
        self.queue.append(call)

        def abort(_: object) -> trio.lowlevel.Abort:
            self.queue.remove(call)
            return trio.lowlevel.Abort.SUCCEEDED

        try:
            await trio.lowlevel.wait_task_rescheduled(abort)
        except BaseException:
            self.moved()  # who is behind may fit
            raise

    def _call(self, events: Sequence[Any], cursor: Any) -> Call:
        """Find all that is wrong before anything is reserved."""
        codecs = self.codecs
        assert codecs is not None
        if cursor is None:
            return Call(events, codecs.encode(events), [])
        write = codecs.cursor_write(cursor)
        return Call(events, codecs.encode(events), [write], write[2])

    def reserve(self, call: Call, *, above: bool = False) -> None:
        """Take places for the events of a call, above the bounds or not."""
        assert self.codecs is not None
        now, event_type = self.ledger.now(), self.codecs.event.type_name
        for event, data in zip(call.events, call.data, strict=True):
            ids: list[str | None] = []
            for table in self.tables:
                rejects = table.bounds.overflow == "reject" and not above
                if rejects and not table.has_room(1):
                    if call.rejections is None:
                        call.rejections = []
                    call.rejections.append(partial(_rejected, table, self.notify))
                    ids.append(None)
                    continue
                seq = self.ledger.numbers.take()
                record = WorkflowRecord(table.id, event_type, data, "", b"", "", now)
                work = Work(seq, record, event)
                key, value = encode_record(seq, record)
                call.writes.append((Keyspace.RECORD, key, value))
                table.reserve(work)
                call.works.append((table, work))
                ids.append(work.id)
            call.ids.append(tuple(ids))


def _undo(intake: Intake, call: Call, exc: BaseException) -> None:
    """Give the places back: the write never happened."""
    call.withdraw()
    if intake.event_ids is not None:
        intake.event_ids.undo()
    if isinstance(exc, SnapshotError):
        raise SnapshotError(f"{intake.pipeline}: {exc}") from exc


def _rejected(table: WorkTable, notify: Callable[[Notice], None]) -> None:
    """Count an event that had no room."""
    table.rejected += 1
    notify(EventsRejected(orchestration=table.id, count=1, total=table.rejected))


def _check_size(tables: Sequence[WorkTable], count: int) -> None:
    """Refuse what would never fit.

    Raises:
        StoreFullError: More than ``max_unfinished`` at once.
    """
    for table in tables:
        limit = table.bounds.max_unfinished
        if count > limit and table.bounds.overflow == "wait":
            raise StoreFullError(
                f"{table.id}: expected at most max_unfinished = {limit} events at"
                f" once, found {count}; emit fewer at a time"
            )
