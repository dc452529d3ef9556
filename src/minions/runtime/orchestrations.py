"""The orchestrations that hold components: how they end, and what they wait for."""

from __future__ import annotations

import functools
from collections.abc import Awaitable, Callable

import trio

from minions.errors import AlreadyRunningError
from minions.runtime.components import Components
from minions.runtime.orchestration import Orchestration, StopMode, StopResult
from minions.runtime.subscriptions import Subscriptions
from minions.runtime.table import WorkTable
from minions.supervise import State

__all__ = ["Orchestrations"]


class Orchestrations:
    """The orchestrations of one Gru, by id."""

    def __init__(
        self, components: Components, subscriptions: Subscriptions, tasks: trio.Nursery
    ) -> None:
        self._components = components
        self._group = components.group
        self._subscriptions = subscriptions
        self._tasks = tasks
        self.by_id: dict[str, Orchestration] = {}
        self.ended: set[str] = set()
        """The ids of those that are gone because their sources are exhausted."""

    # Ending.

    def spawn(self, action: Callable[[], Awaitable[object]]) -> None:
        """Run something for Gru, not for who asks; nothing behind its end."""
        if self._tasks.cancel_scope.cancel_called:
            return
        start = functools.partial(self._tasks.start_soon, action)
        self._components.context.copy().run(start)

    async def stop(
        self, orchestration: Orchestration, mode: StopMode, grace: float | None
    ) -> StopResult:
        """Stop one orchestration; see ``Orchestration.stop``.

        The stop goes on when who asked is cancelled; asking for a cutover ends a
        drain that is under way.
        """
        if mode == "cutover":
            orchestration.draining.cancel(reason="cut over")
        if orchestration.phase == "live":
            orchestration.phase = "draining"
            limit = self._group.options.grace if grace is None else grace
            carry_out = functools.partial(self._carry_out, orchestration, mode, limit)
            self.spawn(carry_out)
        await orchestration.over.wait()
        return orchestration.result

    @trio.lowlevel.enable_ki_protection
    async def _carry_out(
        self, orchestration: Orchestration, mode: StopMode, grace: float
    ) -> None:
        table, name = orchestration.table, orchestration.minion_name
        table.is_resting = True
        ended = _finished(table)
        self._components.poke()
        if mode == "drain":
            await self._subscriptions.unsubscribe(orchestration.id)
        table.is_paused = mode == "pause"
        orchestration.draining.deadline = trio.current_time() + grace
        with orchestration.draining:
            while self._is_busy(table, mode) and not self._components.is_hopeless(name):
                await self._components.wait_change()
        cut = table.running
        self._group.stop(name, hard=bool(table.works))
        orchestration.phase = "stopped"
        self._components.poke()
        await orchestration.gone.wait()
        saved = len(table.works) + table.cold.count
        finished = _finished(table) - ended + table.ends.count
        orchestration.result = StopResult(finished, saved, min(cut, saved))
        orchestration.over.set()

    @staticmethod
    def _is_busy(table: WorkTable, mode: StopMode) -> bool:
        """Say whether there is something that the stop is to wait for."""
        if mode == "pause":
            # Also while it restarts: its steps end all the same.
            return table.running > 0
        return mode == "drain" and table.is_moving

    async def forget(self, identity: str) -> None:
        """End the subscription of one that is not started."""
        if identity in self.by_id:
            raise AlreadyRunningError(
                f"{identity}: expected an orchestration that is not started, found"
                " that it runs; stop it with orchestration.stop()"
            )
        if identity not in self._subscriptions.records:
            raise KeyError(identity)
        await self._subscriptions.unsubscribe(identity)

    def end_exhausted(self) -> None:
        """End the orchestrations whose source and workflows have ended."""
        for orchestration in self.by_id.values():
            table = orchestration.table
            pipeline = self._group.members.get(orchestration.pipeline_name)
            if (
                orchestration.phase == "live"
                and orchestration.intake.exhausted
                and not table.unfinished
                and (pipeline is None or pipeline.state is State.STOPPED)
            ):
                orchestration.phase = "ended"

    def settle_ends(self) -> None:
        """Tell who waits for an orchestration whose minion has gone."""
        for identity, orchestration in list(self.by_id.items()):
            member = self._group.members.get(orchestration.minion_name)
            if not orchestration.is_live and (member is None or not member.running):
                del self.by_id[identity]
                self.ended.discard(identity)
                orchestration.gone.set()
                if orchestration.phase == "ended":
                    self.ended.add(identity)
                    orchestration.over.set()

    def stop_sources(self) -> None:
        """Ask all pipelines to end, and leave cold workflows where they are."""
        for orchestration in self.by_id.values():
            orchestration.table.is_resting = True
            if orchestration.pipeline_name in self._group.members:
                self._group.stop(orchestration.pipeline_name)

    def close(self) -> None:
        """Tell all who still wait that everything has stopped."""
        for orchestration in self.by_id.values():
            if orchestration.is_live:
                orchestration.phase = "stopped"
            orchestration.gone.set()
            orchestration.over.set()
        self.by_id.clear()
        for table in self._subscriptions.tables.values():
            table.close()

    # Looking.

    def live(self) -> list[Orchestration]:
        """Return those that hold components."""
        return [o for o in self.by_id.values() if o.is_live]

    def roots(self) -> list[str]:
        """Name the components that orchestrations hold."""
        live = self.live()
        held = [o.minion_name for o in live]
        # One that drains has unsubscribed: its pipeline has nobody to emit to.
        held += [o.pipeline_name for o in live if o.phase != "draining"]
        # What a pipeline needs is there before the pipeline is.
        return held + [name for o in live for name in o.held]

    def is_working(self) -> bool:
        """Say whether a minion that is up has work that a drain waits for."""
        return any(
            o.table.is_moving and o.table.engine is not None for o in self.live()
        )

    def is_hopeless(self, orchestration: Orchestration) -> bool:
        """Say whether it waits for what has failed, and nothing else goes on."""
        hopeless = self._components.is_hopeless
        if hopeless(orchestration.minion_name):
            return True
        return hopeless(orchestration.pipeline_name) and (
            not orchestration.table.unfinished
        )


def _finished(table: WorkTable) -> int:
    """Return how many have ended in this process; who waits for a person has not."""
    return sum(table.counts.values()) - table.counts.get("quarantined", 0)
