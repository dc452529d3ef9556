"""Plays a scenario under a virtual clock, and checks the invariants on the way.

The checks, for every edge from c to d (c needs d):

* nesting: c's life, from the start of ``acquire`` to the end of ``release``, lies
  inside d's, from ready to the beginning of ``release``;
* work last: d's own tasks end after c has left, unless d itself has crashed;
* readiness: c acquires only when d is up in its current life;
* blast radius: who drains for a dependency leased just that life of it, and
  whoever leased a life that drains is draining in the same instant;
* reports: every exception raised appears in exactly one notice;
* ends: nothing is left, and everything comes up again that has what it needs.
"""

from __future__ import annotations

import math
import signal
import threading
from collections import Counter
from collections.abc import AsyncIterator
from contextlib import AsyncExitStack, asynccontextmanager
from random import Random
from typing import Literal

import attrs
import trio
from trio.testing import MockClock

from minions.notices import (
    ComponentCrashed,
    Notice,
    ShutdownFailed,
    StartFailed,
)
from minions.options import Backoff, GruOptions, Restart
from minions.supervise import (
    Cause,
    CauseKind,
    Group,
    Incarnation,
    Life,
    Plan,
    RunEnd,
    State,
    open_group,
)
from minions.testing.scenarios import Order, Scenario, Where, name_of

__all__ = ["OPTIONS", "World", "play"]

OPTIONS = GruOptions(grace=1, start_timeout=2, settle=0.05, wants_timeout=0.37)
_POLICY = Restart(max_restarts=3, within=60, backoff=Backoff(base=0.1, cap=0.5))
# Longer than any grace: what overstays this long must have been reported.
_OVERSTAY = 3.0
# By then every delay, fault and hang of a scenario is over.
_HORIZON = 60.0
# So many rounds of the run loop with nothing to do and no deadline to wait for.
_DEADLOCK = 1000


class Misfortune(Exception):  # noqa: N818  # drawn, not a mistake
    """An exception of a scenario; its text is unique."""


def _finite_clock() -> MockClock:
    """Return virtual time that ends the run when nothing can ever happen again.

    What is shielded cannot be cancelled, so that a deadlock of the supervisor
    would otherwise hang in real time.
    """
    clock = MockClock(autojump_threshold=0)
    sleep_time = clock.deadline_to_sleep_time
    idle_rounds = 0

    def finite(deadline: float) -> float:
        nonlocal idle_rounds
        idle_rounds = idle_rounds + 1 if deadline == math.inf else 0
        assert idle_rounds < _DEADLOCK, "a deadlock: every task waits, and for no time"
        return sleep_time(deadline)

    clock.deadline_to_sleep_time = finite  # type: ignore[method-assign]
    return clock


@attrs.define(eq=False)
class World:
    """What is observed while a scenario is played."""

    scenario: Scenario
    notices: list[Notice] = attrs.field(factory=list)
    lives: list[Acting] = attrs.field(factory=list)
    raised: list[str] = attrs.field(factory=list)
    happened: Counter[str] = attrs.field(factory=Counter)
    tasks: int = 0
    cancelled_at: float | None = None
    ended_at: float = 0.0
    timers: trio.Nursery | None = None

    def misfortune(self, what: str) -> Misfortune:
        """Make the next exception, to be found in one notice later."""
        text = f"misfortune {len(self.raised)} in {what}"
        self.raised.append(text)
        return Misfortune(text)

    def living(self, dependency: Incarnation) -> list[str]:
        """Name the lives that lease *dependency* and have not ended."""
        return [
            str(life.incarnation)
            for life in self.lives
            if not life.gone
            and any(held is dependency for held in life.incarnation.needs.values())
        ]


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

    async def acquire(self) -> None:
        """Start up, in order or not."""
        node = self.world.scenario.nodes[self.number]
        for name in map(name_of, node.needs):
            held = self.incarnation.needs[name].life
            assert isinstance(held, Acting)
            assert held.ready, f"{self.incarnation} starts without {name}"
            assert not held.leaving, f"{self.incarnation} starts as {name} leaves"
        try:
            await trio.sleep(node.startup)
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

    async def release(self, problem: BaseException | None) -> None:
        """Shut down, in order or not."""
        self.leaving = True
        left = self.world.living(self.incarnation)
        assert not left, f"{self.incarnation} releases before {left}"
        assert not self.own_tasks, f"{self.incarnation} releases before its tasks end"
        node = self.world.scenario.nodes[self.number]
        try:
            if problem is not None:
                await self.stack.__aexit__(
                    type(problem), problem, problem.__traceback__
                )
                return
            await self.stack.aclose()
            await trio.sleep(node.shutdown)
            await self._act("shutdown")
        finally:
            self.gone = True

    async def _act(self, where: Where) -> None:
        node, epoch = self.world.scenario.nodes[self.number], self.incarnation.epoch
        for hang in node.hangs:
            if (hang.where, hang.epoch) == (where, epoch):
                self.world.happened[f"hang: {hang.how} in {where}"] += 1
                await self._hang(hang.how)
        for fault in node.faults:
            if (fault.where, fault.epoch) == (where, epoch):
                await trio.sleep(fault.after)
                self.world.happened[f"crash in {where}"] += 1
                if self.incarnation.cause is not None and where != "shutdown":
                    self.world.happened["crash during a drain"] += 1
                raise self.world.misfortune(f"{where} of {self.incarnation}")

    async def _hang(self, how: Literal["forever", "shield", "thread"]) -> None:
        if how == "forever":
            await trio.sleep_forever()
        elif how == "shield":
            with trio.CancelScope(
                shield=True, deadline=trio.current_time() + _OVERSTAY
            ):
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
        await trio.sleep(_OVERSTAY)
    finally:
        done.set()
    while not back.is_set():
        await trio.lowlevel.checkpoint()


