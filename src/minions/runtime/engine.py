"""What runs a minion: its hooks, and a crew that works on its workflows.

One scope per incarnation interrupts all steps.  An interrupted workflow had no
outcome: it goes back to its place in the table, with its last snapshot.

Who works on which workflow is in :mod:`~minions.runtime.crew`; the way from step to
step in :mod:`~minions.runtime.walking`; what a step's exception means in
:mod:`~minions.runtime.judging`.
"""

from __future__ import annotations

from collections.abc import Callable
from typing import Any

import trio

from minions.declare.specification import MinionSpec
from minions.runtime.calls import work_for
from minions.runtime.crew import Crew
from minions.runtime.desk import Desk
from minions.runtime.judging import Judge
from minions.runtime.lives import ComponentLife
from minions.runtime.table import WorkTable
from minions.supervise import Cause, CauseKind, Group, Incarnation, RunEnd

__all__ = ["MinionLife"]


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
        self._judge = Judge(
            group, incarnation, spec, table=desk.table, ledger=desk.ledger
        )
        self._crew = Crew(
            group, incarnation, spec, desk=desk, judge=self._judge, on_idle=self._idle
        )
        self._is_idle = trio.Event()
        # Seconds for which what it needs was down.
        self._outage = 0.0

    def _idle(self) -> None:
        """Hear that no step runs any more."""
        if self.table.engine is None:
            self._is_idle.set()
        self.table.changed()

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
        try:
            with self._judge.scope:
                await self._work()
        finally:
            self._crew.leave()
        return RunEnd.RETURNED

    async def _work(self) -> None:
        async with trio.open_nursery() as nursery:
            try:
                if self.incarnation.cause is None:
                    self._crew.begin(self.value, nursery, self._outage)
                await trio.sleep_forever()
            finally:
                self._crew.close()

    def begin_drain(self, cause: Cause) -> None:
        """Take no new work; on a hard drain interrupt what runs."""
        if self.table.engine is self._crew:
            self.table.engine = None
            lost = cause.kind is CauseKind.DEPENDENCY
            self.table.outage.begin(trio.current_time() if lost else None)
            self.table.on_room()
        if cause.hard:
            self._judge.interrupt(str(cause))
        elif not self.table.running:
            self._is_idle.set()

    async def drained(self) -> None:
        """Wait for the running steps' workflows."""
        if self.table.running:
            await self._is_idle.wait()

    def cut(self) -> None:
        """Interrupt what is still running."""
        self._judge.interrupt(f"{self.incarnation}: the grace is over")

    async def release(self, problem: BaseException | None) -> None:
        """Shut down; all steps have ended."""
        self._crew.disband()
        await super().release(problem)
