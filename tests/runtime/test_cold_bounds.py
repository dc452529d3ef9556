"""Cold workflows count in ``max_unfinished``, and in no other bound."""

from __future__ import annotations

from pathlib import Path
from typing import ClassVar

import attrs
import trio
from trio.testing import MockClock, wait_all_tasks_blocked

from minions import After, Minion, Pipeline, minion_step, open_gru


@attrs.frozen
class Number:
    value: int


@attrs.define
class Memory:
    last: int = 0


class Source(Pipeline[Number]):
    pass


class Sleeps(Minion[Number, Memory]):
    max_in_flight: ClassVar[int] = 2
    max_unfinished: ClassVar[int] = 5

    @minion_step
    async def sleep(self) -> After:
        return After(100)


async def test_the_source_waits_when_all_that_may_be_sleep(
    autojump_clock: MockClock, state: Path | None
) -> None:
    accepted: list[str | None] = []

    async def emit_all() -> None:
        for number in range(7):
            accepted.extend(await gru.emit(Source, Number(number)))

    async with open_gru(state) as gru:
        orchestration = await gru.start_minion(Sleeps, Source)
        async with trio.open_nursery() as nursery:
            nursery.start_soon(emit_all)
            await trio.sleep(1)

            look = gru.snapshot().orchestrations[orchestration.id]
            assert (len(accepted), look.cold, look.source_waits) == (5, 5, True)
            for workflow in accepted[:2]:
                await gru.workflows.cancel(workflow or "")
            await wait_all_tasks_blocked()
            assert len(accepted) == 7
        await gru.stop()
