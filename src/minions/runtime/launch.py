"""Starts orchestrations: the order is part of the contract.

Start: check; reserve the id; start what the minion needs, then the minion, then
the pipeline, whose source is still held; commit the subscription; let the source
begin.  A start that fails before the commit leaves nothing.
"""

from __future__ import annotations

from functools import partial

import msgspec
import trio

from minions.declare.specification import MinionSpec, PipelineSpec
from minions.errors import AlreadyRunningError, DefinitionError, NotRunningError
from minions.identity import orchestration_id
from minions.runtime.codecs import Codecs
from minions.runtime.components import Components, blocker_of
from minions.runtime.desk import Desk
from minions.runtime.engine import MinionLife
from minions.runtime.intake import Intake
from minions.runtime.ledger import Ledger
from minions.runtime.orchestration import Orchestration
from minions.runtime.orchestrations import Orchestrations
from minions.runtime.outlets import OutletFinder
from minions.runtime.pairing import make_codecs, pair_of, subscription_of
from minions.runtime.reading import Reading
from minions.runtime.source import PipelineLife
from minions.runtime.subscriptions import Subscriptions
from minions.runtime.work import Bounds
from minions.runtime.workflows import Workflows
from minions.supervise import Group
from minions.workflow.subscription import SubscriptionRecord

__all__ = ["Launcher"]


class _Launch(msgspec.Struct, eq=False):
    """What one start needs between its checks and its end."""

    reading: Reading
    minion: MinionSpec
    pipeline: PipelineSpec
    subscription: SubscriptionRecord
    bounds: Bounds
    """True from the commit on."""


