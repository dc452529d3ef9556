"""What an end is said to wait for."""

from __future__ import annotations

import attrs
import trio
from trio.testing import MockClock

from minions import GruOptions, Minion, Pipeline, minion_step, open_gru
from minions.cli.operate import describe_end


@attrs.frozen
class Event:
    text: str = ""


class Outside(Pipeline[Event]):
    pass


class Slow(Minion[Event, Event]):
    @minion_step
    async def wait(self) -> None:
        await trio.sleep(5)

    async def shutdown(self) -> None:
        await trio.sleep(1)


async def test_first_the_work_then_the_hooks(autojump_clock: MockClock) -> None:
    said = []

    async with open_gru(None, options=GruOptions(grace=20)) as gru:
        orchestration = await gru.start_minion(Slow, Outside)
        await gru.emit(Outside, Event())
        await gru.emit(Outside, Event())
        gru.ask_stop()
        for _ in range(3):
            await trio.sleep(2.7)
            said.append(describe_end(gru.snapshot()))

    assert said[0].startswith(f"{orchestration.id} (2 workflows)")
    assert orchestration.id not in said[1]
    assert f"{orchestration.minion_name} (releasing" in said[1]
    assert said[2] == ""
