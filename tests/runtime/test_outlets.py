"""Events that steps emit to pipelines that are not started in this process."""

from __future__ import annotations

import contextlib
from collections.abc import AsyncIterator
from pathlib import Path

import attrs
import trio
from trio.testing import MockClock, wait_all_tasks_blocked

from minions import (
    After,
    GruOptions,
    Minion,
    Pipeline,
    SnapshotError,
    minion_step,
    open_gru,
)


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


@attrs.frozen
class Text:
    text: str


class Texts(Pipeline[Text]):
    pass


class Reads(Minion[Text, Memory]):
    @minion_step
    async def read(self) -> None:
        heard.append(len(self.event.text))


class Writes(Minion[Number, Memory]):
    """Finds by trying what is too large, in the step that emits it."""

    @minion_step
    async def write(self) -> None:
        for size in range(500, 1500):
            try:
                await self.workflow.emit(Text("x" * size), to=Texts)
            except SnapshotError as exc:
                refused.append(str(exc))
                break


refused: list[str] = []


async def test_an_event_that_is_too_large_is_refused_where_it_is_emitted(
    autojump_clock: MockClock, state: Path | None
) -> None:
    heard.clear()
    refused.clear()
    async with open_gru(state, options=GruOptions(max_record=1024)) as gru:
        await gru.start_minion(Reads, Texts)
        await gru.start_minion(Writes, Source)
        (workflow,) = await gru.emit(Source, Number(1))
        assert workflow is not None

        ended = await gru.workflows.wait(workflow)
        await wait_all_tasks_blocked()

        assert ended.state == "done"
        (message,) = refused
        assert "test_outlets:Writes: self.workflow.emit to" in message
        assert "at most 1024 bytes (max_record), found 1025;" in message
        assert sorted(heard) == [*range(500, max(heard) + 1)]
        await gru.stop()
