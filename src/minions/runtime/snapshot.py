"""What a Gru looks like at one moment: plain, frozen, made without waiting."""

from __future__ import annotations

from collections.abc import Mapping

import attrs

from minions.store.port import StoreStatistics

__all__ = ["ComponentSnapshot", "GruSnapshot", "OrchestrationSnapshot"]

_WIDTH = 100


@attrs.frozen(kw_only=True)
class ComponentSnapshot:
    """One component."""

    identity: str
    kind: str
    """``resource``, ``pipeline``, ``minion`` or ``provided``."""

    state: str
    epoch: int
    """The number of its present or last life; 0: it has had none."""

    parent: str | None
    """In whose nursery it is placed; ``None``: Gru's own."""

    needs: tuple[str, ...]
    dependents: tuple[str, ...]
    restarts: int
    """Restarts charged to it."""

    cause: str | None
    """Why its last life ended, or its present one drains."""

    since: float
    """Seconds for which it has been in this state."""

    waits_for: str


@attrs.frozen(kw_only=True)
class OrchestrationSnapshot:
    """One orchestration, or a subscription that is not started."""

    id: str
    status: str
    """As ``Orchestration.status``, or ``not started``: also of one that is paused, and
    of one that had ended when a step emitted to its pipeline."""

    pipeline: str
    unfinished: int
    running: int
    ready: int
    queued: int
    parked: int
    """Ready ones, while something that the minion needs is down."""

    cold: int
    """Those that sleep, retry or wait for a signal."""

    quarantined: int
    rejected: int
    ended: Mapping[str, int]
    """Workflows that ended in this process, by their end."""

    source_waits: bool
    """Whether the pipeline waits for room here."""


@attrs.frozen(kw_only=True)
class GruSnapshot:
    """One Gru; ``str()`` draws the supervision tree."""

    components: Mapping[str, ComponentSnapshot]
    orchestrations: Mapping[str, OrchestrationSnapshot]
    store: StoreStatistics
    stopping: bool

    @property
    def healthy(self) -> bool:
        """Whether the store commits, and all components and subscriptions are well.

        No component has failed or is stuck, and every subscription is started.
        Quarantined workflows do not count.
        """
        return (
            self.store.state != "backoff"
            and all(
                c.state not in {"failed", "stuck"} for c in self.components.values()
            )
            and all(o.status != "not started" for o in self.orchestrations.values())
        )

    def __str__(self) -> str:
        children: dict[str | None, list[str]] = {}
        for name, component in self.components.items():
            children.setdefault(component.parent, []).append(name)
        lines: list[str] = []
        waiting = [(name, 0) for name in reversed(children.get(None, []))]
        while waiting:
            name, depth = waiting.pop()
            lines.append(_line(self.components[name], depth))
            below = children.get(name, [])
            waiting.extend((child, depth + 1) for child in reversed(below))
        return "\n".join(lines)


def _line(component: ComponentSnapshot, depth: int) -> str:
    name = component.identity
    tail = f"  {component.kind} {component.state} #{component.epoch}"
    if component.restarts:
        tail += f", restarts {component.restarts}"
    if component.waits_for:
        tail += f", waits for {component.waits_for}"
    indent = "  " * min(depth, 20)
    if len(indent) + len(name) + len(tail) > _WIDTH:
        tail = tail[: max(40, _WIDTH - len(indent) - len(name))]
        room = _WIDTH - len(indent) - len(tail)
        if len(name) > room:
            name = "…" + name[-(room - 1) :]
    return f"{indent}{name}{tail}"
