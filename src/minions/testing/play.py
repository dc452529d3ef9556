"""Plays a scenario under a virtual clock, and checks the invariants on the way.

The checks, for every edge from c to d (c needs d):

* nesting: c's life, from the start of ``acquire`` to the end of ``release``, lies
  inside d's, from ready to the beginning of ``release``;
* work last: d's own tasks end after c has left, unless d itself has crashed;
* readiness: c acquires only when d is up in its current life;
* blast radius: who drains for a dependency leased just that life of it, whoever
  leased a life that drains is draining in the same instant, and no component ends
  two lives for one and the same reason;
* storms: in no window are there more restarts than the budgets admit;
* reports: every exception raised appears in exactly one notice;
* prompt end: a cancellation is heard by all at once, and takes no longer than the
  graces along a path;
* ends: nothing is left, neither a lease, nor a task, nor a thread, and everything
  comes up again that has what it needs.
"""

from __future__ import annotations

import functools
import math
from collections import Counter
from collections.abc import Callable
from random import Random
from typing import Literal

import trio
from trio.testing import MockClock

from minions.notices import (
    ComponentBackoff,
    ComponentCrashed,
    Notice,
    ShutdownFailed,
    StartFailed,
)
from minions.options import Backoff, GruOptions, Restart
from minions.supervise import (
    CauseKind,
    Group,
    Incarnation,
    Life,
    Plan,
    State,
    open_group,
)
from minions.testing.acting import OVERSTAY, Acting, World, interrupt
from minions.testing.checks import check_notices
from minions.testing.leftovers import Leftovers
from minions.testing.scenarios import Order, Scenario, name_of

__all__ = ["OPTIONS", "POLICY", "World", "check_recovered", "finite_clock", "play"]

OPTIONS = GruOptions(grace=1, start_timeout=2, settle=0.05, wants_timeout=0.37)
POLICY = Restart(max_restarts=3, within=60, backoff=Backoff(base=0.1, cap=0.5))
# By then every delay, fault and hang of a scenario is over.
_HORIZON = 60.0
# So many rounds of the run loop with nothing to do and no deadline to wait for.
_DEADLOCK = 1000


def finite_clock() -> MockClock:
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


def play(
    scenario: Scenario,
    *,
    placement: Literal["dominator", "flat"] = "dominator",
    options: GruOptions = OPTIONS,
) -> World:
    """Play a scenario from its beginning to an ordered end.

    Raises:
        AssertionError: An invariant does not hold.
    """
    world = World(scenario)
    run = functools.partial(_play, world, placement, options)
    try:
        trio.run(run, clock=finite_clock())
    except* KeyboardInterrupt:
        assert world.happened["SIGINT"] or world.happened["SIGINT in a hook"]
    _check_end(world)
    _check_storms(world, options)
    return world


async def _play(
    world: World, placement: Literal["dominator", "flat"], options: GruOptions
) -> None:
    with trio.fail_after(20 * _HORIZON):
        async with trio.open_nursery() as world.timers:
            before = Leftovers()
            with trio.CancelScope() as scope:
                try:
                    async with open_group(
                        options=options,
                        notify=world.note,
                        placement=placement,
                        random=Random(1),  # noqa: S311  # the same delays in both
                    ) as group:
                        await _act(world, group, scope)
                finally:
                    world.ended_at = trio.current_time()
                    # These are of the play itself: each ends a thread's wait.
                    before.tasks |= world.timers.child_tasks
                    before.check()
            world.timers.cancel_scope.deadline = trio.current_time() + OVERSTAY + 1


async def _act(world: World, group: Group, scope: trio.CancelScope) -> None:
    for number in range(len(world.scenario.nodes)):
        group.add(_plan(world, number))
    began = trio.current_time()
    for order in world.scenario.orders:
        await trio.sleep_until(began + order.at)
        _carry_out(world, group, order, scope)
    await trio.sleep(_HORIZON)
    check_recovered(group)


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
        restart=POLICY,
    )


@trio.lowlevel.enable_ki_protection
def _carry_out(
    world: World, group: Group, order: Order, scope: trio.CancelScope
) -> None:
    member = group.members[name_of(order.target)]
    if order.what in {"crash", "two crashes"}:
        following = (order.target + 1) % len(group.members)
        numbers = {order.target, following} if order.what != "crash" else {order.target}
        for number in sorted(numbers):
            current = group.members[name_of(number)].current
            if current is not None and current.acquired:
                world.happened["broken from outside"] += 1
                group.crash(current, world.misfortune(f"{current}"))
        return
    if order.what == "restart" and group.stopping is not None:
        return  # it would be refused
    name = {"cancel": "outer cancel", "sigint": "SIGINT"}.get(order.what)
    world.happened[name or f"operator's {order.what}"] += 1
    if order.what == "stop":
        group.stop(member.name)
    elif order.what == "restart":
        group.restart(member.name)
    elif order.what == "cancel":
        world.cancelled_at = trio.current_time()
        scope.cancel()
    else:
        interrupt()


