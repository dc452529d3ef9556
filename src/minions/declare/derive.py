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

from minions.identity import component_identity, has_component_id

__all__ = ["guarded", "original"]

HOOKS = frozenset({"startup", "run", "shutdown", "produce_event"})

_ORIGIN = "__minions_origin__"

Wrap = Callable[[Callable[..., Any]], Callable[..., Any]]

# By the class's id, since a metaclass may make classes equal or not hashable.
# Invariant: the value holds the class, so that its id stays taken.
_derived: dict[tuple[int, Wrap], tuple[type, type | None]] = {}


class _Quiet:
    """Keeps a derived class from the user's ``__init_subclass__``."""

    __slots__ = ()

    def __init_subclass__(cls, **kwargs: Any) -> None:
        """Do nothing."""


def guarded(cls: type, wrap: Wrap) -> type | None:
    """Return a subclass of *cls* whose public async methods went through *wrap*.

    Hooks, names with a leading underscore, static and class methods and all that
    is not a plain coroutine function stay as they are.  Made once for the same
    two arguments.  ``None``: the class cannot be derived from.
    """
    key = (id(cls), wrap)
    if key not in _derived:
        _derived[key] = (cls, _derive(cls, wrap))
    return _derived[key][1]


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
