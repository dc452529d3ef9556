"""Several who move one workflow at once, and values at the edge of the store."""

from __future__ import annotations

import logging
from pathlib import Path
from typing import Any, ClassVar

import attrs
import pytest
import trio
from trio.testing import MockClock, wait_all_tasks_blocked

from minions import (
    AbortWorkflow,
    After,
    Backoff,
    Gru,
    GruOptions,
    Minion,
    Pipeline,
    Resource,
    Restart,
    Retry,
    SnapshotError,
    Wait,
    minion_step,
    open_gru,
)
from minions.runtime.event_ids import EventIds
from minions.runtime.kept import Kept
from minions.runtime.ledger import Ledger
from minions.runtime.numbers import Numbers
from minions.runtime.work import Mail
from minions.store.memory import MemoryStore
from minions.store.port import Keyspace
from minions.testing.faults import Fault, Faults, open_faulty_store


@attrs.frozen
class Number:
    value: int


@attrs.frozen
class Parcel:
    text: str


@attrs.define
class Memory:
    text: str = ""


log: list[str] = []


@pytest.fixture(autouse=True)
def fresh_log() -> None:
    log.clear()


class Source(Pipeline[Number]):
    pass


class Second(Pipeline[Number]):
    pass


async def emit(gru: Gru, value: int = 1) -> str:
    (workflow,) = await gru.emit(Source, Number(value))
    assert workflow is not None
    return workflow


class Begins(Minion[Number, Memory]):
    begun: ClassVar[trio.Event]

    @minion_step
    async def begin(self) -> None:
        await trio.sleep_forever()


async def test_a_cancel_before_the_first_turn_of_its_task(
    autojump_clock: MockClock, state: Path | None
) -> None:
    async with open_gru(state) as gru:
        orchestration = await gru.start_minion(Begins, Source)
        table = orchestration.table

        async def cancel() -> None:
            while not any(work.state == "running" for work in table.works.values()):
                await trio.lowlevel.checkpoint()
            (work,) = table.works.values()
            with trio.fail_after(5):
                await gru.workflows.cancel(work.id)

        # Whether its task has had a turn by then is up to trio's order of tasks.
        for _ in range(20):
            async with trio.open_nursery() as nursery:
                nursery.start_soon(cancel)
                await emit(gru)

        assert table.counts == {"cancelled": 20}
        await gru.stop()


class Forwards(Minion[Number, Memory]):
    @minion_step
    async def forward(self) -> After:
        await self.workflow.emit(self.event, to=Second)
        with trio.CancelScope(deadline=trio.current_time() + 5, shield=True):
            await trio.sleep_forever()
        return After(60)

    @minion_step
    async def never(self) -> None:
        log.append("never")


class Hears(Minion[Number, Memory]):
    @minion_step
    async def hear(self) -> None:
        log.append(f"heard {self.event.value}")


async def test_a_step_that_ends_while_it_is_cancelled_has_emitted(
    autojump_clock: MockClock, state: Path | None
) -> None:
    async with open_gru(state) as gru:
        await gru.start_minion(Hears, Second)
        await gru.start_minion(Forwards, Source)
        workflow = await emit(gru, 1)
        await wait_all_tasks_blocked()
        await gru.workflows.cancel(workflow)
        (second,) = await gru.emit(Second, Number(2))
        assert second is not None
        with trio.fail_after(5):
            await gru.workflows.wait(second)
        assert log == ["heard 1", "heard 2"]
        await gru.stop()


class Ends(Minion[Number, Memory]):
    @minion_step
    async def end(self) -> None:
        if self.event.value == 1:
            self.context.text = "x" * 5000
        elif self.event.value == 2:
            raise AbortWorkflow("x" * 5000)


@pytest.mark.parametrize(
    ("value", "state_after"), [(1, "quarantined"), (2, "aborted"), (3, "done")]
)
async def test_an_end_that_is_too_large_to_be_kept(
    autojump_clock: MockClock, state: Path | None, value: int, state_after: str
) -> None:
    options = GruOptions(keep=60, max_record=4096)
    async with open_gru(state, options=options) as gru:
        await gru.start_minion(Ends, Source)
        with trio.fail_after(5):
            ended = await gru.workflows.wait(await emit(gru, value))
        assert ended.state == state_after
        (ends,) = (c for c in gru.snapshot().components.values() if c.kind == "minion")
        assert ends.restarts == 0
        await gru.stop()


