"""Keeps the house: who is still needed, what has ended, and the stop in order."""

from __future__ import annotations

import trio

from minions.errors import NotRunningError, RestartLimitError
from minions.runtime.borrow import note_stop
from minions.runtime.components import Components
from minions.runtime.orchestration import Orchestration
from minions.runtime.orchestrations import Orchestrations
from minions.supervise import Cause, CauseKind, State

__all__ = ["House"]


class House:
    """What runs beside the components of one Gru."""

    def __init__(self, components: Components, orchestrations: Orchestrations) -> None:
        self._group = components.group
        self._components = components
        self._orchestrations = orchestrations
        # Started with gru.start, or borrowed: name to how many times.
        self._roots: dict[str, int] = {}
        self._stop_asked = trio.Event()
        self._draining = trio.CancelScope()
        self._leaving = False
        self.body: trio.CancelScope = trio.CancelScope()
        """Around the body of the block."""
        self.stopped: trio.Event = trio.Event()
        """Set when all components have ended after a stop that was asked for."""

    @property
    def is_stopping(self) -> bool:
        """Whether nothing may be started any more."""
        return self._stop_asked.is_set() or self._group.stopping is not None

    def check_open(self) -> None:
        """Refuse a start on a Gru that stops.

        Raises:
            NotRunningError: It stops.
        """
        if self.is_stopping:
            raise NotRunningError(
                "this Gru is stopping: expected a start before gru.stop() and before"
                " the end of its block; open another one"
            )

    def hold(self, names: list[str]) -> None:
        """Keep components up although no orchestration needs them."""
        for name in names:
            self._roots[name] = self._roots.get(name, 0) + 1

    def release(self, names: list[str]) -> None:
        """Hold them no longer."""
        for name in names:
            self._roots[name] -= 1
            if not self._roots[name]:
                del self._roots[name]
        self.collect()

    def collect(self) -> None:
        """Stop what nobody uses any more."""
        if self._group.stopping is None:
            self._components.collect([*self._roots, *self._orchestrations.roots()])

    def ask_stop(self) -> None:
        """Ask for an ordered stop."""
        note_stop(self._group)
        self._stop_asked.set()
        self._components.closing = True
        self._components.poke()

    def leave(self) -> None:
        """Ask for an ordered stop, and let the program go on behind the block then."""
        self._leaving = True
        self._group.left = self.stopped
        self.ask_stop()
        self._end_body()

    def _end_body(self) -> None:
        if self._leaving and self.stopped.is_set():
            self.body.cancel(reason="the Gru has stopped")

    @trio.lowlevel.enable_ki_protection
    def cut_over(self) -> None:
        """End all drains now."""
        self.ask_stop()
        self._draining.cancel(reason="cut over")
        self._group.cut()

    @trio.lowlevel.enable_ki_protection
    async def keep(self) -> None:
        """End what is exhausted, and stop what nobody uses any more."""
        while True:
            if self._group.errors:  # one asks for the end of all
                self.leave()
            self._orchestrations.end_exhausted()
            self.collect()
            self._orchestrations.settle_ends()
            await self._components.wait_change()

    @trio.lowlevel.enable_ki_protection
    async def obey_stop(self) -> None:
        """Stop everything once somebody asks for it."""
        await self._stop_asked.wait()
        done = False
        with self._draining:
            self._draining.deadline = trio.current_time() + self._group.options.grace
            self._orchestrations.stop_sources()
            while self._orchestrations.is_working():
                await self._components.wait_change()
            done = True
        self._group.stop_all(Cause(CauseKind.STOP, "", 0, hard=not done))
        await self._group.runners.wait_zero()
        self.close()

    def close(self) -> None:
        """Tell all who wait that everything has ended, however that came."""
        self._orchestrations.close()
        self.stopped.set()
        self._end_body()

    async def finish(self) -> None:
        """Wait until nothing is left to do; then stop.

        Raises:
            RestartLimitError: All that is left waits for failed components.
        """
        while not self.is_stopping:
            live = self._orchestrations.live()
            roots = [
                name
                for name in self._roots
                if self._group.members[name].state is not State.STOPPED
            ]
            if not live and not roots:
                break
            if not self._group.options.wait_for_failed:
                self._check_hope(live, roots)
            await self._components.wait_change()
        self.ask_stop()
        await self.stopped.wait()

    def _check_hope(self, live: list[Orchestration], roots: list[str]) -> None:
        hopeless = self._components.is_hopeless
        if not all(self._orchestrations.is_hopeless(o) for o in live):
            return
        if not all(hopeless(name) for name in roots):
            return
        failed = [m for m in self._group.members.values() if m.state is State.FAILED]
        causes = "; ".join(f"{m.name}: {m.cause}" for m in failed)
        raise RestartLimitError(
            f"all that is left waits for components that have failed: {causes}; mend"
            " the cause, raise max_restarts, or set wait_for_failed=True and restart"
            " them"
        ) from (failed[0].last_failure if failed else None)
