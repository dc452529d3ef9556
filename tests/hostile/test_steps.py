"""Steps and keys that do all that user code can do wrong."""

from __future__ import annotations

import contextlib
from typing import Any, ClassVar

import attrs
import pytest
import trio
from trio.testing import MockClock

from minions import (
    Backoff,
    Gru,
    GruOptions,
    Minion,
    Pipeline,
    Resource,
    Restart,
    component_id,
    minion_step,
    open_gru,
)
from minions.identity import component_identity
from minions.notices import ComponentStuck, Notice

World = Any  # of conftest.py
ONCE = Restart(max_restarts=1, backoff=Backoff(base=0.1, cap=0.1))


@attrs.frozen
class Letter:
    text: str


@attrs.define
class Read:
    steps: int = 0


@component_id("hostile-letters")
class Letters(Pipeline[Letter]):
    pass


@component_id("hostile-post")
class Post(Resource):
    """What the minion needs: its steps are judged when it is known to be well."""

    async def shutdown(self) -> None:
        await trio.sleep(0.05)


class Reader(Minion[Letter, Read]):
    """The first of its two workflows misbehaves, the other does not."""

    restart = ONCE
    world: ClassVar[World]

    @minion_step
    async def open(self) -> None:
        self.context.steps += 1
        self.world.log.append(f"open {self.event.text}")

    @minion_step
    async def read(self) -> None:
        if self.event.text == "bad":
            await self.world.act()
        else:
            await trio.sleep(0.3)
        self.world.log.append(f"read {self.event.text}")


@component_id("hostile-step")
class InStep(Reader):
    pass


@component_id("hostile-needy")
class InNeedyStep(Reader):
    post: Post


@component_id("hostile-group")
class InTaskOfStep(Reader):
    @minion_step
    async def read(self) -> None:
        if self.event.text == "bad":
            async with trio.open_nursery() as nursery:
                nursery.start_soon(self.world.act)
        self.world.log.append(f"read {self.event.text}")


@component_id("hostile-draining")
class InDrain(Reader):
    """Begins when the drain does: it was to finish."""

    @minion_step
    async def read(self) -> None:
        if self.event.text == "bad":
            await self.world.go.wait()
            await self.world.act()
        self.world.log.append(f"read {self.event.text}")


PLACES: list[type] = [InStep, InNeedyStep, InTaskOfStep, InDrain]


async def draining(gru: Gru, world: World) -> None:
    await trio.sleep(0.5)
    gru.ask_stop()
    world.stop_asked = True
    await trio.sleep(0.01)
    world.go.set()
    await world.acting.wait()


def play(bench: Any, minion: type) -> None:
    async def begin(gru: Gru, world: World) -> None:
        Reader.world = world
        await gru.start_minion(minion, Letters)
        await gru.emit(Letters, Letter("bad"))
        await gru.emit(Letters, Letter("good"))

    world = bench.play(
        begin,
        culprit=minion,
        needs=[(minion, Post)] if minion is InNeedyStep else [],
        when=draining if minion is InDrain else None,
        untold=minion is InTaskOfStep and bench.world.misdeed.is_cancellation,
    )
    bench.check_kept(minion, Letters)
    assert world.log.count("open bad") == 1, "its first step had ended"
    assert world.log.count("open good") == 1
    assert world.log.count("read good") == 1


@pytest.mark.parametrize("minion", PLACES, ids=component_identity)
def test_a_step_that_misbehaves_disturbs_nobody(bench: Any, minion: type) -> None:
    play(bench, minion)


@component_id("hostile-repeater")
class Repeater(Minion[Letter, Read]):
    """Always raises a group that holds a cancellation of long ago."""

    @minion_step
    async def read(self) -> None:
        with trio.CancelScope() as scope:
            scope.cancel()
            try:
                await trio.sleep_forever()
            except trio.Cancelled as exc:
                old = exc
        raise BaseExceptionGroup("", [old, OSError()])


async def test_an_old_cancellation_is_no_interruption(
    autojump_clock: MockClock,
) -> None:
    """Nothing is cancelled: the step has failed, and does not run again for ever."""
    async with open_gru(None) as gru:
        await gru.start_minion(Repeater, Letters)
        (workflow_id,) = await gru.emit(Letters, Letter("bad"))
        assert workflow_id is not None
        assert (await gru.workflows.wait(workflow_id)).state == "quarantined"
        await gru.stop()


@component_id("hostile-restless")
class Restless(Minion[Letter, Read]):
    free: ClassVar[bool] = False

    @minion_step
    async def swallow_all(self) -> None:
        while not self.free:
            with contextlib.suppress(trio.Cancelled):
                await trio.sleep_forever()


@pytest.mark.slow
async def test_a_step_that_swallows_each_cancellation_is_stuck() -> None:
    """In real time: it never lets the clock of a test go on."""
    stuck: list[ComponentStuck] = []

    def heed(notice: Notice) -> None:
        if isinstance(notice, ComponentStuck):
            stuck.append(notice)
            Restless.free = True

    Restless.free = False
    async with open_gru(None, options=GruOptions(grace=0.1)) as gru:
        gru._bus.listeners.append(heed)
        await gru.start_minion(Restless, Letters)
        await gru.emit(Letters, Letter("bad"))
        await gru.stop()

    assert [n.component for n in stuck] == ["hostile-restless"]
    assert "in swallow_all" in stuck[0].stacks
