"""Defects that systems of this kind are known for, one test each.

Not here, since there is no such part:

======================================  ===========================================
defect                                  why there is no test
======================================  ===========================================
process gauges that always say 0        there are no metrics yet
a metrics endpoint that never binds     likewise
a log that loses lines on rotation      no log file is written: ``runtime/log.py``
a shell that spins at the end of input  there is no shell
a tool that breaks the source it marks  no source is written: ids are decorators
errors of a type that trio has dropped  groups are Python's own; nothing is wrapped
======================================  ===========================================
"""

from __future__ import annotations

from contextvars import ContextVar
from typing import Any, ClassVar

import attrs
import pytest
import trio
from trio.testing import MockClock

from minions import (
    AlreadyRunningError,
    Backoff,
    Gru,
    GruOptions,
    Minion,
    Pipeline,
    Resource,
    Restart,
    RestartLimitError,
    StartError,
    component_id,
    minion_step,
    open_gru,
)
from minions.notices import (
    ComponentBackoff,
    ComponentCrashed,
    ComponentFailed,
    ComponentStarting,
    Notice,
    ShutdownFailed,
)
from minions.store import MemoryStore

AT_ONCE = Restart(backoff=Backoff(base=0, cap=0))

log: list[str] = []


@pytest.fixture(autouse=True)
def forget() -> None:
    log.clear()


def listen(gru: Gru) -> list[Notice]:
    notices: list[Notice] = []
    gru._bus.listeners.append(notices.append)
    return notices


def started(notices: list[Notice]) -> list[str]:
    """Return who was started, without its module."""
    return [
        n.component.rpartition(":")[2]
        for n in notices
        if isinstance(n, ComponentStarting)
    ]


@attrs.frozen
class Number:
    value: int


@attrs.define
class Passed:
    steps: list[str] = attrs.field(factory=list)


@component_id("peers-outside")
class Outside(Pipeline[Number]):
    pass


# Workflows.


class Hasty(Pipeline[Number]):
    """Never waits for anything."""

    count: ClassVar[int] = 0

    async def produce_event(self) -> Number:
        Hasty.count += 1
        if self.count > 200:
            raise trio.EndOfChannel
        return Number(self.count)


class Collector(Minion[Number, Passed]):
    @minion_step
    async def collect(self) -> None:
        log.append(f"{self.workflow.orchestration_id} {self.event.value}")


async def test_the_first_events_reach_all_who_listen(
    autojump_clock: MockClock,
) -> None:
    """A source that begins before anybody listens loses its first events."""
    Hasty.count = 0
    async with open_gru(None) as gru, gru.starting():
        first = await gru.start_minion(Collector, Hasty)
        second = await gru.start_minion(Collector, Hasty, name="second")

    for orchestration in (first, second):
        assert log.count(f"{orchestration.id} 1") == 1
        assert sum(line.startswith(f"{orchestration.id} ") for line in log) == 200


async def test_a_source_that_never_waits_hangs_nobody(
    autojump_clock: MockClock,
) -> None:
    """A source without a checkpoint freezes the process."""
    Hasty.count, turns = 0, 0

    async def take_turns() -> None:
        nonlocal turns
        while True:
            await trio.lowlevel.checkpoint()
            turns += 1

    async with trio.open_nursery() as nursery:
        nursery.start_soon(take_turns)
        async with open_gru(None) as gru:
            await gru.start_minion(Collector, Hasty)
        nursery.cancel_scope.cancel()

    assert len(log) == 200
    assert turns > 3


class Database(Resource):
    async def startup(self) -> None:
        self.open = True

    async def store(self) -> None:
        await trio.sleep(1)
        assert self.open, "it was closed under its user"

    async def shutdown(self) -> None:
        log.append("closed")
        self.open = False


@component_id("peers-storing")
class Storing(Minion[Number, Passed]):
    database: Database

    @minion_step
    async def store(self) -> None:
        for _ in range(self.event.value):
            await self.database.store()
        log.append(f"stored {self.event.value}")


