"""The queues of keys: who holds one, and who is next."""

from __future__ import annotations

from pathlib import Path
from typing import ClassVar

import attrs
import pytest
import trio
from hypothesis import given
from hypothesis import strategies as st
from trio.testing import MockClock, wait_all_tasks_blocked

from minions import (
    Backoff,
    Minion,
    Pipeline,
    Resource,
    Restart,
    Retry,
    minion_step,
    open_gru,
)
from minions.runtime.keys import KeyQueues
from minions.runtime.table import WorkTable
from minions.runtime.waker import _room
from minions.runtime.work import Bounds, Work, nothing
from minions.workflow.record import WorkflowRecord

RECORD = WorkflowRecord("o", "E", b"", "", b"", "", 0.0)
KEY = b"key"


class Counted(Work):
    """Counts how often it is looked at."""

    looks: ClassVar[int] = 0

    def __getattribute__(self, name: str) -> object:
        Counted.looks += 1
        return super().__getattribute__(name)


def test_leaving_a_queue_costs_the_same_however_long_it_is() -> None:
    keys, works = KeyQueues(), [Counted(seq, RECORD) for seq in range(500)]
    table = WorkTable("o", Bounds(max_in_flight=500), nothing, nothing, keys=keys)
    Counted.looks = 0

    for work in works:
        keys.hold(work, KEY)
    for work in works[250:]:  # redriven
        keys.release(work.seq, KEY)
    for work in reversed(works[250:]):
        keys.hold(work, KEY)
    for work in works[1:]:
        keys.release(work.seq, KEY)

    assert Counted.looks < 20 * len(works)
    table.works.update(enumerate(works))
    Counted.looks = 0
    assert _room(table) == 0
    assert Counted.looks == 0


@given(st.lists(st.tuples(st.booleans(), st.integers(0, 9)), max_size=60))
def test_the_next_of_a_queue_is_the_first_that_is_left(
    acts: list[tuple[bool, int]],
) -> None:
    keys, line = KeyQueues(), list[int]()
    for is_new, seq in acts:
        if is_new and seq not in line:
            assert keys.hold(Work(seq, RECORD, state="queued"), KEY) is (not line)
            line[1:] = sorted([*line[1:], seq]) if line else []
            line = line or [seq]
        elif not is_new:
            following = keys.release(seq, KEY)
            is_first, line = line[:1] == [seq], [n for n in line if n != seq]
            expected = line[0] if is_first and line else None
            assert (following.seq if following else None) == expected
        holder = keys.holder_of(KEY)
        assert (holder.seq if holder else None) == (line[0] if line else None)


@attrs.frozen
class Number:
    value: int


@attrs.define
class Memory:
    last: str = ""


class Source(Pipeline[Number]):
    pass


class Waits(Minion[Number, Memory]):
    ended: ClassVar[trio.Event]
    log: ClassVar[list[int]] = []

    def key(self, event: Number) -> str:
        return "one"

    @minion_step
    async def work(self) -> None:
        self.log.append(self.event.value)
        if not self.event.value:
            await self.ended.wait()


async def test_who_is_cancelled_in_the_queue_does_not_have_its_turn(
    autojump_clock: MockClock, folder: Path
) -> None:
    """Who holds the key ends with the same commit."""
    Waits.ended = trio.Event()
    Waits.log.clear()
    async with open_gru(folder) as gru:
        orchestration = await gru.start_minion(Waits, Source)
        ids = [(await gru.emit(Source, Number(value)))[0] for value in range(4)]
        await wait_all_tasks_blocked()

        async with trio.open_nursery() as nursery:
            Waits.ended.set()
            for workflow in filter(None, ids[1:3]):
                nursery.start_soon(gru.workflows.cancel, workflow)
        assert ids[3] is not None
        await gru.workflows.wait(ids[3])

        assert Waits.log == [0, 3]
        table = gru.workflows._tables[orchestration.id]
        assert table.counts == {"done": 2, "cancelled": 2}
        assert (table.queued, table.unfinished, table.ends.count) == (0, 0, 0)
        await gru.stop()


class Broker(Resource):
    restart = Restart(backoff=Backoff(base=1, cap=1))
    breaks: ClassVar[trio.Event]

    async def run(self) -> None:
        await self.breaks.wait()
        Broker.breaks = trio.Event()
        raise ConnectionError("lost")


class Mends(Minion[Number, Memory]):
    broker: Broker
    log: ClassVar[list[tuple[int, int]]] = []
    go: ClassVar[trio.Event]
    is_well: ClassVar[bool]

    def key(self, event: Number) -> str:
        return "one"

    @minion_step(retry=Retry(max_attempts=3, base=50, jitter="none", on=OSError))
    async def work(self) -> None:
        self.log.append((self.event.value, self.workflow.attempt))
        if not self.is_well:
            raise ValueError("not yet")
        if self.event.value == 2 and not self.go.is_set():
            await self.go.wait()
            raise OSError("lost")


@pytest.mark.parametrize("is_redriven", [False, True])
async def test_who_is_interrupted_before_its_first_commit_holds_no_key(
    autojump_clock: MockClock, folder: Path, *, is_redriven: bool
) -> None:
    """An older one that waits for its turn goes first; they never run side by side."""
    Broker.breaks, Mends.go = trio.Event(), trio.Event()
    Mends.is_well = False
    Mends.log.clear()
    async with open_gru(folder) as gru:
        await gru.start_minion(Mends, Source)
        (older,) = await gru.emit(Source, Number(1))
        await trio.sleep(1)
        Mends.is_well = not is_redriven
        (younger,) = await gru.emit(Source, Number(2))
        await trio.sleep(1)
        Mends.is_well = True
        assert older is not None
        assert younger is not None
        if is_redriven:
            await gru.workflows.redrive(younger)
            await trio.sleep(1)
        await gru.workflows.redrive(older)
        await trio.sleep(1)
        assert (await gru.workflows.get(older)).state == "queued"
        begun = [(1, 1), (2, 1)] + [(2, 1)] * is_redriven
        assert Mends.log == begun

        Mends.go.set()
        Broker.breaks.set()
        await gru.workflows.wait(younger)

        assert Mends.log[len(begun) :] == [(1, 1), (2, 1)]
        await gru.stop()
