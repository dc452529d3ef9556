"""Several ask for the end of one workflow at once."""

from __future__ import annotations

from pathlib import Path

import attrs
import pytest
import trio
from trio.testing import MockClock, wait_all_tasks_blocked

from minions import (
    After,
    GruOptions,
    Minion,
    NotRunningError,
    Pipeline,
    Retry,
    Wait,
    minion_step,
    open_gru,
)
from minions.runtime.gru import Gru


@attrs.frozen
class Order:
    then: str


@attrs.frozen
class Approval:
    by: str = ""


@attrs.define
class Memory:
    last: str = ""


class Source(Pipeline[Order]):
    pass


class Idles(Minion[Order, Memory]):
    """Sleeps, waits, waits to be tried again, queues or is quarantined."""

    def key(self, event: Order) -> str:
        return "working" if event.then == "queued" else event.then

    @minion_step(retry=Retry(base=100, jitter="none", on=OSError))
    async def first(self) -> After | Wait | None:
        if self.event.then == "sleeping":
            return After(100)
        if self.event.then == "waiting":
            return Wait(Approval)
        if self.event.then == "retrying":
            raise OSError
        if self.event.then == "quarantined":
            raise ValueError
        await trio.sleep_forever()
        return None

    @minion_step
    async def second(self) -> None:
        pass


async def emitted(gru: Gru, then: str) -> str:
    (workflow,) = await gru.emit(Source, Order(then))
    assert workflow is not None
    await wait_all_tasks_blocked()
    found = await gru.workflows.get(workflow)
    assert found.state == ("running" if then == "working" else then)
    return workflow


@pytest.mark.parametrize("keep", [0, 60])
@pytest.mark.parametrize("then", ["sleeping", "waiting", "retrying", "queued"])
async def test_a_second_cancel_waits_for_the_same_end(
    autojump_clock: MockClock, folder: Path, then: str, keep: int
) -> None:
    async with open_gru(folder, options=GruOptions(keep=keep)) as gru:
        await gru.start_minion(Idles, Source)
        if then == "queued":
            await emitted(gru, "working")
        workflow = await emitted(gru, then)

        async with trio.open_nursery() as nursery:
            for _ in range(3):
                nursery.start_soon(gru.workflows.cancel, workflow)

        with pytest.raises(NotRunningError if keep else KeyError):
            await gru.workflows.cancel(workflow)
        assert gru.snapshot().healthy
        gru.cut_over()
        await gru.stop()


async def test_who_is_quarantined_is_not_cancelled(
    autojump_clock: MockClock, state: Path | None
) -> None:
    async with open_gru(state) as gru:
        await gru.start_minion(Idles, Source)
        workflow = await emitted(gru, "quarantined")

        with pytest.raises(KeyError, match="discard it instead"):
            await gru.workflows.cancel(workflow)
        await gru.stop()
