"""Hooks of a resource that do all that user code can do wrong, at every time."""

from __future__ import annotations

from typing import Any, ClassVar, Self

import pytest
import trio

from minions import Backoff, Gru, Resource, Restart, component_id
from minions.identity import component_identity

World = Any  # of conftest.py
ONCE = Restart(max_restarts=1, backoff=Backoff(base=0.1, cap=0.1))


@component_id("hostile-base")
class Base(Resource):
    async def shutdown(self) -> None:
        await trio.sleep(0.05)


class Hooks(Resource):
    """Does its misdeed in one of its hooks."""

    restart = ONCE
    world: ClassVar[World]
    base: Base


@component_id("hostile-startup")
class InStartup(Hooks):
    async def startup(self) -> None:
        await self.world.act()


@component_id("hostile-run")
class InRun(Hooks):
    async def run(self) -> None:
        await self.world.act()
        await trio.sleep_forever()


@component_id("hostile-nursery")
class InNursery(Hooks):
    async def startup(self) -> None:
        self.nursery.start_soon(self.world.act)


@component_id("hostile-shutdown")
class InShutdown(Hooks):
    async def shutdown(self) -> None:
        await self.world.act()


@component_id("hostile-drain")
class InDrain(Hooks):
    """Begins when its work is cancelled."""

    async def run(self) -> None:
        try:
            await trio.sleep_forever()
        finally:
            await self.world.act()


@component_id("hostile-enter")
class InEnter(Hooks):
    async def __aenter__(self) -> Self:
        await self.world.act()
        return self

    async def __aexit__(self, *_: object) -> None: ...


@component_id("hostile-exit")
class InExit(Hooks):
    async def __aenter__(self) -> Self:
        return self

    async def __aexit__(self, *_: object) -> None:
        await self.world.act()


@component_id("hostile-beside")
class Beside(Resource):
    """With it, no place among the others holds their user: its leases do."""


class Above(Resource):
    """Needs the culprit, and leaves before it goes."""

    async def shutdown(self) -> None:
        await trio.sleep(0.05)


def above(hooks: type) -> type:
    made = type(
        "Above", (Above,), {"__annotations__": {"below": hooks, "beside": Beside}}
    )
    return component_id(f"{component_identity(hooks)}-above")(made)


ABOVE: dict[type, type] = {
    hooks: above(hooks)
    for hooks in (InStartup, InRun, InNursery, InShutdown, InDrain, InEnter, InExit)
}


async def leaving(gru: Gru, world: World) -> None:
    """Wait until a hook of its end has begun, for a reason of its own."""
    await trio.sleep(0.3)
    async with trio.open_nursery() as nursery:
        nursery.start_soon(restart, gru, world.culprit)
        await world.acting.wait()
        nursery.cancel_scope.cancel()


async def restart(gru: Gru, name: str) -> None:
    await gru.restart(name)


PLACES = list(ABOVE)


def play(bench: Any, hooks: type) -> None:
    user = ABOVE[hooks]

    async def begin(gru: Gru, world: World) -> None:
        Hooks.world = world
        await gru.start(user)

    last = hooks in (InShutdown, InDrain, InExit)
    bench.play(
        begin,
        culprit=hooks,
        needs=[(user, hooks), (user, Beside), (hooks, Base)],
        when=leaving if last else None,
        untold=hooks is InDrain and bench.world.misdeed.is_cancellation,
    )


@pytest.mark.parametrize("hooks", PLACES, ids=component_identity)
def test_a_hook_that_misbehaves_disturbs_nobody(bench: Any, hooks: type) -> None:
    play(bench, hooks)
