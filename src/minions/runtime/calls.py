"""Calls into user code, and calls of one component into another.

The runtime is protected from Ctrl-C; user code is not: every hook and step is
called through :func:`call_user`.  A call from one component into another is
guarded: into one that has crashed it fails at once instead of hanging.
"""

from __future__ import annotations

import functools
from collections.abc import Awaitable, Callable
from contextvars import ContextVar
from typing import Any, TypeVar

import msgspec
import trio

from minions.errors import ComponentBroken, DependencyLost
from minions.notices import leaves_of, report_of
from minions.supervise import Group, Incarnation

__all__ = [
    "call_user",
    "call_user_sync",
    "caller",
    "caller_in",
    "guard",
    "serve",
    "unserve",
    "work_for",
]

T = TypeVar("T")


class _Served(msgspec.Struct, frozen=True):
    # The instance stands here so that its id stays taken.
    instance: object
    incarnation: Incarnation
    group: Group


_caller: ContextVar[Incarnation] = ContextVar("minions_caller")
_served: dict[int, _Served] = {}


@trio.lowlevel.disable_ki_protection
async def call_user(function: Callable[..., Awaitable[T]], *args: Any) -> T:
    """Call an async function of the user's, interruptible by Ctrl-C."""
    return await function(*args)


@trio.lowlevel.disable_ki_protection
def call_user_sync(function: Callable[..., T], *args: Any, **kwargs: Any) -> T:
    """Call a function of the user's, interruptible by Ctrl-C."""
    return function(*args, **kwargs)


def work_for(incarnation: Incarnation) -> None:
    """Say on whose behalf this task goes on."""
    _caller.set(incarnation)


def caller() -> Incarnation | None:
    """Return on whose behalf this task goes on; ``None``: nobody's of ours."""
    return _caller.get(None)


def caller_in(group: Group) -> Incarnation | None:
    """Return on whose behalf this task goes on, if it is one of this group's."""
    found = caller()
    member = group.members.get(found.name) if found is not None else None
    return found if member is not None and member.current is found else None


def serve(instance: object, incarnation: Incarnation, group: Group) -> None:
    """Guard the calls into *instance* from now on."""
    _served[id(instance)] = _Served(instance, incarnation, group)


def unserve(instance: object) -> None:
    """Guard no longer: the instance has been released."""
    _served.pop(id(instance), None)


def guard(function: Callable[..., Any]) -> Callable[..., Any]:
    """Wrap a public async method of a resource.

    A component's own calls, and those of a dependent that shuts down, go
    through; any other call into a component that has crashed raises
    ``DependencyLost``.  There is no cancel scope here: a caller that waits is a
    dependent, and is cancelled by its own drain.
    """

    @functools.wraps(function)
    async def guarded(self: Any, *args: Any, **kwargs: Any) -> Any:
        served = _served.get(id(self))
        if served is None:
            return await function(self, *args, **kwargs)
        incarnation = served.incarnation
        if incarnation.broken:
            by = caller()
            if by is None or (by is not incarnation and not by.releasing):
                raise _lost(incarnation, function.__name__)
        try:
            return await function(self, *args, **kwargs)
        except (ComponentBroken, BaseExceptionGroup) as exc:
            _break(served, exc)
            if caller() is incarnation:
                raise  # to itself it is not lost, it is broken
            raise _lost(incarnation, function.__name__) from exc

    return guarded


def _break(served: _Served, exc: BaseException) -> None:
    """Crash the component whose method raised ``ComponentBroken``, in a group too.

    Raises what is no such thing on, and what holds a cancellation, which must reach
    its scope.
    """
    leaves = leaves_of(exc)
    others = [leaf for leaf in leaves if not isinstance(leaf, trio.Cancelled)]
    if not any(isinstance(leaf, ComponentBroken) for leaf in leaves):
        raise exc
    if not (served.incarnation.broken or served.incarnation.releasing):
        whole = exc if len(others) == len(leaves) else BaseExceptionGroup("", others)
        served.group.crash(served.incarnation, whole)
    if len(others) < len(leaves):
        raise exc


def _lost(incarnation: Incarnation, method: str) -> DependencyLost:
    late = incarnation.late_crash
    why = incarnation.cause if late is None else report_of(late)
    return DependencyLost(
        f"{incarnation}.{method}(): expected the component to be up, found that it"
        f" crashed ({why}); a step need do nothing, it runs again after"
        " the restart"
    )
