"""The classes that users derive from, and the marks that they set.

The hooks stand nowhere here: whether a class has one is told by whether its
user wrote it.  No base has state; what the runtime knows stands in ``binding``.
"""

from __future__ import annotations

from collections.abc import Callable, Coroutine, Iterable
from typing import TYPE_CHECKING, Any, Generic, TypeVar, overload

import attrs

from minions.declare.binding import (
    WorkflowInfo,
    binding_of,
    current_workflow,
    source_binding_of,
    workflow_of,
)
from minions.errors import DefinitionError
from minions.options import TEN_YEARS, Retry, is_number

if TYPE_CHECKING:
    import trio
    from typing_extensions import TypeVar as DefaultTypeVar

    from minions.declare.outcomes import Outcome

    CursorT = DefaultTypeVar("CursorT", default=Any)
else:
    CursorT = TypeVar("CursorT")

__all__ = [
    "CURSOR_MARK",
    "RESOURCE_MARK",
    "STEP_MARK",
    "Minion",
    "Pipeline",
    "Resource",
    "StepMark",
    "minion_step",
    "resource",
]

EventT = TypeVar("EventT")
ContextT = TypeVar("ContextT")
ClassT = TypeVar("ClassT", bound=type)
StepT = TypeVar("StepT", bound="Callable[[Any], Coroutine[Any, Any, Outcome]]")

CURSOR_MARK = "__minions_cursor__"
RESOURCE_MARK = "__minions_resource__"
STEP_MARK = "__minions_step__"


class Resource:
    """A shared service: one instance for all that need it.

    Hooks, all optional: ``async startup()``, ``async run()``, ``async shutdown()``.
    """

    __slots__ = ()

    @property
    def nursery(self) -> trio.Nursery:
        """The component's own nursery, for tasks that live as long as it does.

        Raises:
            NotRunningError: Gru does not run this instance.
        """
        return binding_of(self).nursery


class Pipeline(Generic[EventT, CursorT]):
    """A source of events.

    Write ``async produce_event()``, or ``async run()`` with :meth:`emit`, or
    neither for events from outside.  ``Pipeline[Event]`` has no cursor;
    ``Pipeline[Event, int]`` and ``Pipeline[Event], cursor=int`` have one.
    """

    __slots__ = ()

    if not TYPE_CHECKING:  # pragma: no branch  # checkers have a type default

        def __class_getitem__(cls, parameters: Any) -> Any:
            given = parameters if isinstance(parameters, tuple) else (parameters,)
            if cls is Pipeline and len(given) == 1:
                parameters = (*given, Any)
            return super().__class_getitem__(parameters)

    def __init_subclass__(cls, *, cursor: type | None = None, **kwargs: Any) -> None:
        super().__init_subclass__(**kwargs)
        # A decorator that makes the class anew copies its namespace, not this.
        if cursor is not None:
            setattr(cls, CURSOR_MARK, cursor)

    @property
    def nursery(self) -> trio.Nursery:
        """The component's own nursery, for tasks that live as long as it does.

        Raises:
            NotRunningError: Gru does not run this instance.
        """
        return binding_of(self).nursery

    @property
    def cursor(self) -> CursorT | None:
        """The position that was last committed; ``None`` at first.

        Raises:
            NotRunningError: Gru does not run this instance.
        """
        position: CursorT | None = source_binding_of(self).cursor
        return position

    async def emit(
        self,
        event: EventT,
        *,
        cursor: CursorT | None = None,
        id: str | None = None,  # noqa: A002  # of the contract
    ) -> tuple[str | None, ...]:
        """Hand over an event; return when it is as safe as the durability names.

        Returns one workflow id per subscription, in their order; ``None`` where
        the subscription had no room and rejects.

        Args:
            event: An instance of the pipeline's event class.
            cursor: The position after this event, committed together with it.
            id: Its own id, if it has one: an event whose id has come within
                ``dedup_window`` seconds starts nothing.  It returns what the first
                one has returned, once that is on disk; the cursor is committed all
                the same.

        Raises:
            NotRunningError: Gru does not run this instance.
            SnapshotError: The event cannot be stored.  Nothing was accepted.
            TypeError: The event is of another class.
            trio.BusyResourceError: A call with a cursor is under way.
            trio.ClosedResourceError: Before startup, or after the pipeline
                began to stop.

        Cancellation:
            It raises ``Cancelled`` and nothing was accepted, or it returns.
        """
        binding = source_binding_of(self)
        return await binding.emit(event, cursor=cursor, event_id=id)

    async def emit_many(
        self,
        events: Iterable[EventT],
        *,
        cursor: CursorT | None = None,
        ids: Iterable[str | None] | None = None,
    ) -> tuple[tuple[str | None, ...], ...]:
        """Hand over many events in one commit: all or none.

        Returns for each event what :meth:`emit` returns, and raises the same.

        Args:
            events: Instances of the pipeline's event class.
            cursor: The position after the last one.
            ids: One for each event, or ``None``; see :meth:`emit`.  An id that comes
                twice among them is one event.

        Raises:
            ValueError: There are more or fewer ids than events.
        """
        binding = source_binding_of(self)
        return await binding.emit_many(events, cursor=cursor, event_ids=ids)


