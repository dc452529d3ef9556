"""Sources that do all that user code can do wrong."""

from __future__ import annotations

from typing import Any, ClassVar

import attrs
import pytest
import trio

from minions import (
    Backoff,
    Gru,
    Minion,
    Pipeline,
    Resource,
    Restart,
    component_id,
    minion_step,
)
from minions.identity import component_identity
from minions.notices import ComponentStarting

World = Any  # of conftest.py
ONCE = Restart(max_restarts=1, backoff=Backoff(base=0.1, cap=0.1))
AT_ONCE = Backoff(base=0.05, cap=0.05)


@attrs.frozen
class Line:
    text: str


@attrs.define
class Nothing:
    pass


@component_id("hostile-wire")
class Wire(Resource):
    async def shutdown(self) -> None:
        await trio.sleep(0.05)


class Source(Pipeline[Line]):
    restart = ONCE
    error_backoff = AT_ONCE
    world: ClassVar[World]
    wire: Wire


@component_id("hostile-produce")
class InProduce(Source):
    """Has one event, and misbehaves when asked for the next."""

    asked: ClassVar[int]

    async def produce_event(self) -> Line:
        InProduce.asked += 1
        if self.asked == 1:
            return Line("one")
        await self.world.act()
        raise trio.EndOfChannel


@component_id("hostile-source")
class InRun(Source):
    async def run(self) -> None:
        await self.emit(Line("one"))
        await self.world.act()
        await trio.sleep_forever()


@component_id("hostile-source-nursery")
class InNursery(Source):
    async def startup(self) -> None:
        self.nursery.start_soon(self.world.act)

    async def run(self) -> None:
        await self.emit(Line("one"))
        await trio.sleep_forever()


@component_id("hostile-source-startup")
class InStartup(Source):
    async def startup(self) -> None:
        await self.world.act()

    async def run(self) -> None:
        await self.emit(Line("one"))
        await trio.sleep_forever()


@component_id("hostile-source-shutdown")
class InShutdown(InRun):
    async def run(self) -> None:
        await self.emit(Line("one"))
        await trio.sleep_forever()

    async def shutdown(self) -> None:
        await self.world.act()


@component_id("hostile-listener")
class Listener(Minion[Line, Nothing]):
    world: ClassVar[World]

    @minion_step
    async def read(self) -> None:
        self.world.log.append("read")


PLACES: list[type] = [InProduce, InRun, InNursery, InStartup, InShutdown]


async def leaving(gru: Gru, world: World) -> None:
    await trio.sleep(0.3)
    async with trio.open_nursery() as nursery:
        nursery.start_soon(gru.restart, InShutdown)
        await world.acting.wait()
        nursery.cancel_scope.cancel()


def play(bench: Any, source: type) -> None:
    InProduce.asked = 0

    async def begin(gru: Gru, world: World) -> None:
        Source.world = Listener.world = world
        await gru.start_minion(Listener, source)

    world = bench.play(
        begin,
        culprit=source,
        needs=[(source, Wire)],
        when=leaving if source is InShutdown else None,
    )
    if source is InProduce:
        assert world.log.count("read") == 1, "what it had returned is accepted"
    listened = world.of(ComponentStarting, "hostile-listener")
    assert len(listened) <= 1, "a source restarts nobody"


@pytest.mark.parametrize("source", PLACES, ids=component_identity)
def test_a_source_that_misbehaves_disturbs_nobody(bench: Any, source: type) -> None:
    play(bench, source)
