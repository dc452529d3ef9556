"""The tasks that work on the workflows of a minion, step by step.

A worker is a task.  It runs one step, hands over what that has reached, and takes the
next step that is ready, of whichever workflow: while a commit is on its way to the
disk, nobody waits for it.  So a hundred steps that only compute cost one turn of one
task.  A step that waits keeps its worker, and another worker takes over.

Theory: a task cannot know that it is about to be suspended.  So before a worker begins
a step while more is ready, it makes sure that another one comes in the next turn of
the loop.  That one finds nothing if the step did not wait, and goes idle.  If it finds
something, steps do wait here, and it calls in twice as many as came before.
(Rejected: a task for each workflow, whose two switches for each step cost as much as
all the rest of it.)
"""

from __future__ import annotations

from collections import deque
from collections.abc import Callable
from contextvars import Context, copy_context
from operator import is_
from typing import Any

import outcome
import trio

from minions.declare.binding import current_workflow
from minions.declare.specification import MinionSpec
from minions.runtime.calls import work_for
from minions.runtime.desk import Desk
from minions.runtime.judging import Judge
from minions.runtime.pacing import OUTAGE
from minions.runtime.scheduler import Scheduler
from minions.runtime.walking import Walker
from minions.runtime.work import Work
from minions.supervise import Group, Incarnation

__all__ = ["Crew"]


_MOST_IDLE = 256
# Steps of all workers, after which all other tasks have their turn.
_STEPS_IN_A_ROW = 256
# One step of so many is that of a new workflow, if there are any.
_NEW_EVERY = 8
# Of whom we work for, and on which workflow: values that are compared by identity.
_OUR_VARIABLES = 2