def check_recovered(group: Group) -> None:
    """Check that whoever has all that it needs is up, unless it failed or was stopped.

    Raises:
        AssertionError: Somebody is not.
    """
    for member in group.members.values():
        needs = [group.members[name] for name in member.plan.needs]
        ends = {State.FAILED, State.STOPPED}
        if group.stopping is not None:
            pass
        elif all(need.state is State.UP for need in needs):
            ends.add(State.UP)
        else:
            ends.add(State.WAITING)
        assert member.state in ends, f"{member.name} is {member.state} at rest"


def _check_end(world: World) -> None:
    check_notices(world.notices, world.scenario.needs(), world.scenario.wants())
    assert world.tasks == 0, "tasks are left"
    for life in world.lives:
        held = life.incarnation
        assert life.gone or not life.ready, f"{held} was never released"
        assert not held.lessees, f"a lease on {held} was not given back"
        assert held.leases.count == held.runners.count == held.works.count == 0
        _check_cause(held)
    _check_reports(world)
    _check_each_once(world)
    if world.cancelled_at is not None:
        took = world.ended_at - world.cancelled_at
        assert took <= _longest_path(world.scenario) + 1, f"the cancel took {took} s"
        late = [
            str(life.incarnation)
            for life in world.lives
            if life.incarnation.drained_at > world.cancelled_at
        ]
        assert not late, f"{late} did not hear the cancel at once"


def _check_reports(world: World) -> None:
    leaves = [
        leaf
        for notice in world.notices
        if isinstance(notice, ComponentCrashed | StartFailed | ShutdownFailed)
        for leaf in notice.report.leaves
    ]
    # What a life saw amiss is an exception of its hook, and so has become a notice.
    amiss = [leaf.message for leaf in leaves if leaf.type == "AssertionError"]
    assert not amiss, amiss
    reported = Counter(leaf.message for leaf in leaves)
    for text in world.raised:
        assert reported[text] == 1, f"{text!r} is in {reported[text]} notices"


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
    while cause.origin is not None:
        assert cause.hard == cause.origin.hard
        cause = cause.origin
    assert cause.kind is not CauseKind.DEPENDENCY


def _check_each_once(world: World) -> None:
    """One misfortune of one life ends at most one life of each component."""
    ended: Counter[tuple[str, str, int]] = Counter()
    for life in world.lives:
        cause = life.incarnation.cause
        while cause is not None and cause.origin is not None:
            cause = cause.origin
        assert cause is not None
        if cause.component:
            ended[life.incarnation.name, cause.component, cause.epoch] += 1
    twice = [key for key, count in ended.items() if count > 1]
    assert not twice, f"restarted twice for one cause: {twice}"


def _check_storms(world: World, options: GruOptions) -> None:
    """In any window, restarts are bounded by budgets: each one's, and that of all."""
    orders = Counter(
        name_of(order.target)
        for order in world.scenario.orders
        if order.what == "restart"
    )
    for number in range(len(world.scenario.nodes)):
        name = name_of(number)

        def is_own(notice: Notice, name: str = name) -> bool:
            return isinstance(notice, ComponentBackoff) and notice.component == name

        # An operator's restart gives a fresh budget.
        budget = POLICY.max_restarts * (1 + orders[name])
        worst = _most_charged(world, is_own, POLICY.within)
        assert worst <= budget, f"{name} was charged {worst} times in one window"
    worst = _most_charged(world, lambda _: True, 60.0)
    assert worst <= options.max_component_restarts, f"{worst} restarts in one window"


def _most_charged(world: World, which: Callable[[Notice], bool], within: float) -> int:
    times = [
        at
        for at, notice in world.noted
        if isinstance(notice, ComponentBackoff) and notice.charged and which(notice)
    ]
    return max((sum(t - within < u <= t for u in times) for t in times), default=0)


def _longest_path(scenario: Scenario) -> float:
    """Return the largest sum of graces along a path, in seconds."""
    longest: list[float] = []
    for node in scenario.nodes:
        hangs = sum(OVERSTAY for hang in node.hangs if hang.how != "forever")
        below = max((longest[n] for n in node.needs + node.wants), default=0.0)
        longest.append(below + OPTIONS.grace + hangs)
    return max(longest)
