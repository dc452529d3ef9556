"""Several who move one workflow at once, and values at the edge of the store."""

from __future__ import annotations

from pathlib import Path
from typing import ClassVar

import attrs
import pytest
import trio
from trio.testing import MockClock, wait_all_tasks_blocked

from minions import (
    After,
    Gru,
    Minion,
    Pipeline,
    minion_step,
    open_gru,
)


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
        log.append(f"begun {self.event.value}")
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
            log.append("cancelled")

        async with trio.open_nursery() as nursery:
            nursery.start_soon(cancel)
            await emit(gru)

        assert log == ["cancelled"]
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