def _is_same(one: Context, other: Context) -> bool:
    """Say whether nobody has set a variable in one of these, to whatever value.

    Values are told apart by identity: what is equal need not be the same, and some
    cannot be compared.
    """
    return len(one) == len(other) and all(map(is_, one.values(), other.values()))


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
        self._incarnation = incarnation
        self._desk = desk
        self._table = desk.table
        self._judge = judge
        self._on_idle = on_idle
        self._scheduler = Scheduler(group, spec, desk)
        # Those whose next step may begin: the last one is on disk.
        self._line: deque[Work] = deque()
        # Workers that wait.
        self._idle: list[trio.lowlevel.Task] = []
        # Workers that were called and have not had their turn yet, and how many are
        # called at once.
        self._coming = 0
        self._burst = 1
        # Steps since all other tasks had their turn, and whether they have it now.
        self._steps = 0
        self._is_resting = False
        self._is_closed = False
        # Set when it begins.
        self._nursery: trio.Nursery | None = None
        self._walker: Walker | None = None
        # What each step begins with, and whether only variables of ours are in it.
        self._context = Context()
        self._is_bare = False

    def begin(self, minion: Any, nursery: trio.Nursery, outage: float) -> None:
        """Begin to work, after *outage* seconds in which something was down."""
        self._nursery = nursery
        self._context = self._desk.context.copy()
        self._context.run(work_for, self._incarnation)
        self._context.run(current_workflow.set, None)
        self._is_bare = len(self._context) == _OUR_VARIABLES
        self._scheduler.begin(minion, nursery, self)
        self._walker = Walker(minion, self._desk, self._judge, self._go_on)
        table = self._table
        table.engine = self
        if outage >= OUTAGE:
            table.outage.paced_until = self._desk.ledger.now()
            for work in table.ready:
                work.is_paced = work.is_paced or not work.is_interrupted
        self.dispatch()
        table.on_room()
        self._desk.ledger.on_cold()

    def close(self) -> None:
        """Call nobody in any more: the workers end."""
        self._is_closed = True

    def leave(self) -> None:
        """Hear that all workers have ended; interrupt what is between two steps."""
        self._line.clear()
        for work in [*self._table.works.values()]:
            if work.state == "running":
                self._judge.interrupted(work, None)
                self._release(work)

    def disband(self) -> None:
        """Put all back that waits here: the minion has gone."""
        self._scheduler.disband()

    # Who comes.

    def dispatch(self) -> None:
        """Start what is ready, as far as there is room."""
        if self._coming or self._is_closed:
            return
        if self._line or self._scheduler.may_take():
            self._burst = 1
            self._call_in()

    def _call_in(self) -> None:
        for _ in range(self._burst):
            self._coming += 1
            if self._idle:
                trio.lowlevel.reschedule(self._idle.pop(), outcome.Value(True))
            else:
                assert self._nursery is not None
                self._context.run(self._nursery.start_soon, self._run)

    # Working.

    @trio.lowlevel.enable_ki_protection
    async def _run(self) -> None:
        """Work on what is there, and wait for more."""
        task = trio.lowlevel.current_task()
        # For who cancels one workflow; that of the incarnation interrupts all.
        with trio.CancelScope() as scope:
            is_called = True
            while is_called:
                self._coming -= 1
                await self._serve(task, scope)
                most_idle = _MOST_IDLE if self._table.works else 1
                if scope.cancel_called or len(self._idle) >= most_idle:
                    break
                is_called = await self._wait(task)
        self.dispatch()

    async def _serve(self, task: trio.lowlevel.Task, scope: trio.CancelScope) -> None:
        """Run steps until none is ready, or this worker is cancelled."""
        while (work := self._take()) is not None:
            self._steps += 1
            if not self._coming and (self._line or self._scheduler.may_take()):
                self._call_in()
                self._burst = min(2 * self._burst, _MOST_IDLE)
            task.name = work.id
            await self._go(work, scope)
            if work.is_cancelled and scope.cancel_called:
                return
            current_workflow.set(None)
            now, fresh = copy_context(), self._context
            is_worn = now != fresh if self._is_bare else not _is_same(now, fresh)
            if is_worn:
                # Nothing of one step is seen in another one.
                task.context = fresh.copy()
            if self._steps >= _STEPS_IN_A_ROW and not self._is_resting:
                await self._rest()
            elif is_worn:
                await trio.lowlevel.cancel_shielded_checkpoint()

    async def _rest(self) -> None:
        """Let all other tasks have a turn; no step begins meanwhile."""
        self._is_resting, self._burst = True, 1  # steps do not wait here
        self._coming += 1
        await trio.lowlevel.cancel_shielded_checkpoint()
        self._coming -= 1
        self._is_resting, self._steps = False, 0

    def _take(self) -> Work | None:
        """Return whose next step is to run."""
        if self._is_resting or self._judge.is_interrupting or self._is_closed:
            return None
        if self._steps % _NEW_EVERY == 0:
            # Who is taken up comes behind the line, and one that goes round without
            # waiting keeps the line full.
            work = self._scheduler.take()
            if work is not None:
                return work
        while self._line:
            work = self._line.popleft()
            if work.is_cancelled or not self._table.is_paused:
                return work
            self._table.put_back(work)
            self._release(work)
        return self._scheduler.take()

    async def _go(self, work: Work, scope: trio.CancelScope) -> None:
        """Run one step."""
        assert self._walker is not None
        is_suspect, goes_on = work.record.crash_count > 0, False
        work.scope = scope
        try:
            if not work.saved:  # its incarnation ended before the disk was done
                await self._desk.ledger.store.barrier()
            if work.is_cancelled:
                self._judge.interrupted(work, None)
            elif (cell := self._walker.cell_of(work)) is not None:
                current_workflow.set(cell)
                goes_on = await self._walker.step(cell)
        except BaseException:  # cancelled, or a defect of ours: it has no outcome
            self._judge.interrupted(work, None)
            raise
        finally:
            work.scope = None
            if is_suspect and self._scheduler.cleared(work):
                self.dispatch()
            if not goes_on:
                self._release(work)

    def _go_on(self, work: Work) -> None:
        """Hear that the last step of a workflow is on disk."""
        if not self._is_closed:
            self._line.append(work)
            self.dispatch()

    def _release(self, work: Work) -> None:
        """Hear that a workflow goes on no more, or not from here."""
        work.cell = None
        self._table.running -= 1
        if self._table.running == 0:
            self._on_idle()
        if not self._table.works:
            # Nothing is left: one worker may wait for more.
            while len(self._idle) > 1:
                trio.lowlevel.reschedule(self._idle.pop(), outcome.Value(False))

    async def _wait(self, task: trio.lowlevel.Task) -> bool:
        """Wait until this worker is called; return whether it is to go on."""
        self._idle.append(task)

        def abort(_: object) -> trio.lowlevel.Abort:
            self._idle.remove(task)
            return trio.lowlevel.Abort.SUCCEEDED

        is_called: bool = await trio.lowlevel.wait_task_rescheduled(abort)
        return is_called
