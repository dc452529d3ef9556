"""Random steps and misfortunes: all ends, once, and no worker is missed or left."""

from __future__ import annotations

from collections import Counter
from contextlib import suppress
from contextvars import ContextVar
from typing import Any, Literal, TypeAlias

import attrs
import pytest
import trio
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st
from trio.testing import MockClock, wait_all_tasks_blocked

from minions import (
    Backoff,
    Gru,
    GruOptions,
    Minion,
    NotRunningError,
    Pipeline,
    Resource,
    Restart,
    Retry,
    minion_step,
    open_gru,
)
from minions.notices import WorkflowInterrupted
from minions.runtime.crew import Crew
from minions.testing.faults import Fault, Faults, open_faulty_store

Act: TypeAlias = Literal[
    "sleep", "compute", "turn", "nap", "mark", "fail", "cancel", "other", "swallow"
]
Misfortune: TypeAlias = Literal[
    "cancel", "crash", "lose", "restart", "pause", "cutover", "disk", "new"
]

# What ends no life.
HARMLESS = {"cancel", "disk", "new"}
OFTEN = Restart(max_restarts=1000, backoff=Backoff(base=0.01, factor=1))
AGAIN = Retry(max_attempts=1000, base=0.01, factor=1)

trace: ContextVar[str] = ContextVar("trace", default="")


@attrs.frozen
class Order:
    number: int


@attrs.define
class Memory:
    done: int = 0


class Source(Pipeline[Order]):
    pass


@attrs.define(eq=False)
class World:
    """What the steps do, and have done."""

    plans: list[tuple[Act, Act, Act]]
    gru: Gru
    begun: Counter[tuple[int, str]] = attrs.field(factory=Counter)
    ended: Counter[tuple[int, str]] = attrs.field(factory=Counter)
    ids: list[str] = attrs.field(factory=list)
    cancelled: set[str] = attrs.field(factory=set)
    crash: trio.Event = attrs.field(factory=trio.Event)
    lose: trio.Event = attrs.field(factory=trio.Event)
    wrong: list[str] = attrs.field(factory=list)

    async def cancel(self, workflow: str) -> None:
        self.cancelled.add(workflow)
        with suppress(KeyError):
            await self.gru.workflows.cancel(workflow)


world: World


class Needed(Resource):
    restart = OFTEN

    async def run(self) -> None:
        await world.lose.wait()
        world.lose = trio.Event()
        raise RuntimeError("lost")


class Works(Minion[Order, Memory]):
    restart = OFTEN

    async def run(self) -> None:
        await world.crash.wait()
        world.crash = trio.Event()
        raise RuntimeError("crashed")

    @minion_step(retry=AGAIN)
    async def first(self) -> None:
        await self.play(0)

    @minion_step(retry=AGAIN)
    async def second(self) -> None:
        await self.play(1)

    @minion_step(retry=AGAIN)
    async def third(self) -> None:
        await self.play(2)

    async def play(self, place: int) -> None:
        number, step = self.event.number, self.workflow.step
        at = number, step
        if trace.get():
            world.wrong.append(f"{at} sees {trace.get()}")
        if self.context.done != place:
            world.wrong.append(f"{at}: {self.context.done} done before")
        if world.ended[at]:
            world.wrong.append(f"{at} runs twice")
        self.context.done += 1  # gone with a step that fails
        world.begun[at] += 1
        await self.act(world.plans[number][place], world.begun[at])
        if (self.event.number, self.workflow.step) != at:
            world.wrong.append(f"{at} sees {self.event} at {self.workflow.step}")
        name = trio.lowlevel.current_task().name
        if name != self.workflow.id:
            world.wrong.append(f"{self.workflow.id} runs as {name}")
        world.ended[at] += 1

    async def act(self, act: Act, times: int) -> None:
        number = self.event.number
        if act == "mark":
            trace.set(f"{number}")
        elif act == "fail" and times < 3:
            raise ValueError("a failure")
        elif act == "turn":
            await trio.lowlevel.checkpoint()
        elif act == "nap":
            await trio.sleep(0.01)
        elif act == "sleep":
            await trio.sleep(0.2)
        elif act == "cancel":
            await world.cancel(self.workflow.id)
        elif act == "other" and times == 1:
            async with trio.open_nursery() as nursery:
                nursery.start_soon(self.check_child, number)
                await world.cancel(world.ids[(number + 1) % len(world.ids)])
        elif act == "swallow":
            with suppress(trio.Cancelled):
                await trio.sleep(0.1)

    async def check_child(self, number: int) -> None:
        await trio.lowlevel.checkpoint()
        if self.event.number != number:
            world.wrong.append(f"a child of {number} sees {self.event.number}")


class Few(Works):
    max_in_flight = 3


class InOrder(Works):
    def key(self, event: Order) -> int:
        trace.set(f"the key of {event.number}")
        return event.number % 3