class Retries(Minion[Number, Memory]):
    @minion_step(retry=Retry(max_attempts=2, base=1, jitter="none"))
    async def attempt(self) -> None:
        if self.workflow.attempt == 1:
            raise ValueError("\ud800")


class Large(Pipeline[Parcel]):
    pass


class RetriesLarge(Minion[Parcel, Memory]):
    @minion_step(retry=Retry(max_attempts=2, base=1, jitter="none"))
    async def attempt(self) -> None:
        if self.workflow.attempt == 1:
            raise ValueError("x" * 450)


async def test_a_failure_whose_text_cannot_be_stored_is_tried_again(
    autojump_clock: MockClock, state: Path | None, caplog: pytest.LogCaptureFixture
) -> None:
    # A runner in several processes could not hand over what is logged.
    caplog.set_level(logging.CRITICAL, logger="minions")
    async with open_gru(state) as gru:
        await gru.start_minion(Retries, Source)
        with trio.fail_after(50):
            ended = await gru.workflows.wait(await emit(gru))
        assert ended.state == "done"
        await gru.stop()


async def test_a_failure_whose_text_has_no_room_is_tried_again(
    autojump_clock: MockClock, state: Path | None
) -> None:
    async with open_gru(state, options=GruOptions(max_record=4096)) as gru:
        await gru.start_minion(RetriesLarge, Large)
        (workflow,) = await gru.emit(Large, Parcel("x" * 3700))
        assert workflow is not None
        with trio.fail_after(50):
            ended = await gru.workflows.wait(workflow)
        assert ended.state == "done"
        await gru.stop()


class Waits(Minion[Number, Memory]):
    @minion_step
    async def first(self) -> Wait:
        self.context.text = "x" * 2500
        return Wait(Parcel, timeout=60)

    @minion_step
    async def second(self) -> None:
        log.append(f"{self.workflow.received}")


async def test_a_signal_too_large_for_its_workflow_changes_nothing(
    autojump_clock: MockClock, state: Path | None
) -> None:
    async with open_gru(state, options=GruOptions(max_record=4096)) as gru:
        await gru.start_minion(Waits, Source)
        workflow = await emit(gru)
        await wait_all_tasks_blocked()
        with pytest.raises(SnapshotError):
            await gru.workflows.signal(workflow, Parcel("y" * 2500))
        assert (await gru.workflows.get(workflow)).state == "waiting"
        with trio.fail_after(70):
            ended = await gru.workflows.wait(workflow)
        assert ended.state == "done"
        assert log == ["None"]
        await gru.stop()


class Sleeps(Minion[Number, Memory]):
    @minion_step
    async def first(self) -> After:
        return After(5)

    @minion_step
    async def second(self) -> None:
        log.append("woke")


async def test_who_is_cancelled_is_not_woken_before_the_disk_knows(
    autojump_clock: MockClock,
) -> None:
    faults = Faults()
    async with (
        open_faulty_store(None, faults=faults) as store,
        open_gru(store) as gru,
    ):
        await gru.start_minion(Sleeps, Source)
        workflow = await emit(gru)
        await wait_all_tasks_blocked()
        faults.standing = Fault()
        async with trio.open_nursery() as nursery:
            nursery.start_soon(gru.workflows.cancel, workflow)
            await trio.sleep(10)
            faults.standing = None
        await trio.sleep(10)
        assert log == []
        assert [w async for w in gru.workflows.list()] == []
        await gru.stop()


class Fails(Minion[Number, Memory]):
    @minion_step
    async def fail(self) -> None:
        log.append("tried")
        await trio.sleep(1)
        if len(log) == 1:
            raise ValueError("once")


async def test_a_wait_behind_a_redrive_is_for_the_new_end(
    autojump_clock: MockClock, state: Path | None
) -> None:
    async with open_gru(state) as gru:
        await gru.start_minion(Fails, Source)
        workflow = await emit(gru)
        await trio.sleep(2)
        await gru.workflows.redrive(workflow)
        with trio.fail_after(5):
            ended = await gru.workflows.wait(workflow)
        assert ended.state == "done"
        await gru.stop()


