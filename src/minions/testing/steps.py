"""One step by itself: of an instance built by hand, without Gru and without a store."""

from __future__ import annotations

import itertools
from collections.abc import Iterable
from datetime import UTC, datetime
from typing import Any, TypeVar

import attrs
import trio

from minions.declare.bases import Minion
from minions.declare.binding import WorkflowInfo, current_workflow
from minions.declare.outcomes import Outcome
from minions.declare.specification import minion_types
from minions.declare.steps import steps_of
from minions.errors import DefinitionError
from minions.identity import component_identity, orchestration_id
from minions.testing.inbox import Inbox, check_signal, signal_classes
from minions.workflow.transitions import StepTable

__all__ = ["run_step"]

EventT = TypeVar("EventT")
ContextT = TypeVar("ContextT")

_numbers = itertools.count(1)


@attrs.define(eq=False)
class _Cell:
    minion: object
    event: Any
    context: Any
    workflow: WorkflowInfo
    ended: bool = False


async def run_step(
    minion: Minion[EventT, ContextT],
    step: str,
    event: EventT,
    context: ContextT | None = None,
    *,
    received: object = None,
    signals: Iterable[object] = (),
    emitted: list[tuple[Any, type]] | None = None,
) -> tuple[Outcome, ContextT]:
    """Run one step of a minion that you have built, as Gru would run it.

    Returns what the step returned, and the context as it left it: the one that was
    given, or what the step put into its place.  ``self.workflow`` is there with
    an id of its own, in its first attempt.  Nothing is stored, no hook is called,
    and ``self.nursery`` is not there.  The step's ``retry`` and ``timeout`` count
    for nothing.

    Args:
        minion: An instance, with its dependencies set by you: real ones or fakes.
        step: The name of a ``@minion_step`` method.
        event: An instance of the minion's event class.
        context: An instance of its context class; a fresh one if ``None``.
        received: What ``self.workflow.received`` is: the signal for which the step
            before has returned ``Wait``.
        signals: What ``self.workflow.receive`` hands out, by class and in this
            order.  When none of the class is left, a call with a timeout returns
            ``None`` at once, whatever the timeout, and one without a timeout raises
            ``NotRunningError``: it would wait for ever.
        emitted: Gets a pair of event and pipeline for each
            ``self.workflow.emit``, once the step has ended well.  Without it they
            are checked as Gru would check them, and dropped.

    Raises:
        DefinitionError: There is no such step, the class cannot run as it is
            declared, or the step returned what Gru would refuse.
        TypeError: The minion, the event or the context is of another class, or a
            signal of one that Gru would refuse.

    Exceptions of the step come out as they are, ``AbortWorkflow`` too.

    Cancellation:
        The step is cancelled like any other code of yours.

    Concurrency:
        Any number of calls at once, also for the same instance; each is a
        workflow of its own.
    """
    cell, table = _prepare(minion, step, event, context)
    inbox = _connect(cell, received, signals)
    await trio.lowlevel.checkpoint()
    token = current_workflow.set(cell)
    try:
        outcome: Outcome = await getattr(minion, step)()
    finally:
        cell.ended = inbox.ended = True
        current_workflow.reset(token)
    table.follow(step, outcome)
    if emitted is not None:
        emitted += inbox.sent
    returned: ContextT = cell.context
    return outcome, returned


def _prepare(
    minion: object, step: str, event: object, context: object
) -> tuple[_Cell, StepTable]:
    """Check all that is given before the step begins."""
    cls = type(minion)
    owner = component_identity(cls)
    if not isinstance(minion, Minion):
        raise TypeError(
            f"run_step: expected an instance of a minion, found {minion!r}; build one"
            " with what it needs"
        )
    event_type, context_type = minion_types(cls, owner)
    table = StepTable.of(owner, steps_of(cls, owner))
    if step not in table.names:
        raise DefinitionError(
            f"{owner}: expected one of its steps {', '.join(table.names)}, found"
            f" {step!r}; name one of these"
        )
    _check_instance(owner, "an event", event_type, event)
    if context is None:
        context = context_type()
    _check_instance(owner, "a context", context_type, context)
    info = WorkflowInfo(
        id=f"test-{next(_numbers)}",
        orchestration_id=orchestration_id(owner, "run_step", ""),
        step=step,
        attempt=1,
        started_at=datetime.now(UTC),
    )
    return _Cell(minion, event, context, info), table


def _connect(cell: _Cell, received: object, signals: Iterable[object]) -> Inbox:
    """Give the step what it receives, and a place for what it emits."""
    cls = type(cell.minion)
    owner = component_identity(cls)
    known = signal_classes(cls, owner)
    if received is not None:
        check_signal(owner, known, received)
    inbox = Inbox.of(owner, known, signals)
    cell.workflow = attrs.evolve(cell.workflow, received=received, port=inbox)
    return inbox


def _check_instance(owner: str, what: str, expected: type, found: object) -> None:
    if not isinstance(found, expected):
        raise TypeError(
            f"{owner}: expected {what} of class {expected.__qualname__}, found"
            f" {found!r}; give an instance of that class"
        )
