"""How an instance of a user's class finds what the runtime has for it.

The instance itself holds nothing of ours: it may be frozen, slotted, equal to
another or not hashable.  What belongs to a component stands in a table by the
identity of the instance; what belongs to a workflow in a context variable.
"""

from __future__ import annotations

from collections.abc import Iterable
from contextvars import ContextVar
from datetime import datetime
from math import inf
from typing import TYPE_CHECKING, Any, Protocol, TypeVar, cast

import attrs

from minions.errors import DefinitionError, NotRunningError
from minions.identity import component_identity
from minions.options import is_number

if TYPE_CHECKING:
    import trio

__all__ = [
    "Binding",
    "SourceBinding",
    "WorkflowCell",
    "WorkflowInfo",
    "WorkflowPort",
    "bind",
    "binding_of",
    "current_workflow",
    "source_binding_of",
    "unbind",
    "workflow_of",
]


SignalT = TypeVar("SignalT")


class Binding(Protocol):
    """What the runtime has for one running instance."""

    @property
    def nursery(self) -> trio.Nursery:
        """The component's nursery."""
        ...


class SourceBinding(Binding, Protocol):
    """What it has for a pipeline besides."""

    @property
    def cursor(self) -> Any:
        """The position that was last committed; ``None`` at first."""
        ...

    async def emit(
        self, event: Any, *, cursor: Any = None, event_id: str | None = None
    ) -> tuple[str | None, ...]:
        """Accept one event, together with *cursor* if it is not ``None``."""
        ...

    async def emit_many(
        self,
        events: Iterable[Any],
        *,
        cursor: Any = None,
        event_ids: Iterable[str | None] | None = None,
    ) -> tuple[tuple[str | None, ...], ...]:
        """Accept all events in one commit, or none."""
        ...


# By id(instance).  The instance stands in the value, so that its id stays taken.
_bindings: dict[int, tuple[object, Binding]] = {}


def bind(instance: object, binding: Binding) -> None:
    """Connect an instance with what the runtime has for it."""
    _bindings[id(instance)] = (instance, binding)


def unbind(instance: object) -> None:
    """Forget the instance; do nothing if it is not bound."""
    _bindings.pop(id(instance), None)


def binding_of(instance: object) -> Binding:
    """Return what the runtime has for *instance*.

    Raises:
        NotRunningError: Gru does not run this instance, or not any more.
    """
    try:
        return _bindings[id(instance)][1]
    except KeyError:
        raise NotRunningError(
            f"{component_identity(type(instance))}: expected an instance that Gru"
            " runs, found one that does not run; its nursery, emit and cursor exist"
            " from before startup until shutdown has returned"
        ) from None


def source_binding_of(pipeline: object) -> SourceBinding:
    """Return what the runtime has for a pipeline; raises as :func:`binding_of`."""
    return cast("SourceBinding", binding_of(pipeline))


class WorkflowPort(Protocol):
    """What the runtime does for a step."""

    async def receive(
        self,
        kind: type,
        timeout: float | None,  # noqa: ASYNC109
    ) -> Any:
        """Take a signal; wait for it if need be."""
        ...

    async def emit(self, event: Any, to: type) -> None:
        """Hand an event over, with the end of the step."""
        ...


@attrs.frozen
class WorkflowInfo:
    """The workflow that a step works for, as ``self.workflow``."""

    id: str
    """The workflow's id: unique in the store.

    The numbers grow, and jump by some thousands with each process.
    """

    orchestration_id: str
    """The id of the orchestration to which it belongs."""

    step: str
    """The name of the step that runs."""

    attempt: int
    """The number of this try of the step; 1 for the first."""

    started_at: datetime
    """When the event was accepted, in UTC."""

    received: Any = None
    """The signal that came, if the step before returned ``Wait``; ``None`` after its
    timeout, and in every other step."""

    _port: WorkflowPort | None = attrs.field(default=None, repr=False, eq=False)

    async def receive(
        self,
        kind: type[SignalT],
        timeout: float | None = None,  # noqa: ASYNC109  # of the contract
    ) -> SignalT | None:
        """Take the oldest signal of a class; wait for one if there is none.

        The step keeps its task and its place meanwhile; ``return Wait(...)`` does
        not.  The signal is gone with the commit that ends the step: if the step
        fails, is interrupted or tried again, it is back in its place.

        Returns ``None`` after *timeout* seconds without one; with 0 it looks only.

        Raises:
            DefinitionError: What is waited for is no data class, or the time is no
                number from 0 on.
            NotRunningError: The step has ended, or nothing runs it but your test.
            SnapshotError: The signal does not fit its class any more.

        Cancellation:
            Nothing was taken.
        """
        if timeout is not None and not is_number(timeout, 0, inf):
            raise DefinitionError(
                "self.workflow.receive: expected as timeout a number of seconds from 0"
                f" on, or None, found {timeout!r}; set it to such a value"
            )
        found: SignalT | None = await self._runtime("receive").receive(kind, timeout)
        return found

    async def emit(self, event: Any, *, to: type) -> None:
        """Hand an event to a pipeline, together with the end of this step.

        It is accepted in the commit that ends the step, for the subscriptions that
        the pipeline has then, above their bounds if need be.  If the step fails or
        is interrupted, nothing was emitted.

        Raises:
            DefinitionError: The pipeline was never started in this store.
            NotRunningError: The step has ended, or nothing runs it but your test.
            SnapshotError: The event cannot be stored.
            TypeError: The event is of another class than the pipeline's.

        At ``max_unfinished`` the step fails with ``StoreFullError``.
        """
        await self._runtime("emit").emit(event, to)

    def _runtime(self, member: str) -> WorkflowPort:
        if self._port is None:
            raise NotRunningError(
                f"self.workflow.{member}: expected a step that Gru runs, found one that"
                " something else has called; give run_step what it is to receive, or"
                " run a whole Gru in the test"
            )
        return self._port


class WorkflowCell(Protocol):
    """One step at work: shared by all its tasks and threads.

    A cell, so that an assignment to the context in a child task is not lost.
    """

    minion: object
    event: Any
    context: Any
    ended: bool

    @property
    def workflow(self) -> WorkflowInfo:
        """The facts about its workflow."""
        ...


current_workflow: ContextVar[WorkflowCell | None] = ContextVar("minions_workflow")


def workflow_of(minion: object, member: str) -> WorkflowCell:
    """Return the cell of the workflow for which *minion* works here.

    Args:
        minion: The instance that is asked.
        member: The name that was asked for, for the message.

    Raises:
        NotRunningError: This is no step of *minion*, or the step has ended.
    """
    cell = current_workflow.get(None)
    if cell is None:
        found = "no step"
    elif cell.minion is not minion:
        found = f"a step of {component_identity(type(cell.minion))}"
    elif cell.ended:
        found = f"a task left over from step {cell.workflow.step!r}, which has ended"
    else:
        return cell
    raise NotRunningError(
        f"{component_identity(type(minion))}: expected self.{member} to be used in a"
        f" step of this minion, or in a task or trio thread that the step opened;"
        f" found {found}; hand the value over as an argument"
    )