async def test_a_wait_behind_a_discard_finds_nothing(
    autojump_clock: MockClock, state: Path | None
) -> None:
    async with open_gru(state) as gru:
        await gru.start_minion(Fails, Source)
        workflow = await emit(gru)
        await trio.sleep(2)
        await gru.workflows.discard(workflow)
        with pytest.raises(KeyError):
            await gru.workflows.wait(workflow)
        await gru.stop()


class Deduped(Pipeline[Number]):
    dedup_window: ClassVar[float] = 10


async def test_ids_are_remembered_whoever_reads_them_at_once(
    autojump_clock: MockClock, folder: Path
) -> None:
    async with open_gru(folder) as gru:
        await gru.start_minion(Hears, Deduped)
        for number in range(9):
            await gru.emit(Deduped, Number(0), id=f"{number}")
        await gru.stop()
    async with open_gru(folder) as gru:
        await gru.start_minion(Hears, Deduped)

        async def first(name: str) -> None:
            await gru.emit(Deduped, Number(0), id=name)

        async with trio.open_nursery() as nursery:
            for name in "abc":
                nursery.start_soon(first, name)
        await trio.sleep(11)
        once = await gru.emit(Deduped, Number(0), id="0")
        await gru.emit(Deduped, Number(0), id="d")
        again = await gru.emit(Deduped, Number(0), id="0")
        assert once == again
        await gru.stop()


async def test_the_bound_of_ids_outlasts_a_call_that_is_taken_back() -> None:
    store = MemoryStore()
    ledger = Ledger(store, lambda _: None, Numbers(store), Kept(0.0, 1))
    ids = EventIds("pipeline", ledger, 100.0, 3)

    async def accept(name: str, *, another_is_taken_back: bool = False) -> None:
        async with ids.claim([name]):
            if another_is_taken_back:
                ids.undo()
            await store.write(ids.writes({name: ("w1",)}))

    for name in "abc":
        await accept(name)
    await accept("d", another_is_taken_back=True)
    await accept("e")

    assert len(await store.page(Keyspace.DEDUP)) == 3


class Broker(Resource):
    restart = Restart(max_restarts=1000, backoff=Backoff(base=10, factor=1, cap=10))
    breaks: ClassVar[trio.Event]

    async def run(self) -> None:
        await self.breaks.wait()
        type(self).breaks = trio.Event()
        raise ConnectionError("lost")


class Trades(Minion[Number, Memory]):
    broker: Broker
    restart = Restart(backoff=Backoff(base=0.1))
    breaks: ClassVar[trio.Event]
    fifth: ClassVar[trio.Event]

    async def run(self) -> None:
        await self.breaks.wait()
        type(self).breaks = trio.Event()
        raise ValueError("the minion itself")

    @minion_step
    async def trade(self) -> None:
        log.append("traded")
        if len(log) == 5:
            self.fifth.set()


async def test_who_comes_back_in_its_turn_does_so_behind_a_restart(
    autojump_clock: MockClock,
) -> None:
    Broker.breaks, Trades.breaks = trio.Event(), trio.Event()
    Trades.fifth = trio.Event()
    async with open_gru(None, options=GruOptions(resume_rate=10)) as gru:
        await gru.start_minion(Trades, Source)
        Broker.breaks.set()
        await trio.sleep(5)
        for _ in range(40):
            await emit(gru)
        await Trades.fifth.wait()
        assert len(log) < 10
        Trades.breaks.set()
        await trio.sleep(10)
        assert len(log) == 40
        await gru.stop()


class Takes(Minion[Number, Memory]):
    @minion_step
    async def take(self) -> None:
        log.extend([str(await self.workflow.receive(Number)) for _ in range(50)])
        assert await self.workflow.receive(Parcel) == Parcel("last")


