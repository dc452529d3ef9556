"""Waits of a component for others, from its hooks and from its tasks."""

from __future__ import annotations

from collections.abc import Awaitable, Callable
from typing import ClassVar, Self

import attrs
import pytest
import trio
from trio.testing import MockClock

from minions import Gru, Minion, Pipeline, Resource, StartError, minion_step, open_gru

Ask = Callable[[Gru], Awaitable[object]]


@attrs.frozen
class Number:
    value: int


@attrs.define
class Nothing:
    done: int = 0


class Outside(Pipeline[Number]):
    pass


class Asking(Resource):
    """Asks something in one of its hooks."""

    gru: ClassVar[Gru]
    where: ClassVar[str] = ""
    ask: ClassVar[Ask]
    answers: ClassVar[list[object]] = []

    async def _ask(self, where: str) -> None:
        if where == self.where:
            try:
                self.answers.append(await type(self).ask(self.gru))
            except trio.BusyResourceError as exc:
                self.answers.append(str(exc))
                raise

    async def startup(self) -> None:
        self.nursery.start_soon(self._ask, "background")
        await self._ask("startup")

    async def run(self) -> None:
        await self._ask("run")
        await trio.sleep_forever()

    async def shutdown(self) -> None:
        await self._ask("shutdown")


class Between(Resource):
    asking: Asking


class Last(Resource):
    between: Between


class Other(Resource):
    pass


class Worker(Minion[Number, Nothing]):
    between: Between

    @minion_step
    async def work(self) -> None:
        pass


async def borrow(gru: Gru) -> None:
    async with gru.borrow(Last):
        pass


ASKS: dict[str, Ask] = {
    "wait_up": lambda gru: gru.wait_up(Last),
    "start": lambda gru: gru.start(Last),
    "start_minion": lambda gru: gru.start_minion(Worker, Outside),
    "borrow": borrow,
}


@pytest.fixture(autouse=True)
def forget() -> None:
    Asking.answers = []
    Asking.where = ""


@pytest.mark.parametrize("ask", ASKS)
async def test_a_startup_that_waits_for_its_dependents_fails_at_once(
    autojump_clock: MockClock, ask: str
) -> None:
    Asking.where, Asking.ask = "startup", staticmethod(ASKS[ask])
    async with open_gru(None) as gru:
        Asking.gru = gru

        with pytest.raises(StartError, match="found a wait for"):
            await gru.start(Last)

        assert trio.current_time() < 1
        assert len(Asking.answers) == 1


async def test_a_shutdown_that_waits_for_its_dependents_fails_at_once(
    autojump_clock: MockClock,
) -> None:
    Asking.where, Asking.ask = "shutdown", staticmethod(ASKS["wait_up"])
    async with open_gru(None) as gru:
        Asking.gru = gru
        await gru.start(Last)
        began = trio.current_time()

        await gru.restart(Asking)
        await gru.wait_up(Last)

        assert trio.current_time() - began < 1
        (said,) = Asking.answers
        assert ":Asking#1: expected startup and shutdown" in str(said)
        assert ":Last, which needs it; wait in run()" in str(said)
        Asking.where = ""
        await gru.stop()


@pytest.mark.parametrize("where", ["run", "background"])
async def test_run_and_tasks_may_wait_for_dependents(
    autojump_clock: MockClock, where: str
) -> None:
    Asking.where, Asking.ask = where, staticmethod(ASKS["wait_up"])
    async with open_gru(None) as gru:
        Asking.gru = gru
        await gru.start(Last)
        await trio.sleep(1)

        assert Asking.answers == [None]
        await gru.stop()


async def test_a_startup_may_wait_for_what_does_not_need_it(
    autojump_clock: MockClock,
) -> None:
    Asking.where, Asking.ask = "startup", lambda gru: gru.wait_up(Other)
    async with open_gru(None) as gru:
        Asking.gru = gru
        await gru.start(Other, Last)

        assert Asking.answers == [None]
        await gru.stop()


async def test_a_task_of_a_context_manager_may_wait_while_that_is_entered(
    autojump_clock: MockClock,
) -> None:
    came: list[str] = []

    class Entered(Resource):
        async def wait(self) -> None:
            await gru.wait_up(Above)
            came.append("above")

        async def __aenter__(self) -> Self:
            self.manager = trio.open_nursery()
            nursery = await self.manager.__aenter__()
            nursery.start_soon(self.wait)
            await trio.sleep(1)
            return self

        async def __aexit__(self, *args: object) -> None:
            await self.manager.__aexit__(None, None, None)

    class Above(Resource):
        entered: Entered

    Above.__annotations__["entered"] = Entered
    async with open_gru(None) as gru:
        await gru.start(Above)
        await trio.sleep(1)

        assert came == ["above"]
        await gru.stop()
