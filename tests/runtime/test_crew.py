"""The workers of a minion: who comes, what they see, and what they leave behind."""

from __future__ import annotations

from collections.abc import Awaitable, Callable
from contextvars import ContextVar
from functools import partial
from itertools import pairwise
from typing import Any, ClassVar

import attrs
import pytest
import trio
from trio.testing import MockClock, wait_all_tasks_blocked

from minions import (
    Backoff,
    GoTo,
    GruOptions,
    Minion,
    Pipeline,
    Resource,
    Restart,
    minion_step,
    open_gru,
)
from minions.notices import WorkflowInterrupted
from minions.runtime.gru import Gru
from minions.runtime.judging import Judge
from minions.runtime.orchestration import Orchestration
from minions.runtime.table import WorkTable
from minions.runtime.work import Work
from minions.testing.faults import Fault, Faults, open_faulty_store


@attrs.frozen
class Number:
    value: int


@attrs.define
class Memory:
    count: int = 0


log: list[Any] = []


@pytest.fixture(autouse=True)
def fresh_log() -> None:
    log.clear()


class Source(Pipeline[Number]):
    pass


class Numbers(Pipeline[Number]):
    """Hands over the numbers below ``count`` at once, and is exhausted."""

    count: ClassVar[int] = 0

    async def run(self) -> None:
        await self.emit_many([Number(value) for value in range(self.count)])


async def run_all(minion: type, count: int) -> None:
    """Run as many workflows, all of which are there at once."""
    Numbers.count = count
    async with open_gru(None) as gru:
        await gru.start_minion(minion, Numbers)


# What one step sets, no other one sees.


class NeverCompared:
    """Stands for values whose comparison is no truth, as that of arrays."""

    def __eq__(self, other: object) -> bool:
        raise ValueError("expected that nobody compares this")

    __hash__ = None  # type: ignore[assignment]


place: ContextVar[Any] = ContextVar("place", default=None)


class Looks(Minion[Number, Memory]):
    lives: ClassVar[int] = 0

    async def startup(self) -> None:
        Looks.lives += 1

    @minion_step
    async def first(self) -> None:
        log.append(place.get())
        place.set(self.another())

    @minion_step
    async def second(self) -> None:
        log.append(place.get())

    def another(self) -> object:
        return "another"


class SetsEqual(Looks):
    def another(self) -> object:
        return []


class SetsWhatIsNeverCompared(Looks):
    def another(self) -> object:
        return NeverCompared()


@pytest.mark.parametrize(
    ("minion", "value"),
    [
        (Looks, None),
        (Looks, "one"),
        (SetsEqual, []),
        (SetsWhatIsNeverCompared, NeverCompared()),
    ],
)
async def test_steps_see_the_variables_of_their_start(
    autojump_clock: MockClock, minion: type, value: object
) -> None:
    Looks.lives = 0
    token = place.set(value)
    await run_all(minion, 3)
    place.reset(token)

    assert (Looks.lives, len(log)) == (1, 6)
    assert all(found is value for found in log)


class Keyed(Looks):
    def key(self, event: Number) -> int:
        place.set(f"the key of {event.value}")
        return event.value


@attrs.define
class Marked:
    """Leaves a trace in the context variables of whoever makes the first one."""

    made: ClassVar[list[None]] = []

    def __attrs_post_init__(self) -> None:
        if not self.made:
            self.made.append(None)
            place.set("made")


class Makes(Minion[Number, Marked]):
    async def startup(self) -> None:
        Marked.made.clear()

    @minion_step
    async def only(self) -> None:
        log.append(place.get())


async def test_steps_do_not_see_what_keys_have_set(autojump_clock: MockClock) -> None:
    await run_all(Keyed, 3)

    assert log == [None] * 6


async def test_steps_do_not_see_what_the_context_of_another_has_set(
    autojump_clock: MockClock,
) -> None:
    await run_all(Makes, 3)

    assert log == ["made", None, None]


# Who comes, and how often.


class Turns(trio.abc.Instrument):
    """Counts turns of the loop, and workers that have come."""

    def __init__(self) -> None:
        self.turns = 0
        self.workers = 0

    def after_io_wait(self, timeout: float) -> None:
        self.turns += 1

    def task_spawned(self, task: trio.lowlevel.Task) -> None:
        self.workers += "Crew._run" in task.name


class Blocks(Minion[Number, Memory]):
    """Ends when the test says so."""

    free: ClassVar[trio.Event]
    last: ClassVar[int] = 0

    @minion_step
    async def only(self) -> None:
        if not log:
            log.append("first")
            self.turns.turns = 0
        type(self).last = self.turns.turns
        log.append(self.event.value)
        if len(log) > 1000:
            self.free.set()
        await self.free.wait()

    turns: ClassVar[Turns] = Turns()


async def test_a_thousand_steps_that_wait_begin_within_few_turns(
    autojump_clock: MockClock,
) -> None:
    Blocks.free = trio.Event()
    trio.lowlevel.add_instrument(Blocks.turns)
    await run_all(Blocks, 1000)
    trio.lowlevel.remove_instrument(Blocks.turns)

    assert sorted(log[1:]) == [*range(1000)]
    # 1 + 1 + 2 + 4 + ... + 256 are 512, and twice 256 more.
    assert Blocks.last <= 12
    assert Blocks.turns.workers <= 1100


