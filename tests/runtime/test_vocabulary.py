"""Waiting, trying again, signals, and ends on request: over both stores."""

from __future__ import annotations

import threading
from pathlib import Path
from typing import ClassVar

import attrs
import pytest
import trio
from trio.testing import MockClock, wait_all_tasks_blocked

from minions import (
    After,
    DefinitionError,
    GoTo,
    GruOptions,
    Minion,
    NotRunningError,
    Pipeline,
    Retry,
    Wait,
    component_id,
    minion_step,
    open_gru,
)
from minions.runtime.gru import Gru


@attrs.frozen
class Number:
    value: int


@attrs.frozen
class Approval:
    by: str


@attrs.frozen
class Refusal:
    by: str


@attrs.define
class Memory:
    notes: list[str] = attrs.field(factory=list)


log: list[str] = []


@pytest.fixture(autouse=True)
def fresh_log() -> None:
    log.clear()


class Source(Pipeline[Number]):
    pass


async def emit(gru: Gru, value: int = 1) -> str:
    (workflow,) = await gru.emit(Source, Number(value))
    assert workflow is not None
    return workflow


class Sleeps(Minion[Number, Memory]):
    @minion_step
    async def first(self) -> After:
        self.context.notes.append("first")
        return After(100)

    @minion_step
    async def second(self) -> None:
        self.context.notes.append("second")
        log.append(f"{trio.current_time():.0f}")


async def test_a_workflow_sleeps_on_disk(
    autojump_clock: MockClock, state: Path | None
) -> None:
    async with open_gru(state) as gru:
        await gru.start_minion(Sleeps, Source)
        workflow = await emit(gru)
        began = trio.current_time()
        await wait_all_tasks_blocked()

        asleep = await gru.workflows.get(workflow)
        ended = await gru.workflows.wait(workflow)

        assert asleep.state == "sleeping"
        assert asleep.step == "second"
        assert "sleeps before step 'second'" in asleep.why
        assert asleep.until is not None
        assert asleep.since is not None
        assert (asleep.until - asleep.since).total_seconds() == pytest.approx(100)
        assert ended.state == "done"
        assert ended.context.notes == ["first", "second"]
        assert 100 <= trio.current_time() - began < 101
        await gru.stop()


async def test_who_sleeps_wakes_in_the_next_process(
    autojump_clock: MockClock, folder: Path
) -> None:
    async with open_gru(folder) as gru:
        await gru.start_minion(Sleeps, Source)
        workflow = await emit(gru)
        await wait_all_tasks_blocked()
        await gru.stop()
    async with open_gru(folder, options=GruOptions(keep=60)) as gru:
        (left,) = gru.snapshot().orchestrations.values()
        assert (left.unfinished, left.cold) == (1, 1)
        assert (await gru.workflows.get(workflow)).state == "sleeping"
        await trio.sleep(1000)
        assert (await gru.workflows.get(workflow)).state == "sleeping"

        await gru.start_minion(Sleeps, Source)
        ended = await gru.workflows.wait(workflow)

        assert ended.context.notes == ["first", "second"]
        await gru.stop()


class Asks(Minion[Number, Memory]):
    @minion_step
    async def ask(self) -> Wait:
        self.context.notes.append("ask")
        return Wait(Approval, timeout=50)

    @minion_step
    async def act(self) -> None:
        self.context.notes.append(f"got {self.workflow.received!r}")


@pytest.mark.parametrize("when", ["before", "while", "never", "other"])
async def test_a_workflow_waits_for_a_signal(
    autojump_clock: MockClock, state: Path | None, when: str
) -> None:
    async with open_gru(state) as gru:
        await gru.start_minion(Asks, Source)
        workflow = await emit(gru)
        if when == "before":
            await gru.workflows.signal(workflow, Approval("Ann"))
        else:
            await wait_all_tasks_blocked()
            waiting = await gru.workflows.get(workflow)
            assert waiting.state == "waiting"
            assert "waits for a signal of" in waiting.why
        if when == "while":
            await gru.workflows.signal(workflow, Approval("Ann"))
        if when == "other":
            with pytest.raises(TypeError, match="expected a signal of a class"):
                await gru.workflows.signal(workflow, Refusal("Bob"))

        began = trio.current_time()
        ended = await gru.workflows.wait(workflow)

        got = "None" if when in {"never", "other"} else "Approval(by='Ann')"
        assert ended.context.notes == ["ask", f"got {got}"]
        assert trio.current_time() - began >= (50 if got == "None" else 0)
        with pytest.raises(KeyError):
            await gru.workflows.signal(workflow, Approval("Ann"))
        await gru.stop()


