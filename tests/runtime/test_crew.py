"""The workers of a minion: who comes, what they see, and what they leave behind."""

from __future__ import annotations

from contextvars import ContextVar
from functools import partial
from itertools import pairwise
from typing import Any, ClassVar

import attrs
import pytest
import trio
from trio.testing import MockClock

from minions import GoTo, Minion, Pipeline, minion_step, open_gru
from minions.runtime.gru import Gru
from minions.runtime.judging import Judge
from minions.runtime.table import WorkTable
from minions.runtime.work import Work


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
    # 256 before its turn, and as many behind it.
    assert max(later - earlier for earlier, later in pairwise(seen)) <= 512
    assert turns.workers <= 3


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
    (table,) = gru._subscriptions.tables.values()  # noqa: SLF001  # its counters
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
