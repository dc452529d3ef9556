"""What runs a resource, and what all components have in common."""

from __future__ import annotations

from contextlib import AbstractAsyncContextManager
from functools import partial
from typing import Any, Protocol

import trio

from minions.declare.binding import bind, unbind
from minions.declare.constructor import construct
from minions.declare.derive import guarded
from minions.declare.specification import (
    MinionSpec,
    PipelineSpec,
    ResourceSpec,
)
from minions.errors import StartError
from minions.runtime.calls import (
    call_user,
    call_user_sync,
    guard,
    serve,
    unserve,
    work_for,
)
from minions.runtime.reading import Factory
from minions.supervise import Group, Incarnation, Life, RunEnd

__all__ = ["ComponentLife", "HasValue", "ProvidedLife", "value_of"]


class HasValue(Protocol):
    """A life that hands something to its dependents."""

    value: Any


def value_of(incarnation: Incarnation, name: str) -> Any:
    """Return what a dependent gets for the component *name*; ``None`` if not up."""
    dependency = incarnation.needs.get(name)
    if dependency is None:
        return None
    life = dependency.life
    assert isinstance(life, ComponentLife | ProvidedLife)
    return life.value


class ComponentLife(Life):
    """One incarnation of a user's class: construct, start, run, shut down."""

    def __init__(
        self,
        group: Group,
        spec: ResourceSpec | PipelineSpec | MinionSpec,
        incarnation: Incarnation,
        config: object = None,
    ) -> None:
        self.group: Group = group
        self.spec: ResourceSpec | PipelineSpec | MinionSpec = spec
        self.incarnation: Incarnation = incarnation
        self.config: object = config
        self.value: Any = None

    # What the instance finds through its base class.

    @property
    def nursery(self) -> trio.Nursery:
        """The component's own nursery."""
        assert self.incarnation.nursery is not None
        return self.incarnation.nursery

    # What the group calls.

    async def acquire(self) -> None:
        """Make the instance and start it."""
        work_for(self.incarnation)
        cls = guarded(self.spec.cls, guard) if self.spec.kind == "resource" else None
        given = {
            dependency.attribute: value_of(self.incarnation, dependency.key)
            for dependency in self.spec.dependencies
        }
        self.value = instance = call_user_sync(
            construct, self.spec, given, self.config, cls=cls
        )
        bind(instance, self)
        if cls is not None:
            serve(instance, self.incarnation, self.group)
        try:
            await self._start(instance)
        except BaseException:
            self._forget()
            raise

    async def _start(self, instance: Any) -> None:
        spec = self.spec
        if spec.is_context_manager:
            await call_user(type(instance).__aenter__, instance)
        elif spec.has_startup:
            if spec.kind == "resource" and spec.startup_takes_nursery:
                # By name: it may be a keyword-only argument.
                await call_user(partial(instance.startup, nursery=self.nursery))
            else:
                await call_user(instance.startup)

    async def run(self) -> RunEnd:
        """Run the user's ``run``, if there is one."""
        if not self.spec.has_run:
            await trio.sleep_forever()
        work_for(self.incarnation)
        await call_user(self.value.run)
        return RunEnd.RETURNED

    async def release(self, problem: BaseException | None) -> None:
        """Shut the instance down, or leave it."""
        work_for(self.incarnation)
        try:
            await self._shut_down(self.value, problem)
        finally:
            self._forget()

    async def _shut_down(self, instance: Any, problem: BaseException | None) -> None:
        if self.spec.is_context_manager:
            kind = type(problem) if problem is not None else None
            trace = problem.__traceback__ if problem is not None else None
            leave = type(instance).__aexit__
            if not await call_user(leave, instance, kind, problem, trace) and problem:
                raise problem
        elif self.spec.has_shutdown:
            await call_user(instance.shutdown)

    def _forget(self) -> None:
        unbind(self.value)
        unserve(self.value)


class ProvidedLife(Life):
    """One incarnation of a value that the user's factory makes."""

    def __init__(self, incarnation: Incarnation, factory: Factory) -> None:
        self.incarnation: Incarnation = incarnation
        self._factory = factory
        self._manager: AbstractAsyncContextManager[Any] | None = None
        self.value: Any = None

    async def acquire(self) -> None:
        """Call the factory and enter what it returns."""
        work_for(self.incarnation)
        manager = call_user_sync(self._factory)
        if not hasattr(manager, "__aenter__"):
            raise StartError(
                f"{self.incarnation.name}: expected the factory given to gru.provide"
                f" to return an async context manager, found {manager!r}; decorate it"
                " with contextlib.asynccontextmanager"
            )
        self._manager = manager
        self.value = await call_user(manager.__aenter__)

    async def release(self, problem: BaseException | None) -> None:
        """Leave the context manager."""
        work_for(self.incarnation)
        assert self._manager is not None
        kind = type(problem) if problem is not None else None
        trace = problem.__traceback__ if problem is not None else None
        leave = self._manager.__aexit__
        if not await call_user(leave, kind, problem, trace) and problem:
            raise problem
