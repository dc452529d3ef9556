"""Systems that start and stop again and again leave nothing behind."""

from __future__ import annotations

import gc
import logging
import sys
import threading
import tracemalloc
from collections import Counter
from collections.abc import AsyncIterator, Awaitable, Callable
from contextlib import asynccontextmanager, suppress
from pathlib import Path
from typing import Annotated, ClassVar, Self

import attrs
import pytest
import trio
from trio.testing import MockClock, wait_all_tasks_blocked

from minions import (
    Backoff,
    ComponentBroken,
    DependencyLost,
    Gru,
    GruOptions,
    Minion,
    Pipeline,
    Resource,
    Restart,
    component_id,
    minion_step,
    open_gru,
    resource,
)

State = Path | None
Cycle = Callable[[int], Awaitable[None]]

OPTIONS = GruOptions(durability="none", settle=0.01, wants_timeout=0.1)
AT_ONCE = Restart(max_restarts=10**6, backoff=Backoff(base=0, cap=0))
MOST_MEMORY = 64 * 1024
# Of Python's small objects, from cycle 20 to cycle 60.
MOST_BLOCKS = 200
DESCRIPTORS = Path("/proc/self/fd") if Path("/proc").is_dir() else Path("/dev/fd")


@attrs.frozen
class Number:
    value: int


@attrs.define
class Sum:
    value: int = 0
    steps: list[str] = attrs.field(factory=list)


class Client:
    """Provided from elsewhere."""


@asynccontextmanager
async def make_client() -> AsyncIterator[Client]:
    async with trio.open_nursery() as nursery:
        nursery.start_soon(trio.sleep_forever)
        yield Client()
        nursery.cancel_scope.cancel()


@resource
class Marked:
    async def startup(self, nursery: trio.Nursery) -> None:
        nursery.start_soon(trio.sleep_forever)


class Managed(Resource):
    client: Annotated[Client, "eu"]

    async def __aenter__(self) -> Self:
        return self

    async def __aexit__(self, *_: object) -> None:
        await trio.lowlevel.checkpoint()


class Service(Resource):
    """Breaks when told to."""

    restart = AT_ONCE
    managed: Managed
    marked: Marked

    async def run(self) -> None:
        await trio.sleep_forever()

    async def answer(self, value: int) -> int:
        await trio.lowlevel.checkpoint()
        return value

    async def fail(self) -> None:
        raise ComponentBroken("as it was told")


class Optional(Resource):
    async def startup(self) -> None:
        raise ConnectionError("never up")


@component_id("leaks-produced")
class Produced(Pipeline[Number]):
    service: Service

    async def startup(self) -> None:
        self.count = 0

    async def produce_event(self) -> Number:
        await trio.lowlevel.checkpoint()
        self.count += 1
        if self.count > 3:
            raise trio.EndOfChannel
        return Number(self.count)


@component_id("leaks-run")
class Run(Pipeline[Number], cursor=int):
    async def run(self) -> None:
        at = self.cursor or 0
        await self.emit_many([Number(at), Number(at + 1)], cursor=at + 2)
        await trio.sleep_forever()


@component_id("leaks-outside")
class Outside(Pipeline[Number]):
    pass


@component_id("leaks-adder")
class Adder(Minion[Number, Sum]):
    service: Service

    def key(self, event: Number) -> int:
        return event.value % 2

    @minion_step
    async def add(self) -> None:
        self.context.value = await self.service.answer(self.event.value)
        self.context.steps.append("add")

    @minion_step
    async def wait(self) -> None:
        async with trio.open_nursery() as nursery:
            nursery.start_soon(trio.sleep, 0.01)


@component_id("leaks-wanting")
class Wanting(Minion[Number, Sum]):
    on_failure = "discard"
    optional: Optional | None
    marked: Marked | None
    failed: ClassVar[int] = 0

    @minion_step
    async def fail(self) -> None:
        raise OSError(self.event.value)


PAIRS = [(Adder, Outside), (Wanting, Outside), (Adder, Produced), (Adder, Run)]


async def use(gru: Gru, number: int, pairs: int, *, then_stop: bool) -> None:
    """Start everything, let it work, crash some of it, and stop."""
    started = [await gru.start_minion(*pair) for pair in PAIRS[:pairs]]
    for value in range(2):
        ids = await gru.emit(Outside, Number(value))
        for workflow_id in ids:
            assert workflow_id is not None
            await gru.workflows.wait(workflow_id)
    if number % 5 == 0:
        with suppress(DependencyLost):
            async with gru.borrow(Service) as service:
                await service.fail()
        await gru.wait_up(Service)
    if number % 7 == 0:
        await gru.restart(Marked)
    await trio.sleep(0.1)
    if then_stop:
        await gru.stop()
        return
    for orchestration in started:
        await orchestration.stop(grace=1)


