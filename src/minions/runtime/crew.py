"""Who works on which workflow of a minion, and how many at once.

A worker is a task.  It takes one workflow after the other, each in a fresh copy of the
orchestration's context, so that nothing of one is seen in the next.  It waits for
more while any workflow is in the table, and ends when there is none.  A task, and a
scope to cancel it by, for each workflow would cost as much as two steps.
"""

from __future__ import annotations

from collections.abc import Callable
from functools import partial
from typing import Any

import outcome
import trio

from minions.declare.specification import MinionSpec
from minions.errors import SnapshotError
from minions.runtime.calls import call_user_sync, work_for
from minions.runtime.desk import Desk
from minions.runtime.judging import Judge
from minions.runtime.keys import key_bytes
from minions.runtime.pacing import OUTAGE, Pacer
from minions.runtime.suspicion import Suspicion
from minions.runtime.walking import Walker
from minions.runtime.work import Work
from minions.supervise import Group, Incarnation

__all__ = ["Crew"]


_MOST_IDLE = 256


class Crew:
    """The workers of one incarnation of a minion."""

    def __init__(
        self,
        group: Group,
        incarnation: Incarnation,
        spec: MinionSpec,
        *,
        desk: Desk,
        judge: Judge,
        on_idle: Callable[[], None],
    ) -> None:
        self._group = group
        self._incarnation = incarnation
        self._spec = spec
        self._desk = desk
        self._table = desk.table
        self._judge = judge
        self._on_idle = on_idle
        self._pacer = Pacer(group.options.resume_rate, group.random)
        self._suspicion = Suspicion()
        # Workers that wait for a workflow.
        self._idle: list[trio.lowlevel.Task] = []
        # Set when it begins.
        self._minion: Any = None
        self._nursery: trio.Nursery | None = None
        self._walker: Walker | None = None

    def begin(self, minion: Any, nursery: trio.Nursery, outage: float) -> None:
        """Begin to work, after *outage* seconds in which something was down."""
        self._minion, self._nursery = minion, nursery
        self._walker = Walker(minion, self._desk, self._judge)
        table = self._table
        table.engine = self
        late: list[Work] = []
        if outage >= OUTAGE:
            table.outage.paced_until = self._desk.ledger.now()
            late = [work for _, work in table.ready if not work.is_interrupted]
        for work in late:
            work.is_paced = True
        self.dispatch()
        table.on_room()
        self._desk.ledger.on_cold()

    def _set_aside(self, work: Work) -> None:
        """Let one that was parked wait for its turn; it has its key meanwhile."""
        assert self._nursery is not None
        self._table.set_aside(work)
        if not self._pacer.is_running:
            self._pacer.is_running = True
            self._nursery.start_soon(self._pacer.run, self._let_one_go)

    def _let_one_go(self) -> bool:
        """Let the next one go that was parked; say whether others may be left."""
        work = self._table.take_paced()
        if work is None:  # those that were left were cancelled
            self._table.on_change()
        else:
            work.is_paced = False
            self._table.put_back(work)
            self.dispatch()
        return bool(self._table.paced)

    def disband(self) -> None:
        """Put all back that waits here: the minion has gone."""
        table = self._table
        # Those whose turn had not come wait for it still in the next life.
        while (late := table.take_paced()) is not None:
            table.put_back(late)
        for work in self._suspicion.forget():
            if table.works.get(work.seq) is work:
                table.put_back(work)
        for work in table.keys.forget(table.works):
            table.put_back(work)
        table.queued = 0

    # Taking up.

    def dispatch(self) -> None:
        """Start what is ready, as far as there is room."""
        while (work := self._take()) is not None:
            if self._idle:
                worker = self._idle.pop()
                self._dress(worker, work)
                trio.lowlevel.reschedule(worker, outcome.Value(work))
                continue
            assert self._nursery is not None
            self._desk.context.run(
                partial(self._nursery.start_soon, self._run, work, name=work.id)
            )

    def _take(self) -> Work | None:
        """Return the next workflow that may run now."""
        table, limit = self._table, self._spec.max_in_flight
        while (
            table.running < limit
            and table.engine is self
            and not (table.is_paused or table.is_held)
        ):
            work = table.take_ready()
            if work is None:
                return None
            if not self._may_run(work):
                continue
            if work.is_paced:
                self._set_aside(work)
            elif self._suspicion.admit(work):
                work.state = "running"
                table.running += 1
                return work
        return None

    def _may_run(self, work: Work) -> bool:
        """Compute the key at take-up; queue behind another of the same key."""
        if not self._spec.has_key:
            return True
        table, ends = self._table, self._desk.ledger.ends
        try:
            key = work.key or work.record.key
            if key is None:
                event = self._desk.codecs.event_of(work)
                key = key_bytes(call_user_sync(self._minion.key, event))
        except BaseException as exc:  # noqa: BLE001  # the user's, or undecodable data
            if self._group.leave_if_exit(exc):
                table.put_back(work)
                return False
            reason = "incompatible" if isinstance(exc, SnapshotError) else "key"
            ends.quarantine(table, work, reason=reason, exc=exc)
            return False
        if table.keys.hold(work, key):
            return True
        work.state = "queued"
        table.queued += 1
        table.cold.tell_room()  # who holds the key may be one of those that are due
        return False

    # Working.

    @trio.lowlevel.enable_ki_protection
    async def _run(self, work: Work) -> None:
        """Run a workflow as far as it goes, and then others, while some are ready."""
        task = trio.lowlevel.current_task()
        following: Work | None = work
        # For who cancels one workflow; that of the incarnation interrupts all.
        with trio.CancelScope() as scope:
            while following is not None:
                await self._run_one(following, scope)
                if scope.cancel_called:
                    break
                following = self._take()
                if following is not None:
                    self._dress(task, following)
                    await trio.lowlevel.cancel_shielded_checkpoint()
                elif self._table.works and len(self._idle) < _MOST_IDLE:
                    following = await self._wait(task)
        self.dispatch()

    def _dress(self, worker: trio.lowlevel.Task, work: Work) -> None:
        """Give a worker a fresh context, which it has from its next turn on."""
        worker.context = self._desk.context.copy()
        worker.name = work.id

    async def _wait(self, task: trio.lowlevel.Task) -> Work | None:
        """Wait for a workflow; ``None``: there will be none."""
        self._idle.append(task)

        def abort(_: object) -> trio.lowlevel.Abort:
            self._idle.remove(task)
            return trio.lowlevel.Abort.SUCCEEDED

        following: Work | None = await trio.lowlevel.wait_task_rescheduled(abort)
        return following

    def _dismiss(self) -> None:
        """Let the workers go that wait: nothing is left."""
        while self._idle:
            trio.lowlevel.reschedule(self._idle.pop(), outcome.Value(None))

    async def _run_one(self, work: Work, scope: trio.CancelScope) -> None:
        assert self._walker is not None
        work_for(self._incarnation)
        work.scope = scope
        try:
            if not work.saved:  # its incarnation ended before the disk was done
                await self._desk.ledger.store.barrier()
            if work.is_cancelled:  # before its task had its first turn
                self._judge.interrupted(work, None)
            else:
                await self._walker.walk(work, self._cleared)
        except trio.Cancelled:
            self._judge.interrupted(work, None)
            raise
        finally:
            work.scope = None
            self._table.running -= 1
            if self._table.running == 0:
                self._on_idle()
            self._cleared(work)
            if not self._table.works:
                self._dismiss()

    def _cleared(self, work: Work) -> None:
        """Hear that a suspect has ended a step, or runs no longer."""
        following = self._suspicion.clear(work, self._table.works)
        if following is not None:
            self._table.put_back(following)
            self.dispatch()
