"""Where events come from: sources, emit, cursors, subscriptions; over both stores."""

from __future__ import annotations

from collections.abc import Callable
from functools import partial
from itertools import pairwise
from pathlib import Path
from typing import Any, ClassVar

import attrs
import pytest
import trio
from trio.testing import MockClock, wait_all_tasks_blocked

from minions import (
    AlreadyRunningError,
    Backoff,
    DefinitionError,
    DependencyLost,
    Gru,
    GruOptions,
    Minion,
    NotRunningError,
    Orchestration,
    Pipeline,
    RestartLimitError,
    SnapshotError,
    StartError,
    StoreFullError,
    minion_step,
    open_gru,
)
from minions.notices import (
    ComponentCrashed,
    Notice,
    NoticesLost,
    SourceFailed,
    SubscriptionsWaiting,
)
from minions.store import MemoryStore

State = Path | None

seen: list[int] = []
other: list[int] = []
log: list[object] = []


@pytest.fixture(autouse=True)
def forget() -> None:
    seen.clear()
    other.clear()
    log.clear()
    Scripted.script = []
    Scripted.forever = False


@attrs.frozen
class Number:
    value: int


@attrs.frozen
class Text:
    value: str


@attrs.define
class Nothing:
    done: int = 0


class Collector(Minion[Number, Nothing]):
    @minion_step
    async def collect(self) -> None:
        seen.append(self.event.value)


class Other(Minion[Number, Nothing]):
    @minion_step
    async def collect(self) -> None:
        other.append(self.event.value)


class Outside(Pipeline[Number]):
    pass


class Scripted(Pipeline[Number]):
    """Returns, raises or does what the script says; then it ends, or waits."""

    error_backoff = Backoff(base=1, factor=2, cap=8)
    max_errors = 3
    script: ClassVar[list[Any]] = []
    forever: ClassVar[bool] = False

    async def produce_event(self) -> Number:
        if not self.script:
            if self.forever:
                await trio.sleep_forever()
            raise trio.EndOfChannel
        item = self.script.pop(0)
        if isinstance(item, BaseException):
            raise item
        return item  # type: ignore[no-any-return]


class ByHand(Pipeline[Number], cursor=int):
    """Runs the body that the test gives."""

    body: ClassVar[Callable[[ByHand], Any]]

    async def run(self) -> None:
        await type(self).body(self)


async def read_all(gru: Gru, into: list[Notice]) -> None:
    async for notice in gru.notices():
        into.append(notice)  # noqa: PERF401  # it never ends


# produce_event.


async def test_a_source_ends_with_end_of_channel(
    state: State, autojump_clock: MockClock
) -> None:
    Scripted.script = [Number(1), Number(2)]

    async with open_gru(state) as gru:
        orchestration = await gru.start_minion(Collector, Scripted)
        assert await orchestration.wait() == "ended"

    assert sorted(seen) == [1, 2]


class HeldStore(MemoryStore):
    """Commits nothing while held; the writes wait in order."""

    def __init__(self) -> None:
        super().__init__()
        self.held = False
        self._kept: list[Any] = []

    def write_nowait(self, writes: Any, done: Callable[[], None] | None = None) -> None:
        if self.held:
            self._kept.append((writes, done))
        else:
            super().write_nowait(writes, done)

    async def write(self, writes: Any) -> None:
        saved = trio.Event()
        self.write_nowait(writes, saved.set)
        await saved.wait()

    def let_go(self) -> None:
        self.held = False
        kept, self._kept = self._kept, []
        for writes, done in kept:
            self.write_nowait(writes, done)


async def test_the_next_call_does_not_wait_for_the_last_commit(
    autojump_clock: MockClock,
) -> None:
    Scripted.script = [Number(n) for n in range(5)]
    store = HeldStore()
    async with open_gru(store) as gru:
        async with gru.starting():
            await gru.start_minion(Collector, Scripted)
            store.held = True
        await wait_all_tasks_blocked()

        assert (Scripted.script, seen) == ([], [])
        store.let_go()

    assert sorted(seen) == [0, 1, 2, 3, 4]


