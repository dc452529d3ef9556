"""One component's runner: wait, lease, live, give back, decide, again.

Rules that hold here (each was seen to be needed):

* The runner is shielded whole.  A cancellation from outside is observed by the
  group, which turns it into drains; nothing here hears it directly.
* No checkpoint lies between "all that it needs is up" and taking the leases.
* A component's own work (``run``, the tasks in its nursery) is cancelled only
  after the last lessee has left, and the leases go back only after release.
* The frame is held: if a scope that the component opened in ``acquire`` unwinds,
  the dependents leave first, under a shield, and only then does it unwind on.
* ``self.nursery`` lives in a task of its own, open before ``acquire`` and empty
  before ``release``.
* No ``nursery.start`` on this path: into a cancelled nursery it hangs.
* Two scopes surround a life.  ``start_scope`` ends a start that takes too long
  or is not wanted any more; once it has succeeded, the inner ``guard`` shields
  it off, and its own deadline becomes the grace of release.  So a context
  manager is entered and left between the same scopes.
"""

from __future__ import annotations

import math
from collections.abc import Awaitable, Callable
from functools import partial
from typing import TYPE_CHECKING

import trio

from minions.errors import ComponentBroken, StartError
from minions.notices import (
    ComponentReleased,
    ComponentStarting,
    ComponentUp,
    ShutdownFailed,
    StartFailed,
    report_of,
)
from minions.supervise.cause import Cause, CauseKind, is_same, own_failure
from minions.supervise.incarnation import Incarnation
from minions.supervise.life import RunEnd
from minions.supervise.member import Member, State
from minions.supervise.verdict import decide, note_stopped

if TYPE_CHECKING:
    from minions.supervise.group import Group

__all__ = ["Runner"]


