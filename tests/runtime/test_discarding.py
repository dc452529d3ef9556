"""A quarantined workflow that a person discards is kept as long as any end."""

from __future__ import annotations

from pathlib import Path

import attrs
import pytest
import trio
from trio.testing import MockClock

from minions import GruOptions, Minion, Pipeline, minion_step, open_gru


@attrs.frozen
class Number:
    value: int


@attrs.define
class Memory:
    last: int = 0


class Source(Pipeline[Number]):
    pass


class Fails(Minion[Number, Memory]):
    @minion_step
    async def first(self) -> None:
        self.context.last = self.event.value

    @minion_step
    async def fail(self) -> None:
        raise ValueError("no")


async def test_who_is_discarded_is_kept_for_a_while(
    autojump_clock: MockClock, state: Path | None
) -> None:
    async with open_gru(state, options=GruOptions(keep=60)) as gru:
        await gru.start_minion(Fails, Source)
        (workflow,) = await gru.emit(Source, Number(1))
        assert workflow is not None
        await gru.workflows.wait(workflow)

        await gru.workflows.discard(workflow)

        found = await gru.workflows.get(workflow)
        assert (found.state, found.context) == ("discarded", Memory(1))
        assert found.reason == "failed: ValueError: no"
        assert [w.id async for w in gru.workflows.list(state="discarded")] == [workflow]
        assert (await gru.workflows.wait(workflow)).state == "discarded"
        with pytest.raises(KeyError):
            await gru.workflows.discard(workflow)
        await trio.sleep(61)
        with pytest.raises(KeyError):
            await gru.workflows.get(workflow)
        await gru.stop()