class Restless(Pipeline[Number]):
    calls: ClassVar[int] = 0

    async def produce_event(self) -> Number:
        Restless.calls += 1
        return Number(Restless.calls)


class Rejecting(Minion[Number, Nothing]):
    overflow = "reject"
    max_in_flight = 1

    @minion_step
    async def block(self) -> None:
        await trio.sleep_forever()


async def test_a_source_that_never_waits_lets_others_have_their_turn(
    state: State, autojump_clock: MockClock
) -> None:
    Restless.calls = 0
    turns: list[int] = []
    async with open_gru(state) as gru:
        await gru.start_minion(Rejecting, Restless)
        for _ in range(5):
            await trio.lowlevel.checkpoint()
            turns.append(Restless.calls)
        gru.cut_over()

    steps = [b - a for a, b in pairwise(turns)]
    assert max(steps) <= 2 * 64, "a turn of its own before and one after"
    assert turns[-1] > turns[0], "it goes on beside"


async def test_errors_of_a_source_are_noted_and_tried_again(
    state: State, autojump_clock: MockClock
) -> None:
    Scripted.script = [
        Number(1),
        ValueError("one"),
        ValueError("two"),
        Number(2),
        ValueError("three"),
    ]
    notices: list[Notice] = []
    async with trio.open_nursery() as nursery, open_gru(state) as gru:
        nursery.start_soon(read_all, gru, notices)
        await wait_all_tasks_blocked()
        await gru.start_minion(Collector, Scripted)

    failed = [n for n in notices if isinstance(n, SourceFailed)]
    assert [n.errors_in_a_row for n in failed] == [1, 2, 1]
    assert all(
        whole / 2 <= n.delay <= whole
        for n, whole in zip(failed, [1, 2, 1], strict=True)
    )
    assert seen == [1, 2]


async def test_too_many_errors_in_a_row_crash_the_pipeline(
    state: State, autojump_clock: MockClock
) -> None:
    Scripted.script = [ValueError(str(n)) for n in range(3)]
    notices: list[Notice] = []
    async with trio.open_nursery() as nursery, open_gru(state) as gru:
        nursery.start_soon(read_all, gru, notices)
        await wait_all_tasks_blocked()
        await gru.start_minion(Collector, Scripted)

    (crash,) = [n for n in notices if isinstance(n, ComponentCrashed)]
    assert "ValueError: 2" in str(crash.report)


@pytest.mark.parametrize(
    "lost",
    [DependencyLost("gone"), ExceptionGroup("both", [DependencyLost("gone")] * 2)],
    ids=["plain", "group"],
)
async def test_a_lost_dependency_is_no_error_of_the_source(
    lost: Exception, state: State, autojump_clock: MockClock
) -> None:
    Scripted.script = [lost] * 5 + [Number(1)]
    notices: list[Notice] = []
    async with trio.open_nursery() as nursery, open_gru(state) as gru:
        nursery.start_soon(read_all, gru, notices)
        await wait_all_tasks_blocked()
        await gru.start_minion(Collector, Scripted)

    assert not [n for n in notices if isinstance(n, ComponentCrashed)]
    assert seen == [1]


@pytest.mark.parametrize(
    "bad", [Text("no number"), Number(2**80), None], ids=["class", "value", "nothing"]
)
async def test_a_bad_event_is_an_error_of_the_source(
    bad: Any, state: State, autojump_clock: MockClock
) -> None:
    Scripted.script = [bad, Number(1)]
    notices: list[Notice] = []
    async with trio.open_nursery() as nursery, open_gru(state) as gru:
        nursery.start_soon(read_all, gru, notices)
        await wait_all_tasks_blocked()
        await gru.start_minion(Collector, Scripted)

    assert len([n for n in notices if isinstance(n, SourceFailed)]) == 1
    assert seen == [1]


class Texts(Pipeline[Text]):
    script: ClassVar[list[Text]] = []

    async def produce_event(self) -> Text:
        if not self.script:
            raise trio.EndOfChannel
        return self.script.pop(0)


class TextCollector(Minion[Text, Nothing]):
    @minion_step
    async def collect(self) -> None:
        log.append(self.event.value)