class Computes(Minion[Number, Memory]):
    """Never waits, and goes round and round."""

    rounds: ClassVar[int] = 1

    @minion_step
    async def again(self) -> GoTo | None:
        log.append(self.event.value)
        self.context.count += 1
        return GoTo("again") if self.context.count < self.rounds else None


@pytest.mark.parametrize(("count", "rounds"), [(1000, 1), (100, 20), (1, 2000)])
async def test_steps_that_never_wait_let_others_work(
    autojump_clock: MockClock, count: int, rounds: int
) -> None:
    Computes.rounds = rounds
    turns = Turns()
    trio.lowlevel.add_instrument(turns)
    seen = [0]

    async def watch() -> None:
        while True:
            seen.append(len(log))
            await trio.lowlevel.checkpoint()

    async with trio.open_nursery() as nursery:
        nursery.start_soon(watch)
        await run_all(Computes, count)
        nursery.cancel_scope.cancel()
    trio.lowlevel.remove_instrument(turns)

    assert len(log) == count * rounds
    between = [later - earlier for earlier, later in pairwise(seen) if later > earlier]
    # 256 before its turn, and as many behind it.
    assert max(between) <= 512
    assert len(between) <= len(log) // 64 + 8
    assert turns.workers <= 3


class WaitsInTheEnd(Minion[Number, Memory]):
    """Many that compute, and then some that wait for each other."""

    all_there: ClassVar[trio.Event]

    @minion_step
    async def only(self) -> None:
        log.append(self.event.value)
        if len(log) == 310:
            self.all_there.set()
        if self.event.value >= 300:
            await self.all_there.wait()


async def test_others_come_when_steps_wait_behind_many_that_do_not(
    autojump_clock: MockClock,
) -> None:
    WaitsInTheEnd.all_there = trio.Event()
    with trio.fail_after(9):
        await run_all(WaitsInTheEnd, 310)

    assert log == [*range(310)]


class WaitsForTheLast(Minion[Number, Memory]):
    """The first one goes round until the last one has ended, or for too long."""

    @minion_step
    async def again(self) -> GoTo | None:
        self.context.count += 1
        if self.event.value:
            log.append(self.event.value)
        elif len(log) < 99 and self.context.count < 10_000:
            return GoTo("again")
        else:
            log.append(self.context.count)
        return None


async def test_steps_that_never_wait_let_new_ones_begin(
    autojump_clock: MockClock,
) -> None:
    await run_all(WaitsForTheLast, 100)

    assert log[:99] == [*range(1, 100)]
    assert log[99] < 1000


# What goes wrong.


def table_of(gru: Gru) -> WorkTable:
    (table,) = gru._subscriptions.tables.values()  # its counters
    return table


class Fails(Minion[Number, Memory]):
    @minion_step
    async def only(self) -> None:
        log.append(self.event.value)
        raise ValueError("a failure")


async def test_a_defect_of_ours_costs_a_life_and_no_place(
    autojump_clock: MockClock, monkeypatch: pytest.MonkeyPatch
) -> None:
    """Counted once is who was interrupted by it."""
    really = Judge.failed

    def fail(judge: Judge, work: Work, exc: BaseException) -> None:
        monkeypatch.setattr(Judge, "failed", really)
        raise RuntimeError("a defect")

    monkeypatch.setattr(Judge, "failed", fail)
    async with open_gru(None) as gru:
        Numbers.count = 1
        await gru.start_minion(Fails, Numbers)
        table = table_of(gru)

    assert log == [0, 0]
    assert (table.running, len(table.quarantined), table.works) == (0, 1, {})


class HasPartial(Minion[Number, Memory]):
    async def startup(self) -> None:
        self.only = partial(self.wait, 9)  # type: ignore[method-assign]

    async def wait(self, seconds: float) -> None:
        log.append(self.event.value)
        await trio.sleep(seconds)

    @minion_step(timeout=1)
    async def only(self) -> None:
        """Be what the instance puts another function in the place of."""


async def test_a_step_that_is_no_plain_function_has_its_time(
    autojump_clock: MockClock,
) -> None:
    async with open_gru(None) as gru:
        await gru.start_minion(HasPartial, Source)
        (workflow,) = await gru.emit(Source, Number(1))
        assert workflow is not None
        ended = await gru.workflows.wait(workflow)
        await gru.stop()

    assert "step 'only': expected it to end within its timeout of 1 s" in ended.reason
    assert log == [1]


# A commit that is on its way.


class OneIsHeld(Minion[Number, Memory]):
    """The first of two ends a step while the disk is full; the second one waits."""

    faults: ClassVar[Faults]

    @minion_step
    async def first(self) -> None:
        log.append(self.event.value)
        if self.event.value == 0:
            self.faults.standing = Fault()
        else:
            await trio.sleep(5)

    @minion_step
    async def second(self) -> None:
        log.append(f"second {self.event.value}")