class Minion(Generic[EventT, ContextT]):
    """A worker: every event starts one workflow of its steps, in their order.

    Hooks as those of :class:`Resource`; ``def key(self, event)`` puts the
    workflows of one key one after the other.
    """

    __slots__ = ()

    @property
    def nursery(self) -> trio.Nursery:
        """The component's own nursery, for tasks that live as long as it does.

        Raises:
            NotRunningError: Gru does not run this instance.
        """
        return binding_of(self).nursery

    @property
    def event(self) -> EventT:
        """The event of the current workflow; a change to it is not saved.

        Raises:
            NotRunningError: This is no step of this minion.
        """
        # As workflow_of, without a call: each step asks.
        cell = current_workflow.get(None)
        if cell is None or cell.minion is not self or cell.ended:
            cell = workflow_of(self, "event")
        event: EventT = cell.event
        return event

    @property
    def context(self) -> ContextT:
        """The state of the current workflow, saved when the step has ended.

        An assignment replaces it for the whole workflow.

        Raises:
            NotRunningError: This is no step of this minion.
        """
        cell = current_workflow.get(None)
        if cell is None or cell.minion is not self or cell.ended:
            cell = workflow_of(self, "context")
        context: ContextT = cell.context
        return context

    @context.setter
    def context(self, value: ContextT) -> None:
        workflow_of(self, "context").context = value

    @property
    def workflow(self) -> WorkflowInfo:
        """The facts about the current workflow.

        Raises:
            NotRunningError: This is no step of this minion.
        """
        return workflow_of(self, "workflow").workflow


def resource(cls: ClassT) -> ClassT:
    """Mark any class as a resource; its subclasses are resources, too.

    It gets no members of ours; ``startup(self, nursery)`` may ask for the nursery.

    Raises:
        DefinitionError: What is marked is no class.
    """
    if not isinstance(cls, type):
        raise DefinitionError(
            f"@resource: expected a class, found {cls!r}; put it above a class"
        )
    setattr(cls, RESOURCE_MARK, True)
    return cls


@attrs.frozen
class StepMark:
    """What :func:`minion_step` leaves on a method."""

    renamed_from: str | None = None
    retry: Retry | None = None
    timeout: float | None = None

    def __attrs_post_init__(self) -> None:
        old = self.renamed_from
        if old is not None and not (isinstance(old, str) and old.isidentifier()):
            raise DefinitionError(
                "@minion_step: expected the former name of the step as renamed_from,"
                f" found {old!r}; give a plain name"
            )
        if self.retry is not None and not isinstance(self.retry, Retry):
            raise DefinitionError(
                f"@minion_step: expected a Retry as retry, found {self.retry!r};"
                " write retry=Retry(...)"
            )
        limit = self.timeout
        if limit is not None and (limit == 0 or not is_number(limit, 0, TEN_YEARS)):
            raise DefinitionError(
                "@minion_step: expected as timeout a number of seconds above 0 and at"
                f" most {TEN_YEARS:.0f} (ten years), found {limit!r}; set it to such"
                " a value, or leave it out"
            )


@overload
def minion_step(function: StepT, /) -> StepT: ...
@overload
def minion_step(
    *,
    retry: Retry | None = None,
    timeout: float | None = None,
    renamed_from: str | None = None,
) -> Callable[[StepT], StepT]: ...
def minion_step(
    function: StepT | None = None,
    /,
    *,
    retry: Retry | None = None,
    timeout: float | None = None,
    renamed_from: str | None = None,
) -> StepT | Callable[[StepT], StepT]:
    """Make an async method without arguments a step of its minion.

    Steps run in the order of their definition, inherited ones first; an
    override keeps the place of what it overrides.  Without the decorator it keeps
    the retry and the timeout, too; with it, it has those that are given here.

    Args:
        function: The method.
        retry: How the step is tried again when it fails; ``None``: not at all.
        timeout: The seconds that one attempt may take, above 0; when they are
            over, it is cancelled and has failed.  ``None``: no limit.
        renamed_from: The former name: workflows that were saved before it go on.

    Raises:
        DefinitionError: *renamed_from* is no name of a step, *retry* no
            :class:`Retry`, or *timeout* no such time.
    """
    mark = StepMark(renamed_from, retry, timeout)

    def decorate(step: StepT) -> StepT:
        try:
            setattr(step, STEP_MARK, mark)
        except AttributeError:
            raise DefinitionError(
                f"@minion_step: expected an async method, found {step!r}; put it"
                " right above `async def`"
            ) from None
        return step

    return decorate if function is None else decorate(function)