async def test_an_event_above_max_record_takes_no_place(
    state: State, autojump_clock: MockClock
) -> None:
    Texts.script = [Text("x" * 2000), Text("small")]
    async with open_gru(state, options=GruOptions(max_record=1024)) as gru:
        await gru.start_minion(TextCollector, Texts)

    assert log == ["small"]


class Swallowing(Pipeline[Number]):
    async def produce_event(self) -> Number:
        if log:
            await trio.sleep_forever()
        try:
            await trio.sleep_forever()
        except trio.Cancelled:
            log.append("cancelled")
        return Number(7)


async def test_what_was_returned_is_accepted_when_a_stop_arrives(
    folder: Path, autojump_clock: MockClock
) -> None:
    with trio.move_on_after(5):
        async with open_gru(folder) as gru:
            await gru.start_minion(Collector, Swallowing)
            await trio.sleep(1)
            await gru.stop()

    async with open_gru(folder) as gru:
        orchestration = await gru.start_minion(Collector, Swallowing)
        await wait_all_tasks_blocked()
        await orchestration.stop("cutover")
    assert seen == [7]


# run and emit.


async def start_by_hand(gru: Gru, body: Callable[[ByHand], Any]) -> Orchestration:
    ByHand.body = body
    return await gru.start_minion(Collector, ByHand)


async def test_emit_returns_ids_in_the_order_of_subscription(
    state: State, autojump_clock: MockClock
) -> None:
    async def body(pipeline: ByHand) -> None:
        log.append(await pipeline.emit(Number(1)))
        log.append(await pipeline.emit_many([Number(2), Number(3)]))

    ByHand.body = body
    async with open_gru(state) as gru:
        async with gru.starting():
            await gru.start_minion(Collector, ByHand)
            await gru.start_minion(Other, ByHand)
        await gru.wait_up(ByHand)

    assert log == [("w1", "w2"), (("w3", "w4"), ("w5", "w6"))]
    assert (sorted(seen), sorted(other)) == ([1, 2, 3], [1, 2, 3])


async def test_emit_many_is_one_commit(state: State, autojump_clock: MockClock) -> None:
    async def body(pipeline: ByHand) -> None:
        await pipeline.emit(Number(0))
        await trio.sleep(1)
        before = log[0].snapshot().store.commits  # type: ignore[attr-defined]
        await pipeline.emit_many([Number(n) for n in range(1, 100)], cursor=9)
        log.append(log[0].snapshot().store.commits - before)  # type: ignore[attr-defined]

    async with open_gru(state) as gru:
        log.append(gru)
        async with gru.starting():
            await start_by_hand(gru, body)
            await gru.start_minion(Other, ByHand)
        await trio.sleep(3)

    assert log[1] == 1
    assert sorted(seen) == list(range(100))


@attrs.frozen
class LargeNumber(Number):
    pass


@pytest.mark.parametrize(
    ("bad", "error"),
    [
        (Text("x"), TypeError),
        (LargeNumber(1), TypeError),
        (Number(2**80), SnapshotError),
    ],
    ids=["class", "subclass", "value"],
)
async def test_emit_many_accepts_all_or_none(
    bad: Any, error: type[Exception], state: State, autojump_clock: MockClock
) -> None:
    async def body(pipeline: ByHand) -> None:
        with pytest.raises(error):
            await pipeline.emit_many([Number(1), bad, Number(2)], cursor=5)
        log.append(pipeline.cursor)

    async with open_gru(state) as gru:
        await start_by_hand(gru, body)

    assert log == [None]
    assert seen == []


async def test_emit_refuses_what_is_no_position(
    state: State, autojump_clock: MockClock
) -> None:
    async def body(pipeline: ByHand) -> None:
        with pytest.raises((TypeError, SnapshotError)):
            await pipeline.emit(Number(1), cursor="five")
        await pipeline.emit(Number(2), cursor=1)

    async with open_gru(state) as gru:
        await start_by_hand(gru, body)

    assert seen == [2]


class Early(Pipeline[Number]):
    async def startup(self) -> None:
        with pytest.raises(trio.ClosedResourceError):
            await self.emit(Number(1))
        log.append("early")

    async def run(self) -> None:
        await trio.sleep_forever()

    async def shutdown(self) -> None:
        with pytest.raises(trio.ClosedResourceError):
            await self.emit(Number(2))
        with pytest.raises(trio.ClosedResourceError):
            await self.emit_many([Number(2)])
        log.append("late")


