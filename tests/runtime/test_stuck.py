"""What does not end: it stays, the rest stops, and the process ends if asked."""

from __future__ import annotations

import os
from collections.abc import Awaitable, Callable

import pytest
import trio
from trio.testing import MockClock

from minions import DependencyLost, Gru, GruOptions, Resource, open_gru

log: list[object] = []
free = trio.CancelScope()


@pytest.fixture(autouse=True)
def forget(monkeypatch: pytest.MonkeyPatch) -> None:
    global free  # noqa: PLW0603  # what is stuck is let go at the end
    log.clear()
    free = trio.CancelScope(shield=True)

    def leave(code: int) -> None:
        log.append(code)
        free.cancel()

    monkeypatch.setattr(os, "_exit", leave)


class Hangs(Resource):
    async def shutdown(self) -> None:
        with free:
            await trio.sleep_forever()


class Base(Resource):
    async def shutdown(self) -> None:
        await trio.sleep(9)
        log.append("base")


class Late(Resource):
    base: Base

    async def shutdown(self) -> None:
        await trio.sleep(9)
        log.append("late")


async def releases_late(gru: Gru) -> None:
    """What can end, ends later than the other is found to be stuck."""
    await gru.start(Hangs, Late)
    await gru.stop()
    assert log == ["late", "base", 70]


async def was_stuck_before(gru: Gru) -> None:
    await gru.start(Hangs)
    with trio.move_on_after(60):
        await gru.restart(Hangs)
    assert log == []
    await gru.stop()
    assert log == [70]


async def a_borrower_is_stuck(gru: Gru) -> None:
    async with trio.open_nursery() as nursery:

        async def borrow() -> None:
            with pytest.raises(DependencyLost):
                async with gru.borrow(Base):
                    with free:
                        await trio.sleep_forever()
                    await trio.lowlevel.checkpoint()

        nursery.start_soon(borrow)
        await trio.sleep(1)
        await gru.stop()
    assert log == [70, "base"]


@pytest.mark.parametrize("case", [releases_late, was_stuck_before, a_borrower_is_stuck])
async def test_the_process_ends_when_nothing_else_is_left(
    case: Callable[[Gru], Awaitable[None]], autojump_clock: MockClock
) -> None:
    async with open_gru(None, options=GruOptions(on_stuck="exit")) as gru:
        await case(gru)


async def test_a_cancelled_gru_ends_the_process_too(autojump_clock: MockClock) -> None:
    options = GruOptions(on_stuck="exit")
    with trio.move_on_after(1):
        async with open_gru(None, options=options) as gru:
            await gru.start(Hangs, Late)
            await trio.sleep_forever()

    assert log == ["late", "base", 70]


async def test_what_is_stuck_stays_and_the_rest_stops(
    autojump_clock: MockClock,
) -> None:
    async with open_gru(None) as gru:
        await gru.start(Hangs, Late)
        with trio.move_on_after(60):
            await gru.stop()
        states = {c.identity: c.state for c in gru.snapshot().components.values()}
        free.cancel()

    assert sorted(states.values()) == ["stopped", "stopped", "stuck"]
    assert log == ["late", "base"]
