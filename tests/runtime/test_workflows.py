"""Events, steps, and what their ends mean, over both stores."""

from __future__ import annotations

from pathlib import Path
from typing import ClassVar

import attrs
import pytest
import trio
from trio.testing import MockClock, wait_all_tasks_blocked

from minions import (
    AbortWorkflow,
    Done,
    GoTo,
    Minion,
    NotRunningError,
    Pipeline,
    SnapshotError,
    component_id,
    minion_step,
    open_gru,
)
from minions.notices import Notice, WorkflowDiscarded, WorkflowQuarantined
from minions.runtime.gru import Gru

State = Path | None


@attrs.frozen
class Number:
    value: int


@attrs.define
class Sum:
    seen: list[int] = attrs.field(factory=list)
    total: int = 0


class Outside(Pipeline[Number]):
    pass


class OneToThree(Pipeline[Number]):
    def __init__(self) -> None:
        self.count = 0

    async def produce_event(self) -> Number:
        self.count += 1
        if self.count > 3:
            raise trio.EndOfChannel
        return Number(self.count)


ended: list[int] = []


@pytest.fixture(autouse=True)
def forget() -> None:
    ended.clear()


class Adder(Minion[Number, Sum]):
    @minion_step
    async def add(self) -> None:
        self.context.total += self.event.value
        await trio.sleep(0.1)

    @minion_step
    async def tell(self) -> None:
        ended.append(self.context.total)


async def test_every_event_runs_through_all_steps(
    state: State, autojump_clock: MockClock
) -> None:
    async with open_gru(state) as gru:
        orchestration = await gru.start_minion(Adder, OneToThree)

        assert await orchestration.wait() == "ended"

    assert sorted(ended) == [1, 2, 3]


async def test_the_block_waits_for_the_last_workflow(
    state: State, autojump_clock: MockClock
) -> None:
    async with open_gru(state) as gru:
        await gru.start_minion(Adder, OneToThree)

    assert sorted(ended) == [1, 2, 3]


async def test_an_answer_to_an_event_from_outside(
    state: State, autojump_clock: MockClock
) -> None:
    async with open_gru(state) as gru:
        await gru.start_minion(Adder, Outside)

        (workflow_id,) = await gru.emit(Outside, Number(7))
        assert workflow_id is not None
        answer = await gru.workflows.wait(workflow_id)

        assert (answer.state, answer.context) == ("done", Sum(total=7))
        with pytest.raises(KeyError):
            await gru.workflows.wait(workflow_id)
        await gru.stop()


class Jumper(Minion[Number, Sum]):
    @minion_step
    async def first(self) -> GoTo:
        self.context.seen.append(1)
        return GoTo("third")

    @minion_step
    async def second(self) -> None:
        self.context.seen.append(2)

    @minion_step
    async def third(self) -> Done | GoTo:
        self.context.seen.append(3)
        return Done() if len(self.context.seen) > 3 else GoTo("second")

    @minion_step
    async def never(self) -> None:
        self.context.seen.append(4)


async def test_steps_jump_and_end_early(
    state: State, autojump_clock: MockClock
) -> None:
    async with open_gru(state) as gru:
        await gru.start_minion(Jumper, Outside)
        (workflow_id,) = await gru.emit(Outside, Number(1))
        assert workflow_id is not None

        answer = await gru.workflows.wait(workflow_id)

        assert answer.context.seen == [1, 3, 2, 3]
        await gru.stop()


class Fragile(Minion[Number, Sum]):
    broken: ClassVar[bool] = True

    @minion_step
    async def count(self) -> None:
        self.context.total += 1

    @minion_step
    async def fail(self) -> None:
        self.context.total += 100
        if self.broken:
            raise ExceptionGroup("several", [ValueError("one"), OSError("two")])
        ended.append(self.context.total)


async def test_a_failed_step_waits_for_a_person(
    state: State, autojump_clock: MockClock
) -> None:
    Fragile.broken = True
    async with open_gru(state) as gru:
        await gru.start_minion(Fragile, Outside)
        (workflow_id,) = await gru.emit(Outside, Number(1))
        assert workflow_id is not None

        answer = await gru.workflows.wait(workflow_id)
        found = [w async for w in gru.workflows.list(state="quarantined")]
        again = await gru.workflows.get(workflow_id)

        assert answer.state == "quarantined"
        assert [w.id for w in found] == [workflow_id]
        assert again.reason == "failed: ValueError: one; OSError: two"
        assert again.step == "fail"
        assert again.context == Sum(total=1), "the last good snapshot"
        assert "in fail" in again.traceback
        assert gru.snapshot().healthy

        Fragile.broken = False
        await gru.workflows.redrive(workflow_id)
        assert (await gru.workflows.wait(workflow_id)).state == "done"
        assert ended == [101]
        await gru.stop()