async def test_emit_works_between_startup_and_stop_only(
    state: State, autojump_clock: MockClock
) -> None:
    async with open_gru(state) as gru:
        await gru.start_minion(Collector, Early)
        await trio.sleep(1)
        await gru.stop()

    assert log == ["early", "late"]
    assert seen == []


async def test_several_tasks_emit(state: State, autojump_clock: MockClock) -> None:
    async def body(pipeline: ByHand) -> None:
        async def some(first: int) -> None:
            for n in range(first, first + 20):
                await pipeline.emit(Number(n))

        async with trio.open_nursery() as nursery:
            for first in range(0, 100, 20):
                nursery.start_soon(some, first)

    async with open_gru(state) as gru:
        await start_by_hand(gru, body)

    assert sorted(seen) == list(range(100))
    for first in range(0, 100, 20):
        mine = [n for n in seen if first <= n < first + 20]
        assert mine == sorted(mine)


async def emit_until_cancelled(gru: Gru, value: int, checkpoints: int) -> bool:
    """Cancel a call of emit after some turns of the loop; say whether it returned."""
    returned = False

    async def call() -> None:
        nonlocal returned
        await gru.emit(Outside, Number(value))
        returned = True

    async with trio.open_nursery() as nursery:
        nursery.start_soon(call)
        for _ in range(checkpoints):
            await trio.lowlevel.checkpoint()
        nursery.cancel_scope.cancel()
    return returned


async def test_a_cancelled_emit_accepts_nothing_or_returns(
    state: State, autojump_clock: MockClock
) -> None:
    async with open_gru(state) as gru:
        await gru.start_minion(Collector, Outside)
        answers = [await emit_until_cancelled(gru, n, n) for n in range(12)]
        await trio.sleep(1)
        await gru.stop()

    assert sorted(seen) == [n for n, returned in enumerate(answers) if returned]
    assert set(answers) == {True, False}


async def test_a_cancelled_emit_accepts_nothing_or_returns_in_real_time(
    folder: Path,
) -> None:
    """The writer commits in a thread: the cancellation may meet it anywhere."""
    answers = []
    async with open_gru(folder) as gru:
        await gru.start_minion(Collector, Outside)
        for n in range(60):
            await gru._store.barrier()  # a slow disk must not hold up all of them
            answer = await emit_until_cancelled(gru, n, n % 30)
            answers.append(answer)
        await gru.stop()

    assert sorted(seen) == [n for n, returned in enumerate(answers) if returned]
    assert set(answers) == {True, False}


async def test_a_cancelled_first_emit_costs_later_ones_nothing(
    folder: Path, autojump_clock: MockClock
) -> None:
    """The block of numbers that it would have reserved is reserved all the same."""
    async with open_gru(folder) as gru:
        await gru.start_minion(Blocked, Outside)
        assert not await emit_until_cancelled(gru, 0, 0)
        first = await gru.emit(Outside, Number(1))
        gru.cut_over()
        await gru.stop()

    async with open_gru(folder) as gru:
        await gru.start_minion(Blocked, Outside)
        second = await gru.emit(Outside, Number(2))
        found = [w.event.value async for w in gru.workflows.list()]
        gru.cut_over()
        await gru.stop()

    assert first != second
    assert found == [1, 2]


async def test_numbers_are_unique_when_the_reserving_call_is_cancelled(
    folder: Path, autojump_clock: MockClock
) -> None:
    """Another call that used the reserved block is already on its way."""
    async with open_gru(folder) as gru:
        await gru.start_minion(Blocked, Outside)
        async with trio.open_nursery() as nursery:
            scope = trio.CancelScope()

            async def cancelled() -> None:
                with scope:
                    await gru.emit(Outside, Number(0))

            async def both() -> None:
                async with trio.open_nursery() as inner:
                    inner.start_soon(cancelled)
                    inner.start_soon(gru.emit, Outside, Number(1))
                    scope.cancel()

            nursery.start_soon(both)
        gru.cut_over()
        await gru.stop()

    async with open_gru(folder) as gru:
        await gru.start_minion(Blocked, Outside)
        await gru.emit(Outside, Number(2))
        found = [w.event.value async for w in gru.workflows.list()]
        gru.cut_over()
        await gru.stop()

    assert found == [1, 2]


