"""Supervised components and durable workflows in one trio process."""

from __future__ import annotations

from minions.declare.bases import Minion, Pipeline, Resource, minion_step, resource
from minions.declare.binding import WorkflowInfo
from minions.declare.outcomes import After, Done, GoTo, Wait
from minions.declare.schema import migrates, schema
from minions.errors import (
    AbortWorkflow,
    AlreadyRunningError,
    ComponentBroken,
    ConfigError,
    DefinitionError,
    DependencyError,
    DependencyLost,
    InternalError,
    MinionsError,
    NotRunningError,
    RestartLimitError,
    SnapshotError,
    StartError,
    StoreError,
    StoreFullError,
    StoreLockedError,
    StoreVersionError,
)
from minions.identity import component_id
from minions.options import Backoff, GruOptions, Restart, Retry
from minions.runtime.gru import Gru
from minions.runtime.inspection import Workflow
from minions.runtime.opening import open_gru
from minions.runtime.orchestration import Orchestration, StopResult
from minions.runtime.process import run
from minions.runtime.snapshot import (
    ComponentSnapshot,
    GruSnapshot,
    OrchestrationSnapshot,
)
from minions.runtime.workflows import Workflows
from minions.store.codec import converter

__all__ = [
    "AbortWorkflow",
    "After",
    "AlreadyRunningError",
    "Backoff",
    "ComponentBroken",
    "ComponentSnapshot",
    "ConfigError",
    "DefinitionError",
    "DependencyError",
    "DependencyLost",
    "Done",
    "GoTo",
    "Gru",
    "GruOptions",
    "GruSnapshot",
    "InternalError",
    "Minion",
    "MinionsError",
    "NotRunningError",
    "Orchestration",
    "OrchestrationSnapshot",
    "Pipeline",
    "Resource",
    "Restart",
    "RestartLimitError",
    "Retry",
    "SnapshotError",
    "StartError",
    "StopResult",
    "StoreError",
    "StoreFullError",
    "StoreLockedError",
    "StoreVersionError",
    "Wait",
    "Workflow",
    "WorkflowInfo",
    "Workflows",
    "component_id",
    "converter",
    "migrates",
    "minion_step",
    "open_gru",
    "resource",
    "run",
    "schema",
]
