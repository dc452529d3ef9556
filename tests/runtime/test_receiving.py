"""Signals that a step receives, and what is said of who waits before the end."""

from __future__ import annotations

import attrs
import pytest
import trio
from trio.testing import MockClock, wait_all_tasks_blocked

from minions import Minion, NotRunningError, Pipeline, Wait, minion_step, open_gru
from minions.runtime.gru import Gru


@attrs.frozen
class Number:
    value: int


@attrs.frozen
class Approval:
    by: str


@attrs.define
class Memory:
    notes: list[str] = attrs.field(factory=list)


class Source(Pipeline[Number]):
    pass


async def emit(gru: Gru) -> str:
    (workflow,) = await gru.emit(Source, Number(1))
    assert workflow is not None
    return workflow


class Looks(Minion[Number, Memory]):
    @minion_step
    async def look(self) -> None:
        await trio.sleep(1)
        for _ in range(3):
            found = await self.workflow.receive(Approval, timeout=0)
            self.context.notes.append(str(found and found.by))


async def test_a_step_takes_what_is_there_without_waiting(
    autojump_clock: MockClock,
) -> None:
    async with open_gru(None) as gru:
        await gru.start_minion(Looks, Source)
        workflow = await emit(gru)
        await gru.workflows.signal(workflow, Approval("Ann"))
        await gru.workflows.signal(workflow, Approval("Bob"))

        ended = await gru.workflows.wait(workflow)

        assert ended.context.notes == ["Ann", "Bob", "None"]
        await gru.stop()


class Leaves(Minion[Number, Memory]):
    @minion_step
    async def leave(self) -> None:
        self.nursery.start_soon(self.linger, self.workflow.receive)
        await trio.sleep(1)

    async def linger(self, receive: object) -> None:
        assert callable(receive)
        with pytest.raises(NotRunningError, match="found that it has ended"):
            await receive(Approval)
        left.append("refused")

    @minion_step
    async def take(self) -> None:
        found = await self.workflow.receive(Approval)
        assert found is not None
        self.context.notes.append(found.by)


left: list[str] = []


async def test_who_is_left_over_from_a_step_receives_nothing(
    autojump_clock: MockClock,
) -> None:
    left.clear()
    async with open_gru(None) as gru:
        await gru.start_minion(Leaves, Source)
        workflow = await emit(gru)
        await trio.sleep(2)
        await gru.workflows.signal(workflow, Approval("Ann"))

        ended = await gru.workflows.wait(workflow)

        assert ended.context.notes == ["Ann"]
        assert left == ["refused"]
        await gru.stop()


class WaitsLast(Minion[Number, Memory]):
    @minion_step
    async def ask(self) -> Wait:
        return Wait(Approval)


async def test_who_waits_before_its_end_says_so(autojump_clock: MockClock) -> None:
    async with open_gru(None) as gru:
        await gru.start_minion(WaitsLast, Source)
        workflow = await emit(gru)
        await wait_all_tasks_blocked()

        waiting = await gru.workflows.get(workflow)

        assert "Approval before its end since" in waiting.why
        assert waiting.step == "="
        await gru.stop()


class Mistakes(Minion[Number, Memory]):
    @minion_step
    async def poll(self) -> None:
        await self.workflow.receive(Approval, timeout=float("nan"))


async def test_a_timeout_that_is_no_time_fails_the_step(
    autojump_clock: MockClock,
) -> None:
    async with open_gru(None) as gru:
        await gru.start_minion(Mistakes, Source)
        ended = await gru.workflows.wait(await emit(gru))
        assert ended.state == "quarantined"
        assert "expected as timeout a number of seconds" in ended.reason
        assert "found nan" in ended.reason
        await gru.stop()