class Blocked(Minion[Number, Nothing]):
    @minion_step
    async def block(self) -> None:
        await trio.sleep_forever()


async def test_emit_from_outside_needs_a_pipeline_without_a_source(
    state: State, autojump_clock: MockClock
) -> None:
    Scripted.forever = True
    async with open_gru(state) as gru:
        with pytest.raises(NotRunningError):
            await gru.emit(Outside, Number(1))
        await gru.start_minion(Collector, Scripted)
        with pytest.raises(DefinitionError):
            await gru.emit(Scripted, Number(1))
        await gru.stop()


class SlowOutside(Outside):
    async def startup(self) -> None:
        await trio.sleep(2)


async def test_emit_from_outside_before_anybody_subscribes_is_refused(
    state: State, autojump_clock: MockClock
) -> None:
    """Else it would return, and the event would have gone to nobody."""
    async with open_gru(state) as gru, trio.open_nursery() as nursery:
        nursery.start_soon(gru.start_minion, Collector, SlowOutside)
        await trio.sleep(1)

        with pytest.raises(NotRunningError, match="found none"):
            await gru.emit(SlowOutside, Number(1))

        await trio.sleep(2)
        assert await gru.emit(SlowOutside, Number(2)) == ("w1",)
        await gru.stop()
    assert seen == [2]


async def test_emit_from_outside_after_the_stop_is_refused(
    state: State, autojump_clock: MockClock
) -> None:
    async with open_gru(state) as gru:
        await gru.start_minion(Collector, Outside)
        gru.ask_stop()
        with pytest.raises(trio.ClosedResourceError):
            await gru.emit(Outside, Number(1))


# Cursors.


async def test_a_cursor_is_none_at_first_and_set_when_emit_returns(
    state: State, autojump_clock: MockClock
) -> None:
    async def body(pipeline: ByHand) -> None:
        log.append(pipeline.cursor)
        await pipeline.emit(Number(1), cursor=10)
        log.append(pipeline.cursor)
        await pipeline.emit(Number(2))
        await pipeline.emit_many([], cursor=20)
        log.append(pipeline.cursor)

    async with open_gru(state) as gru:
        await start_by_hand(gru, body)

    assert log == [None, 10, 20]


async def test_a_second_emit_with_a_cursor_is_busy(autojump_clock: MockClock) -> None:
    store = HeldStore()

    async def body(pipeline: ByHand) -> None:
        store.held = True
        async with trio.open_nursery() as nursery:
            nursery.start_soon(partial(pipeline.emit, Number(1), cursor=1))
            await wait_all_tasks_blocked()
            with pytest.raises(trio.BusyResourceError):
                await pipeline.emit(Number(2), cursor=2)
            nursery.start_soon(pipeline.emit, Number(3))
            await wait_all_tasks_blocked()
            log.append(pipeline.cursor)
            store.let_go()
        log.append(pipeline.cursor)

    async with open_gru(store) as gru:
        await start_by_hand(gru, body)

    assert log == [None, 1]
    assert sorted(seen) == [1, 3]


async def test_a_cancelled_emit_leaves_the_cursor_free(
    state: State, autojump_clock: MockClock
) -> None:
    async def body(pipeline: ByHand) -> None:
        with trio.CancelScope() as scope:
            scope.cancel()
            await pipeline.emit(Number(1), cursor=1)
        log.append(pipeline.cursor)
        await pipeline.emit(Number(2), cursor=2)
        log.append(pipeline.cursor)

    async with open_gru(state) as gru:
        await start_by_hand(gru, body)

    assert log == [None, 2]
    assert seen == [2]


@attrs.frozen
class Place:
    file: str
    line: int


class Files(Pipeline[Number, Place]):
    async def run(self) -> None:
        log.append(self.cursor)
        line = self.cursor.line + 1 if self.cursor else 1
        await self.emit(Number(line), cursor=Place("a", line))


