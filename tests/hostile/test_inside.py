"""Hooks, steps and sources that command the Gru they run in."""

from __future__ import annotations

import contextlib
from collections.abc import Awaitable, Callable
from typing import Any, ClassVar

import attrs
import pytest
import trio
from trio.testing import MockClock

from minions import (
    Backoff,
    Gru,
    GruOptions,
    Minion,
    MinionsError,
    Pipeline,
    Resource,
    Restart,
    component_id,
    minion_step,
    open_gru,
)
from minions.notices import (
    ComponentCrashed,
    ComponentDraining,
    ComponentStarting,
    ComponentStuck,
    Notice,
    ShutdownFailed,
    WorkflowQuarantined,
)
from minions.testing.leftovers import Leftovers

OPTIONS = GruOptions(grace=1, start_timeout=2, settle=0.01)
AT_ONCE = Restart(backoff=Backoff(base=0, cap=0))


@attrs.frozen
class Number:
    value: int


@attrs.define
class Nothing:
    pass


class Inside:
    """What commands, where, and the first time only."""

    gru: ClassVar[Gru]
    orchestration: ClassVar[Any]
    where: ClassVar[str]
    call: ClassVar[Callable[[], Awaitable[object]]]
    ended: ClassVar[list[str]]
    began: ClassVar[trio.Event]
    ready: ClassVar[trio.Event]
    took: ClassVar[float]

    async def look(self, where: str) -> None:
        if where != self.where:
            return
        Inside.where = ""
        await self.ready.wait()
        self.began.set()
        began = trio.current_time()
        try:
            await type(self).call()
        except (MinionsError, trio.BusyResourceError) as exc:
            self.ended.append(type(exc).__name__)
        else:
            self.ended.append("returned")
        finally:
            Inside.took = trio.current_time() - began


class Commander(Inside, Resource):
    restart = AT_ONCE

    async def startup(self) -> None:
        self.nursery.start_soon(self.look, "nursery")
        await self.look("startup")

    async def run(self) -> None:
        await self.look("run")
        await trio.sleep_forever()

    async def shutdown(self) -> None:
        await self.look("shutdown")


@component_id("inside-source")
class Source(Inside, Pipeline[Number]):
    count: ClassVar[int] = 0

    async def produce_event(self) -> Number:
        await self.look("produce")
        await trio.sleep(0.1)
        Source.count += 1
        if self.count > 3:
            await trio.sleep_forever()
        return Number(self.count)


@component_id("inside-soldier")
class Soldier(Inside, Minion[Number, Nothing]):
    commander: Commander

    @minion_step
    async def obey(self) -> None:
        if self.event.value == 1:
            await self.look("step")

    @minion_step
    async def report(self) -> None: ...


@component_id("inside-recruit")
class Recruit(Minion[Number, Nothing]):
    """May be started by others."""

    @minion_step
    async def report(self) -> None: ...


@component_id("inside-outside")
class Outside(Pipeline[Number]):
    pass


class Bystander(Resource):
    pass


class Quartermaster(Resource):
    """Needs who may start it."""

    commander: Commander


async def stop() -> None:
    await Inside.gru.stop()


async def cut_over() -> None:
    Inside.gru.cut_over()
    await trio.sleep(0.01)


async def restart_the_commander() -> None:
    await Inside.gru.restart(Commander)


async def restart_the_source() -> None:
    await Inside.gru.restart(Source)


async def restart_the_minion() -> None:
    await Inside.gru.restart(Soldier)


async def stop_the_orchestration() -> None:
    await Inside.orchestration.stop()


async def cut_the_orchestration() -> None:
    await Inside.orchestration.stop("cutover")


async def wait_for_the_orchestration() -> None:
    with trio.move_on_after(0.5):
        await Inside.orchestration.wait()


async def start_a_minion() -> None:
    await Inside.gru.start_minion(Recruit, Outside)


async def start_one_that_needs_it() -> None:
    await Inside.gru.start(Quartermaster)


async def borrow_the_commander() -> None:
    with trio.move_on_after(0.5):
        async with Inside.gru.borrow(Commander):
            await trio.sleep(0.1)


async def wait_for_the_commander() -> None:
    with trio.move_on_after(0.5):
        await Inside.gru.wait_up(Commander)


CALLS = [
    stop,
    cut_over,
    restart_the_commander,
    restart_the_source,
    restart_the_minion,
    stop_the_orchestration,
    cut_the_orchestration,
    wait_for_the_orchestration,
    start_a_minion,
    start_one_that_needs_it,
    borrow_the_commander,
    wait_for_the_commander,
]
PLACES = ["startup", "run", "nursery", "shutdown", "step", "produce"]


async def never_too_long() -> None:
    await trio.sleep(200)
    raise AssertionError("the block does not end")  # ends the whole run


@pytest.mark.parametrize("call", CALLS, ids=lambda call: call.__name__)
@pytest.mark.parametrize("where", PLACES)
def test_all_may_be_commanded_from_inside(
    where: str, call: Callable[[], Awaitable[object]]
) -> None:
    """Nothing waits for its own caller, and nobody else is disturbed."""
    notices: list[Notice] = []
    Inside.where, Inside.call, Inside.ended = where, staticmethod(call), []
    Source.count = 0

    async def main() -> None:
        Inside.began, Inside.ready = trio.Event(), trio.Event()
        guard = trio.lowlevel.spawn_system_task(never_too_long)
        before = Leftovers()
        async with open_gru(None, options=OPTIONS) as gru:
            Inside.gru = gru
            gru._bus.listeners.append(notices.append)
            await gru.start(Bystander)
            async with trio.open_nursery() as nursery:

                async def start() -> None:
                    try:
                        await gru.start(Commander)
                        Inside.orchestration = await gru.start_minion(Soldier, Source)
                    except MinionsError as exc:
                        Inside.ended.append(f"start: {type(exc).__name__}")

                if where != "startup":
                    await start()
                else:
                    Inside.orchestration = await gru.start_minion(Recruit, Source)
                    nursery.start_soon(start)
                Inside.ready.set()
                if where == "shutdown":
                    with contextlib.suppress(MinionsError):
                        await gru.restart(Commander)
                with trio.move_on_after(10):
                    await Inside.began.wait()
                await trio.sleep(5)
            disturbed = [
                n.component
                for n in notices
                if isinstance(n, ComponentDraining) and "Bystander" in n.component
            ]
            assert call in (stop, cut_over) or not disturbed
            await gru.stop()
        before.check()
        del guard

    trio.run(main, clock=MockClock(autojump_threshold=0))

    assert Inside.began.is_set()
    assert Inside.took < 0.6, "it waited for its caller"
    bad = ComponentCrashed | ComponentStuck | ShutdownFailed | WorkflowQuarantined
    assert [n for n in notices if isinstance(n, bad)] == []
    counts = [
        n.epoch
        for n in notices
        if isinstance(n, ComponentStarting) and "Bystander" in n.component
    ]
    assert counts == [1]


async def test_a_borrower_may_stop_all(autojump_clock: MockClock) -> None:
    """Its own lease does not hold the stop up."""
    Inside.where = ""
    async with open_gru(None, options=OPTIONS) as gru:
        async with gru.borrow(Commander):
            await gru.stop()
        await gru.stop()
