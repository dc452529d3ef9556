"""Classes by name."""

from __future__ import annotations

import importlib
from typing import Any

from minions.errors import DefinitionError

__all__ = ["resolve"]


def resolve(component: type | str) -> type:
    """Return the class that is meant.

    Raises:
        DefinitionError: There is no such class.
    """
    if isinstance(component, type):
        return component
    if not isinstance(component, str) or component.count(":") != 1:
        raise DefinitionError(
            f'{component!r}: expected a class or "package.module:Class", found a'
            f" {type(component).__qualname__}; give the class itself, or its name"
        )
    module, _, path = component.partition(":")
    try:
        found: Any = importlib.import_module(module)
        for part in path.split("."):
            found = getattr(found, part)
    except Exception as exc:  # a module may raise anything while it is imported
        raise DefinitionError(
            f"{component}: expected an importable class, found {type(exc).__name__}:"
            f" {exc}; see whether the module can be imported and has this name"
        ) from exc
    if not isinstance(found, type):
        raise DefinitionError(
            f"{component}: expected a class, found a {type(found).__qualname__}; name"
            " its class"
        )
    return found