def play(
    scenario: Scenario, *, placement: Literal["dominator", "flat"] = "dominator"
) -> World:
    """Play a scenario from its beginning to an ordered end.

    Raises:
        AssertionError: An invariant does not hold.
    """
    world = World(scenario)
    clock = _finite_clock()
    try:
        trio.run(_play, world, placement, clock=clock)
    except* KeyboardInterrupt:
        assert any(order.what == "sigint" for order in scenario.orders)
    _check_end(world)
    return world


async def _play(world: World, placement: Literal["dominator", "flat"]) -> None:
    with trio.fail_after(20 * _HORIZON):
        async with trio.open_nursery() as world.timers:
            with trio.CancelScope() as scope:
                try:
                    await _run_group(world, placement, scope)
                finally:
                    world.ended_at = trio.current_time()
            world.timers.cancel_scope.deadline = trio.current_time() + _OVERSTAY + 1


async def _run_group(
    world: World, placement: Literal["dominator", "flat"], scope: trio.CancelScope
) -> None:
    async with open_group(
        options=OPTIONS,
        notify=world.notices.append,
        placement=placement,
        random=Random(1),  # noqa: S311  # the same delays in both placements
    ) as group:
        for number in range(len(world.scenario.nodes)):
            group.add(_plan(world, number))
        began = trio.current_time()
        for order in world.scenario.orders:
            await trio.sleep_until(began + order.at)
            _carry_out(world, group, order, scope)
        await trio.sleep(_HORIZON)
        _check_recovered(group)


def _plan(world: World, number: int) -> Plan:
    def make(incarnation: Incarnation) -> Life:
        life = Acting(world, number, incarnation)
        world.lives.append(life)
        return life

    node = world.scenario.nodes[number]
    return Plan(
        name=name_of(number),
        make=make,
        needs=tuple(map(name_of, node.needs)),
        wants=tuple(map(name_of, node.wants)),
        restart=_POLICY,
    )


@trio.lowlevel.enable_ki_protection
def _carry_out(
    world: World, group: Group, order: Order, scope: trio.CancelScope
) -> None:
    member = group.members[name_of(order.node)]
    if order.what == "crash":
        if member.current is not None and member.current.acquired:
            world.happened["broken from outside"] += 1
            group.crash(member.current, world.misfortune(f"{member.current}"))
    elif order.what == "stop":
        world.happened["stop"] += 1
        group.stop(member.name)
    elif order.what == "restart":
        world.happened["restart"] += 1
        group.restart(member.name)
    elif order.what == "cancel":
        world.happened["cancel"] += 1
        world.cancelled_at = trio.current_time()
        scope.cancel()
    else:
        world.happened["sigint"] += 1
        signal.raise_signal(signal.SIGINT)


def _check_recovered(group: Group) -> None:
    """Whoever has all that it needs is up, unless it failed or was stopped."""
    for member in group.members.values():
        needs = [group.members[name] for name in member.plan.needs]
        if all(need.state is State.UP for need in needs):
            ends = {State.UP, State.FAILED, State.STOPPED}
        else:
            ends = {State.WAITING, State.FAILED, State.STOPPED}
        assert member.state in ends, f"{member.name} is {member.state} at rest"


def _check_end(world: World) -> None:
    assert world.tasks == 0, "tasks are left"
    for life in world.lives:
        assert life.gone or not life.ready, f"{life.incarnation} was never released"
        _check_cause(life.incarnation)
    reported = Counter(
        leaf.message
        for notice in world.notices
        if isinstance(notice, ComponentCrashed | StartFailed | ShutdownFailed)
        for leaf in notice.report.leaves
    )
    for text in world.raised:
        assert reported[text] == 1, f"{text!r} is in {reported[text]} notices"
    if world.cancelled_at is not None:
        took = world.ended_at - world.cancelled_at
        assert took <= _longest_path(world.scenario) + 1, f"the cancel took {took} s"


def _check_cause(incarnation: Incarnation) -> None:
    cause = incarnation.cause
    assert cause is not None, f"{incarnation} ended without a cause"
    for held in incarnation.needs.values():
        assert held.drained_at >= incarnation.drained_at, (
            f"{incarnation} drains after {held}, which it needs"
        )
    if cause.kind is CauseKind.DEPENDENCY:
        held = incarnation.needs.get(cause.component, incarnation)
        assert held.epoch == cause.epoch
        assert held is not incarnation, f"{incarnation} drains for a stranger"
        _check_chain(cause)


def _check_chain(cause: Cause) -> None:
    while cause.origin is not None:
        assert cause.hard == cause.origin.hard
        cause = cause.origin
    assert cause.kind is not CauseKind.DEPENDENCY


def _longest_path(scenario: Scenario) -> float:
    """Return the largest sum of graces along a path, in seconds."""
    longest: list[float] = []
    for node in scenario.nodes:
        hangs = sum(_OVERSTAY for hang in node.hangs if hang.how != "forever")
        below = max((longest[n] for n in node.needs + node.wants), default=0.0)
        longest.append(below + OPTIONS.grace + hangs)
    return max(longest)
