"""A pause lets the running steps end, whatever the minion does meanwhile."""

from __future__ import annotations

from typing import ClassVar

import attrs
import pytest
import trio
from trio.testing import MockClock, wait_all_tasks_blocked

from minions import Minion, Pipeline, StartError, minion_step, open_gru


@attrs.frozen
class Number:
    value: int


@attrs.define
class Memory:
    last: str = ""


class Source(Pipeline[Number]):
    pass


class TwoSteps(Minion[Number, Memory]):
    log: ClassVar[list[str]] = []

    @minion_step
    async def first(self) -> None:
        await trio.sleep(5)
        self.log.append("first has ended")

    @minion_step
    async def second(self) -> None:
        self.log.append("second")


@pytest.mark.parametrize("first", ["pause", "restart"])
async def test_a_pause_lets_steps_end_while_the_minion_restarts(
    autojump_clock: MockClock, first: str
) -> None:
    TwoSteps.log.clear()
    async with open_gru(None) as gru:
        running = await gru.start_minion(TwoSteps, Source)
        (workflow,) = await gru.emit(Source, Number(1))
        assert workflow is not None
        await wait_all_tasks_blocked()

        async def pause() -> None:
            await running.stop("pause")

        async def restart() -> None:
            with pytest.raises(StartError, match="stopped"):
                await gru.restart(TwoSteps)

        async with trio.open_nursery() as nursery:
            for act in (pause, restart) if first == "pause" else (restart, pause):
                nursery.start_soon(act)
                await wait_all_tasks_blocked()

        result = running.result
        assert TwoSteps.log == ["first has ended"]
        assert (result.finished, result.saved, result.cut) == (0, 1, 0)
        assert (await gru.workflows.get(workflow)).step == "second"

        await gru.start_minion(TwoSteps, Source)
        await gru.workflows.wait(workflow)

        assert TwoSteps.log == ["first has ended", "second"]
        await gru.stop()