async def test_a_signal_wakes_in_the_next_process_too(
    autojump_clock: MockClock, folder: Path
) -> None:
    async with open_gru(folder) as gru:
        await gru.start_minion(Asks, Source)
        workflow = await emit(gru)
        await wait_all_tasks_blocked()
        with pytest.raises(KeyError):
            await gru.workflows.signal("w999", Approval("Ann"))
        await gru.stop()
    async with open_gru(folder) as gru:
        with pytest.raises(NotRunningError, match="is started, found that it is not"):
            await gru.workflows.signal(workflow, Approval("Ann"))
        await gru.start_minion(Asks, Source)
        await gru.workflows.signal(workflow, Approval("Ann"))
        ended = await gru.workflows.wait(workflow)
        assert ended.context.notes == ["ask", "got Approval(by='Ann')"]
        await gru.stop()


class Receives(Minion[Number, Memory]):
    @minion_step(retry=Retry(max_attempts=3, base=1, jitter="none"))
    async def talk(self) -> None:
        found = await self.workflow.receive(Approval)
        assert found is not None
        log.append(found.by)
        if self.workflow.attempt == 1:
            raise ValueError("once")
        late = await self.workflow.receive(Refusal, timeout=10)
        self.context.notes += [found.by, str(late)]


async def test_a_signal_is_back_if_its_step_fails(
    autojump_clock: MockClock, state: Path | None
) -> None:
    async with open_gru(state) as gru:
        await gru.start_minion(Receives, Source)
        workflow = await emit(gru)
        await wait_all_tasks_blocked()
        assert (await gru.workflows.get(workflow)).state == "running"

        await gru.workflows.signal(workflow, Approval("Ann"))
        ended = await gru.workflows.wait(workflow)

        assert log == ["Ann", "Ann"]
        assert ended.context.notes == ["Ann", "None"]
        await gru.stop()


class Fails(Minion[Number, Memory]):
    @minion_step(retry=Retry(max_attempts=3, base=10, factor=2, jitter="none"))
    async def work(self) -> None:
        self.context.notes.append("tried")
        log.append(f"{trio.current_time():.0f} {self.workflow.attempt}")
        if len(log) <= self.event.value:
            raise ConnectionError("no answer")


@pytest.mark.parametrize(("failures", "state_after"), [(2, "done"), (3, "quarantined")])
async def test_a_step_is_tried_again(
    autojump_clock: MockClock, state: Path | None, failures: int, state_after: str
) -> None:
    async with open_gru(state) as gru:
        await gru.start_minion(Fails, Source)
        workflow = await emit(gru, failures)
        began = trio.current_time()
        await wait_all_tasks_blocked()
        retrying = await gru.workflows.get(workflow)

        ended = await gru.workflows.wait(workflow)

        assert retrying.state == "retrying"
        assert retrying.attempt == 1
        assert "ConnectionError: no answer" in retrying.why
        assert ended.state == state_after
        assert [entry.split()[1] for entry in log] == ["1", "2", "3"]
        assert 30 <= trio.current_time() - began < 31
        if state_after == "done":
            assert ended.context.notes == ["tried"]
        await gru.stop()


async def test_attempts_are_counted_over_processes(
    autojump_clock: MockClock, folder: Path
) -> None:
    for _ in range(3):
        async with open_gru(folder) as gru:
            await gru.start_minion(Fails, Source)
            if not log:
                workflow = await emit(gru, 99)
            else:
                await trio.sleep(100)
            await wait_all_tasks_blocked()
            await gru.stop()
    async with open_gru(folder) as gru:
        assert (await gru.workflows.get(workflow)).state == "quarantined"
    assert len(log) == 3