async def test_a_cancel_between_two_steps_reaches_nobody_else(
    autojump_clock: MockClock,
) -> None:
    """The worker of the one works for the other by then."""
    OneIsHeld.faults, Numbers.count = Faults(), 2
    async with (
        open_faulty_store(None, faults=OneIsHeld.faults) as store,
        open_gru(store, options=GruOptions(keep=100)) as gru,
        trio.open_nursery() as nursery,
    ):
        await gru.start_minion(OneIsHeld, Numbers)
        await trio.sleep(1)
        (first, second) = [work.id for work in table_of(gru).works.values()]
        nursery.start_soon(gru.workflows.cancel, first)
        await trio.sleep(1)
        OneIsHeld.faults.standing = None
        assert (await gru.workflows.wait(second)).state == "done"
        assert (await gru.workflows.wait(first)).state == "cancelled"

    assert log == [0, 1, "second 1"]


class OneAtATime(Minion[Number, Memory]):
    max_in_flight = 1

    @minion_step
    async def only(self) -> None:
        log.append(self.event.value)
        if self.event.value == 0:
            await trio.sleep_forever()


async def test_a_worker_that_ends_by_a_cancel_leaves_nobody_alone(
    autojump_clock: MockClock,
) -> None:
    Numbers.count = 2
    async with open_gru(None) as gru:
        await gru.start_minion(OneAtATime, Numbers)
        await trio.sleep(1)
        assert log == [0]
        await gru.workflows.cancel(next(iter(table_of(gru).works.values())).id)

    assert log == [0, 1]


# The ends of a life while a commit is on its way.


class Lost(Resource):
    end: ClassVar[trio.Event]

    async def run(self) -> None:
        await self.end.wait()
        Lost.end = trio.Event()
        raise RuntimeError("lost")


class TwoSteps(Minion[Number, Memory]):
    restart = Restart(backoff=Backoff(base=0.01))
    lost: Lost
    end: ClassVar[trio.Event]
    go: ClassVar[trio.Event]

    async def run(self) -> None:
        await self.end.wait()
        type(self).end = trio.Event()
        raise RuntimeError("crashed")

    @minion_step
    async def first(self) -> None:
        await self.go.wait()
        log.append(("first", self.event.value, self.context.count))
        self.context.count += 1

    @minion_step
    async def second(self) -> None:
        log.append(("second", self.event.value, self.context.count))
        self.context.count += 1


async def crash(gru: Gru, running: Orchestration) -> None:
    TwoSteps.end.set()


async def lose(gru: Gru, running: Orchestration) -> None:
    Lost.end.set()


async def restart(gru: Gru, running: Orchestration) -> None:
    await gru.restart(TwoSteps)


async def cut_over(gru: Gru, running: Orchestration) -> None:
    await running.stop("cutover")
    await gru.start_minion(TwoSteps, Source)


async def pause(gru: Gru, running: Orchestration) -> None:
    await running.stop("pause")
    await gru.start_minion(TwoSteps, Source)


@pytest.mark.parametrize("seconds", [0.5, 20])
@pytest.mark.parametrize("end", [crash, lose, restart, cut_over, pause])
async def test_a_life_ends_while_a_commit_is_on_its_way(
    autojump_clock: MockClock,
    end: Callable[[Gru, Orchestration], Awaitable[None]],
    seconds: float,
) -> None:
    """The disk comes back before the grace is over, or long after that."""
    TwoSteps.end, TwoSteps.go, Lost.end = trio.Event(), trio.Event(), trio.Event()
    faults, interrupted = Faults(), list[str]()
    async with (
        open_faulty_store(None, faults=faults) as store,
        open_gru(store, options=GruOptions(grace=2, keep=1000)) as gru,
        trio.open_nursery() as nursery,
    ):

        async def listen() -> None:
            async for notice in gru.notices():
                if isinstance(notice, WorkflowInterrupted):
                    interrupted.append(notice.workflow)

        nursery.start_soon(listen)
        running = await gru.start_minion(TwoSteps, Source)
        ids = [
            workflow
            for value in range(3)
            for workflow in await gru.emit(Source, Number(value))
            if workflow is not None
        ]
        faults.standing = Fault()
        TwoSteps.go.set()
        await wait_all_tasks_blocked()
        nursery.start_soon(end, gru, running)
        await trio.sleep(seconds)
        if end not in (restart, pause) or seconds > 2:
            assert len(interrupted) == 3
        nursery.start_soon(gru.workflows.cancel, ids[2])
        await trio.sleep(0.5)
        assert {step for step, *_ in log} == {"first"}
        faults.standing = None
        for workflow in ids:
            ended = await gru.workflows.wait(workflow)
            assert ended.state == ("cancelled" if workflow == ids[2] else "done")
        assert table_of(gru).running == 0
        nursery.cancel_scope.cancel()
        await gru.stop()

    assert sorted(log) == [
        *[("first", value, 0) for value in range(3)],
        *[("second", value, 1) for value in range(2)],
    ]
    assert len(interrupted) == len(set(interrupted))
