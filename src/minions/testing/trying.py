"""Runs a trial: a Gru under a virtual clock, with the misfortunes that were drawn."""

from __future__ import annotations

import contextlib
import functools
from collections import Counter
from collections.abc import Awaitable, Callable, Collection, Mapping

import trio

from minions.graph import topological_order
from minions.notices import (
    ComponentCrashed,
    ComponentStuck,
    Notice,
    ShutdownFailed,
    StartFailed,
)
from minions.options import GruOptions
from minions.runtime.gru import Gru
from minions.runtime.opening import open_gru
from minions.supervise import Member, State
from minions.testing.acting import interrupt
from minions.testing.checks import check_notices
from minions.testing.leftovers import Leftovers
from minions.testing.play import check_recovered, finite_clock
from minions.testing.scenarios import Order
from minions.testing.stand_ins import Watch, make_stand_ins
from minions.testing.trials import Trial

__all__ = ["run_trial"]

# By then every delay of a trial is over, and what is to be up is up.
_HORIZON = 60.0
_LIMIT = 3600.0

Start = Callable[[Gru], Awaitable[object]]


def run_trial(
    trial: Trial, start: Start | None = None, *, options: GruOptions | None = None
) -> list[Notice]:
    """Run a trial in a Gru of its own, in memory, and check that the rules held.

    Starts what *start* starts, then the trial's resources and stand-ins; carries out
    its orders; waits until all has come to rest; and stops. Time is virtual: a trial
    takes milliseconds, but sockets and other processes do not live in that time, so
    put fakes in their place.

    What is checked: the rules of :func:`check_notices`; that each misfortune was
    reported exactly once; that in the end everything is up again that has what it
    needs, unless it has failed or was stopped; that nothing was stuck; that a
    cancellation took no longer than the graces along a path; that a stand-in's call
    into another one that has crashed is refused at once; and that no task of trio's
    and no thread at work is left.

    Args:
        trial: Drawn by :func:`trials`, or made by hand.
        start: Called with the Gru before anything else, to provide, to configure, and
            to start minions; what it raises comes out.
        options: Of the Gru.

    Returns:
        All that was noted, for checks of your own.

    Raises:
        AssertionError: A rule did not hold, or a component raised an
            ``AssertionError``.
    """
    watch = Watch()
    run = functools.partial(_run, trial, start, options or GruOptions(), watch)
    try:
        trio.run(run, clock=finite_clock())
    except* KeyboardInterrupt:
        assert any(order.what == "sigint" for order in trial.orders)
    _check(watch)
    return watch.notices


async def _run(
    trial: Trial, start: Start | None, options: GruOptions, watch: Watch
) -> None:
    with trio.fail_after(_LIMIT):
        before = Leftovers()
        with trio.CancelScope() as scope:
            try:
                async with open_gru(None, options=options) as gru:
                    await _act(trial, start, watch, gru=gru, scope=scope)
            finally:
                before.check()
        if scope.cancelled_caught:
            took = trio.current_time() - watch.cancelled_at
            longest = _longest_path(watch.edges()) * options.grace
            assert took <= longest + 1, f"the cancellation took {took:g} s"


async def _act(
    trial: Trial,
    start: Start | None,
    watch: Watch,
    *,
    gru: Gru,
    scope: trio.CancelScope,
) -> None:
    watch.group = gru._group  # noqa: SLF001  # nobody else may look so closely
    gru._bus.listeners.append(watch.heed)  # noqa: SLF001
    if start is not None:
        await start(gru)
    stand_ins = make_stand_ins(trial.stand_ins, watch)
    await gru.start(*trial.resources, *stand_ins)
    began = trio.current_time()
    for order in trial.orders:
        await trio.sleep_until(began + order.at)
        _carry_out(order, watch, scope)
    await trio.sleep(_HORIZON)
    check_recovered(watch.group)
    await gru.stop()


def _carry_out(order: Order, watch: Watch, scope: trio.CancelScope) -> None:
    group = watch.group
    assert group is not None
    members = list(group.members.values())
    target = order.target % len(members)
    if order.what == "crash":
        _crash(members[target], watch)
    elif order.what == "two crashes":
        _crash(members[target], watch)
        _crash(members[(target + 1) % len(members)], watch)
    elif order.what == "stop":
        group.stop(members[target].name)
    elif order.what == "restart":
        group.restart(members[target].name)
    elif order.what == "cancel":
        watch.cancelled_at = trio.current_time()
        scope.cancel()
    else:
        interrupt()


def _crash(member: Member, watch: Watch) -> None:
    """Let a task in the component's own nursery raise."""
    if member.state is State.UP and member.current and member.current.nursery:
        # Closed already: a task in it has just raised, and that is being heard.
        with contextlib.suppress(RuntimeError):
            member.current.nursery.start_soon(watch.misfortune, member.name)


def _check(watch: Watch) -> None:
    assert not watch.amiss, watch.amiss
    needs, wants = watch.needs, watch.wants
    check_notices(watch.notices, needs, wants)
    leaves = [
        leaf
        for notice in watch.notices
        if isinstance(notice, ComponentCrashed | StartFailed | ShutdownFailed)
        for leaf in notice.report.leaves
    ]
    amiss = [leaf.message for leaf in leaves if leaf.type == "AssertionError"]
    assert not amiss, amiss
    reported = Counter(leaf.message for leaf in leaves)
    for text in watch.raised:
        assert reported[text] == 1, f"{text!r} is in {reported[text]} notices"
    stuck = [
        f"{notice.component} at {notice.stage}\n{notice.stacks}"
        for notice in watch.notices
        if isinstance(notice, ComponentStuck)
    ]
    assert not stuck, "\n".join(["stuck:", *stuck])


def _longest_path(edges: Mapping[str, Collection[str]]) -> int:
    """Count the components on the longest path."""
    longest: dict[str, int] = {}
    for name in topological_order(edges):
        below = [longest[needed] for needed in edges.get(name, ())]
        longest[name] = 1 + max(below, default=0)
    return max(longest.values(), default=0)