async def test_an_ordered_stop_loses_no_work(autojump_clock: MockClock) -> None:
    """Resources that close under a step make it fail, and its state is deleted."""
    store = MemoryStore()
    async with open_gru(store, options=GruOptions(grace=5)) as gru:
        await gru.start_minion(Storing, Outside)
        for value in (2, 100):
            await gru.emit(Outside, Number(value))
        await gru.stop()
    assert log == ["stored 2", "closed"]

    async with open_gru(store) as gru:
        await gru.start_minion(Storing, Outside)
        (left,) = [w async for w in gru.workflows.list()]
        assert left.event == Number(100)
        assert (await gru.workflows.wait(left.id)).state == "done"
        await gru.stop()
    assert log == ["stored 2", "closed", "stored 100", "closed"]


class BadEnd(Resource):
    hangs: ClassVar[bool]
    database: Database

    async def shutdown(self) -> None:
        if self.hangs:
            await trio.sleep_forever()
        raise OSError("at the end")


@component_id("peers-bad-end")
class EndsBadly(Storing):
    bad: BadEnd

    async def shutdown(self) -> None:
        log.append("minion down")
        raise OSError("at the end")


@pytest.mark.parametrize("hangs", [False, True], ids=["raises", "hangs"])
async def test_a_bad_shutdown_skips_nothing_and_ends(
    hangs: bool,  # noqa: FBT001  # a parameter of the test
    autojump_clock: MockClock,
) -> None:
    """One that raises skips the drain; one that never returns hangs for ever."""
    BadEnd.hangs = hangs
    began = trio.current_time()
    async with open_gru(None, options=GruOptions(grace=5)) as gru:
        notices = listen(gru)
        await gru.start_minion(EndsBadly, Outside)
        await gru.emit(Outside, Number(2))
        await gru.stop()

    assert log == ["stored 2", "minion down", "closed"]
    assert sum(isinstance(n, ShutdownFailed) for n in notices) == 2
    assert trio.current_time() - began < 2 + 5 + 1


class FirstSource(Pipeline[Number]):
    pass


class SecondSource(Pipeline[Number]):
    pass


async def test_components_without_ids_are_told_apart(
    autojump_clock: MockClock,
) -> None:
    """Two of one module without ids share an identity, and so their events."""
    async with open_gru(None) as gru:
        first = await gru.start_minion(Collector, FirstSource)
        second = await gru.start_minion(Collector, SecondSource)
        await gru.emit(FirstSource, Number(1))
        await gru.emit(SecondSource, Number(2))
        await gru.stop()

    assert sorted(log) == sorted([f"{first.id} 1", f"{second.id} 2"])


class Stepping(Minion[Number, Passed]):
    hold: ClassVar[bool]

    async def take(self, step: str) -> None:
        if self.hold and step == "second":
            await trio.sleep_forever()
        log.append(step)
        self.context.steps.append(step)


@component_id("peers-steps")
class Before(Stepping):
    @minion_step
    async def first(self) -> None:
        await self.take("first")

    @minion_step
    async def second(self) -> None:
        await self.take("second")


@component_id("peers-steps")
class Inserted(Stepping):
    @minion_step
    async def zeroth(self) -> None:
        await self.take("zeroth")

    @minion_step
    async def first(self) -> None:
        await self.take("first")

    @minion_step
    async def second(self) -> None:
        await self.take("second")


@component_id("peers-steps")
class Removed(Stepping):
    @minion_step
    async def first(self) -> None:
        await self.take("first")


@pytest.mark.parametrize(
    ("later", "ran", "states"),
    [(Inserted, ["first", "second"], []), (Removed, ["first"], ["quarantined"])],
)
async def test_a_workflow_goes_on_at_its_step_by_name(
    later: type[Stepping],
    ran: list[str],
    states: list[str],
    autojump_clock: MockClock,
) -> None:
    """By number, an inserted step makes one run twice, a removed one all be done."""
    Stepping.hold, store = True, MemoryStore()
    async with open_gru(store, options=GruOptions(grace=0)) as gru:
        await gru.start_minion(Before, Outside)
        await gru.emit(Outside, Number(1))
        await trio.sleep(1)
        await gru.stop()

    Stepping.hold = False
    async with open_gru(store) as gru:
        await gru.start_minion(later, Outside)
        await trio.sleep(1)
        assert [w.state async for w in gru.workflows.list()] == states
        await gru.stop()
    assert log == ran