async def test_what_a_step_has_taken_is_not_looked_through_again(
    autojump_clock: MockClock, monkeypatch: pytest.MonkeyPatch
) -> None:
    looked: list[object] = []
    same = Mail.__eq__

    def compare(one: Mail, other: object) -> bool:
        looked.append(one)
        return same(one, other)

    monkeypatch.setattr(Mail, "__eq__", compare)
    async with open_gru(None) as gru:
        await gru.start_minion(Takes, Source)
        workflow = await emit(gru)
        await gru.workflows.signal(workflow, Parcel("last"))
        for number in range(50):
            await gru.workflows.signal(workflow, Number(number))
        with trio.fail_after(5):
            await gru.workflows.wait(workflow)
        assert log == [f"Number(value={number})" for number in range(50)]
        assert looked == []
        await gru.stop()


@attrs.frozen
class Anything:
    value: object


# Not to be found by who reads the step's code.
KINDS: dict[str, type] = {"anything": Anything}


class WaitsForAnything(Minion[Number, Memory]):
    @minion_step
    async def first(self) -> Wait:
        await self.workflow.emit(self.event, to=Second)
        return Wait(KINDS["anything"])

    @minion_step
    async def second(self) -> None:
        log.append("never")


async def test_a_wait_for_what_cannot_be_stored_is_a_failure(
    autojump_clock: MockClock, state: Path | None
) -> None:
    async with open_gru(state) as gru:
        await gru.start_minion(Hears, Second)
        await gru.start_minion(WaitsForAnything, Source)
        with trio.fail_after(5):
            ended = await gru.workflows.wait(await emit(gru))
        assert ended.state == "quarantined"
        assert "DefinitionError" in ended.reason
        (second,) = await gru.emit(Second, Number(2))
        assert second is not None
        with trio.fail_after(5):
            await gru.workflows.wait(second)
        assert log == ["heard 2"]
        await gru.stop()


async def test_a_damaged_end_keeps_nobody_from_the_list(
    autojump_clock: MockClock,
) -> None:
    store = MemoryStore()
    async with open_gru(store, options=GruOptions(keep=60)) as gru:
        await gru.start_minion(Hears, Source)
        for number in range(3):
            await gru.workflows.wait(await emit(gru, number))
        (_, (key, _), _) = await store.page(Keyspace.ENDED)
        await store.write([(Keyspace.ENDED, key, b"damaged")])
        found = [w.id async for w in gru.workflows.list(state="done")]
        assert found == ["w1", "w3"]
        await gru.stop()


class EndsBadly(Minion[Number, Memory]):
    @minion_step
    async def first(self) -> Any:
        with trio.CancelScope(deadline=trio.current_time() + 5, shield=True):
            await trio.sleep_forever()
        if self.event.value == 1:
            return "no outcome"
        self.context.text = "\ud800"
        return None

    @minion_step
    async def second(self) -> None:
        log.append("never")


class EndsBadlyAndGoes(EndsBadly):
    on_failure = "discard"


@pytest.mark.parametrize("minion", [EndsBadly, EndsBadlyAndGoes])
@pytest.mark.parametrize("value", [1, 2])
async def test_who_is_cancelled_is_so_however_its_step_ends(
    autojump_clock: MockClock,
    state: Path | None,
    minion: type[EndsBadly],
    value: int,
) -> None:
    async with open_gru(state) as gru:
        orchestration = await gru.start_minion(minion, Source)
        workflow = await emit(gru, value)
        await wait_all_tasks_blocked()
        await gru.workflows.cancel(workflow)
        assert orchestration.table.counts == {"cancelled": 1}
        assert log == []
        await gru.stop()


class One(Minion[Number, Memory]):
    max_in_flight: ClassVar[int] = 1

    @minion_step
    async def work(self) -> None:
        await trio.sleep(100)


async def test_an_id_that_is_known_waits_for_no_room(
    autojump_clock: MockClock, state: Path | None
) -> None:
    async with open_gru(state) as gru:
        await gru.start_minion(One, Deduped)
        first = await gru.emit(Deduped, Number(1), id="1")
        async with trio.open_nursery() as nursery:
            nursery.start_soon(gru.emit, Deduped, Number(2))
            await wait_all_tasks_blocked()
            with trio.fail_after(5):
                assert await gru.emit(Deduped, Number(1), id="1") == first
            nursery.cancel_scope.cancel()
        await gru.stop()
