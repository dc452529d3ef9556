"""Bounds and what happens at them; stops, and what they leave; over both stores."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from pathlib import Path
from typing import Any, ClassVar

import attrs
import pytest
import trio
from trio.testing import MockClock, wait_all_tasks_blocked

from minions import (
    Backoff,
    Gru,
    GruOptions,
    Minion,
    Pipeline,
    Restart,
    StartError,
    StopResult,
    component_id,
    minion_step,
    open_gru,
)
from minions.notices import (
    ComponentCrashed,
    ComponentEnded,
    EventsRejected,
    Notice,
)
from minions.store import MemoryStore
from minions.store.port import Write

State = Path | None

seen: list[int] = []
log: list[object] = []


@pytest.fixture(autouse=True)
def forget() -> None:
    seen.clear()
    log.clear()
    Slow.gate = trio.Event()
    Slow.down = False


@attrs.frozen
class Number:
    value: int


@attrs.define
class Nothing:
    done: int = 0


class Outside(Pipeline[Number]):
    pass


class Counting(Pipeline[Number]):
    """Counts for ever and never waits of its own."""

    calls: ClassVar[int] = 0

    async def startup(self) -> None:
        Counting.calls = 0

    async def produce_event(self) -> Number:
        Counting.calls += 1
        return Number(Counting.calls)


class ByHand(Pipeline[Number], cursor=int):
    body: ClassVar[Callable[[ByHand], Any]]

    async def run(self) -> None:
        await type(self).body(self)


class Slow(Minion[Number, Nothing]):
    """Each step waits for the gate; ``down`` keeps the minion from coming up."""

    max_in_flight = 5
    max_backlog = 8
    restart = Restart(backoff=Backoff(base=1, cap=1), max_restarts=1000)
    gate: ClassVar[trio.Event]
    down: ClassVar[bool] = False

    async def startup(self) -> None:
        if self.down:
            raise OSError("not yet")

    @minion_step
    async def wait(self) -> None:
        await self.gate.wait()
        seen.append(self.event.value)


class Rejecting(Slow):
    overflow = "reject"


class Quick(Minion[Number, Nothing]):
    @minion_step
    async def note(self) -> None:
        log.append(self.event.value)


def crash(gru: Gru) -> None:
    """Crash the minion, as a task in its nursery would."""
    group = gru._group
    for member in group.members.values():
        if member.current is not None and "Slow" in member.name:
            group.crash(member.current, OSError("on purpose"))


async def leave(gru: Gru) -> None:
    gru.cut_over()
    await gru.stop()


async def test_a_slow_minion_slows_its_source(
    state: State, autojump_clock: MockClock
) -> None:
    async with open_gru(state) as gru:
        orchestration = await gru.start_minion(Slow, Counting)
        await trio.sleep(10)

        assert Counting.calls == 5
        look = gru.snapshot().orchestrations[orchestration.id]
        assert (look.unfinished, look.source_waits) == (5, True)
        await leave(gru)


async def test_calls_of_emit_wait_in_their_order(
    state: State, autojump_clock: MockClock
) -> None:
    async with open_gru(state) as gru:
        await gru.start_minion(Slow, Outside)
        async with trio.open_nursery() as nursery:
            for n in range(12):
                nursery.start_soon(gru.emit, Outside, Number(n))
                await wait_all_tasks_blocked()
            look = next(iter(gru.snapshot().orchestrations.values()))
            assert look.unfinished == 5
            Slow.gate.set()
        await trio.sleep(1)
        found = list(seen)
        await gru.stop()

    assert sorted(found[:5]) == list(range(5))
    assert sorted(found) == list(range(12))


async def test_a_cancelled_wait_for_room_lets_the_next_one_in(
    state: State, autojump_clock: MockClock
) -> None:
    """A large batch at the head of the line must not keep a small one out."""

    async def body(pipeline: ByHand) -> None:
        await pipeline.emit_many([Number(n) for n in range(3)])
        scope = trio.CancelScope()

        async def large() -> None:
            with scope:
                await pipeline.emit_many([Number(10), Number(11), Number(12)])
            assert scope.cancelled_caught

        async with trio.open_nursery() as nursery:
            nursery.start_soon(large)
            await wait_all_tasks_blocked()
            nursery.start_soon(pipeline.emit, Number(4))
            await wait_all_tasks_blocked()
            log.append(len(pipeline_table(log[0]).works))
            scope.cancel()
            await wait_all_tasks_blocked()
            log.append(len(pipeline_table(log[0]).works))

    ByHand.body = body
    async with open_gru(state) as gru:
        log.append(gru)
        async with gru.starting():
            await gru.start_minion(Slow, ByHand)
        await trio.sleep(1)
        await leave(gru)

    assert log[1:] == [3, 4]


def pipeline_table(gru: Any) -> Any:
    (table,) = gru._subscriptions.tables.values()
    return table


async def test_a_batch_above_the_bound_is_taken_when_nothing_else_is_there(
    state: State, autojump_clock: MockClock
) -> None:
    async def body(pipeline: ByHand) -> None:
        await pipeline.emit(Number(0))
        await pipeline.emit_many([Number(n) for n in range(1, 21)])
        log.append("taken")

    ByHand.body = body
    async with open_gru(state) as gru:
        await gru.start_minion(Slow, ByHand)
        await trio.sleep(1)
        assert log == []
        Slow.gate.set()

    assert log == ["taken"]
    assert sorted(seen) == list(range(21))


async def test_a_minion_that_is_down_has_a_backlog(
    state: State, autojump_clock: MockClock
) -> None:
    """After its return the source waits until there is room while it is up."""
    async with open_gru(state) as gru:
        orchestration = await gru.start_minion(Slow, Counting)
        await trio.sleep(1)
        Slow.down = True
        crash(gru)
        await trio.sleep(10)
        assert Counting.calls == 8

        Slow.down = False
        await gru.wait_up(Slow)
        await trio.sleep(10)
        look = gru.snapshot().orchestrations[orchestration.id]
        assert (Counting.calls, look.running, look.ready) == (8, 5, 3)
        await leave(gru)


async def test_a_minion_that_has_failed_has_a_backlog(
    state: State, autojump_clock: MockClock
) -> None:
    options = GruOptions(wait_for_failed=True)
    async with open_gru(state, options=options) as gru:
        await gru.start_minion(SlowOnce, Counting)
        await trio.sleep(1)
        crash(gru)
        await trio.sleep(10)

        assert not gru.snapshot().healthy
        assert Counting.calls == 8
        await leave(gru)


class SlowOnce(Slow):
    restart = Restart(type="temporary")


@component_id("narrow")
class Narrow(Slow):
    """Has the same subscription before and after a change of its bounds."""

    max_backlog = 8


async def test_a_start_that_fails_changes_no_bounds(
    autojump_clock: MockClock, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    folder = tmp_path / "state"
    async with open_gru(folder) as gru:
        await gru.start_minion(Narrow, Outside)
        await gru.stop()
    async with open_gru(folder) as gru:
        (table,) = gru.workflows._tables.values()
        monkeypatch.setattr(Narrow, "max_backlog", 20)
        Slow.down = True
        with pytest.raises(StartError):
            await gru.start_minion(Narrow, Outside)
        assert table.bounds.max_backlog == 8
        Slow.down = False

        await gru.start_minion(Narrow, Outside)

        assert table.bounds.max_backlog == 20
        await gru.stop()


async def test_what_an_emit_that_never_happened_rejects_is_not_counted(
    state: State, autojump_clock: MockClock
) -> None:
    async def body(pipeline: ByHand) -> None:
        with trio.CancelScope() as scope:
            scope.cancel()
            await pipeline.emit_many([Number(n) for n in range(7)], cursor=7)
        log.append(scope.cancelled_caught)

    notices: list[Notice] = []
    ByHand.body = body
    async with trio.open_nursery() as nursery, open_gru(state) as gru:
        nursery.start_soon(read_all, gru, notices)
        await wait_all_tasks_blocked()
        orchestration = await gru.start_minion(Rejecting, ByHand)
        await trio.sleep(1)
        rejected = orchestration.table.rejected

    assert (log, rejected) == ([True], 0)
    assert not [n for n in notices if isinstance(n, EventsRejected)]


async def test_reject_lets_events_go_counted_and_noted(
    state: State, autojump_clock: MockClock
) -> None:
    async def body(pipeline: ByHand) -> None:
        ids = await pipeline.emit_many([Number(n) for n in range(7)], cursor=7)
        log.append([len([i for i in pair if i is None]) for pair in ids])
        log.append(pipeline.cursor)
        log.append(await pipeline.emit(Number(7), cursor=8))
        Slow.gate.set()

    notices: list[Notice] = []
    ByHand.body = body
    async with trio.open_nursery() as nursery, open_gru(state) as gru:
        nursery.start_soon(read_all, gru, notices)
        await wait_all_tasks_blocked()
        orchestration = await gru.start_minion(Rejecting, ByHand)
        await trio.sleep(1)
        table = orchestration.table

    assert log == [[0, 0, 0, 0, 0, 1, 1], 7, (None,)]
    assert sorted(seen) == [0, 1, 2, 3, 4]
    assert table.rejected == 3
    found = [n for n in notices if isinstance(n, EventsRejected)]
    assert [n.total for n in found] == [1, 2, 3]


async def read_all(gru: Gru, into: list[Notice]) -> None:
    async for notice in gru.notices():
        into.append(notice)  # noqa: PERF401  # it never ends


async def test_a_subscription_that_rejects_slows_nobody(
    state: State, autojump_clock: MockClock
) -> None:
    async with open_gru(state) as gru:
        await gru.start_minion(Rejecting, Outside)
        await gru.start_minion(Quick, Outside)
        for n in range(20):
            await gru.emit(Outside, Number(n))
        await trio.sleep(1)
        await leave(gru)

    assert sorted(log) == list(range(20))  # type: ignore[type-var]


async def test_max_unfinished_bounds_the_backlog(
    state: State, autojump_clock: MockClock
) -> None:
    async with open_gru(state) as gru:
        await gru.start_minion(Bounded, Counting)
        await trio.sleep(1)
        assert Counting.calls == 4
        await leave(gru)


class Bounded(Slow):
    max_unfinished = 4


# Stopping.


async def test_drain_lets_what_was_accepted_end(
    state: State, autojump_clock: MockClock
) -> None:
    async with open_gru(state) as gru:
        orchestration = await gru.start_minion(Slow, Outside)
        for n in range(5):
            await gru.emit(Outside, Number(n))
        async with trio.open_nursery() as nursery:

            async def stop() -> None:
                log.append(await orchestration.stop("drain"))

            nursery.start_soon(stop)
            await trio.sleep(1)
            assert orchestration.status == "draining"
            Slow.gate.set()
        assert await orchestration.wait() == "stopped"

    assert log == [StopResult(5, 0, 0)]
    assert sorted(seen) == [0, 1, 2, 3, 4]


async def test_a_drain_that_overruns_cuts_and_saves(
    folder: Path, autojump_clock: MockClock
) -> None:
    async with open_gru(folder) as gru:
        orchestration = await gru.start_minion(Slow, Outside)
        for n in range(3):
            await gru.emit(Outside, Number(n))
        began = trio.current_time()
        assert await orchestration.stop("drain", grace=2) == StopResult(0, 3, 3)
        assert trio.current_time() - began == pytest.approx(2)

    async with open_gru(folder) as gru:
        Slow.gate.set()
        await gru.start_minion(Slow, Outside)
        await trio.sleep(1)
        await gru.stop()
    assert sorted(seen) == [0, 1, 2]


@pytest.mark.parametrize(("mode", "kept"), [("drain", False), ("cutover", True)])
async def test_drain_unsubscribes_and_cutover_does_not(
    folder: Path, autojump_clock: MockClock, mode: Any, *, kept: bool
) -> None:
    async with open_gru(folder) as gru:
        await gru.start_minion(Quick, Outside)
        orchestration = await gru.start_minion(Slow, Outside)
        await gru.emit(Outside, Number(1))
        await wait_all_tasks_blocked()
        result = await orchestration.stop(mode, grace=1)
        assert result == StopResult(0, 1, 1)
        assert len(await gru.emit(Outside, Number(2))) == 1 + kept
        await gru.stop()

    async with open_gru(folder) as gru:
        Slow.gate.set()
        await gru.start_minion(Slow, Outside)
        await trio.sleep(1)
        await gru.stop()
    assert sorted(seen) == [1, 2][: 1 + kept]


async def test_the_stop_of_all_unsubscribes_nobody(
    folder: Path, autojump_clock: MockClock
) -> None:
    Slow.gate.set()
    for _ in range(2):
        async with open_gru(folder) as gru:
            assert len(gru.snapshot().orchestrations) == len(seen)
            await gru.start_minion(Slow, Outside)
            await gru.emit(Outside, Number(1))
            await trio.sleep(1)
            await gru.stop()


async def test_the_stop_of_all_drains_for_the_grace_then_cuts(
    folder: Path, autojump_clock: MockClock
) -> None:
    async with open_gru(folder, options=GruOptions(grace=3)) as gru:
        await gru.start_minion(Slow, Outside)
        await gru.emit(Outside, Number(1))
        began = trio.current_time()
        await gru.stop()
        assert 3 <= trio.current_time() - began < 4

    async with open_gru(folder) as gru:
        Slow.gate.set()
        await gru.start_minion(Slow, Outside)
        await trio.sleep(1)
        await gru.stop()
    assert seen == [1]


async def test_an_emit_from_outside_that_waits_is_refused_at_the_stop(
    state: State, autojump_clock: MockClock
) -> None:
    async with trio.open_nursery() as nursery, open_gru(state) as gru:
        await gru.start_minion(Slow, Outside)
        for n in range(5):
            await gru.emit(Outside, Number(n))

        async def late() -> None:
            with pytest.raises(trio.ClosedResourceError):
                await gru.emit(Outside, Number(9))
            log.append("refused")

        nursery.start_soon(late)
        await wait_all_tasks_blocked()
        await leave(gru)

    assert log == ["refused"]


async def test_a_drain_goes_on_when_the_last_emit_is_cancelled(
    autojump_clock: MockClock,
) -> None:
    """Its place is given back, and who waits for the last place hears of it."""
    store = HeldStore()
    async with open_gru(store) as gru:
        await gru.start_minion(Slow, Outside)
        async with trio.open_nursery() as nursery:
            store.held = True
            nursery.start_soon(gru.emit, Outside, Number(1))
            await wait_all_tasks_blocked()
            gru.ask_stop()
            await wait_all_tasks_blocked()
            nursery.cancel_scope.cancel()
        store.let_go()
        began = trio.current_time()
        await gru.stop()

    assert trio.current_time() - began < 1
    assert seen == []


class HeldStore(MemoryStore):
    """Commits nothing while held; a waiting write may be cancelled."""

    def __init__(self) -> None:
        super().__init__()
        self.held = False
        self._free = trio.Event()

    async def write(self, writes: Any) -> None:
        if self.held:
            await self._free.wait()
        await super().write(writes)

    def let_go(self) -> None:
        self.held = False
        self._free.set()


async def test_the_source_of_a_drained_orchestration_ends_at_once(
    state: State, autojump_clock: MockClock
) -> None:
    """Nobody else would hear its events."""
    async with open_gru(state) as gru:
        orchestration = await gru.start_minion(Slow, Counting)
        await trio.sleep(1)
        before = Counting.calls
        await orchestration.stop("drain", grace=0.01)

    assert Counting.calls - before <= 1


async def test_a_cancelled_stop_may_be_asked_for_again(
    state: State, autojump_clock: MockClock
) -> None:
    async with open_gru(state) as gru:
        orchestration = await gru.start_minion(Slow, Outside)
        await gru.emit(Outside, Number(1))
        with trio.move_on_after(1):
            await orchestration.stop("drain")
        Slow.gate.set()
        with trio.fail_after(60):
            await orchestration.stop("cutover")


class Background(Pipeline[Number]):
    """Emits from a task of its nursery, until there is no room."""

    async def startup(self) -> None:
        self.nursery.start_soon(self.emit_forever)

    async def emit_forever(self) -> None:
        await trio.sleep(1)
        while True:
            await self.emit(Number(1))

    async def run(self) -> None:
        await trio.sleep_forever()


async def test_a_stop_cancels_an_emit_of_a_background_task(
    state: State, autojump_clock: MockClock
) -> None:
    """It is no crash: the task has done nothing wrong."""
    notices: list[Notice] = []
    async with trio.open_nursery() as nursery, open_gru(state) as gru:

        async def read() -> None:
            async for notice in gru.notices():
                notices.append(notice)  # noqa: PERF401  # it never ends

        nursery.start_soon(read)
        await gru.start_minion(Slow, Background)
        await trio.sleep(2)
        await leave(gru)
        nursery.cancel_scope.cancel()

    assert not [n for n in notices if isinstance(n, ComponentCrashed)]
    assert [n for n in notices if isinstance(n, ComponentEnded)]


class SlowStore(MemoryStore):
    """Tells of no commit while held."""

    held = False

    def write_nowait(
        self, writes: Sequence[Write], done: Callable[[], None] | None = None
    ) -> None:
        if self.held and done is not None:
            self.kept.append(done)
            done = None
        super().write_nowait(writes, done)

    def __init__(self) -> None:
        super().__init__()
        self.kept: list[Callable[[], None]] = []


async def test_a_stop_returns_when_the_last_end_is_on_disk(
    autojump_clock: MockClock,
) -> None:
    store = SlowStore()
    async with trio.open_nursery() as nursery, open_gru(store) as gru:
        orchestration = await gru.start_minion(Slow, Outside)
        await gru.emit(Outside, Number(1))
        nursery.start_soon(orchestration.stop)
        await wait_all_tasks_blocked()
        store.held = True
        Slow.gate.set()
        await wait_all_tasks_blocked()
        await gru.start_minion(Quick, Outside)  # wakes all who wait for a change
        assert orchestration.status == "draining"

        store.held = False
        store.kept.pop()()
        assert await orchestration.wait() == "stopped"
        await gru.stop()
