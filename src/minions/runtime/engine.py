"""What runs a minion: each event's workflow, step by step, in a task of its own.

No cancel scope and no nursery is made per step: one scope per incarnation
interrupts all of them.  An interrupted workflow had no outcome: it goes back to
its place in the table, with its last snapshot.

The way from step to step is in :mod:`~minions.runtime.walking`; what a step's
exception means is judged in :mod:`~minions.runtime.judging`.
"""

from __future__ import annotations

from collections.abc import Callable
from contextvars import Context
from functools import partial
from typing import Any

import attrs
import trio

from minions.declare.specification import MinionSpec
from minions.errors import SnapshotError
from minions.runtime.calls import call_user_sync, work_for
from minions.runtime.codecs import Codecs
from minions.runtime.effects import Outlets
from minions.runtime.judging import Judge
from minions.runtime.keys import key_bytes
from minions.runtime.ledger import Ledger
from minions.runtime.lives import ComponentLife
from minions.runtime.pacing import OUTAGE, Pacer
from minions.runtime.suspicion import Suspicion
from minions.runtime.table import WorkTable
from minions.runtime.walking import Walker
from minions.runtime.work import Work
from minions.supervise import Cause, CauseKind, Group, Incarnation, RunEnd

__all__ = ["Desk", "MinionLife"]


@attrs.frozen(eq=False)
class Desk:
    """What the lives of one orchestration's minion work with."""

    table: WorkTable
    ledger: Ledger
    codecs: Codecs
    outlets: Outlets
    context: Context
    """In which its workflows start."""


class MinionLife(ComponentLife):
    """One incarnation of a minion."""

    def __init__(
        self,
        group: Group,
        spec: MinionSpec,
        incarnation: Incarnation,
        *,
        config: object,
        desk: Desk,
    ) -> None:
        super().__init__(group, spec, incarnation, config)
        self._spec = spec
        self.table: WorkTable = desk.table
        self._desk = desk
        self._ledger = desk.ledger
        self._nursery: trio.Nursery | None = None
        self._judge = Judge(
            group, incarnation, spec, table=desk.table, ledger=desk.ledger
        )
        self._walker: Walker | None = None
        self._pacer = Pacer(group.options.resume_rate, group.random)
        self._suspicion = Suspicion()
        self._idle = trio.Event()
        self._is_pausing = False
        # Seconds for which what it needs was down.
        self._outage = 0.0

    # What the group calls.

    async def acquire(self) -> None:
        """Make the instance and start it; all that it needs is up."""
        self._outage = self.table.outage.seconds(trio.current_time())
        await super().acquire()

    def bodies(self) -> list[Callable[[], Any]]:
        """Run the user's ``run`` and the steps side by side."""
        return [self.run, self.work]

    @trio.lowlevel.enable_ki_protection
    async def work(self) -> RunEnd:
        """Start workflows until drained."""
        work_for(self.incarnation)
        self._walker = Walker(
            self.value, self._desk, self._judge, lambda: self._is_pausing
        )
        with self._judge.scope:
            async with trio.open_nursery() as self._nursery:
                if self.incarnation.cause is None:
                    self._begin(self._nursery)
                await trio.sleep_forever()
        return RunEnd.RETURNED

    def _begin(self, nursery: trio.Nursery) -> None:
        table = self.table
        if self._outage >= OUTAGE:
            self._pacer.park([work for _, work in table.ready])
            nursery.start_soon(self._pacer.run, self.dispatch)
        table.engine = self
        self.dispatch()
        table.on_room()
        self._ledger.on_cold()

    def pause(self) -> None:
        """Start nothing more, and let the running steps end."""
        self._is_pausing = True

    def begin_drain(self, cause: Cause) -> None:
        """Take no new work; on a hard drain interrupt what runs."""
        if self.table.engine is self:
            self.table.engine = None
            lost = cause.kind is CauseKind.DEPENDENCY
            self.table.outage.begin(trio.current_time() if lost else None)
            self.table.on_room()
        if cause.hard:
            self._judge.scope.cancel(reason=str(cause))
        elif not self.table.running:
            self._idle.set()

    async def drained(self) -> None:
        """Wait for the running steps' workflows."""
        if self.table.running:
            await self._idle.wait()

    def cut(self) -> None:
        """Interrupt what is still running."""
        self._judge.scope.cancel(reason=f"{self.incarnation}: the grace is over")

    async def release(self, problem: BaseException | None) -> None:
        """Shut down; all steps have ended."""
        for work in self._suspicion.forget():
            if self.table.works.get(work.seq) is work:
                self.table.put_back(work)
        for work in self.table.keys.forget(self.table.works):
            self.table.put_back(work)
        await super().release(problem)

    # Starting workflows.

    def dispatch(self) -> None:
        """Start what is ready, as far as there is room."""
        table, limit = self.table, self._spec.max_in_flight
        while (
            table.running < limit
            and table.engine is self
            and not self._is_pausing
            and self._nursery is not None
        ):
            work = table.take_ready()
            if work is None:
                return
            if not self._pacer.admits(work):
                table.put_back(work)
                return
            self._pacer.passed(work)
            if self._may_run(work) and self._suspicion.admit(work):
                work.state = "running"
                table.running += 1
                self._desk.context.run(
                    partial(self._nursery.start_soon, self._run, work, name=work.id)
                )

    def _may_run(self, work: Work) -> bool:
        """Compute the key at take-up; queue behind another of the same key."""
        if not self._spec.has_key:
            return True
        try:
            key = work.key or work.record.key
            if key is None:
                event = self._desk.codecs.event_of(work)
                key = key_bytes(call_user_sync(self.value.key, event))
        except BaseException as exc:  # noqa: BLE001  # the user's, or undecodable data
            if self.group.leave_if_exit(exc):
                self.table.put_back(work)
                return False
            reason = "incompatible" if isinstance(exc, SnapshotError) else "key"
            self._ledger.ends.quarantine(self.table, work, reason=reason, exc=exc)
            return False
        if self.table.keys.hold(work, key):
            return True
        work.state = "queued"
        return False

    @trio.lowlevel.enable_ki_protection
    async def _run(self, work: Work) -> None:
        """Run one workflow as far as it goes."""
        assert self._walker is not None
        work_for(self.incarnation)
        # For who cancels this one alone; that of the incarnation interrupts all.
        work.scope = trio.CancelScope()
        with work.scope:
            try:
                if not work.saved:  # its incarnation ended before the disk was done
                    await self._ledger.store.barrier()
                await self._walker.walk(work, self._cleared)
            except trio.Cancelled:
                self._judge.interrupted(work, None)
                raise
            finally:
                work.scope = None
                self._ended(work)

    def _cleared(self, work: Work) -> None:
        """Hear that a suspect has ended a step."""
        following = self._suspicion.clear(work)
        if following is not None and self.table.works.get(following.seq) is following:
            self.table.put_back(following)
            self.dispatch()

    def _ended(self, work: Work) -> None:
        self.table.running -= 1
        if self.table.running == 0:
            if self.table.engine is None:
                self._idle.set()
            self.table.on_change()
        self._cleared(work)
        self.dispatch()
