"""Cold workflows find room: full tables, keys, and claims."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from pathlib import Path
from typing import ClassVar

import attrs
import pytest
import trio
from trio.testing import MockClock, wait_all_tasks_blocked

from minions import After, Minion, Pipeline, minion_step, open_gru
from minions.store import Keyspace, MemoryStore, open_lmdb_store
from minions.store.port import Write


@attrs.frozen
class Number:
    value: int


@attrs.define
class Memory:
    last: str = ""


class Source(Pipeline[Number]):
    pass


log: list[str] = []


@pytest.fixture(autouse=True)
def forget() -> None:
    log.clear()


async def wait_log(count: int) -> None:
    while len(log) < count:  # noqa: ASYNC110  # time is virtual
        await trio.sleep(10)


class Sleeps(Minion[Number, Memory]):
    max_in_flight: ClassVar[int] = 2

    @minion_step
    async def first(self) -> After:
        return After(100)

    @minion_step
    async def second(self) -> After:
        return After(1000)

    @minion_step
    async def third(self) -> None:
        log.append(f"{self.event.value}")


class Keyed(Sleeps):
    def key(self, event: Number) -> str:
        return "one"


async def test_those_without_room_wake_when_others_sleep_again(
    autojump_clock: MockClock,
) -> None:
    """Nobody ends, and nothing is due before all others."""
    async with open_gru(None) as gru:
        await gru.start_minion(Sleeps, Source)
        for value in range(7):
            await gru.emit(Source, Number(value))

        with trio.fail_after(2000):
            await wait_log(7)

        await gru.stop()


async def test_who_queues_behind_a_key_takes_no_room_from_its_holder(
    autojump_clock: MockClock,
) -> None:
    async with open_gru(None) as gru:
        await gru.start_minion(Keyed, Source)
        with trio.fail_after(10_000):
            for value in range(5):
                await gru.emit(Source, Number(value))
            await wait_log(5)

        assert log == ["0", "1", "2", "3", "4"]
        await gru.stop()


class Busy(Minion[Number, Memory]):
    max_in_flight: ClassVar[int] = 1

    @minion_step
    async def first(self) -> After | None:
        if self.event.value:
            await trio.sleep(50)
            log.append(f"busy {self.event.value}")
            return None
        return After(10)

    @minion_step
    async def second(self) -> None:
        if not self.event.value:
            log.append("woken")


async def test_who_is_due_comes_before_new_events(autojump_clock: MockClock) -> None:
    """Also if it became due while there was no room at all."""
    async with open_gru(None) as gru:
        await gru.start_minion(Busy, Source)
        with trio.fail_after(1000):
            for value in range(3):
                await gru.emit(Source, Number(value))
            await wait_log(3)

        assert log == ["busy 1", "woken", "busy 2"]
        await gru.stop()


async def test_a_timer_is_not_lost_to_a_claim(autojump_clock: MockClock) -> None:
    """Whoever posts a signal to it has a claim on it meanwhile."""
    async with open_gru(None) as gru:
        started = await gru.start_minion(Sleeps, Source)
        (workflow,) = await gru.emit(Source, Number(1))
        await wait_all_tasks_blocked()
        cold = gru.workflows._tables[started.id].cold

        async with cold.claim(int(str(workflow)[1:])):
            await trio.sleep(200)
        await trio.sleep(1)

        assert (await gru.workflows.get(str(workflow))).step == "third"
        await gru.stop()


class Mixed(Minion[Number, Memory]):
    """Even ones sleep at first and run then, odd ones the other way round."""

    @minion_step
    async def first(self) -> After | None:
        if not self.event.value % 2:
            return After(100)
        await trio.sleep(150)
        return After(100)

    @minion_step
    async def second(self) -> None:
        await trio.sleep(1000)


async def test_a_list_shows_each_once_however_they_move(
    autojump_clock: MockClock,
) -> None:
    async with open_gru(None) as gru:
        await gru.start_minion(Mixed, Source)
        for value in range(4):
            await gru.emit(Source, Number(value))
        await wait_all_tasks_blocked()

        found = []
        async for workflow in gru.workflows.list():
            found.append(workflow.event.value)
            if len(found) == 1:
                await trio.sleep(160)

        assert sorted(found) == [0, 1, 2, 3]
        gru.cut_over()
        await gru.stop()


class HeldStore(MemoryStore):
    """Commits nothing while held; the writes wait in order."""

    def __init__(self) -> None:
        super().__init__()
        self.held = False
        self._kept: list[tuple[Sequence[Write], Callable[[], None] | None]] = []

    def write_nowait(
        self, writes: Sequence[Write], done: Callable[[], None] | None = None
    ) -> None:
        if self.held:
            self._kept.append((writes, done))
        else:
            super().write_nowait(writes, done)

    async def write(self, writes: Sequence[Write]) -> None:
        saved = trio.Event()
        self.write_nowait(writes, saved.set)
        await saved.wait()

    async def barrier(self) -> None:
        await self.write(())

    def let_go(self) -> None:
        self.held = False
        kept, self._kept = self._kept, []
        for writes, done in kept:
            self.write_nowait(writes, done)


class Once(Minion[Number, Memory]):
    @minion_step
    async def first(self) -> After:
        return After(100)

    @minion_step
    async def second(self) -> None:
        log.append(f"{self.event.value}")


async def test_who_is_awake_is_not_woken_again_before_the_disk_knows(
    autojump_clock: MockClock,
) -> None:
    store = HeldStore()
    async with open_gru(store) as gru:
        started = await gru.start_minion(Once, Source)
        await gru.emit(Source, Number(1))
        await trio.sleep(5)
        await gru.emit(Source, Number(2))
        await trio.sleep(90)

        store.held = True
        await trio.sleep(15)  # both times have come
        store.let_go()
        await trio.sleep(15)

        assert sorted(log) == ["1", "2"]
        assert gru.workflows._tables[started.id].unfinished == 0
        await gru.stop()


class Alone(Once):
    max_in_flight: ClassVar[int] = 1

    def key(self, event: Number) -> str:
        return "one"


async def test_the_holder_wakes_when_another_comes_to_queue(
    autojump_clock: MockClock,
) -> None:
    """Its time came while the other one, on its way to the disk, filled the room."""
    store = HeldStore()
    async with open_gru(store) as gru, trio.open_nursery() as nursery:
        await gru.start_minion(Alone, Source)
        await gru.emit(Source, Number(1))
        await trio.sleep(95)

        store.held = True
        nursery.start_soon(gru.emit, Source, Number(2))
        await trio.sleep(15)
        store.let_go()
        with trio.fail_after(1000):
            await wait_log(2)

        assert log == ["1", "2"]
        await gru.stop()


async def test_a_damaged_one_leaves_no_time_behind(
    autojump_clock: MockClock, folder: Path
) -> None:
    """It would be counted as unfinished for ever."""
    async with open_gru(folder) as gru:
        await gru.start_minion(Once, Source)
        await gru.emit(Source, Number(1))
        await wait_all_tasks_blocked()
        await gru.stop()
    async with open_lmdb_store(folder) as store:
        ((key, value),) = await store.page(Keyspace.COLD)
        await store.write([(Keyspace.COLD, key, value[:-1] + b"?")])

    async with open_gru(folder) as gru:
        await gru.start_minion(Once, Source)
        await trio.sleep(200)
        (found,) = [flow async for flow in gru.workflows.list()]
        assert found.reason.startswith("corrupt")
        await gru.stop()

    async with open_lmdb_store(folder) as store:
        assert await store.page(Keyspace.TIMER) == []