@component_id("peers-stubborn")
class Stubborn(Minion[Number, Passed]):
    @minion_step
    async def stay(self) -> None:
        log.append("begins")
        with trio.CancelScope(shield=True):
            await trio.sleep(5)
        log.append("ends")


async def test_an_id_is_taken_until_all_of_it_has_ended(
    autojump_clock: MockClock,
) -> None:
    """After a stop that timed out, the same workflow runs twice."""
    async with open_gru(None, options=GruOptions(grace=1)) as gru:
        orchestration = await gru.start_minion(Stubborn, Outside)
        await gru.emit(Outside, Number(1))
        await trio.sleep(0.1)
        with trio.move_on_after(3):
            await orchestration.stop("cutover")

        with pytest.raises(AlreadyRunningError):
            await gru.start_minion(Stubborn, Outside)
        await trio.sleep(5)
        await gru.start_minion(Stubborn, Outside)
        await trio.sleep(10)
        await gru.stop()

    assert log[:2] == ["begins", "ends"]
    assert log.count("begins") == log.count("ends")


whose: ContextVar[str] = ContextVar("whose", default="nobody's")


class Started(Minion[Number, Passed]):
    async def startup(self) -> None:
        log.append(f"startup is {whose.get()}")

    @minion_step
    async def look(self) -> None:
        log.append(f"step is {whose.get()}")
        log.append(f"event {self.event.value}")


class Starter(Minion[Number, Passed]):
    gru: ClassVar[Gru]

    @minion_step
    async def start(self) -> None:
        whose.set("the starter's")
        await self.gru.start_minion(Started, SecondSource)


async def test_what_a_step_starts_inherits_nothing_of_it(
    autojump_clock: MockClock,
) -> None:
    """It sees the variables of who started it, and takes its workflow for its own."""
    async with open_gru(None) as gru:
        Starter.gru = gru
        await gru.start_minion(Starter, FirstSource)
        (workflow_id,) = await gru.emit(FirstSource, Number(1))
        assert workflow_id is not None
        assert (await gru.workflows.wait(workflow_id)).state == "done"
        await gru.emit(SecondSource, Number(2))
        await gru.stop()

    assert log == ["startup is nobody's", "step is nobody's", "event 2"]


@attrs.define
class Tree:
    name: str = ""
    below: list[Tree] = attrs.field(factory=list)
    above: Tree | None = None


class Climbing(Minion[Number, Tree]):
    @minion_step
    async def grow(self) -> None:
        self.context.below.append(Tree("leaf", above=Tree("root")))

    @minion_step
    async def look(self) -> None:
        log.append(self.context.below[0].name)


async def test_recursive_classes_are_data(autojump_clock: MockClock) -> None:
    """They hang where they are defined."""
    async with open_gru(None) as gru:
        await gru.start_minion(Climbing, FirstSource)
        (workflow_id,) = await gru.emit(FirstSource, Number(1))
        assert workflow_id is not None
        ended = await gru.workflows.wait(workflow_id)
        await gru.stop()

    assert ended.context == Tree(below=[Tree("leaf", above=Tree("root"))])


@attrs.define
class Picky:
    """Cannot be made again from what one workflow left."""

    value: int = attrs.field(default=0)
    strict: ClassVar[bool] = False

    @value.validator
    def _check(self, _: object, value: int) -> None:
        if self.strict and value == 1:
            raise ValueError("not any more")


@component_id("peers-picky")
class Picking(Minion[Number, Picky]):
    hold: ClassVar[bool]

    @minion_step
    async def pick(self) -> None:
        self.context.value = self.event.value

    @minion_step
    async def finish(self) -> None:
        if self.hold:
            await trio.sleep_forever()
        log.append(f"finished {self.event.value}")