async def test_a_cursor_survives_the_end_of_the_process(
    folder: Path, autojump_clock: MockClock
) -> None:
    for _ in range(3):
        async with open_gru(folder) as gru:
            await gru.start_minion(Collector, Files)

    assert log == [None, Place("a", 1), Place("a", 2)]
    assert seen == [1, 2, 3]


async def test_a_restarted_pipeline_goes_on_at_its_cursor(
    state: State, autojump_clock: MockClock
) -> None:
    async def body(pipeline: ByHand) -> None:
        at = pipeline.cursor or 0
        while at < 5:
            at += 1
            await pipeline.emit(Number(at), cursor=at)
            if at == 3 and not log:
                log.append("crash")
                raise OSError("gone")

    async with open_gru(state) as gru:
        await start_by_hand(gru, body)

    assert seen == [1, 2, 3, 4, 5]


@attrs.define
class Mark:
    line: int = 0


class Marking(Pipeline[Number, Mark]):
    """Moves one and the same object along, and crashes once between two emits."""

    async def run(self) -> None:
        mark = self.cursor or Mark()
        while mark.line < 5:
            mark.line += 1
            if mark.line == 3 and not log:
                log.append("crash")
                raise OSError("gone")
            await self.emit(Number(mark.line), cursor=mark)


async def test_a_position_that_is_changed_and_not_emitted_is_not_committed(
    state: State, autojump_clock: MockClock
) -> None:
    """Else a restarted pipeline would pass over an event."""
    async with open_gru(state) as gru:
        await gru.start_minion(Collector, Marking)

    assert seen == [1, 2, 3, 4, 5]


# Subscriptions.


async def test_a_subscription_that_is_not_started_gets_its_events_later(
    folder: Path, autojump_clock: MockClock
) -> None:
    async with open_gru(folder) as gru:
        await gru.start_minion(Collector, Outside)
        await gru.start_minion(Other, Outside)
        await gru.stop()

    notices: list[Notice] = []
    async with trio.open_nursery() as nursery, open_gru(folder) as gru:
        nursery.start_soon(read_all, gru, notices)
        await wait_all_tasks_blocked()
        await gru.start_minion(Collector, Outside)
        ids = await gru.emit(Outside, Number(1))
        assert not gru.snapshot().healthy
        await trio.sleep(1)
        assert (seen, other) == ([1], [])

        await gru.start_minion(Other, Outside)
        await trio.sleep(1)
        assert gru.snapshot().healthy
        await gru.stop()

    assert len(ids) == 2
    assert other == [1]
    (notice,) = [n for n in notices if isinstance(n, SubscriptionsWaiting)]
    assert len(notice.orchestrations) == 1


async def test_what_waits_for_a_subscription_survives_the_process(
    folder: Path, autojump_clock: MockClock
) -> None:
    async with open_gru(folder) as gru:
        await gru.start_minion(Collector, Outside)
        await gru.start_minion(Other, Outside)
        await gru.stop()
    async with open_gru(folder) as gru:
        await gru.start_minion(Collector, Outside)
        await gru.emit(Outside, Number(1))
        await gru.stop()

    async with open_gru(folder) as gru:
        await gru.start_minion(Other, Outside)
        await trio.sleep(1)
        await gru.stop()

    assert (seen, other) == ([1], [1])


async def test_starting_holds_all_until_its_end(
    state: State, autojump_clock: MockClock
) -> None:
    Scripted.script = [Number(1), Number(2)]
    async with open_gru(state) as gru:  # noqa: SIM117  # the end of the inner counts
        async with gru.starting():
            await gru.start_minion(Collector, Scripted)
            await trio.sleep(5)
            assert len(Scripted.script) == 2
            await gru.start_minion(Other, Scripted)

    assert (sorted(seen), sorted(other)) == ([1, 2], [1, 2])


