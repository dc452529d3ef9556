"""Events that steps emit to pipelines that are not started in this process."""

from __future__ import annotations

import contextlib
from collections.abc import AsyncIterator
from pathlib import Path

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


class Client:
    """No resource: it comes from elsewhere."""


@contextlib.asynccontextmanager
async def connect() -> AsyncIterator[Client]:
    yield Client()


class Source(Pipeline[Number]):
    pass


class Target(Pipeline[Number]):
    client: Client


class Hears(Minion[Number, Memory]):
    @minion_step
    async def hear(self) -> None:
        heard.append(self.event.value)


class Tells(Minion[Number, Memory]):
    @minion_step
    async def tell(self) -> None:
        await self.workflow.emit(Number(self.event.value + 1), to=Target)


heard: list[int] = []


async def test_a_target_that_is_not_started_here_needs_nothing(
    autojump_clock: MockClock, folder: Path
) -> None:
    """Its subscription is in the store; what it needs is not asked for."""
    heard.clear()
    async with open_gru(folder) as gru:
        gru.provide(Client, connect)
        await gru.start_minion(Hears, Target)
        await gru.stop()
    async with open_gru(folder) as gru:
        await gru.start_minion(Tells, Source)
        (workflow,) = await gru.emit(Source, Number(1))
        assert workflow is not None

        ended = await gru.workflows.wait(workflow)

        assert ended.state == "done", ended.reason
        await gru.stop()
    async with open_gru(folder) as gru:
        gru.provide(Client, connect)
        await gru.start_minion(Hears, Target)
        await wait_all_tasks_blocked()
        await gru.stop()
    assert heard == [2]


class Few(Pipeline[Number]):
    async def run(self) -> None:
        await self.emit(Number(1))


class Sleeps(Minion[Number, Memory]):
    @minion_step
    async def sleep(self) -> After:
        return After(10)

    @minion_step
    async def tell(self) -> After:
        await self.workflow.emit(Number(2), to=Few)
        return After(10)


async def test_who_has_ended_is_well_until_a_step_emits_to_it(
    autojump_clock: MockClock, folder: Path
) -> None:
    """Nobody works on what comes then, before the next start."""
    heard.clear()
    async with open_gru(folder) as gru:
        async with gru.starting():
            hears = await gru.start_minion(Hears, Few)
            await gru.start_minion(Sleeps, Source)
        await gru.emit(Source, Number(1))
        assert await hears.wait() == "ended"

        before = gru.snapshot()
        await trio.sleep(15)
        after = gru.snapshot()

        assert before.orchestrations[hears.id].status == "ended"
        assert before.healthy
        assert after.orchestrations[hears.id].status == "not started"
        assert not after.healthy
        await gru.start_minion(Hears, Few)
        await wait_all_tasks_blocked()
        assert sorted(heard) == [1, 1, 2]
        await gru.stop()
