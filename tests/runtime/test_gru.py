"""Gru at bad moments: while it stops, after its end, from two places at once."""

from __future__ import annotations

import attrs
import pytest
import trio
from trio.testing import MockClock

from minions import (
    Minion,
    NotRunningError,
    Pipeline,
    Resource,
    minion_step,
    open_gru,
)

log: list[object] = []


@pytest.fixture(autouse=True)
def forget() -> None:
    log.clear()


@attrs.frozen
class Number:
    value: int


@attrs.define
class Nothing:
    done: int = 0


class Outside(Pipeline[Number]):
    pass


class Slow(Minion[Number, Nothing]):
    @minion_step
    async def work(self) -> None:
        await trio.sleep(6)


class LeavesSlowly(Resource):
    async def startup(self) -> None:
        log.append("up")

    async def shutdown(self) -> None:
        await trio.sleep(3)
        log.append("down")


async def test_nothing_restarts_on_a_gru_that_stops(autojump_clock: MockClock) -> None:
    """A restart would bring up what the stop has just ended, and wait for ever."""
    async with open_gru(None) as gru, trio.open_nursery() as nursery:
        await gru.start(LeavesSlowly)
        nursery.start_soon(gru.stop)
        await trio.sleep(1)

        with pytest.raises(NotRunningError):
            await gru.restart(LeavesSlowly)

    with pytest.raises(NotRunningError):
        await gru.restart(LeavesSlowly)
    assert log == ["up", "down"]


class Ticks(Pipeline[Number]):
    async def produce_event(self) -> Number:
        log.append("produced")
        await trio.sleep(1)
        return Number(1)


class StartsSlowly(Minion[Number, Nothing]):
    async def startup(self) -> None:
        await trio.sleep(2)

    @minion_step
    async def work(self) -> None:
        log.append("worked")


async def test_a_stop_gives_up_what_is_starting(autojump_clock: MockClock) -> None:
    """No source begins behind a stop, however long that drains others."""
    async with open_gru(None) as gru, trio.open_nursery() as nursery:
        await gru.start_minion(Slow, Outside)
        await gru.emit(Outside, Number(1))
        nursery.start_soon(gru.stop)

        with pytest.raises(NotRunningError):
            await gru.start_minion(StartsSlowly, Ticks)

        assert trio.current_time() < 1
    assert log == []