async def test_starting_refuses_a_subscription_that_nobody_starts(
    folder: Path, autojump_clock: MockClock
) -> None:
    Scripted.forever = True
    async with open_gru(folder) as gru:
        await gru.start_minion(Collector, Scripted)
        missing = (await gru.start_minion(Other, Scripted)).id
        await gru.stop()

    Scripted.script = [Number(1)]
    async with open_gru(folder) as gru:
        with pytest.raises(StartError, match=f"minions forget {missing}"):
            async with gru.starting():
                await gru.start_minion(Collector, Scripted)
        await trio.sleep(1)
        assert seen == [], "the pipelines stay held"

        async with gru.starting():
            await gru.start_minion(Other, Scripted)
        await trio.sleep(1)
        await gru.stop()

    assert (seen, other) == ([1], [1])


@pytest.mark.parametrize("wait", [True, False])
async def test_a_stop_inside_starting_begins_no_source(
    folder: Path, autojump_clock: MockClock, *, wait: bool
) -> None:
    """It is no start that failed: what was started has ended in order."""
    Scripted.script = [Number(1)]
    async with open_gru(folder) as gru, gru.starting():
        collecting = await gru.start_minion(Collector, Scripted)
        if wait:
            await gru.stop()
        else:
            gru.ask_stop()

    assert (collecting.status, seen) == ("stopped", [])

    async with open_gru(folder) as gru:
        async with gru.starting():
            await gru.start_minion(Collector, Scripted)
        await trio.sleep(1)
        await gru.stop()

    assert seen == [1]


async def test_a_new_subscription_gets_events_from_the_next_one_on(
    state: State, autojump_clock: MockClock
) -> None:
    async with open_gru(state) as gru:
        await gru.start_minion(Collector, Outside)
        await gru.emit(Outside, Number(1))
        await gru.start_minion(Other, Outside)
        await gru.emit(Outside, Number(2))
        await trio.sleep(1)
        await gru.stop()

    assert (seen, other) == ([1, 2], [2])


async def test_forget_ends_a_subscription(
    folder: Path, autojump_clock: MockClock
) -> None:
    async with open_gru(folder) as gru:
        running = await gru.start_minion(Collector, Outside)
        gone = await gru.start_minion(Other, Outside)
        with pytest.raises(AlreadyRunningError):
            await gru.forget(running.id)
        await gru.stop()

    async with open_gru(folder) as gru:
        await gru.forget(gone.id)
        with pytest.raises(KeyError):
            await gru.forget(gone.id)
        async with gru.starting():
            await gru.start_minion(Collector, Outside)
        assert len(await gru.emit(Outside, Number(1))) == 1
        assert gru.snapshot().healthy
        await gru.stop()


async def test_a_batch_above_max_unfinished_is_refused(
    state: State, autojump_clock: MockClock
) -> None:
    async def body(pipeline: ByHand) -> None:
        with pytest.raises(StoreFullError):
            await pipeline.emit_many([Number(n) for n in range(4)], cursor=4)
        log.append(pipeline.cursor)

    ByHand.body = body
    async with open_gru(state) as gru:
        await gru.start_minion(Tiny, ByHand)

    assert log == [None]


class Tiny(Collector):
    max_in_flight = 2
    max_backlog = 3
    max_unfinished = 3


# Notices.


async def test_a_slow_reader_of_notices_loses_the_oldest(
    state: State, autojump_clock: MockClock
) -> None:
    Scripted.forever = True
    found: list[Notice] = []
    async with open_gru(state) as gru:
        reader = gru.notices()

        async def one() -> None:
            found.append(await reader.__anext__())

        async with trio.open_nursery() as nursery:
            nursery.start_soon(one)
            await wait_all_tasks_blocked()
            await gru.start_minion(Rejecting, Outside)
        for n in range(1500):
            await gru.emit(Outside, Number(n))
        found.append(await reader.__anext__())
        gru.cut_over()
        await gru.stop()

    assert isinstance(found[1], NoticesLost)
    assert found[1].count > 400
    left = [n async for n in reader]
    assert len(left) <= 1001, "the newest, and one that counts the lost ones"


async def test_a_crashing_run_fails_the_pipeline_and_not_what_was_accepted(
    state: State, autojump_clock: MockClock
) -> None:
    async def body(pipeline: ByHand) -> None:
        await pipeline.emit(Number(1))
        raise OSError("gone")

    with pytest.raises(RestartLimitError):
        async with open_gru(state) as gru:
            await start_by_hand(gru, body)

    assert seen == [1] * 6