class Needy(Works):
    needed: Needed


MINIONS: tuple[type[Works], ...] = (Works, Few, InOrder, Needy)


@attrs.define(eq=False)
class Play:
    """Lets misfortunes befall one orchestration."""

    minion: type[Works]
    faults: Faults
    running: Any

    async def befall(self, misfortune: Misfortune) -> None:
        gru = world.gru
        if misfortune == "cancel":
            for workflow in world.ids[::4]:
                await world.cancel(workflow)
        elif misfortune == "crash":
            world.crash.set()
        elif misfortune == "lose":
            world.lose.set()
        elif misfortune == "restart":
            await gru.restart(self.minion)
        elif misfortune == "disk":
            self.faults.standing = Fault()
            await trio.sleep(0.3)
            self.faults.standing = None
        elif misfortune == "new":
            world.plans.append(("compute", "turn", "compute"))
            await send(len(world.plans) - 1)
        else:
            await self.running.stop(misfortune)
            self.running = await gru.start_minion(self.minion, Source)


async def send(number: int) -> None:
    """Emit an event, and again if its pipeline was just stopping."""
    while True:
        try:
            (workflow,) = await world.gru.emit(Source, Order(number))
        except (trio.ClosedResourceError, NotRunningError):
            await trio.sleep(0.05)
            continue
        assert workflow is not None
        world.ids.append(workflow)
        return


async def wait_over(gru: Gru) -> None:
    """Wait until all have ended, or for too long."""
    (table,) = gru._subscriptions.tables.values()
    for _ in range(1000):
        if len(world.ids) == len(world.plans) and not table.unfinished:
            return
        await trio.sleep(0.1)


async def play(
    minion: type[Works],
    plans: list[tuple[Act, Act, Act]],
    misfortunes: list[tuple[float, Misfortune]],
) -> None:
    global world  # noqa: PLW0603  # steps find it here
    faults, interrupted = Faults(), Counter[str]()
    options = GruOptions(grace=2.0, max_component_restarts=10_000)
    async with (
        open_faulty_store(None, faults=faults) as store,
        open_gru(store, options=options) as gru,
        trio.open_nursery() as nursery,
    ):
        world = World(plans, gru)

        async def listen() -> None:
            async for notice in gru.notices():
                if isinstance(notice, WorkflowInterrupted):
                    interrupted[notice.workflow] += 1

        nursery.start_soon(listen)
        running = await gru.start_minion(minion, Source)
        for number in range(len(plans)):
            nursery.start_soon(send, number)
        company = Play(minion, faults, running)
        with trio.fail_after(120):
            for delay, misfortune in misfortunes:
                await trio.sleep(delay)
                await company.befall(misfortune)
            await wait_over(gru)
            await gru.wait_up(minion)
            await trio.sleep(1)  # a crash may have been on its way
            await gru.wait_up(minion)
            await wait_all_tasks_blocked()
        ends = [what for _, what in misfortunes if what not in HARMLESS]
        check(gru, interrupted, len(ends))
        nursery.cancel_scope.cancel()
        await gru.stop()


def check(gru: Gru, interrupted: Counter[str], ends: int) -> None:
    (table,) = gru._subscriptions.tables.values()
    assert world.wrong == []
    assert table.running == 0
    assert table.queued == 0
    assert table.counts.keys() <= {"done", "cancelled"}
    assert sum(table.counts.values()) == len(world.plans)
    assert table.counts.get("cancelled", 0) <= len(world.cancelled)
    assert all(times <= ends for times in interrupted.values())
    assert all(times == 1 for times in world.ended.values())
    full = Counter(number for number, _ in world.ended)
    assert sum(n == 3 for n in full.values()) >= table.counts.get("done", 0)
    crew = table.engine
    assert isinstance(crew, Crew)
    assert crew._coming == 0
    assert not crew._line
    assert len(crew._idle) <= 1


acts = st.sampled_from(Act.__args__)  # type: ignore[attr-defined]
befalls = st.tuples(
    st.sampled_from([0.1, 0.0, 0.015, 0.3]),
    st.sampled_from(Misfortune.__args__),  # type: ignore[attr-defined]
)


@pytest.mark.slow
@given(
    st.sampled_from(MINIONS),
    st.lists(st.tuples(acts, acts, acts), min_size=5, max_size=20),
    st.lists(befalls, min_size=2, max_size=8),
)
@settings(
    max_examples=300,
    deadline=None,
    suppress_health_check=[HealthCheck.too_slow],
)
def test_whatever_befalls_all_ends_once(
    minion: type[Works],
    plans: list[tuple[Act, Act, Act]],
    misfortunes: list[tuple[float, Misfortune]],
) -> None:
    clock = MockClock(autojump_threshold=0)
    trio.run(play, minion, plans, misfortunes, clock=clock)