class Bugs(Minion[Number, Memory]):
    @minion_step(retry=Retry())
    async def work(self) -> None:
        raise TypeError("a bug")


async def test_a_bug_is_not_tried_again(autojump_clock: MockClock) -> None:
    async with open_gru(None) as gru:
        await gru.start_minion(Bugs, Source)
        workflow = await emit(gru)
        assert (await gru.workflows.wait(workflow)).state == "quarantined"
        await gru.stop()


class Slow(Minion[Number, Memory]):
    @minion_step(timeout=5, retry=Retry(max_attempts=2, base=0))
    async def work(self) -> None:
        log.append("begun")
        try:
            await trio.sleep(self.event.value)
        finally:
            log.append("left")


@pytest.mark.parametrize(("seconds", "end"), [(4, "done"), (6, "quarantined")])
async def test_a_step_has_a_timeout(
    autojump_clock: MockClock, seconds: int, end: str
) -> None:
    async with open_gru(None) as gru:
        await gru.start_minion(Slow, Source)
        workflow = await emit(gru, seconds)

        ended = await gru.workflows.wait(workflow)

        assert ended.state == end
        assert log == ["begun", "left"] * (1 if end == "done" else 2)
        if end == "quarantined":
            assert "TooSlowError" in ended.reason
            assert "timeout of 5 s" in ended.reason
        await gru.stop()


class Target(Pipeline[Number]):
    pass


class Hears(Minion[Number, Memory]):
    @minion_step
    async def hear(self) -> None:
        log.append(f"heard {self.event.value}")


class Tells(Minion[Number, Memory]):
    @minion_step(retry=Retry(max_attempts=2, base=1))
    async def tell(self) -> None:
        await self.workflow.emit(Number(self.event.value + 1), to=Target)
        await self.workflow.emit(Number(self.event.value + 2), to=Target)
        with pytest.raises(TypeError):
            await self.workflow.emit(Approval("Ann"), to=Target)
        if self.workflow.attempt == 1:
            raise ValueError("once")


async def test_a_step_emits_with_its_end(
    autojump_clock: MockClock, state: Path | None
) -> None:
    async with open_gru(state) as gru:
        await gru.start_minion(Hears, Target)
        await gru.start_minion(Tells, Source)
        workflow = await emit(gru, 10)
        await gru.workflows.wait(workflow)
        await wait_all_tasks_blocked()
        assert sorted(log) == ["heard 11", "heard 12"]
        await gru.stop()


async def test_a_target_must_be_known(autojump_clock: MockClock) -> None:
    async with open_gru(None) as gru:
        with pytest.raises(DefinitionError, match="never was"):
            await gru.start_minion(Tells, Source)
        async with gru.starting():
            await gru.start_minion(Tells, Source)
            await gru.start_minion(Hears, Target)
        with pytest.raises(DefinitionError, match="never was"):
            gru_b = open_gru(None)
            async with gru_b as other, other.starting():
                await other.start_minion(Tells, Source)
        await gru.stop()


class Hangs(Minion[Number, Memory]):
    max_in_flight: ClassVar[int] = 2

    def key(self, event: Number) -> int:
        return event.value

    @minion_step
    async def work(self) -> None:
        log.append(f"begun {self.event.value}")
        await trio.sleep_forever()

    @minion_step
    async def never(self) -> None:
        raise AssertionError


async def test_a_workflow_is_cancelled(
    autojump_clock: MockClock, state: Path | None
) -> None:
    async with open_gru(state, options=GruOptions(keep=60)) as gru:
        await gru.start_minion(Hangs, Source)
        running, queued = await emit(gru, 1), await emit(gru, 1)
        await wait_all_tasks_blocked()
        assert (await gru.workflows.get(queued)).state == "queued"
        assert running in (await gru.workflows.get(queued)).why

        await gru.workflows.cancel(queued)
        await gru.workflows.cancel(running)

        assert (await gru.workflows.get(running)).state == "cancelled"
        assert (await gru.workflows.wait(queued)).state == "cancelled"
        with pytest.raises(NotRunningError):
            await gru.workflows.cancel(running)
        with pytest.raises(NotRunningError):
            await gru.workflows.signal(running, Approval("Ann"))
        assert [w async for w in gru.workflows.list()] == []
        ended = [w.id async for w in gru.workflows.list(state="cancelled")]
        assert ended == [running, queued]
        await trio.sleep(61)
        with pytest.raises(KeyError):
            await gru.workflows.get(running)
        await gru.stop()
    assert log == ["begun 1"]


