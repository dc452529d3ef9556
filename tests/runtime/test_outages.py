"""Workflows while something that their minion needs is down, and afterwards."""

from __future__ import annotations

from functools import partial
from pathlib import Path
from typing import ClassVar

import attrs
import pytest
import trio
from trio.testing import MockClock, wait_all_tasks_blocked

from minions import (
    Backoff,
    ComponentBroken,
    GruOptions,
    Minion,
    Pipeline,
    Resource,
    Restart,
    Retry,
    minion_step,
    open_gru,
)

done: list[float] = []
broken: list[bool] = [False]
breaks: list[trio.Event] = []


@pytest.fixture(autouse=True)
def fresh() -> None:
    done.clear()
    broken[0] = False
    breaks[:] = [trio.Event()]


@attrs.frozen
class Number:
    value: int


@attrs.define
class Nothing:
    unused: int = 0


class Source(Pipeline[Number]):
    pass


class Broker(Resource):
    restart = Restart(max_restarts=1000, backoff=Backoff(base=10, factor=1, cap=10))

    async def startup(self) -> None:
        if broken[0]:
            raise ConnectionError("the broker is away")

    async def run(self) -> None:
        await breaks[0].wait()
        raise ConnectionError("lost")


class Trades(Minion[Number, Nothing]):
    broker: Broker
    max_backlog: ClassVar[int] = 100_000

    @minion_step(retry=Retry(max_attempts=2, base=5, jitter="none"))
    async def trade(self) -> None:
        done.append(trio.current_time())
        if self.event.value == -1:
            await trio.sleep(3600)
        if self.event.value == -2 and self.workflow.attempt == 1:
            raise ValueError("once")


async def test_what_is_parked_comes_back_at_a_rate(
    autojump_clock: MockClock, folder: Path
) -> None:
    options = GruOptions(resume_rate=100)
    async with open_gru(folder, options=options) as gru:
        orchestration = await gru.start_minion(Trades, Source)
        await gru.emit(Source, Number(-1))
        (retrying,) = await gru.emit(Source, Number(-2))
        await trio.sleep(1)
        broken[0] = True
        breaks[0].set()
        await trio.sleep(3)
        for number in range(500):
            await gru.emit(Source, Number(number))

        await trio.sleep(60)

        look = gru.snapshot().orchestrations[orchestration.id]
        assert (look.parked, look.ready, look.cold) == (501, 0, 1)
        parked = [w async for w in gru.workflows.list(state="parked")]
        assert len(parked) == 502  # with the one whose retry is due
        assert "waits for tests.runtime.test_outages:Broker" in parked[5].why
        assert retrying is not None
        assert (await gru.workflows.get(retrying)).attempt == 1

        done.clear()
        broken[0] = False
        breaks[0] = trio.Event()
        await trio.sleep(20)

        assert len(done) == 502

        # The interrupted one at once; the others about 100 in a second.
        assert done[1] - done[0] > 0
        assert 4 < done[-1] - done[0] < 6
        at_once = [at for at in done if at - done[0] < 1]
        assert 80 < len(at_once) < 120
        await gru.stop()


class Pays(Minion[Number, Nothing]):
    broker: Broker
    paid: ClassVar[list[int]] = []

    @minion_step
    async def pay(self) -> None:
        self.paid.append(self.event.value)


class PaysInOrder(Pays):
    def key(self, event: Number) -> int:
        return event.value % 10


@pytest.mark.parametrize("minion", [Pays, PaysInOrder])
async def test_nobody_waits_behind_who_comes_back_in_its_turn(
    autojump_clock: MockClock, minion: type[Pays]
) -> None:
    """But those of the same key do."""
    Pays.paid.clear()
    async with open_gru(None, options=GruOptions(resume_rate=0.01)) as gru:
        orchestration = await gru.start_minion(minion, Source)
        breaks[0].set()
        await trio.sleep(1)
        breaks[0] = trio.Event()
        parked = [10, 11, 20, 31, 12]
        for number in parked:
            await gru.emit(Source, Number(number))
        await gru.wait_up(minion)

        for number in (40, 50, 43):
            await gru.emit(Source, Number(number))
        await trio.sleep(1)

        if minion is Pays:
            assert Pays.paid == [40, 50, 43]
        else:
            assert Pays.paid == [43]
        Pays.paid.clear()
        result = await orchestration.stop(grace=1000)
        assert result is not None
        assert (result.saved, result.cut) == (0, 0)
        if minion is Pays:
            assert Pays.paid == parked
        else:
            assert Pays.paid == [10, 11, 20, 40, 50, 31, 12]
        await gru.stop()


async def test_a_drain_does_not_wait_for_who_was_cancelled_in_its_turn(
    autojump_clock: MockClock,
) -> None:
    async with open_gru(None, options=GruOptions(resume_rate=1)) as gru:
        orchestration = await gru.start_minion(Pays, Source)
        breaks[0].set()
        await trio.sleep(1)
        breaks[0] = trio.Event()
        (workflow,) = await gru.emit(Source, Number(1))
        assert workflow is not None
        await gru.wait_up(Pays)
        await wait_all_tasks_blocked()
        began = trio.current_time()

        async with trio.open_nursery() as nursery:
            nursery.start_soon(partial(orchestration.stop, grace=1000))
            await wait_all_tasks_blocked()
            await gru.workflows.cancel(workflow)

        assert trio.current_time() - began < 2
        await gru.stop()


async def test_after_a_short_outage_nothing_is_paced(
    autojump_clock: MockClock,
) -> None:
    async with open_gru(None, options=GruOptions(resume_rate=1)) as gru:
        await gru.start_minion(Trades, Source)
        await gru.restart(Broker)
        for number in range(100):
            await gru.emit(Source, Number(number))
        await wait_all_tasks_blocked()
        assert len(done) == 100
        await gru.stop()


class Fragile(Resource):
    restart = Restart(max_restarts=100, backoff=Backoff(base=0.1, cap=0.1))
    calls: ClassVar[list[int]] = []

    async def use(self, value: int) -> None:
        self.calls.append(value)
        if value == 13:
            raise ComponentBroken("13 breaks it")


class Uses(Minion[Number, Nothing]):
    fragile: Fragile

    @minion_step
    async def use(self) -> None:
        await self.fragile.use(self.event.value)


async def test_who_breaks_what_it_needs_each_time_is_quarantined(
    autojump_clock: MockClock,
) -> None:
    Fragile.calls.clear()
    async with open_gru(None, options=GruOptions(max_crashes=3)) as gru:
        await gru.start_minion(Uses, Source)
        (guilty,) = await gru.emit(Source, Number(13))
        assert guilty is not None
        ended = await gru.workflows.wait(guilty)
        (innocent,) = await gru.emit(Source, Number(1))
        assert innocent is not None
        assert (await gru.workflows.wait(innocent)).state == "done"

        assert ended.state == "quarantined"
        assert ended.reason.startswith("crashed: ")
        assert "13 breaks it" in (await gru.workflows.get(guilty)).traceback
        assert Fragile.calls == [13] * 4 + [1]
        await gru.stop()