def each_in_a_gru_of_its_own(state: State, pairs: int) -> Cycle:
    async def cycle(number: int) -> None:
        with trio.CancelScope() as scope:
            async with open_gru(state, options=OPTIONS) as gru:
                gru.provide(Client, make_client, name="eu")
                reader = gru.notices()
                await use(gru, number, pairs, then_stop=bool(number % 3))
                assert await anext(reader)
                if number % 11 == 0:
                    scope.cancel()
                    await trio.lowlevel.checkpoint()

    return cycle


@attrs.frozen
class Left:
    """What is there after a cycle."""

    tasks: int
    descriptors: int
    threads: list[str]
    objects: Counter[str]
    blocks: int
    memory: int


def is_ours(kind: type) -> bool:
    module = kind.__module__
    return isinstance(module, str) and (
        module == __name__ or module.partition(".")[0] == "minions"
    )


def count_tasks() -> int:
    waiting, count = [trio.lowlevel.current_root_task()], 0
    while waiting:
        task = waiting.pop()
        assert task is not None
        count += 1
        for nursery in task.child_nurseries:
            waiting.extend(nursery.child_tasks)
    return count


async def look() -> Left:
    await wait_all_tasks_blocked()
    for _ in range(3):
        gc.collect()
    objects = Counter(
        f"{type(found).__module__}.{type(found).__qualname__}"
        for found in gc.get_objects()
        if is_ours(type(found)) and type(found) is not Left
    )
    threads = [t.name for t in threading.enumerate() if "Trio" not in t.name]
    assert trio.to_thread.current_default_thread_limiter().borrowed_tokens == 0
    return Left(
        count_tasks(),
        len([*DESCRIPTORS.iterdir()]),
        threads,
        objects,
        sys.getallocatedblocks(),
        tracemalloc.get_traced_memory()[0],
    )


async def compare(cycle: Cycle, early: int, late: int) -> tuple[Left, Left]:
    """Run *late* cycles; the last must leave no more than the *early* one."""
    for number in range(1, early + 1):
        await cycle(number)
    before = await look()
    for number in range(early + 1, late + 1):
        await cycle(number)
    after = await look()

    assert after.tasks == before.tasks
    assert after.descriptors == before.descriptors
    assert after.threads == before.threads
    assert after.objects == before.objects
    return before, after


@pytest.fixture(autouse=True)
def log_nothing(caplog: pytest.LogCaptureFixture) -> None:
    """Keep what pytest would keep of the log out of the memory."""
    caplog.set_level(logging.CRITICAL + 1, "minions.runtime")


async def test_restarts_keep_nothing_of_earlier_lives(
    autojump_clock: MockClock,
) -> None:
    def instances() -> int:
        gc.collect()
        # Not isinstance(): that asks an object for its class, which may run its code.
        return sum(issubclass(type(found), Service) for found in gc.get_objects())

    async with open_gru(None, options=OPTIONS) as gru:
        gru.provide(Client, make_client, name="eu")
        await gru.start(Service)
        for _ in range(10):
            await gru.restart(Managed)
            await gru.wait_up(Service)

        assert instances() == 1
        await gru.stop()


async def test_a_hundred_grus_leave_nothing(autojump_clock: MockClock) -> None:
    # The first ones warm the interpreter up.
    before, after = await compare(each_in_a_gru_of_its_own(None, 1), 60, 100)

    assert after.blocks - before.blocks < MOST_BLOCKS


@pytest.mark.slow
async def test_sixty_starts_in_one_gru_leave_nothing(autojump_clock: MockClock) -> None:
    async with open_gru(None, options=OPTIONS) as gru:
        gru.provide(Client, make_client, name="eu")

        async def cycle(number: int) -> None:
            await use(gru, number, 1, then_stop=False)

        before, after = await compare(cycle, 20, 60)
        await gru.stop()

    assert after.blocks - before.blocks < MOST_BLOCKS


async def compare_a_thousand(cycle: Cycle) -> None:
    tracemalloc.start()
    try:
        before, after = await compare(cycle, 100, 1000)
    finally:
        tracemalloc.stop()

    grown = after.memory - before.memory
    print(f"{grown:+} bytes, {after.blocks - before.blocks:+} blocks")
    assert grown <= MOST_MEMORY


@pytest.mark.slow
async def test_a_thousand_grus_leave_nothing(
    state: State, autojump_clock: MockClock
) -> None:
    await compare_a_thousand(each_in_a_gru_of_its_own(state, len(PAIRS)))


@pytest.mark.slow
async def test_a_thousand_starts_in_one_gru_leave_nothing(
    state: State, autojump_clock: MockClock
) -> None:
    async with open_gru(state, options=OPTIONS) as gru:
        gru.provide(Client, make_client, name="eu")

        async def cycle(number: int) -> None:
            await use(gru, number, len(PAIRS), then_stop=False)

        await compare_a_thousand(cycle)
        await gru.stop()
