"""The table of components, and all that may be asked of them.

Where a component's runner is spawned mirrors the dependencies: in the nursery
of its immediate dominator, the nearest component that lies on every path to it.
So trio's own task tree shows the supervision tree.  The nest is the picture and
the backstop; the leases are the mechanism.  New components depend on old ones
and never the other way round, so a place, once found, stays right.
"""

from __future__ import annotations

import functools
import math
from collections.abc import Callable, Iterable
from random import Random
from typing import Literal

import trio

from minions.errors import InternalError, NotRunningError, RestartLimitError, StartError
from minions.notices import (
    ComponentCrashed,
    ComponentDraining,
    ComponentEnded,
    ComponentStuck,
    Notice,
    leaves_of,
    report_of,
)
from minions.options import GruOptions
from minions.restart import RestartWindow
from minions.supervise.cause import Cause, CauseKind, is_same
from minions.supervise.incarnation import Gauge, Incarnation
from minions.supervise.life import Plan
from minions.supervise.member import Member, State
from minions.supervise.runner import Runner
from minions.supervise.waiting import check_wait
from minions.supervise.watchdog import Watchdog, Watched, stacks_of

__all__ = ["Group"]

# The window of ``max_component_restarts``, in seconds.
_ALL_WITHIN = 60.0


class Group:
    """Supervises the components that are added to it.

    Made by :func:`~minions.supervise.opening.open_group`.
    """

    def __init__(
        self,
        root: trio.Nursery,
        *,
        options: GruOptions,
        notify: Callable[[Notice], None],
        placement: Literal["dominator", "flat"],
        random: Random,
        errors: list[BaseException],
    ) -> None:
        self.options: GruOptions = options
        self.notify: Callable[[Notice], None] = notify
        self.random: Random = random
        self.window: RestartWindow = RestartWindow(
            options.max_component_restarts, _ALL_WITHIN
        )
        self.members: dict[str, Member] = {}
        # Why everything stops; None while it does not.
        self.stopping: Cause | None = None
        # Set when all has stopped, if whoever stopped it leaves its owner's block then.
        self.left: trio.Event | None = None
        # What open_group raises when all has stopped.
        self.errors: list[BaseException] = errors
        self.runners: Gauge = Gauge()
        self.changed: trio.Event = trio.Event()
        # Ended last; the watchdog works on while all others are cancelled.
        self.observing: trio.CancelScope = trio.CancelScope()
        self.watching: trio.CancelScope = trio.CancelScope(shield=True)
        self._root = root
        self._placement = placement
        self._epochs: dict[str, int] = {}
        self.watchdog: Watchdog = Watchdog(self._stuck)

    # What its owner asks.

    @trio.lowlevel.enable_ki_protection
    def add(self, plan: Plan) -> Member:
        """Add a component, and start it as soon as what it needs is up.

        Raises:
            InternalError: The name is taken, or something that it needs is not
                there; whoever adds components adds them in dependency order.
        """
        missing = [name for name in plan.needs if name not in self.members]
        if plan.name in self.members or missing:
            raise InternalError(f"cannot add {plan.name!r}: needs {missing} first")
        parent = self._dominator(plan) if self._placement == "dominator" else None
        member = Member(plan, parent)
        if parent is not None:
            parent.placed.append(member)
        self.members[plan.name] = member
        for needed in self._leased_by(plan):
            needed.dependents.append(member)
        self.spawn(member)
        return member

    def discard(self, name: str) -> None:
        """Forget a component that has ended and that nothing needs."""
        member = self.members[name]
        users = [m.name for m in member.dependents if name in m.plan.needs]
        if member.running or users:
            raise InternalError(f"cannot forget {name!r}: it runs, or {users} need it")
        if member.parent is not None:
            member.parent.placed.remove(member)
        for needed in self._leased_by(member.plan):
            if member in needed.dependents:
                needed.dependents.remove(member)
        del self.members[name]

    @trio.lowlevel.enable_ki_protection
    def stop(self, name: str, *, hard: bool = False) -> None:
        """Ask one component to end; its dependents drain and wait for its return."""
        member = self.members[name]
        if member.state is not State.FAILED:
            member.wanted = False
        self._end(member, Cause(CauseKind.STOP, name, member.epoch, hard))

    @trio.lowlevel.enable_ki_protection
    def restart(self, name: str) -> None:
        """Restart one component, or start it again with a fresh budget.

        Raises:
            NotRunningError: Everything is stopping; it would never end.
        """
        if self.stopping is not None:
            raise NotRunningError(
                f"{name}: expected a restart before everything stops, found that it is"
                f" stopping ({self.stopping}); start it in another one"
            )
        member = self.members[name]
        member.window.clear()
        member.backoff.clear()
        member.not_before = -math.inf
        member.wanted = member.ordered = True
        if member.current is not None:
            cause = Cause(CauseKind.RESTART, name, member.epoch, hard=False)
            member.current.begin_drain(cause)
        elif member.running:
            member.wake()
        else:
            member.enter(State.WAITING)
            self.spawn(member)

    @trio.lowlevel.enable_ki_protection
    def stop_all(self, cause: Cause) -> None:
        """Ask all components to end, each after its dependents; idempotent."""
        if self.stopping is None:
            self.stopping = cause
        for member in reversed(list(self.members.values())):
            if member.state is not State.FAILED:
                member.wanted = False
            self._end(member, cause)
        self.tell_change()

    @trio.lowlevel.enable_ki_protection
    def cut(self) -> None:
        """End all soft drains now: whoever asked to stop cannot wait any longer."""
        for member in self.members.values():
            if member.current is not None:
                member.current.end_soft_drain()

    async def wait_up(self, name: str) -> Incarnation:
        """Return the present incarnation of a component as soon as it is up.

        Raises:
            StartError: It has failed or was stopped, so that it will not come up.
            trio.BusyResourceError: It waits, directly or not, for the component
                whose startup or shutdown asks.
        """
        member = self.members.get(name)
        if member is None:
            raise StartError(
                f"{name}: expected to come up, found that it was stopped and that"
                " nothing needs it any more; start it again"
            )
        if member.state is not State.UP:
            check_wait(self.members, member)
        while True:
            if member.state is State.UP and member.current is not None:
                return member.current
            if member.state in {State.FAILED, State.STOPPED}:
                raise StartError(
                    f"{name}: expected to come up, found {member.state.value}"
                    f" ({member.cause}); restart it"
                ) from member.last_failure
            await member.changed.wait()

    # What the runners ask.

    def spawn(self, member: Member) -> None:
        """Spawn the runner of a component in its place, if that is there now."""
        if member.running or not member.wanted or self.stopping is not None:
            return
        home, nursery = None, self._root
        if member.parent is not None:
            home = member.parent.current
            if home is None or home.cause is not None or not home.acquired:
                return
            assert home.frame is not None
            nursery = home.frame
            home.runners.up()
        member.running = True
        self.runners.up()
        start = functools.partial(
            nursery.start_soon, Runner(self, member, home).run, name=member.name
        )
        member.context.copy().run(start)

    def runner_ended(self, member: Member) -> None:
        """Hear that a runner is gone; start it anew if its place is back already."""
        self.runners.down()
        self.spawn(member)
        self.tell_change()

    def tell_change(self) -> None:
        """Wake who waits for any change in the group."""
        self.changed.set()
        self.changed = trio.Event()

    def first_down(
        self, names: Iterable[str], *, hopeful: bool = False
    ) -> Member | None:
        """Return the first of *names* that is not up (and that may yet come up)."""
        hopeless = {State.FAILED, State.STOPPED, State.STUCK} if hopeful else set()
        for name in names:
            member = self.members.get(name)
            if member is None or member.state is State.UP:
                continue
            if member.state not in hopeless:
                return member
        return None

    def up_of(self, names: Iterable[str]) -> dict[str, Incarnation]:
        """Return the incarnations of those of *names* that are up."""
        found = {}
        for name in names:
            member = self.members.get(name)
            if member is not None and member.state is State.UP and member.current:
                found[name] = member.current
        return found

    def next_epoch(self, name: str) -> int:
        """Count the lives of a component, also over its being forgotten."""
        self._epochs[name] = self._epochs.get(name, 0) + 1
        return self._epochs[name]

    def note_drain(self, incarnation: Incarnation) -> None:
        """Unpublish an incarnation that begins to drain."""
        member = self.members[incarnation.name]
        state = State.DRAINING if incarnation.acquired else State.RELEASING
        member.enter(state)
        member.cause = incarnation.cause
        for other in (*member.placed, *member.dependents):
            if other.current is None:  # between two lives: it looks around anew
                other.wake()
        self.notify(
            ComponentDraining(
                component=member.name,
                epoch=incarnation.epoch,
                cause=str(incarnation.cause),
            )
        )

    @trio.lowlevel.enable_ki_protection
    def crash(self, incarnation: Incarnation, exc: BaseException) -> None:
        """Take an exception of a component's own: drain for it, and report it once."""
        if self.leave_if_exit(exc):
            return
        if incarnation.cause is not None:
            # Asked by identity: an exception of a user's may count as false.
            crash, late = incarnation.crash, incarnation.late_crash
            if not is_same(exc, late if crash is None else crash):
                incarnation.late_crash = exc if late is None else late
                self.report_crash(incarnation, exc, during_drain=True)
            incarnation.harden()
            return
        kind = CauseKind.CRASH if incarnation.acquired else CauseKind.START_FAILED
        incarnation.crash = exc
        incarnation.begin_drain(
            Cause(
                kind,
                incarnation.name,
                incarnation.epoch,
                hard=True,
                text=str(report_of(exc)),
            )
        )
        if kind is CauseKind.CRASH:
            self.report_crash(incarnation, exc)

    def report_crash(
        self,
        incarnation: Incarnation,
        exc: BaseException,
        *,
        during_drain: bool = False,
    ) -> None:
        """Emit the one notice of a crash."""
        if not during_drain:
            incarnation.crash = exc
        self.leave_if_exit(exc)
        self.notify(
            ComponentCrashed(
                component=incarnation.name,
                epoch=incarnation.epoch,
                report=report_of(exc),
                during_drain=during_drain,
                cause=str(incarnation.cause),
            )
        )

    def leave_if_exit(self, exc: BaseException) -> bool:
        """Stop all in order, and then raise, for what is meant to leave a program."""
        if not any(_is_exit(leaf) for leaf in leaves_of(exc)):
            return False
        self.errors.append(exc)
        text = str(report_of(exc))
        self.stop_all(Cause(CauseKind.STOP, "", 0, hard=False, text=text))
        return True

    def stop_for_failed(self, member: Member, text: str) -> None:
        """End the group, since a component that it cannot do without has failed."""
        error = RestartLimitError(f"{member.name} has failed: {text}")
        error.__cause__ = member.last_failure
        self.errors.append(error)
        self.stop_all(Cause(CauseKind.STOP, member.name, member.epoch, hard=False))

    # Inner workings.

    def _dominator(self, plan: Plan) -> Member | None:
        found: list[Member | None] = [self.members[name] for name in plan.needs]
        return functools.reduce(_common, found) if found else None

    def _leased_by(self, plan: Plan) -> list[Member]:
        names = plan.needs + plan.wants
        return [self.members[name] for name in names if name in self.members]

    def _end(self, member: Member, cause: Cause) -> None:
        if member.current is not None:
            member.current.begin_drain(cause)
        elif member.running:
            member.wake()
        elif member.state not in {State.FAILED, State.STOPPED}:
            member.enter(State.STOPPED)
            self.notify(
                ComponentEnded(
                    component=member.name, epoch=member.epoch, cause=str(cause)
                )
            )

    def _stuck(self, thing: Watched, stage: str) -> None:
        if isinstance(thing, Incarnation):
            self.members[thing.name].enter(State.STUCK, stage)
        else:
            thing.overdue = True
        self.notify(
            ComponentStuck(
                component=thing.name,
                epoch=thing.epoch,
                stage=stage,
                stacks=stacks_of(thing),
            )
        )
        self.tell_change()


def _common(left: Member | None, right: Member | None) -> Member | None:
    """Climb from both until they meet; None is the root."""
    while left is not right and left is not None and right is not None:
        if left.depth < right.depth:
            left, right = right, left
        left = left.parent
    return left if left is right else None


def _is_exit(exc: BaseException) -> bool:
    """Say whether an exception is meant to leave the program, not to crash a part."""
    if isinstance(exc, KeyboardInterrupt | SystemExit):
        return True
    return type(exc).__module__.partition(".")[0] == "_pytest"
