"""Lives that behave as a scenario says, and look around while they do."""

from __future__ import annotations

import signal
import threading
from collections import Counter
from collections.abc import AsyncIterator
from contextlib import AsyncExitStack, asynccontextmanager
from typing import Literal

import attrs
import trio

from minions.notices import Notice
from minions.supervise import Incarnation, Life, RunEnd
from minions.testing.scenarios import Fault, Node, Scenario, Where, name_of

__all__ = ["OVERSTAY", "Acting", "Misfortune", "World", "interrupt"]

# Longer than any grace: what overstays this long must have been reported.
OVERSTAY = 3.0


class Misfortune(Exception):  # noqa: N818  # drawn, not a mistake
    """An exception of a scenario; its text is unique."""


@trio.lowlevel.disable_ki_protection
def interrupt() -> None:
    """Press Ctrl-C, here and now."""
    signal.raise_signal(signal.SIGINT)


@attrs.define(eq=False)
class World:
    """What is observed while a scenario is played."""

    scenario: Scenario
    # With the moment of each.
    noted: list[tuple[float, Notice]] = attrs.field(factory=list)
    lives: list[Acting] = attrs.field(factory=list)
    raised: list[str] = attrs.field(factory=list)
    happened: Counter[str] = attrs.field(factory=Counter)
    tasks: int = 0
    last_crash: float | None = None
    cancelled_at: float | None = None
    ended_at: float = 0.0
    timers: trio.Nursery | None = None

    @property
    def notices(self) -> list[Notice]:
        """Return what was noted, in order."""
        return [notice for _, notice in self.noted]

    def note(self, notice: Notice) -> None:
        """Take one notice of the group."""
        self.noted.append((trio.current_time(), notice))

    def misfortune(self, what: str) -> Misfortune:
        """Make the next exception, to be found in one notice later."""
        text = f"misfortune {len(self.raised)} in {what}"
        self.raised.append(text)
        if self.last_crash == trio.current_time():
            self.happened["two crashes at once"] += 1
        self.last_crash = trio.current_time()
        return Misfortune(text)

    def living(self, dependency: Incarnation) -> list[str]:
        """Name the lives that lease *dependency* and have not ended."""
        return [
            str(life.incarnation)
            for life in self.lives
            if not life.gone
            and any(held is dependency for held in life.incarnation.needs.values())
        ]

    def is_draining(self, *, besides: Acting) -> bool:
        """Say whether some other life is on its way out."""
        return any(
            life.ready and not life.gone and life.incarnation.cause is not None
            for life in self.lives
            if life is not besides
        )


@attrs.define(eq=False)
class Acting(Life):
    """A life that behaves as its node says, and looks around while it does."""

    world: World
    number: int
    incarnation: Incarnation
    ready: bool = False
    leaving: bool = False
    gone: bool = False
    own_tasks: int = 0
    stack: AsyncExitStack = attrs.field(factory=AsyncExitStack)

    @property
    def node(self) -> Node:
        """Return what it behaves like."""
        return self.world.scenario.nodes[self.number]

    async def acquire(self) -> None:
        """Start up, in order or not."""
        for name in map(name_of, self.node.needs):
            held = self.incarnation.needs[name].life
            assert isinstance(held, Acting)
            assert held.ready, f"{self.incarnation} starts without {name}"
            assert not held.leaving, f"{self.incarnation} starts as {name} leaves"
        try:
            await trio.sleep(self.node.startup)
            await self._act("startup")
            await self.stack.enter_async_context(self._context())
        except BaseException:
            self.gone = True
            raise
        assert self.incarnation.nursery is not None
        self.incarnation.nursery.start_soon(self._background)
        self.ready = True

    @asynccontextmanager
    async def _context(self) -> AsyncIterator[None]:
        """Be the context manager whose inner task may fail."""
        async with trio.open_nursery() as nursery:
            nursery.start_soon(self._act, "context")
            yield
            nursery.cancel_scope.cancel()

    async def run(self) -> RunEnd:
        """Work until cancelled."""
        async with self._counted():
            await self._act("run")
            await trio.sleep_forever()
        return RunEnd.RETURNED

    async def _background(self) -> None:
        async with self._counted():
            await self._act("background")
            await trio.sleep_forever()

    @asynccontextmanager
    async def _counted(self) -> AsyncIterator[None]:
        self.own_tasks += 1
        self.world.tasks += 1
        try:
            yield
        except trio.Cancelled:
            left = self.world.living(self.incarnation)
            crashed = self.incarnation.crashed
            assert crashed or not left, f"{self.incarnation} stops work before {left}"
            raise
        finally:
            self.own_tasks -= 1
            self.world.tasks -= 1

    async def drained(self) -> None:
        """Take as long as the node says to finish what runs."""
        try:
            await trio.sleep(self.node.drain)
        except trio.Cancelled:
            self.world.happened["soft drain cut off"] += 1
            raise

    async def release(self, problem: BaseException | None) -> None:
        """Shut down, in order or not."""
        self.leaving = True
        left = self.world.living(self.incarnation)
        assert not left, f"{self.incarnation} releases before {left}"
        assert not self.own_tasks, f"{self.incarnation} releases before its tasks end"
        try:
            if problem is not None:
                await self.stack.__aexit__(
                    type(problem), problem, problem.__traceback__
                )
                return
            await self.stack.aclose()
            await trio.sleep(self.node.shutdown)
            await self._act("shutdown")
        finally:
            self.gone = True

    async def _act(self, where: Where) -> None:
        for hang in self.node.hangs:
            if (hang.where, hang.epoch) == (where, self.incarnation.epoch):
                self.world.happened[f"hang: {hang.how}"] += 1
                await self._hang(hang.how)
        for fault in self.node.faults:
            if fault.where == where and fault.epoch in {0, self.incarnation.epoch}:
                await trio.sleep(fault.after)
                self._fail(fault)

    def _fail(self, fault: Fault) -> None:
        if fault.sigint:
            self.world.happened["SIGINT in a hook"] += 1
            interrupt()
        self.world.happened[f"crash in {fault.where}"] += 1
        if self.world.is_draining(besides=self):
            self.world.happened["crash during another's drain"] += 1
        raise self.world.misfortune(f"{fault.where} of {self.incarnation}")

    async def _hang(self, how: Literal["forever", "shield", "thread"]) -> None:
        if how == "forever":
            await trio.sleep_forever()
        elif how == "shield":
            with trio.CancelScope(shield=True, deadline=trio.current_time() + OVERSTAY):
                await trio.sleep_forever()
        else:
            done, back = threading.Event(), trio.Event()
            assert self.world.timers is not None
            self.world.timers.start_soon(_set_later, done, back)
            try:
                await trio.to_thread.run_sync(done.wait)
            finally:
                back.set()


async def _set_later(done: threading.Event, back: trio.Event) -> None:
    """End a thread's wait, and keep the clock from jumping until it is back."""
    try:
        await trio.sleep(OVERSTAY)
    finally:
        done.set()
    while not back.is_set():
        await trio.lowlevel.checkpoint()
