"""The façade: what a program asks of its system."""

from __future__ import annotations

import contextlib
from collections.abc import AsyncIterator
from typing import Any

import trio

from minions.declare.specification import ResourceSpec
from minions.declare.system import ProvidedSpec
from minions.errors import DefinitionError, NotRunningError
from minions.identity import component_identity, provided_identity
from minions.notices import Notice
from minions.runtime.borrow import lease
from minions.runtime.bus import NoticeBus
from minions.runtime.calls import caller_in
from minions.runtime.components import Components
from minions.runtime.house import House
from minions.runtime.launch import Launcher
from minions.runtime.orchestration import Orchestration
from minions.runtime.orchestrations import Orchestrations
from minions.runtime.reading import Factory
from minions.runtime.resolve import resolve
from minions.runtime.snapshot import GruSnapshot
from minions.runtime.subscriptions import Subscriptions
from minions.runtime.views import look_at_components, look_at_orchestrations
from minions.runtime.workflows import Workflows
from minions.store.port import StateStore

__all__ = ["Gru"]


class Gru:
    """Wires, supervises, persists and stops a system; see :func:`open_gru`."""

    def __init__(
        self,
        *,
        components: Components,
        launcher: Launcher,
        orchestrations: Orchestrations,
        subscriptions: Subscriptions,
        house: House,
        store: StateStore,
        bus: NoticeBus,
    ) -> None:
        self._group = components.group
        self._components = components
        self._launcher = launcher
        self._orchestrations = orchestrations
        self._subscriptions = subscriptions
        self._house = house
        self._store = store
        self._bus = bus
        self.workflows: Workflows = launcher.workflows
        """The workflows of this Gru."""

    # Starting.

    async def start_minion(
        self,
        minion: type | str,
        pipeline: type | str,
        *,
        config: object = None,
        name: str = "",
    ) -> Orchestration:
        """Start an orchestration with all that it needs.

        Returns when the minion and the pipeline are up and the subscription is on
        disk.  Unfinished workflows of an earlier process go on.

        Args:
            minion: The class, or ``"package.module:Class"``.
            pipeline: Likewise.
            config: The minion's config: an object, a mapping, or a path.
            name: Tells two orchestrations of the same classes apart.

        Raises:
            DefinitionError: A class cannot run as declared; nothing was started.
            AlreadyRunningError: The same three run already.
            StartError: A component did not come up; what nobody else uses stops.
            NotRunningError: This Gru is stopping.

        Cancellation:
            Stops what nobody else uses.
        """
        self._house.check_open()
        orchestration = self._launcher.prepare(
            resolve(minion), resolve(pipeline), config=config, name=name
        )
        try:
            await self._launcher.launch(orchestration)
        except BaseException:
            self._launcher.abandon(orchestration)
            self._house.collect()
            raise
        return orchestration

    async def start(self, *components: type | str) -> None:
        """Start resources that no orchestration needs; they stop with Gru.

        Raises:
            DefinitionError: One is no resource, or cannot run as declared.
            StartError: One did not come up; those of this call stop again.
        """
        self._house.check_open()
        classes = [resolve(component) for component in components]
        names = self._add_resources("gru.start", classes)
        self._house.hold(names)
        try:
            for name in names:
                await self._components.wait_started(
                    name, self._group.options.start_patience
                )
        except BaseException:
            self._house.release(names)
            raise

    @contextlib.asynccontextmanager
    async def starting(self) -> AsyncIterator[None]:
        """Hold all pipelines until the block ends, so that all hear the first event.

        Raises:
            StartError: At the end of the block, if the store holds a subscription
                of a started pipeline that is not started.

        If the block raises, the pipelines stay held until another one ends well.  On
        a Gru that is stopping by then none begins, and that is no error.
        """
        self._subscriptions.hold()
        well = False
        try:
            yield
            if not self._house.is_stopping:
                self._launcher.check_targets()
                self._subscriptions.check_all_started(self._orchestrations.by_id)
                well = True
        finally:
            self._subscriptions.unhold(well=well)

    @contextlib.asynccontextmanager
    async def borrow(self, cls: type, name: str | None = None) -> AsyncIterator[Any]:
        """Lease a resource for code of your own.

        Raises:
            DefinitionError: It is no resource, or cannot run as declared.
            DependencyLost: It went; the block was cancelled.
            StartError: It did not come up.
        """
        self._house.check_open()
        if name is None:
            (identity,) = self._add_resources("gru.borrow", [cls])
        else:
            identity = provided_identity(cls, name)
            self._components.add_provided(cls, name)
        self._house.hold([identity])
        try:
            await self._components.wait_started(
                identity, self._group.options.start_patience
            )
            async with lease(self._group, identity) as value:
                yield value
        finally:
            self._house.release([identity])

    def provide(self, cls: type, factory: Factory, name: str | None = None) -> None:
        """Make instances of *cls* from elsewhere injectable.

        Args:
            cls: The class that components annotate.
            factory: Called once per incarnation; returns an async context manager
                whose value is handed out as it is.
            name: For ``Annotated[cls, "name"]``.
        """
        self._components.reader.provide(cls, factory, name)

    def configure(self, component: type | str, source: object) -> None:
        """Set the config of a component: an object, a mapping, or a path.

        Raises:
            ConfigError: The component runs already.
        """
        self._components.reader.configure(resolve(component), source)

    # Operating.

    async def emit(
        self,
        pipeline: type | str,
        event: Any,
        *,
        id: str | None = None,  # noqa: A002  # of the contract
    ) -> tuple[str | None, ...]:
        """Hand an event to a pipeline that has no source of its own.

        Returns one workflow id per subscription, when it is on disk.

        Args:
            pipeline: The class, or ``"package.module:Class"``.
            event: An instance of its event class.
            id: The event's own id, if it has one; see ``Pipeline.emit``.

        Raises:
            DefinitionError: The pipeline has a source of its own.
            NotRunningError: It was not started, or nobody subscribes to it.
            TypeError: The event is of another class.
            trio.ClosedResourceError: This Gru is stopping.
        """
        identity = component_identity(resolve(pipeline))
        intake = self._launcher.intake_from_outside(identity)
        if self._house.is_stopping:
            raise trio.ClosedResourceError(f"{identity}: this Gru is stopping")
        (ids,) = await intake.emit([event], None, [id])
        self.workflows.remember(ids)
        return ids

    async def forget(self, orchestration_id: str) -> None:
        """End the subscription of an orchestration that will not come back.

        Raises:
            KeyError: There is no such subscription.
            AlreadyRunningError: It runs; stop it instead.
        """
        await self._orchestrations.forget(orchestration_id)

    async def restart(self, component: type | str) -> None:
        """Restart a component and its dependents, or start a failed one again.

        Returns when it is up again; at once when a component asks.

        Raises:
            NotRunningError: It was not started, or this Gru is stopping.
            StartError: It was stopped before it was up again.
        """
        self._house.check_open()
        name = self._name(component)
        self._group.restart(name)
        if caller_in(self._group) is None:
            await self._group.members[name].changed.wait()
            await self._group.wait_up(name)

    async def wait_up(self, component: type | str) -> None:
        """Wait until a component is up.

        Raises:
            StartError: It has failed or was stopped.
            trio.BusyResourceError: It waits for itself.
        """
        name = self._name(component)
        inside = caller_in(self._group)
        if inside is not None and inside.name == name:
            raise trio.BusyResourceError(f"{name} waits for itself to come up")
        await self._group.wait_up(name)

    async def stop(self) -> None:
        """Stop everything in order: drain for the grace, then cut over.

        Returns when all has stopped; at once when a component asks.
        """
        self._house.ask_stop()
        if caller_in(self._group) is None:
            await self._house.stopped.wait()
        else:
            await trio.lowlevel.checkpoint()

    def ask_stop(self) -> None:
        """Ask for an ordered stop without waiting for it."""
        self._house.ask_stop()

    def cut_over(self) -> None:
        """End all drains now: what still runs is interrupted and saved."""
        self._house.cut_over()

    # Looking.

    def snapshot(self) -> GruSnapshot:
        """Return what the system looks like now; never blocks."""
        return GruSnapshot(
            components=look_at_components(self._components),
            orchestrations=look_at_orchestrations(
                self._orchestrations, self._subscriptions
            ),
            store=self._store.statistics(),
            stopping=self._house.is_stopping,
        )

    def notices(self) -> AsyncIterator[Notice]:
        """Iterate over notices from now on; a slow reader loses the oldest."""
        return self._bus.read()

    def _add_resources(self, call: str, classes: list[type]) -> list[str]:
        reading = self._components.reader.read(classes, {})
        names = [component_identity(cls) for cls in classes]
        for name in names:
            if not isinstance(reading.specs[name], ResourceSpec | ProvidedSpec):
                raise DefinitionError(
                    f"{call}: {name}: expected a resource, found a"
                    f" {reading.specs[name].kind}; use start_minion"
                )
        self._components.add_resources(reading)
        return names

    def _name(self, component: type | str) -> str:
        if isinstance(component, str) and component in self._group.members:
            return component
        name = component_identity(resolve(component))
        if name not in self._group.members:
            raise NotRunningError(
                f"{name}: expected a component of this Gru, found none of this"
                " identity; start it first"
            )
        return name