async def test_a_context_that_cannot_be_read_holds_nobody_up(
    monkeypatch: pytest.MonkeyPatch, autojump_clock: MockClock
) -> None:
    """One blocks its orchestration, or is stranded: nobody can list or drop it."""
    Picking.hold, store = True, MemoryStore()
    async with open_gru(store, options=GruOptions(grace=0)) as gru:
        await gru.start_minion(Picking, Outside)
        for value in (1, 2):
            await gru.emit(Outside, Number(value))
        await trio.sleep(1)
        await gru.stop()

    Picking.hold = False
    monkeypatch.setattr(Picky, "strict", True)
    async with open_gru(store) as gru:
        await gru.start_minion(Picking, Outside)
        await trio.sleep(1)
        assert log == ["finished 2"]
        (stranded,) = [w async for w in gru.workflows.list()]
        assert stranded.state == "quarantined"
        assert "not any more" in stranded.traceback
        await gru.workflows.discard(stranded.id)
        assert [w async for w in gru.workflows.list()] == []
        await gru.stop()


class Failing(Minion[Number, Passed]):
    fails: ClassVar[bool]

    @minion_step
    async def pass_by(self) -> None:
        self.context.steps.append("passed")

    @minion_step
    async def fail(self) -> None:
        if self.fails:
            raise OSError("this time")


async def test_a_step_that_raises_loses_no_state(autojump_clock: MockClock) -> None:
    """It deletes what the workflow had reached."""
    Failing.fails = True
    async with open_gru(None) as gru:
        await gru.start_minion(Failing, FirstSource)
        (workflow_id,) = await gru.emit(FirstSource, Number(1))
        assert workflow_id is not None
        failed = await gru.workflows.wait(workflow_id)
        assert (failed.state, failed.step) == ("quarantined", "fail")
        assert failed.context == Passed(["passed"])

        Failing.fails = False
        await gru.workflows.redrive(workflow_id)
        assert (await gru.workflows.wait(workflow_id)).state == "done"
        await gru.stop()


# Supervision.


class Crashing(Resource):
    """Crashes when told to."""

    restart = AT_ONCE
    tell: ClassVar[trio.Event]

    async def run(self) -> None:
        await self.tell.wait()
        Crashing.tell = trio.Event()
        raise OSError("lost")

    async def answer(self) -> None:
        await trio.sleep(1)
        log.append("answered")


class Unrelated(Resource):
    """Was defined, and is started, between those that are not."""


class Needing(Resource):
    crashing: Crashing

    async def startup(self) -> None:
        assert isinstance(self.crashing, Crashing)
        await trio.sleep(0.1)


class AlsoUnrelated(Resource):
    unrelated: Unrelated


class NeedingBoth(Resource):
    needing: Needing
    unrelated: Unrelated


async def test_a_crash_restarts_its_dependents_and_nobody_else(
    autojump_clock: MockClock,
) -> None:
    """By position, or one for all, it restarts who has nothing to do with it."""
    Crashing.tell = trio.Event()
    async with open_gru(None) as gru:
        await gru.start(Crashing, Unrelated, Needing, AlsoUnrelated, NeedingBoth)
        notices = listen(gru)
        Crashing.tell.set()
        await trio.sleep(5)

        assert started(notices) == ["Crashing", "Needing", "NeedingBoth"]
        await gru.stop()


async def test_a_call_that_times_out_harms_only_its_caller(
    autojump_clock: MockClock,
) -> None:
    """The timeout of a caller kills the server."""
    Crashing.tell = trio.Event()
    async with open_gru(None) as gru:
        notices = listen(gru)
        await gru.start(Crashing)
        async with gru.borrow(Crashing) as server:
            with trio.move_on_after(0.5) as scope:
                await server.answer()
            assert scope.cancelled_caught
            await server.answer()
        await gru.stop()

    assert log == ["answered"]
    assert started(notices) == ["Crashing"]


class NeverUp(Resource):
    async def startup(self) -> None:
        raise ConnectionError("nobody there")


class NeedsNeverUp(Resource):
    never: NeverUp


