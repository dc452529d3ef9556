"""What an end of the process without an order leaves, over both stores."""

from __future__ import annotations

import shutil
from pathlib import Path
from typing import Any

import attrs
import pytest
import trio
from trio.testing import MockClock, wait_all_tasks_blocked

from minions import GruOptions, Minion, Pipeline, minion_step, open_gru
from minions.runtime.gru import Gru
from minions.store.memory import MemoryStore


@attrs.frozen
class Number:
    value: int


@attrs.define
class Memory:
    notes: list[str] = attrs.field(factory=list)


class Source(Pipeline[Number]):
    pass


log: list[str] = []


@pytest.fixture(autouse=True)
def fresh_log() -> None:
    log.clear()


class Unclean(MemoryStore):
    """A copy of what another one holds, whose user has gone without a word."""

    def __init__(self, other: MemoryStore) -> None:
        super().__init__()
        for space, values in other._spaces.items():
            for key, value in values.values.items():
                self._spaces[space].apply(key, value)

    @property
    def unclean(self) -> bool:
        return True


class Deaths:
    """States one after the other, each what the one before had committed."""

    def __init__(self, folder: Path | None) -> None:
        self._folder = folder
        self._store = MemoryStore()
        self._count = 0

    @property
    def state(self) -> Any:
        if self._folder is None:
            return self._store
        return self._folder.with_name(f"state{self._count}")

    def die(self) -> None:
        if self._folder is None:
            self._store = Unclean(self._store)
            return
        before = self.state
        self._count += 1
        self.state.mkdir(mode=0o700)
        for name in ("data.mdb", "minions.json"):
            shutil.copyfile(before / name, self.state / name)


@pytest.fixture
def deaths(state: Path | None) -> Deaths:
    return Deaths(state)


async def emit(gru: Gru, value: int = 1) -> str:
    (workflow,) = await gru.emit(Source, Number(value))
    assert workflow is not None
    return workflow


async def until_it_dies(
    deaths: Deaths, minion: type, *values: int, options: GruOptions | None = None
) -> None:
    """Run until nothing moves, and end without an order."""
    with trio.CancelScope() as process:
        async with open_gru(deaths.state, options=options or GruOptions()) as gru:
            await gru.start_minion(minion, Source)
            for value in values:
                await emit(gru, value)
            await wait_all_tasks_blocked()
            deaths.die()
            process.cancel()
            await trio.lowlevel.checkpoint()


class Hangs(Minion[Number, Memory]):
    @minion_step
    async def work(self) -> None:
        await trio.sleep_forever()


async def test_who_runs_at_each_death_is_quarantined(
    autojump_clock: MockClock, deaths: Deaths
) -> None:
    """On disk as in memory: the store says that nobody has closed it."""
    options = GruOptions(max_crashes=2)
    await until_it_dies(deaths, Hangs, 1, options=options)
    for _ in range(2):
        await until_it_dies(deaths, Hangs, options=options)

    async with open_gru(deaths.state, options=options) as gru:
        found = [w async for w in gru.workflows.list()]

        assert [w.state for w in found] == ["quarantined"]
        assert found[0].reason.startswith("crashed: ")
        await gru.stop()


class HalfWay(Minion[Number, Memory]):
    def key(self, event: Number) -> int:
        return event.value // 10

    @minion_step
    async def first(self) -> None:
        log.append(f"first {self.event.value}")
        if log == ["first 11"]:
            raise ValueError("once")
        if log == ["first 11", "first 12"]:
            await trio.sleep_forever()

    @minion_step
    async def second(self) -> None:
        log.append(f"second {self.event.value}")
        if log.count("second 12") == 1:
            await trio.sleep_forever()


async def test_a_suspect_that_is_half_way_holds_its_key(
    autojump_clock: MockClock, deaths: Deaths
) -> None:
    """It goes on before an older one that a person has sent on again."""
    await until_it_dies(deaths, HalfWay, 11, 12)
    async with open_gru(deaths.state) as gru:
        await gru.start_minion(HalfWay, Source)
        await wait_all_tasks_blocked()
        assert log[2:] == ["first 12", "second 12"]
        await gru.stop()

    async with open_gru(deaths.state) as gru:
        await gru.workflows.redrive("w1")
        await gru.start_minion(HalfWay, Source)
        await wait_all_tasks_blocked()
        await gru.stop()

    assert log[4:] == ["second 12", "first 11", "second 11"]


class TakesTurns(Minion[Number, Memory]):
    @minion_step
    async def work(self) -> None:
        log.append(f"work {self.event.value}")
        if log[0] == "again" and self.event.value == 1:
            await trio.sleep(5)
        elif log[0] != "again" or self.event.value < 5:
            await trio.sleep_forever()


async def test_a_cancelled_suspect_keeps_nobody_waiting(
    autojump_clock: MockClock, deaths: Deaths
) -> None:
    """Four run at once; the turn of one that has gone is the next one's."""
    await until_it_dies(deaths, TakesTurns, 1, 2, 3, 4, 5, 6)
    log[:] = ["again"]
    async with open_gru(deaths.state) as gru:
        await gru.start_minion(TakesTurns, Source)
        await wait_all_tasks_blocked()
        assert sorted(log[1:]) == ["work 1", "work 2", "work 3", "work 4"]

        await gru.workflows.cancel("w5")
        await trio.sleep(6)

        assert log[5:] == ["work 6"]
        await gru.stop()


class RunsOnce(Minion[Number, Memory]):
    @minion_step
    async def work(self) -> None:
        log.append("begun")
        if len(log) <= 2:
            await trio.sleep_forever()


async def test_who_was_quarantined_at_the_open_is_redriven(
    autojump_clock: MockClock, deaths: Deaths
) -> None:
    """Before its minion is started: the line still holds its former self."""
    options = GruOptions(max_crashes=1)
    await until_it_dies(deaths, RunsOnce, 1, options=options)
    await until_it_dies(deaths, RunsOnce, options=options)
    async with open_gru(deaths.state, options=options) as gru:
        assert (await gru.workflows.get("w1")).state == "quarantined"

        await gru.workflows.redrive("w1")
        await gru.start_minion(RunsOnce, Source)
        await wait_all_tasks_blocked()

        assert [w async for w in gru.workflows.list()] == []
        assert len(log) == 3
        await gru.stop()
