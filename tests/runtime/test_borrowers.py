"""Code of the user's own that borrows a resource, and the stop of everything."""

from __future__ import annotations

import pytest
import trio
from trio.testing import MockClock

from minions import DependencyLost, Resource, Restart, open_gru
from minions.runtime.opening import open_grus

log: list[str] = []


@pytest.fixture(autouse=True)
def forget() -> None:
    log.clear()


class Oracle(Resource):
    restart = Restart(type="temporary")

    async def shutdown(self) -> None:
        await trio.sleep(1)
        log.append("oracle down")


class Base(Resource):
    async def shutdown(self) -> None:
        log.append("base down")


class Breaking(Oracle):
    async def run(self) -> None:
        await trio.sleep(1)
        raise ValueError("broken")


async def test_the_block_of_who_stops_all_ends_in_order(
    autojump_clock: MockClock,
) -> None:
    async with open_gru(None) as gru:
        async with gru.borrow(Oracle):
            await gru.stop()
            log.append("not reached: the lease must go first")
        log.append("behind the block")
    log.append("behind Gru")

    assert log == ["oracle down", "behind the block", "behind Gru"]


async def test_blocks_within_blocks_end_in_order(autojump_clock: MockClock) -> None:
    async with open_gru(None) as gru:
        async with gru.borrow(Base), gru.borrow(Oracle), gru.borrow(Base):
            await gru.stop()
        log.append("behind the blocks")

    assert sorted(log[:2]) == ["base down", "oracle down"]
    assert log[2:] == ["behind the blocks"]


async def test_a_task_in_the_block_may_ask(autojump_clock: MockClock) -> None:
    async with open_gru(None) as gru:
        async with gru.borrow(Oracle), trio.open_nursery() as nursery:
            nursery.start_soon(gru.stop)
            await trio.sleep_forever()
        log.append("behind the block")

    assert log == ["oracle down", "behind the block"]


async def test_the_block_of_another_is_told(autojump_clock: MockClock) -> None:
    async def borrow() -> None:
        with pytest.raises(DependencyLost, match="was stopped"):
            async with gru.borrow(Oracle):
                await trio.sleep_forever()
        log.append("told")

    async with open_gru(None) as gru, trio.open_nursery() as nursery:
        nursery.start_soon(borrow)
        await trio.sleep(1)

        await gru.stop()

    assert log == ["told", "oracle down"]


async def test_a_stop_of_another_gru_is_no_stop_of_this_one(
    autojump_clock: MockClock,
) -> None:
    async def stop_later() -> None:
        await trio.sleep(5)
        await gru.stop()

    async with open_gru(None) as gru, trio.open_nursery() as nursery:
        nursery.start_soon(stop_later)
        with pytest.raises(DependencyLost, match="was stopped"):
            async with gru.borrow(Base):
                async with open_gru(None) as other, other.borrow(Oracle):
                    await other.stop()
                log.append("the other has stopped")
                await trio.sleep_forever()

    assert log == ["oracle down", "the other has stopped", "base down"]


async def test_a_block_lost_to_a_crash_is_told_though_a_stop_was_asked(
    autojump_clock: MockClock,
) -> None:
    async with open_gru(None) as gru:
        with pytest.raises(DependencyLost, match="crashed"):
            async with gru.borrow(Breaking):
                with trio.CancelScope(shield=True), trio.move_on_after(2):
                    await trio.sleep(1.5)
                gru.ask_stop()
                await trio.sleep_forever()


async def test_a_body_that_borrows_is_left_by_a_stop_from_outside(
    autojump_clock: MockClock,
) -> None:
    """As an OS signal asks for it; code outside of the body is told."""
    lost = trio.Event()

    async def borrow() -> None:
        with pytest.raises(DependencyLost, match="was stopped"):
            async with gru.borrow(Oracle):
                await trio.sleep_forever()
        log.append("told")
        lost.set()

    async with trio.open_nursery() as nursery:
        async with open_gru(None) as gru:
            nursery.start_soon(borrow)
            async with gru.borrow(Base):
                await trio.sleep(1)
                opened = open_grus[gru]
                opened.token.run_sync_soon(opened.leave)
                await trio.sleep_forever()
            log.append("not reached: the body is left")
        log.append("behind Gru")
        await lost.wait()

    assert log[:2] == ["base down", "oracle down"]
    assert sorted(log[2:]) == ["behind Gru", "told"]
