"""Makes the snapshot's parts from what runs."""

from __future__ import annotations

import trio

from minions.runtime.components import Components
from minions.runtime.orchestrations import Orchestrations
from minions.runtime.snapshot import ComponentSnapshot, OrchestrationSnapshot
from minions.runtime.subscriptions import Subscriptions
from minions.runtime.table import WorkTable

__all__ = ["look_at_components", "look_at_orchestrations"]


def look_at_components(components: Components) -> dict[str, ComponentSnapshot]:
    """Return what each component looks like now."""
    now = trio.current_time()
    members = components.group.members
    return {
        name: ComponentSnapshot(
            identity=name,
            kind=components.specs[name].kind,
            state=member.state.value,
            epoch=member.epoch,
            parent=member.parent.name if member.parent is not None else None,
            needs=member.plan.needs,
            dependents=tuple(m.name for m in member.dependents if name in m.plan.needs),
            restarts=member.restarts,
            cause=str(member.cause) if member.cause is not None else None,
            since=now - member.since,
            waits_for=member.waits_for,
        )
        for name, member in members.items()
    }


def look_at_orchestrations(
    orchestrations: Orchestrations, subscriptions: Subscriptions
) -> dict[str, OrchestrationSnapshot]:
    """Return what each orchestration and subscription looks like now."""
    return {
        identity: _look(table, orchestrations, subscriptions)
        for identity, table in subscriptions.tables.items()
        if identity in orchestrations.by_id
        or identity in subscriptions.records
        or table.unfinished
        or table.quarantined
    }


def _look(
    table: WorkTable, orchestrations: Orchestrations, subscriptions: Subscriptions
) -> OrchestrationSnapshot:
    orchestration = orchestrations.by_id.get(table.id)
    record = subscriptions.records.get(table.id)
    pipeline = record.pipeline if record is not None else ""
    status = "not started" if record is not None else "stopped"
    if table.id in orchestrations.ended and not table.unfinished:
        status = "ended"
    if orchestration is not None:
        pipeline, status = orchestration.pipeline_name, orchestration.status
    intake = subscriptions.intakes.get(pipeline)
    states = [work.state for work in table.works.values()]
    ready = states.count("ready") + states.count("accepting")
    parked = table.engine is None and bool(table.parked_on())
    return OrchestrationSnapshot(
        id=table.id,
        status=status,
        pipeline=pipeline,
        unfinished=table.unfinished,
        running=states.count("running"),
        ready=0 if parked else ready,
        queued=states.count("queued"),
        parked=ready if parked else 0,
        cold=table.cold.count,
        quarantined=len(table.quarantined),
        rejected=table.rejected,
        ended=dict(table.counts),
        source_waits=intake is not None and table.id in intake.waits_for(),
    )