async def test_a_redrive_may_edit_and_jump(
    state: State, autojump_clock: MockClock
) -> None:
    Fragile.broken = True
    async with open_gru(state) as gru:
        await gru.start_minion(Fragile, Outside)
        (workflow_id,) = await gru.emit(Outside, Number(1))
        assert workflow_id is not None
        await gru.workflows.wait(workflow_id)

        Fragile.broken = False
        await gru.workflows.redrive(workflow_id, step="count", context=Sum(total=5))
        answer = await gru.workflows.wait(workflow_id)

        assert answer.context == Sum(total=106)
        await gru.stop()


async def test_a_discarded_one_is_gone(state: State, autojump_clock: MockClock) -> None:
    Fragile.broken = True
    async with open_gru(state) as gru:
        await gru.start_minion(Fragile, Outside)
        (workflow_id,) = await gru.emit(Outside, Number(1))
        assert workflow_id is not None
        await gru.workflows.wait(workflow_id)

        await gru.workflows.discard(workflow_id)

        with pytest.raises(KeyError):
            await gru.workflows.get(workflow_id)
        with pytest.raises(KeyError):
            await gru.workflows.redrive(workflow_id)
        await gru.stop()


class Careless(Fragile):
    on_failure = "discard"


async def read_all(gru: Gru, into: list[Notice]) -> None:
    async for notice in gru.notices():
        into.append(notice)  # noqa: PERF401  # it never ends


async def test_a_class_may_discard_its_failures(
    state: State, autojump_clock: MockClock
) -> None:
    Careless.broken = True
    notices: list[Notice] = []
    async with trio.open_nursery() as nursery, open_gru(state) as gru:
        nursery.start_soon(read_all, gru, notices)
        await wait_all_tasks_blocked()
        await gru.start_minion(Careless, Outside)
        (workflow_id,) = await gru.emit(Outside, Number(1))
        assert workflow_id is not None

        assert (await gru.workflows.wait(workflow_id)).state == "discarded"
        await gru.stop()

    (notice,) = [n for n in notices if isinstance(n, WorkflowDiscarded)]
    assert "ValueError: one" in str(notice.report)


class Aborting(Minion[Number, Sum]):
    @minion_step
    async def abort(self) -> None:
        raise ExceptionGroup("on purpose", [AbortWorkflow("enough")])


async def test_an_abort_is_an_end_and_no_failure(
    state: State, autojump_clock: MockClock
) -> None:
    async with open_gru(state) as gru:
        await gru.start_minion(Aborting, Outside)
        (workflow_id,) = await gru.emit(Outside, Number(1))
        assert workflow_id is not None

        answer = await gru.workflows.wait(workflow_id)

        assert answer.state == "aborted"
        assert "enough" in answer.reason
        await gru.stop()


class Unstorable(Minion[Number, Sum]):
    @minion_step
    async def spoil(self) -> None:
        self.context.total = 2**80

    @minion_step
    async def never(self) -> None:
        ended.append(1)


async def test_what_cannot_be_stored_is_quarantined(
    state: State, autojump_clock: MockClock
) -> None:
    async with open_gru(state) as gru:
        await gru.start_minion(Unstorable, Outside)
        (workflow_id,) = await gru.emit(Outside, Number(1))
        assert workflow_id is not None

        answer = await gru.workflows.wait(workflow_id)

        assert answer.reason.startswith("unstorable")
        assert answer.context == Sum()
        with pytest.raises(SnapshotError):
            await gru.emit(Outside, Number(2**80))
        with pytest.raises(TypeError):
            await gru.emit(Outside, Sum())
        await gru.stop()
    assert not ended


