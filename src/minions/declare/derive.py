"""The stateless subclass that stands between a component and its callers.

It adds methods and nothing else: no state, the same name, module and doc.  The
user's ``__init_subclass__`` is not called for it, because the class arguments
that it may ask for were given once, and what it made of them is inherited.
"""

from __future__ import annotations

import inspect
import types
from collections.abc import Callable
from typing import Any

import attrs

from minions.identity import component_identity, has_component_id

__all__ = ["guarded", "original"]

HOOKS = frozenset({"startup", "run", "shutdown", "produce_event"})

_ORIGIN = "__minions_origin__"

Wrap = Callable[[Callable[..., Any]], Callable[..., Any]]

# Where a class holds what was derived from it.
_DERIVED = "__minions_derived__"


class _Quiet:
    """Keeps a derived class from the user's ``__init_subclass__``."""

    __slots__ = ()

    def __init_subclass__(cls, **kwargs: Any) -> None:
        """Do nothing."""


@attrs.frozen(eq=False)
class _Made:
    """What was derived from a class, by wrapper.

    The class itself holds it: so they go together, when nobody uses them any more,
    and what a component sets on its ``type(self)`` stays as long as its class.
    """

    # A decorator that makes a class anew copies its namespace, and this with it.
    origin: type
    derived: dict[Wrap, type | None] = attrs.field(factory=dict)


# Of classes that take no attributes, which nobody makes at run time.  By the class's
# id, since a metaclass may make classes equal or not hashable.
# Invariant: the value holds the class, so that its id stays taken.
_immutable: dict[int, _Made] = {}


def guarded(cls: type, wrap: Wrap) -> type | None:
    """Return a subclass of *cls* whose public async methods went through *wrap*.

    Hooks, names with a leading underscore, static and class methods and all that
    is not a plain coroutine function stay as they are.  Made once for the same
    two arguments while *cls* lives.  ``None``: the class cannot be derived from.
    """
    derived = _made_of(cls).derived
    if wrap not in derived:
        derived[wrap] = _derive(cls, wrap)
    return derived[wrap]


def _made_of(cls: type) -> _Made:
    made = vars(cls).get(_DERIVED) or _immutable.get(id(cls))
    if made is None or made.origin is not cls:
        made = _Made(cls)
        try:
            # Not the metaclass's own, which may refuse, or do more than it is asked.
            type.__setattr__(cls, _DERIVED, made)
        except TypeError:
            _immutable[id(cls)] = made
    return made


def original(cls: type) -> type:
    """Return the user's class of one that :func:`guarded` made, else *cls*."""
    origin = vars(cls).get(_ORIGIN, cls)
    assert isinstance(origin, type)
    return origin


def _derive(cls: type, wrap: Wrap) -> type | None:
    if vars(cls).get("__final__", False):
        return None
    namespace: dict[str, Any] = {
        "__slots__": (),
        "__module__": cls.__module__,
        "__qualname__": cls.__qualname__,
        "__doc__": cls.__doc__,
        _ORIGIN: cls,
    }
    if has_component_id(cls):
        namespace["__minions_id__"] = component_identity(cls)
    namespace.update((name, wrap(function)) for name, function in _public(cls).items())
    try:
        derived: type = type(cls)(cls.__name__, (_Quiet, cls), namespace)
    except Exception:  # noqa: BLE001  # a metaclass may refuse as it likes
        return None
    return derived


def _public(cls: type) -> dict[str, types.FunctionType]:
    found: dict[str, Any] = {}
    for base in reversed(cls.__mro__):
        found.update(vars(base))
    return {
        name: value
        for name, value in found.items()
        if not name.startswith("_")
        and name not in HOOKS
        and isinstance(value, types.FunctionType)
        and inspect.iscoroutinefunction(value)
    }