async def test_who_sleeps_is_cancelled(
    autojump_clock: MockClock, state: Path | None
) -> None:
    async with open_gru(state) as gru:
        await gru.start_minion(Sleeps, Source)
        workflow = await emit(gru)
        await wait_all_tasks_blocked()

        await gru.workflows.cancel(workflow)

        with pytest.raises(KeyError):
            await gru.workflows.get(workflow)
        assert gru.snapshot().orchestrations
        await trio.sleep(200)
        await gru.stop()
    assert log == []


class TwoSteps(Minion[Number, Memory]):
    @minion_step
    async def first(self) -> None:
        log.append("first")
        await trio.sleep(5)

    @minion_step
    async def second(self) -> None:
        log.append("second")


@pytest.mark.parametrize("mode", ["drain", "pause", "cutover"])
async def test_modes_of_a_stop(
    autojump_clock: MockClock, folder: Path, mode: str
) -> None:
    async with open_gru(folder) as gru:
        running = await gru.start_minion(TwoSteps, Source)
        workflow = await emit(gru)
        await wait_all_tasks_blocked()

        result = await running.stop(mode)  # type: ignore[arg-type]

        assert result is not None
        counts = result.finished, result.saved, result.cut
        subscribed = running.id in {
            o.id for o in gru.snapshot().orchestrations.values() if o.pipeline
        }
        if mode == "drain":
            assert counts == (1, 0, 0)
            assert log == ["first", "second"]
            return
        assert subscribed
        assert counts == (0, 1, int(mode == "cutover"))
        saved = await gru.workflows.get(workflow)
        assert saved.step == ("second" if mode == "pause" else "")
        assert log == ["first"]
        await gru.stop()


@component_id("keyed")
class Keyed(Minion[Number, Memory]):
    def key(self, event: Number) -> int:
        return event.value // 10

    @minion_step
    async def first(self) -> After:
        log.append(f"first {self.event.value}")
        return After(10)

    @minion_step
    async def second(self) -> GoTo:
        log.append(f"second {self.event.value}")
        return GoTo("third")

    @minion_step
    async def third(self) -> None:
        log.append(f"third {self.event.value}")


@pytest.mark.parametrize("reopen", [False, True])
async def test_who_sleeps_holds_its_key(
    autojump_clock: MockClock, folder: Path, *, reopen: bool
) -> None:
    async with open_gru(folder) as gru:
        await gru.start_minion(Keyed, Source)
        for value in (11, 12, 21):
            await emit(gru, value)
        await wait_all_tasks_blocked()
        assert log == ["first 11", "first 21"]
        if not reopen:
            await trio.sleep(100)
        await gru.stop()
    if reopen:
        async with open_gru(folder) as gru:
            await gru.start_minion(Keyed, Source)
            await trio.sleep(100)
            await gru.stop()
    ones = [entry for entry in log if entry.split()[1].startswith("1")]
    assert ones == [f"{s} {n}" for n in (11, 12) for s in ("first", "second", "third")]


async def test_an_event_that_comes_again_starts_nothing(
    autojump_clock: MockClock, state: Path | None
) -> None:
    async with open_gru(state) as gru:
        await gru.start_minion(Hears, Source)
        first = await gru.emit(Source, Number(1), id="a")
        again = await gru.emit(Source, Number(2), id="a")
        other = await gru.emit(Source, Number(3), id="b")
        await wait_all_tasks_blocked()
        assert again == first != other
        assert sorted(log) == ["heard 1", "heard 3"]
        for bad in ("", 7):
            with pytest.raises(TypeError, match="expected the id of an event"):
                await gru.emit(Source, Number(1), id=bad)  # type: ignore[arg-type]
        await gru.stop()