class Launcher:
    """Starts the orchestrations of one Gru."""

    def __init__(
        self,
        *,
        group: Group,
        components: Components,
        ledger: Ledger,
        subscriptions: Subscriptions,
        orchestrations: Orchestrations,
    ) -> None:
        self._group = group
        self._components = components
        self._ledger = ledger
        self._subscriptions = subscriptions
        self._orchestrations = orchestrations
        self._codecs: dict[str, Codecs] = {}
        self._launches: dict[str, _Launch] = {}
        self._outlets = OutletFinder(subscriptions)
        self.workflows: Workflows = Workflows(
            ledger, subscriptions.tables, self._codecs
        )

    def intake_from_outside(self, pipeline: str) -> Intake:
        """Return the intake of a pipeline that has no source of its own."""
        spec = self._components.specs.get(pipeline)
        if not isinstance(spec, PipelineSpec):
            raise NotRunningError(
                f"{pipeline}: expected a pipeline that runs, found none; start an"
                " orchestration with it first"
            )
        if spec.source != "outside":
            raise DefinitionError(
                f"{pipeline}: expected a pipeline without a source of its own, found"
                f" {'produce_event' if spec.source == 'produce' else 'run'}; take that"
                " away, or emit there"
            )
        intake = self._subscriptions.intake(pipeline)
        if not intake.tables:
            raise NotRunningError(
                f"{pipeline}: expected a subscription to it, found none: the event"
                " would be lost; emit when start_minion has returned, and before the"
                " last orchestration with it is stopped"
            )
        return intake

    # Starting.

    def prepare(
        self, minion: type, pipeline: type, *, config: object, name: str
    ) -> Orchestration:
        """Check everything, and reserve the id; nothing is started."""
        configs = {minion: config} if config is not None else {}
        reading = self._components.reader.read([minion, pipeline], configs)
        mine, source = pair_of(reading, minion, pipeline)
        identity = orchestration_id(mine.identity, source.identity, name)
        if identity in self._orchestrations.by_id:
            raise AlreadyRunningError(
                f"{identity}: expected one orchestration of {mine.identity} on"
                f" {source.identity} named {name!r}, found that it runs already; stop"
                " it first, or give the other one a name"
            )
        intake = self._subscriptions.intake(source.identity)
        codecs = make_codecs(mine, source, intake)
        codecs.tell_dropped(identity, self._ledger.notify)
        bounds = Bounds(
            mine.max_in_flight, mine.max_backlog, mine.max_unfinished, mine.overflow
        )
        table = self._subscriptions.table(identity, bounds)
        self._codecs[identity] = codecs
        known = self._subscriptions.records.get(identity)
        order = known.order if known is not None else self._next_order()
        subscription = subscription_of(identity, mine, source, name=name, order=order)
        self._outlets.expect(mine, source.identity)
        self._launches[identity] = _Launch(reading, mine, source, subscription, bounds)
        orchestration = Orchestration(
            identity,
            minion=self._name_of(mine.identity, identity),
            pipeline=source.identity,
            group=self._group,
            intake=intake,
            table=table,
            stop=self._orchestrations.stop,
            ask=self._orchestrations.spawn,
        )
        orchestration.held = tuple(reading.specs)
        self._orchestrations.by_id[identity] = orchestration
        return orchestration

    def check_targets(self) -> None:
        """Check where the minions emit to that were started together.

        Raises:
            DefinitionError: A pipeline was never started or subscribed here.
        """
        self._outlets.check_expected()

    def _next_order(self) -> int:
        orders = [launch.subscription.order for launch in self._launches.values()]
        return max([*orders, self._subscriptions.next_order() - 1]) + 1

    def _name_of(self, minion: str, identity: str) -> str:
        """Name the component: a minion has one instance per orchestration."""
        taken = any(
            o.minion_name == minion for o in self._orchestrations.by_id.values()
        )
        return f"{minion}[{identity}]" if taken else minion

    async def launch(self, orchestration: Orchestration) -> None:
        """Start the components, commit the subscription, let the source begin."""
        launch = self._launches[orchestration.id]
        components, intake = self._components, orchestration.intake
        patience = self._group.options.start_patience
        components.add_resources(launch.reading)
        self._add_minion(orchestration, launch)
        await components.wait_started(orchestration.minion_name, patience)
        await self._subscriptions.load_cursor(intake)
        self._add_pipeline(orchestration, launch)
        await components.wait_started(orchestration.pipeline_name, patience)
        await self._subscriptions.subscribe(launch.subscription)
        orchestration.table.bounds = launch.bounds
        if launch.minion.key_on_quarantine != "hold":
            self._ledger.ends.let_keys_go(orchestration.table)
        orchestration.table.is_held = False
        if orchestration.table.engine is not None:
            orchestration.table.engine.dispatch()
        orchestration.phase, orchestration.held = "live", ()
        del self._launches[orchestration.id]
        self._subscriptions.release(intake, self._orchestrations.by_id)
        orchestration.table.cold.tell_room()

    def _add_minion(self, orchestration: Orchestration, launch: _Launch) -> None:
        spec = launch.minion
        config = launch.reading.configs[spec.identity]
        table = orchestration.table
        desk = Desk(
            table=table,
            ledger=self._ledger,
            codecs=self._codecs[orchestration.id],
            outlets=self._outlets.find,
            context=self._components.context.copy(),
        )
        table.first_step = desk.codecs.steps.names[0]
        table.is_started, table.is_resting, table.is_paused = True, False, False
        table.is_held = orchestration.id not in self._subscriptions.records
        table.parked_on = partial(
            blocker_of, self._components, orchestration.minion_name
        )
        table.outage.begin(trio.current_time())
        self._components.add(
            orchestration.minion_name,
            spec,
            lambda incarnation: MinionLife(
                self._group, spec, incarnation, config=config, desk=desk
            ),
        )

    def _add_pipeline(self, orchestration: Orchestration, launch: _Launch) -> None:
        spec, intake = launch.pipeline, orchestration.intake
        config = launch.reading.configs[spec.identity]
        member = self._group.members.get(spec.identity)
        if member is None or not member.wanted:
            # It begins with this start's commit, whoever used it before.
            intake.exhausted = intake.released = False
        self._components.add(
            spec.identity,
            spec,
            lambda incarnation: PipelineLife(
                self._group, spec, incarnation, config=config, intake=intake
            ),
        )

    def abandon(self, orchestration: Orchestration) -> None:
        """Give up a start that failed."""
        self._launches.pop(orchestration.id, None)
        orchestration.phase = "stopped"
        orchestration.gone.set()
        orchestration.over.set()
        by_id = self._orchestrations.by_id
        by_id.pop(orchestration.id, None)
        if any(
            o.phase == "live" and o.intake is orchestration.intake
            for o in by_id.values()
        ):
            self._subscriptions.release(orchestration.intake, by_id)
        if orchestration.id not in self._subscriptions.records:
            self._codecs.pop(orchestration.id, None)
            if not orchestration.table.works and not orchestration.table.quarantined:
                self._subscriptions.tables.pop(orchestration.id, None)
