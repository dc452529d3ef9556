"""What the runtime needs to know about a component, read from its class.

Everything that can be wrong with a class is found here, before anything starts.
"""

from __future__ import annotations

import inspect
import sys
import types
import typing
from typing import Any, Literal, TypeVar

import msgspec

from minions.declare.bases import CURSOR_MARK, Minion, Pipeline
from minions.declare.constructor import ConfigSlot, wiring_of
from minions.declare.dependencies import Dependency, Provided
from minions.declare.hooks import (
    MEMBERS,
    OPTIONS,
    has_async_method,
    hooks_of,
    options_of,
    parameters_of,
)
from minions.declare.kinds import (
    is_data,
    is_marked,
    kind_of,
    required_arguments,
    type_arguments,
    type_name,
)
from minions.declare.mentions import emit_targets, mentioned_classes
from minions.declare.steps import StepSpec, steps_of
from minions.errors import DefinitionError
from minions.identity import component_identity
from minions.options import Backoff, Restart

__all__ = [
    "ComponentSpec",
    "MinionSpec",
    "PipelineSpec",
    "ResourceSpec",
    "minion_types",
    "pipeline_types",
    "specify",
]


class ComponentSpec(msgspec.Struct, frozen=True, kw_only=True):
    """What all kinds of component have."""

    cls: type
    identity: str
    dependencies: tuple[Dependency, ...]
    config: ConfigSlot | None
    own: tuple[str, ...]
    """Attributes that the constructor must set."""

    restart: Restart
    on_exhausted: Literal["stop"] | None
    is_context_manager: bool
    """Whether instances are entered instead of started and shut down."""

    has_startup: bool
    has_run: bool
    has_shutdown: bool


class ResourceSpec(ComponentSpec, frozen=True, kw_only=True):
    """A resource."""

    kind: Literal["resource"] = "resource"
    startup_takes_nursery: bool
    """Whether ``startup`` takes ``nursery=``; a marked class has no other way."""


class PipelineSpec(ComponentSpec, frozen=True, kw_only=True):
    """A pipeline."""

    kind: Literal["pipeline"] = "pipeline"
    event_type: type
    cursor_type: type | None
    source: Literal["produce", "run", "outside"]
    """Where events come from: a hook, or ``gru.emit``."""

    error_backoff: Backoff
    max_errors: int
    dedup_window: float
    max_dedup: int


class MinionSpec(ComponentSpec, frozen=True, kw_only=True):
    """A minion."""

    kind: Literal["minion"] = "minion"
    event_type: type
    context_type: type
    steps: tuple[StepSpec, ...]
    has_key: bool
    key_on_quarantine: Literal["release", "hold"]
    max_in_flight: int
    max_backlog: int
    max_unfinished: int
    overflow: Literal["wait", "reject"]
    on_failure: Literal["quarantine", "discard"]
    signals: tuple[type, ...]
    """Classes of signals that its code does not name itself."""

    mentioned: tuple[type, ...]
    """Data classes and pipelines that its code names."""

    emits_to: tuple[type, ...]
    """Pipelines that its code names where it emits."""

    @property
    def signal_classes(self) -> tuple[type, ...]:
        """The classes whose instances can be signals to its workflows."""
        named = (cls for cls in self.mentioned if is_data(cls))
        return tuple(dict.fromkeys((*named, *self.signals)))


def specify(
    cls: type, *, provided: Provided = ()
) -> ResourceSpec | PipelineSpec | MinionSpec:
    """Read a class, without following its dependencies.

    Args:
        cls: A component.
        provided: What is provided from elsewhere: class and name.

    Raises:
        DefinitionError: The class cannot run as it is declared.
        DependencyError: A dependency is unclear, missing or unresolved.
    """
    kind = kind_of(cls)
    owner = component_identity(cls)
    if inspect.isabstract(cls):
        lacking = sorted(getattr(cls, "__abstractmethods__", ()))
        raise DefinitionError(
            f"{owner}: expected a class that can be instantiated, found abstract"
            f" methods {', '.join(lacking)}; implement them, or use a subclass"
        )
    wiring = wiring_of(
        cls,
        owner=owner,
        provided=provided,
        reserved={*OPTIONS[kind], *(() if is_marked(cls) else MEMBERS[kind])},
    )
    hooks = hooks_of(cls, owner)
    common: dict[str, Any] = {
        "cls": cls,
        "identity": owner,
        **msgspec.structs.asdict(wiring),
        **msgspec.structs.asdict(hooks),
        **options_of(cls, kind, owner),
    }
    if kind == "resource":
        return ResourceSpec(**common)
    del common["startup_takes_nursery"]
    if kind == "pipeline":
        return _pipeline(cls, owner, common)
    return _minion(cls, owner, common)