class Runner:
    """Runs one member's lives, one after the other, until it is to end."""

    def __init__(self, group: Group, member: Member, home: Incarnation | None) -> None:
        self.group: Group = group
        self.member: Member = member
        self.home: Incarnation | None = home

    @trio.lowlevel.enable_ki_protection
    async def run(self) -> None:
        """Live until stopped, failed, or the place it runs in goes."""
        member = self.member
        try:
            # The one shield without a deadline: a component is ended by its
            # drain, in order, and never by a scope around it.
            with trio.CancelScope(shield=True):
                while await self._is_ready():
                    incarnation = self._lease()
                    await self._live(incarnation)
                    await decide(self.group, member, incarnation)
        finally:
            member.running = False
            if self.home is not None:
                self.home.runners.down()
            self.group.runner_ended(member)

    def _is_leaving(self) -> bool:
        return not self.member.wanted or (
            self.home is not None and self.home.cause is not None
        )

    async def _is_ready(self) -> bool:
        """Wait until it may start; False: it is not to start here any more."""
        member = self.member
        give_up_wants = math.inf
        while True:
            if self._is_leaving():
                if not member.wanted:
                    note_stopped(self.group, member)
                else:
                    member.enter(State.WAITING, str(self.home))
                return False
            with trio.CancelScope() as member.pause:
                now = trio.current_time()
                if now < member.not_before:
                    if member.state is not State.BACKOFF:
                        member.enter(State.BACKOFF)
                    await trio.sleep_until(member.not_before)
                missing = self.group.first_down(member.plan.needs)
                if missing is not None:
                    give_up_wants = math.inf
                    member.enter(State.WAITING, missing.name)
                    await missing.up.wait()
                    continue
                give_up_wants = min(
                    give_up_wants,
                    trio.current_time() + self.group.options.wants_timeout,
                )
                if not await self._has_wants(give_up_wants):
                    continue
                if not self._is_leaving():
                    return True

    async def _has_wants(self, deadline: float) -> bool:
        """Say whether the start need not wait for optional dependencies (longer)."""
        if trio.current_time() >= deadline:
            return True
        missing = self.group.first_down(self.member.plan.wants, hopeful=True)
        if missing is None:
            return True
        self.member.enter(State.WAITING, missing.name)
        with trio.CancelScope(deadline=deadline):
            await missing.changed.wait()
        return False

    def _lease(self) -> Incarnation:
        """Begin an incarnation, with a lease on all that it needs."""
        member = self.member
        member.epoch = self.group.next_epoch(member.name)
        needs = self.group.up_of(member.plan.needs + member.plan.wants)
        incarnation = Incarnation(
            member.name, member.epoch, needs, self.group.note_drain
        )
        for dependency in needs.values():
            dependency.admit(incarnation)
        member.current = incarnation
        member.ordered = False
        member.last_up = math.inf
        member.not_before = -math.inf
        member.enter(State.STARTING)
        self.group.notify(ComponentStarting(component=member.name, epoch=member.epoch))
        return incarnation

    async def _live(self, incarnation: Incarnation) -> None:
        """Live one life; no exception of the component's leaves it."""
        incarnation.runner_task = trio.lowlevel.current_task()
        incarnation.runner_task.name = str(incarnation)
        # Holds from the next checkpoint on, which is the wait for the nursery: what
        # the life before has set in its startup or shutdown ends with it.
        incarnation.runner_task.context = self.member.context.copy()
        problem: BaseException | None = None
        async with trio.open_nursery() as frame:
            incarnation.frame = frame
            incarnation.works.up()
            # In the new context: the old one knows, and keeps, the life before.
            host, name = partial(self._host, incarnation), f"{incarnation}/nursery"
            incarnation.runner_task.context.run(
                partial(frame.start_soon, host, name=name)
            )
            await incarnation.nursery_open.wait()
            try:
                await self._between_scopes(incarnation)
            except BaseException as exc:  # noqa: BLE001  # the component's boundary
                problem = own_failure(exc, frame)
            self._note_end(incarnation, problem)
            incarnation.host_scope.cancel(reason=f"{incarnation} has ended")
            self._watch(incarnation, "ending its tasks")
            await incarnation.works.wait_zero()
            self.group.watchdog.unwatch(incarnation)
        incarnation.runner_task.name = self.member.name
        self._give_back(incarnation)

    async def _between_scopes(self, incarnation: Incarnation) -> None:
        start = incarnation.start_scope
        start.deadline = trio.current_time() + self.group.options.start_timeout
        self._watch(incarnation, "startup", self.group.options.start_timeout)
        with start, incarnation.guard as guard:
            incarnation.life = life = self.member.plan.make(incarnation)
            await life.acquire()
            if start.cancel_called and incarnation.cause is None:
                # Too late, but what was acquired must be released.
                self.group.crash(incarnation, self._too_late())
            incarnation.acquired = True
            guard.shield = True
            start.deadline = math.inf
            self.group.watchdog.unwatch(incarnation)
            cancelled = await self._hold(incarnation)
            incarnation.releasing = True
            await life.release(cancelled)

    async def _hold(self, incarnation: Incarnation) -> BaseException | None:
        """Serve until drained and left by all; then end the component's work."""
        cancelled = None
        try:
            if incarnation.cause is None:
                self._publish(incarnation)
            else:
                # Asked to go while the start was succeeding.
                assert incarnation.life is not None
                incarnation.life.begin_drain(incarnation.cause)
            await incarnation.drain_asked.wait()
        except trio.Cancelled as exc:
            cancelled = exc
            # Its exception comes out of the context manager, at release.
            text = "a scope inside its context manager was cancelled"
            incarnation.begin_drain(
                Cause(
                    CauseKind.CRASH,
                    incarnation.name,
                    incarnation.epoch,
                    hard=True,
                    text=text,
                )
            )
        # Bounded by what it waits for: the dependents' graces and its own.
        with trio.CancelScope(shield=True):
            await self._wind_down(incarnation)
        return cancelled

    def _publish(self, incarnation: Incarnation) -> None:
        member = self.member
        member.last_up = trio.current_time()
        member.last_failure = None
        member.enter(State.UP)
        self.group.notify(ComponentUp(component=member.name, epoch=member.epoch))
        assert incarnation.frame is not None
        assert incarnation.life is not None
        for body in incarnation.life.bodies():
            scope = trio.CancelScope()
            incarnation.run_scopes.append(scope)
            incarnation.works.up()
            name = f"{incarnation}/{getattr(body, '__name__', 'run')}"
            incarnation.frame.start_soon(
                self._work, incarnation, body, scope, name=name
            )
        for placed in member.placed:
            self.group.spawn(placed)

    async def _wind_down(self, incarnation: Incarnation) -> None:
        cause, life, grace = (
            incarnation.cause,
            incarnation.life,
            self.group.options.grace,
        )
        assert cause is not None
        assert life is not None
        if not cause.hard:
            incarnation.soft_scope.deadline = trio.current_time() + grace
            with incarnation.soft_scope:
                await life.drained()
        life.cut()
        # Borrowers and slow dependents are watched by their own graces.
        await incarnation.leases.wait_zero()
        await incarnation.runners.wait_zero()
        reason = f"{incarnation} drains: {cause}"
        for scope in incarnation.run_scopes:
            scope.cancel(reason=reason)
        incarnation.host_scope.cancel(reason=reason)
        deadline = trio.current_time() + grace
        self._watch(incarnation, "ending its tasks", grace)
        await incarnation.works.wait_zero()
        if trio.current_time() >= deadline:  # it was stuck: a grace of its own
            deadline = trio.current_time() + grace
        self.member.enter(State.RELEASING)
        incarnation.guard.deadline = deadline
        self._watch(incarnation, "shutdown", deadline - trio.current_time())

    async def _host(self, incarnation: Incarnation) -> None:
        """Hold the component's own nursery open."""
        try:
            with incarnation.host_scope:
                async with trio.open_nursery() as nursery:
                    incarnation.nursery = nursery
                    incarnation.nursery_open.set()
                    await trio.sleep_forever()
            if incarnation.cause is None:
                text = (
                    "its nursery was cancelled by its own code, or a task there raised"
                    " a trio.Cancelled that it had kept"
                )
                self.group.crash(incarnation, ComponentBroken(text))
        except trio.Cancelled:
            raise
        except BaseException as exc:  # noqa: BLE001  # the component's boundary
            self.group.crash(incarnation, exc)
        finally:
            incarnation.works.down()

    async def _work(
        self,
        incarnation: Incarnation,
        body: Callable[[], Awaitable[RunEnd]],
        scope: trio.CancelScope,
    ) -> None:
        """Run one of the component's bodies."""
        try:
            with scope:
                self._returned(incarnation, await body())
        except BaseException as exc:  # noqa: BLE001  # the component's boundary
            assert incarnation.frame is not None
            self.group.crash(incarnation, own_failure(exc, incarnation.frame))
        finally:
            incarnation.works.down()

    def _returned(self, incarnation: Incarnation, end: RunEnd) -> None:
        if incarnation.cause is not None:
            return
        if end is RunEnd.ENDED:
            # Whoever wants it while it drains gets it anew.
            self.member.wanted = False
            incarnation.begin_drain(
                Cause(CauseKind.ENDED, self.member.name, self.member.epoch, hard=False)
            )
        elif self.member.plan.restart.type == "permanent":
            text = "its run() has returned, and its restart type is permanent"
            self.group.crash(incarnation, ComponentBroken(text))

    def _note_end(
        self, incarnation: Incarnation, problem: BaseException | None
    ) -> None:
        """Report what a start or a release left behind, once."""
        self.group.watchdog.unwatch(incarnation)
        member, scope = self.member, incarnation.start_scope
        cause = incarnation.cause
        if cause is not None and cause.kind is CauseKind.START_FAILED:
            failure = incarnation.crash
            if (
                failure is not None
                and problem is not None
                and not incarnation.acquired
                and not is_same(problem, failure)
            ):
                failure = BaseExceptionGroup("its start failed", [failure, problem])
            self._note_start(incarnation, failure)
        if not incarnation.acquired:
            if problem is None and cause is None and scope.cancelled_caught:
                problem = self._too_late()
            if incarnation.crash is None:
                self._note_start(incarnation, problem)
        elif incarnation.crash is None and cause and cause.kind is CauseKind.CRASH:
            if problem is None:
                problem = ComponentBroken(str(cause))
            self.group.report_crash(incarnation, problem)
        elif problem is not None or incarnation.guard.cancelled_caught:
            if problem is None:
                grace = self.group.options.grace
                problem = TimeoutError(f"shutdown was cut off after {grace:g} s")
            self.group.leave_if_exit(problem)
            self.group.notify(
                ShutdownFailed(
                    component=member.name, epoch=member.epoch, report=report_of(problem)
                )
            )

    def _too_late(self) -> StartError:
        limit = self.group.options.start_timeout
        return StartError(
            f"{self.member.name}: expected startup() to return within start_timeout ="
            f" {limit:g} s, found that it had not; make it faster, or set"
            " GruOptions(start_timeout=...)"
        )

    def _note_start(
        self, incarnation: Incarnation, problem: BaseException | None
    ) -> None:
        member = self.member
        if problem is None:
            return
        self.group.leave_if_exit(problem)
        member.last_failure = problem
        self.group.notify(
            StartFailed(
                component=member.name, epoch=member.epoch, report=report_of(problem)
            )
        )
        incarnation.crash = problem
        incarnation.begin_drain(
            Cause(
                CauseKind.START_FAILED,
                member.name,
                member.epoch,
                hard=True,
                text=str(report_of(problem)),
            )
        )

    def _watch(self, incarnation: Incarnation, stage: str, after: float = 0) -> None:
        self.group.watchdog.watch(incarnation, stage, after or self.group.options.grace)

    def _give_back(self, incarnation: Incarnation) -> None:
        for dependency in incarnation.needs.values():
            dependency.leave(incarnation)
        self.member.current = None
        self.member.cause = incarnation.cause
        if incarnation.crash is not None:
            self.member.last_failure = incarnation.crash
        self.member.enter(State.WAITING)
        self.group.notify(
            ComponentReleased(component=self.member.name, epoch=self.member.epoch)
        )