async def test_a_start_that_fails_says_why(autojump_clock: MockClock) -> None:
    """The failure is masked by what follows from it."""
    async with open_gru(None) as gru:
        with pytest.raises(StartError, match=r"NeverUp .*nobody there") as caught:
            await gru.start(NeedsNeverUp)

    assert isinstance(caught.value.__cause__, ConnectionError)


class Slow(Resource):
    async def startup(self) -> None:
        await trio.sleep(1)
        log.append("slow is up")

    async def shutdown(self) -> None:
        log.append("slow is down")


class Quick(Resource):
    slow: Slow

    async def startup(self) -> None:
        log.append("quick is up")

    async def shutdown(self) -> None:
        await trio.sleep(1)
        log.append("quick is down")


async def test_what_is_needed_is_ready_before_and_ends_after(
    autojump_clock: MockClock,
) -> None:
    """Dependencies start after their users, and are shut down before them."""
    async with open_gru(None) as gru:
        await gru.start(Quick)
        await gru.stop()

    assert log == ["slow is up", "quick is up", "quick is down", "slow is down"]


class EndsCleanly(Resource):
    restart = Restart(max_restarts=6, backoff=Backoff(base=0, cap=0))

    async def run(self) -> None:
        await trio.sleep(0.1)


async def test_a_permanent_component_does_not_just_end(
    autojump_clock: MockClock,
) -> None:
    """One that ends cleanly a few times is never started again, and nobody hears."""
    async with open_gru(None, options=GruOptions(wait_for_failed=True)) as gru:
        notices = listen(gru)
        await gru.start(EndsCleanly)
        await trio.sleep(5)
        await gru.stop()

    assert started(notices) == ["EndsCleanly"] * 7
    assert sum(isinstance(n, ComponentCrashed) for n in notices) == 7
    (failed,) = [n for n in notices if isinstance(n, ComponentFailed)]
    assert "max_restarts = 6" in failed.cause


class Vital(Resource):
    restart = Restart(max_restarts=1, backoff=Backoff(base=0, cap=0))
    on_exhausted = "stop"
    database: Database

    async def run(self) -> None:
        await trio.sleep(0.1)
        raise OSError("again")


async def test_a_spent_budget_can_end_the_program_in_order(
    autojump_clock: MockClock,
) -> None:
    """It never escalates, or it kills the program where it stands."""
    with pytest.raises(RestartLimitError, match="Vital has failed"):
        async with open_gru(None) as gru:
            await gru.start(Vital)
            await trio.sleep_forever()

    assert log == ["closed"]


class Hopeless(Resource):
    restart = Restart(max_restarts=3, backoff=Backoff(base=1, factor=2, cap=60))
    database: Database

    async def run(self) -> None:
        await trio.sleep(0.2)
        raise OSError("again")


class AboveHopeless(Resource):
    restart = Restart(max_restarts=3)
    hopeless: Hopeless


class Topmost(Resource):
    restart = Restart(max_restarts=3)
    above: AboveHopeless


async def test_budgets_do_not_multiply_and_delays_grow(
    autojump_clock: MockClock,
) -> None:
    """Nested budgets multiply, and restarts follow each other without a pause."""
    options = GruOptions(wait_for_failed=True)
    async with open_gru(None, options=options) as gru:
        notices = listen(gru)
        with trio.move_on_after(100):
            await gru.start(Topmost)
            await trio.sleep_forever()
        restarts = {
            name.rpartition(":")[2]: component.restarts
            for name, component in gru.snapshot().components.items()
        }
        await gru.stop()

    assert started(notices).count("Hopeless") == 4
    assert started(notices).count("Database") == 1
    expected = {"Hopeless": 3, "Database": 0, "AboveHopeless": 0, "Topmost": 0}
    assert restarts == expected
    delays: list[Any] = [n.delay for n in notices if isinstance(n, ComponentBackoff)]
    assert [delay / 2**n <= 1 for n, delay in enumerate(delays)] == [True] * 3
    assert [delay / 2**n >= 0.5 for n, delay in enumerate(delays)] == [True] * 3