class Keyed(Minion[Number, Sum]):
    running: ClassVar[dict[int, int]] = {}

    def key(self, event: Number) -> int:
        if event.value == 13:
            raise ValueError("no key for it")
        return event.value % 2

    @minion_step
    async def work(self) -> None:
        key = self.event.value % 2
        self.running[key] = self.running.get(key, 0) + 1
        assert self.running[key] == 1, "one of a key at a time"
        await trio.sleep(1)
        self.running[key] -= 1
        ended.append(self.event.value)

    @minion_step
    async def rest(self) -> None:
        await trio.sleep(0.1)


class Ten(Pipeline[Number]):
    async def run(self) -> None:
        await self.emit_many([Number(n) for n in range(10)])
        await self.emit(Number(13))


async def test_workflows_of_one_key_run_in_order(
    state: State, autojump_clock: MockClock
) -> None:
    Keyed.running.clear()
    began = trio.current_time()
    async with open_gru(state) as gru:
        await gru.start_minion(Keyed, Ten)

        async with trio.open_nursery():
            await trio.sleep(8)
        (bad,) = [w async for w in gru.workflows.list(state="quarantined")]
        assert bad.reason == "key: ValueError: no key for it"

    assert [n for n in ended if n % 2] == [1, 3, 5, 7, 9]
    assert [n for n in ended if not n % 2] == [0, 2, 4, 6, 8]
    assert trio.current_time() - began < 9, "other keys run beside"


class Nosy(Minion[Number, Sum]):
    go: ClassVar[list[trio.Event]] = []

    @minion_step
    async def look(self) -> None:
        self.nursery.start_soon(self.later)
        async with trio.open_nursery() as nursery:
            nursery.start_soon(self.now)
        total = await trio.to_thread.run_sync(lambda: self.context.total)
        assert total == 1
        self.context = Sum(total=2)
        assert self.workflow.step == "look"
        assert self.workflow.attempt == 1

    async def now(self) -> None:
        self.context.total = 1

    async def later(self) -> None:
        await self.go[0].wait()
        try:
            self.event  # noqa: B018
        except NotRunningError:
            ended.append(99)


async def test_the_workflow_is_seen_where_the_step_works(
    state: State, autojump_clock: MockClock
) -> None:
    Nosy.go[:] = [trio.Event()]
    async with open_gru(state) as gru:
        await gru.start_minion(Nosy, Outside)
        (workflow_id,) = await gru.emit(Outside, Number(1))
        assert workflow_id is not None

        answer = await gru.workflows.wait(workflow_id)
        Nosy.go[0].set()
        await wait_all_tasks_blocked()

        assert answer.context == Sum(total=2)
        assert ended == [99]
        with pytest.raises(NotRunningError):
            Nosy().event  # noqa: B018
        await gru.stop()


class Leaver(Minion[Number, Sum]):
    """Its first step leaves a task behind, which looks while the second runs."""

    @minion_step
    async def leave(self) -> None:
        self.nursery.start_soon(self.look)
        await trio.sleep(1)

    @minion_step
    async def stay(self) -> None:
        await trio.sleep(2)

    async def look(self) -> None:
        assert self.workflow.step == "leave"
        await trio.sleep(2)
        with pytest.raises(NotRunningError, match="step 'leave', which has ended"):
            self.context.total = 1
        ended.append(99)


async def test_a_task_sees_the_step_that_made_it_and_no_later_one(
    state: State, autojump_clock: MockClock
) -> None:
    async with open_gru(state) as gru:
        await gru.start_minion(Leaver, Outside)
        (workflow_id,) = await gru.emit(Outside, Number(1))
        assert workflow_id is not None

        answer = await gru.workflows.wait(workflow_id)
        await gru.stop()

    assert ended == [99]
    assert answer.context == Sum(total=0)


@component_id("renamed")
class Before(Minion[Number, Sum]):
    @minion_step
    async def old(self) -> None:
        self.context.total = 1

    @minion_step
    async def slow(self) -> None:
        await trio.sleep_forever()


@component_id("renamed")
class After(Minion[Number, Sum]):
    @minion_step
    async def inserted(self) -> None:
        raise AssertionError

    @minion_step(renamed_from="slow")
    async def fast(self) -> None:
        ended.append(self.context.total)


@component_id("renamed")
class Without(Minion[Number, Sum]):
    @minion_step
    async def other(self) -> None:
        raise AssertionError


async def leave_at_slow(folder: Path) -> str:
    async with open_gru(folder) as gru:
        await gru.start_minion(Before, Outside)
        (workflow_id,) = await gru.emit(Outside, Number(1))
        await trio.sleep(1)
        gru.cut_over()
        await gru.stop()
    assert workflow_id is not None
    return workflow_id