def _pipeline(cls: type, owner: str, common: dict[str, Any]) -> PipelineSpec:
    event_type, cursor_type = pipeline_types(cls, owner)
    produces = has_async_method(cls, "produce_event", owner)
    if produces and common["has_run"]:
        raise DefinitionError(
            f"{owner}: expected produce_event or run, found both; take one of them away"
        )
    if produces and cursor_type is not None:
        raise DefinitionError(
            f"{owner}: expected run with a cursor, found produce_event; write"
            " `async def run(self)` and `await self.emit(event, cursor=...)`"
        )
    source: Literal["produce", "run", "outside"] = "outside"
    if produces or common["has_run"]:
        source = "produce" if produces else "run"
    return PipelineSpec(
        event_type=event_type, cursor_type=cursor_type, source=source, **common
    )


def pipeline_types(cls: type, owner: str) -> tuple[type, type | None]:
    """Return the classes of a pipeline's events and of its cursor, if it has one.

    Raises:
        DefinitionError: The first is missing or no data class, or the second can be
            no cursor.
    """
    event_type, declared = _arguments(cls, Pipeline, "Pipeline[Event]", owner)
    _check_data(event_type, "event", owner)
    return event_type, _cursor_type(cls, declared, owner)


def _cursor_type(cls: type, declared: Any, owner: str) -> type | None:
    by_keyword = getattr(cls, CURSOR_MARK, None)
    by_argument = None if declared is Any or isinstance(declared, TypeVar) else declared
    found = by_argument if by_keyword is None else by_keyword
    if by_argument not in (None, found):
        raise DefinitionError(
            f"{owner}: expected one cursor type, found {type_name(by_argument)} and"
            f" cursor={type_name(found)}; keep one of them"
        )
    if found in (None, int, str, bytes) or is_data(found):
        return typing.cast("type | None", found)
    raise DefinitionError(
        f"{owner}: expected a cursor of int, str, bytes, or an attrs, dataclass or"
        f" msgspec.Struct class, found {type_name(found)}; use one of these"
    )


def minion_types(cls: type, owner: str) -> tuple[type, type]:
    """Return the classes of a minion's events and of its context.

    Raises:
        DefinitionError: One is missing or no data class, or a field of the context
            has no default.
    """
    written = "Minion[Event, Context]"
    event_type, context_type = _arguments(cls, Minion, written, owner)
    _check_data(event_type, "event", owner)
    _check_data(context_type, "context", owner)
    lacking = required_arguments(context_type)
    if lacking:
        raise DefinitionError(
            f"{owner}: expected a default for every field of its context"
            f" {context_type.__qualname__}, found {lacking[0]!r} without one; give it"
            " a default"
        )
    return event_type, context_type


def _minion(cls: type, owner: str, common: dict[str, Any]) -> MinionSpec:
    event_type, context_type = minion_types(cls, owner)
    return MinionSpec(
        event_type=event_type,
        context_type=context_type,
        steps=steps_of(cls, owner),
        has_key=_has_key(cls, owner),
        mentioned=mentioned_classes(cls),
        emits_to=emit_targets(cls),
        **common,
    )


def _has_key(cls: type, owner: str) -> bool:
    static = inspect.getattr_static(cls, "key", None)
    if static is None:
        return False
    function = getattr(cls, "key")  # noqa: B009  # no class here declares it
    plain = inspect.isroutine(function) and not inspect.iscoroutinefunction(function)
    if not plain or len(parameters_of(cls, "key")) != 1:
        raise DefinitionError(
            f"{owner}: expected key to be a synchronous method of one event, found"
            f" {static!r}; write `def key(self, event)`"
        )
    return True


def _arguments(cls: type, base: type, written: str, owner: str) -> tuple[Any, Any]:
    found = type_arguments(cls, base)
    if found is None:
        raise DefinitionError(
            f"{owner}: expected {written} among its bases, found {base.__name__}"
            " without types; write them in brackets"
        )
    first, second = (_resolved(cls, argument) for argument in found)
    return first, second


def _resolved(cls: type, argument: Any) -> Any:
    if isinstance(argument, typing.ForwardRef):
        module = sys.modules.get(cls.__module__, types.ModuleType("gone"))
        return vars(module).get(argument.__forward_arg__, argument)
    return argument


def _check_data(tp: Any, what: str, owner: str) -> None:
    if not is_data(tp):
        raise DefinitionError(
            f"{owner}: expected its {what} to be an attrs, dataclass or msgspec.Struct"
            f" class, found {type_name(tp)}; make it such a class"
        )