class Batches(Pipeline[Number], cursor=int):
    dedup_window: ClassVar[float] = 100.0
    max_dedup: ClassVar[int] = 3

    async def run(self) -> None:
        many = [Number(n) for n in range(4)]
        with pytest.raises(ValueError, match="one id for each"):
            await self.emit_many(many, ids=["a"])
        a, b, again, none = await self.emit_many(many, ids=["a", "b", "a", None])
        assert a == again
        assert len({a, b, none}) == 3
        assert await self.emit(Number(9), id="b", cursor=7) == b
        assert self.cursor == 7
        async with trio.open_nursery() as nursery:
            for _ in range(3):
                nursery.start_soon(self.send_c)
        await self.emit(Number(20), id="d")  # a is the oldest of four
        await self.emit(Number(21), id="b")
        assert await self.emit(Number(22), id="a") != a
        await trio.sleep(100)
        await self.emit(Number(23), id="d")
        await self.emit(Number(24), id="d")

    async def send_c(self) -> None:
        await self.emit(Number(10), id="c")


async def test_ids_in_batches_and_their_bounds(
    autojump_clock: MockClock, state: Path | None
) -> None:
    async with open_gru(state) as gru:
        await gru.start_minion(Hears, Batches)
    heard = sorted(int(entry.split()[1]) for entry in log)
    assert heard == [0, 1, 3, 10, 20, 22, 23]


async def test_ids_are_known_to_the_next_process(
    autojump_clock: MockClock, folder: Path
) -> None:
    found = []
    for _ in range(2):
        async with open_gru(folder) as gru:
            await gru.start_minion(Hears, Source)
            found.append(await gru.emit(Source, Number(1), id="a"))
            await wait_all_tasks_blocked()
            await gru.stop()
    assert found[0] == found[1]
    assert log == ["heard 1"]


class SleepsLong(Minion[Number, Memory]):
    max_in_flight: ClassVar[int] = 100

    @minion_step
    async def first(self) -> After:
        return After(3600)

    @minion_step
    async def second(self) -> None:
        log.append("awake")


async def test_who_sleeps_takes_no_task_and_no_place(
    autojump_clock: MockClock, state: Path | None
) -> None:
    async with open_gru(state, options=GruOptions(durability="none")) as gru:
        orchestration = await gru.start_minion(SleepsLong, Source)
        await emit(gru)
        await wait_all_tasks_blocked()
        before = trio.lowlevel.current_statistics().tasks_living
        for number in range(500):
            await emit(gru, number)
        await wait_all_tasks_blocked()

        look = gru.snapshot().orchestrations[orchestration.id]
        assert (look.cold, look.running, look.ready) == (501, 0, 0)
        assert trio.lowlevel.current_statistics().tasks_living == before

        await trio.sleep(3700)  # five times as many as there is room for
        assert len(log) == 501
        assert trio.lowlevel.current_statistics().tasks_living == before
        await gru.stop()


class InThread(Minion[Number, Memory]):
    max_in_flight: ClassVar[int] = 1
    may_end: ClassVar[threading.Event] = threading.Event()

    @minion_step(timeout=0.01)
    async def work(self) -> None:
        if self.event.value == 2:
            log.append("second")
            return
        await trio.to_thread.run_sync(self.may_end.wait, 10)
        log.append("thread ended")
        await trio.lowlevel.checkpoint()


async def test_a_step_in_a_thread_holds_its_place_after_its_timeout() -> None:
    """In real time: a thread cannot be cancelled."""
    InThread.may_end.clear()
    async with open_gru(None) as gru:
        await gru.start_minion(InThread, Source)
        first = await emit(gru, 1)
        async with trio.open_nursery() as nursery:
            nursery.start_soon(emit, gru, 2)
            await trio.sleep(0.05)
            assert (await gru.workflows.get(first)).state == "running"
            assert log == []
            InThread.may_end.set()
            ended = await gru.workflows.wait(first)
        assert ended.state == "quarantined"
        assert "TooSlowError" in ended.reason
        await trio.testing.wait_all_tasks_blocked(0.01)
        assert log == ["thread ended", "second"]
        await gru.stop()