async def test_a_workflow_goes_on_at_its_step_by_name(
    folder: Path, autojump_clock: MockClock
) -> None:
    workflow_id = await leave_at_slow(folder)

    async with open_gru(folder) as gru:
        await gru.start_minion(After, Outside)
        await trio.sleep(1)
        with pytest.raises(KeyError):
            await gru.workflows.get(workflow_id)
        await gru.stop()

    assert ended == [1]


async def test_a_step_that_is_gone_is_incompatible(
    folder: Path, autojump_clock: MockClock
) -> None:
    workflow_id = await leave_at_slow(folder)

    async with open_gru(folder) as gru:
        await gru.start_minion(Without, Outside)
        await trio.sleep(1)
        found = await gru.workflows.get(workflow_id)

        assert found.reason.startswith("incompatible")
        assert "expected one of other" in found.reason
        await gru.stop()


async def test_quarantine_is_noted_once(
    state: State, autojump_clock: MockClock
) -> None:
    Fragile.broken = True
    notices: list[Notice] = []
    async with trio.open_nursery() as nursery, open_gru(state) as gru:
        nursery.start_soon(read_all, gru, notices)
        await wait_all_tasks_blocked()
        await gru.start_minion(Fragile, OneToThree)

    found = [n for n in notices if isinstance(n, WorkflowQuarantined)]
    assert len(found) == 3
    assert {n.step for n in found} == {"fail"}


class OddError(BaseException):
    """Neither an ``Exception`` nor meant to leave a program."""


class OddContext(Minion[Number, "OddSum"]):
    raised: ClassVar[BaseException] = OddError("no default")

    @minion_step
    async def work(self) -> None:
        ended.append(self.event.value)


def odd_number() -> int:
    raise OddContext.raised


@attrs.define
class OddSum:
    total: int = attrs.field(factory=odd_number)


class OddKey(Minion[Number, Sum]):
    raised: ClassVar[BaseException] = OddError("no key")

    def key(self, event: Number) -> int:
        if event.value == 1:
            raise self.raised
        return 0

    @minion_step
    async def work(self) -> None:
        ended.append(self.event.value)


async def test_a_key_may_raise_what_is_no_exception(
    state: State, autojump_clock: MockClock
) -> None:
    """It is computed where others emit and commit: they must not hear of it."""
    async with open_gru(state) as gru:
        await gru.start_minion(OddKey, Outside)
        for value in (1, 2):
            await gru.emit(Outside, Number(value))
        await trio.sleep(1)
        (bad,) = [w async for w in gru.workflows.list()]
        assert bad.reason.startswith("key:")
        await gru.stop()

    assert ended == [2]


async def test_a_context_may_raise_what_is_no_exception(
    state: State, autojump_clock: MockClock
) -> None:
    async with open_gru(state) as gru:
        await gru.start_minion(OddContext, Outside)
        await gru.emit(Outside, Number(1))
        await trio.sleep(1)
        (looked_at,) = gru.snapshot().orchestrations.values()
        assert (looked_at.running, looked_at.quarantined) == (0, 1)
        await gru.stop()


async def test_an_exit_from_a_key_leaves_in_order(
    tmp_path: Path, autojump_clock: MockClock, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(OddKey, "raised", SystemExit(3))
    with pytest.raises(SystemExit):
        async with open_gru(tmp_path / "state") as gru:
            await gru.start_minion(OddKey, Outside)
            await gru.emit(Outside, Number(1))
            await trio.sleep(1)
    monkeypatch.setattr(OddKey, "key", lambda _self, _event: 0)

    async with open_gru(tmp_path / "state") as gru:
        await gru.start_minion(OddKey, Outside)
        await gru.stop()

    assert ended == [1]


async def test_an_exit_from_a_context_leaves_in_order(
    tmp_path: Path, autojump_clock: MockClock, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(OddContext, "raised", SystemExit(3))
    with pytest.raises(SystemExit):
        async with open_gru(tmp_path / "state") as gru:
            await gru.start_minion(OddContext, Outside)
            await gru.emit(Outside, Number(1))
            await trio.sleep(1)

    async with open_gru(tmp_path / "state") as gru:
        (saved,) = [w async for w in gru.workflows.list()]
        assert (saved.state, saved.step) == ("ready", "")
