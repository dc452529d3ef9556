"""The annotated attributes of a class, resolved one by one.

One name that is imported for type checkers alone must not hide the others, so
each annotation is evaluated by itself, in its own class's module.
"""

from __future__ import annotations

import dataclasses
import inspect
import sys
import types
import typing
from typing import Any

import msgspec

__all__ = ["Declared", "Unresolved", "class_default", "declared_attributes"]


class Unresolved(msgspec.Struct, frozen=True):
    """An annotation that could not be evaluated, and why."""

    text: str
    reason: str


class Declared(msgspec.Struct, frozen=True):
    """One annotated attribute of a class or of one of its bases."""

    name: str
    type: Any
    has_default: bool
    initvar: bool = False


def declared_attributes(cls: type) -> dict[str, Declared]:
    """Return what *cls* and its bases annotate, inherited first, no class variables.

    An annotation of a subclass takes the place of the inherited one.
    """
    found: dict[str, Declared] = {}
    for owner in reversed(cls.__mro__):
        for name, annotation in inspect.get_annotations(owner).items():
            resolved = _resolve(owner, name, annotation)
            if _is_class_variable(resolved, annotation):
                found.pop(name, None)
                continue
            initvar = isinstance(resolved, dataclasses.InitVar)
            found[name] = Declared(
                name,
                resolved.type if initvar else resolved,
                class_default(cls, name),
                initvar,
            )
    return found


def class_default(cls: type, name: str) -> bool:
    """Say whether the class itself has a value for the attribute."""
    for owner in cls.__mro__:
        if name in vars(owner):
            # A slot is a place for a value, not a value.
            return not isinstance(vars(owner)[name], types.MemberDescriptorType)
    return False


def _is_class_variable(resolved: Any, annotation: Any) -> bool:
    if isinstance(resolved, Unresolved):
        text = annotation.strip("'\"") if isinstance(annotation, str) else ""
        return text.startswith(("ClassVar", "typing.ClassVar", "t.ClassVar"))
    return resolved is typing.ClassVar or typing.get_origin(resolved) is typing.ClassVar


def _resolve(owner: type, name: str, annotation: Any) -> Any:
    module = sys.modules.get(owner.__module__)
    names = {
        **{p.__name__: p for p in getattr(owner, "__type_params__", ())},
        **vars(owner),
    }
    # get_type_hints takes only a class as a place for class variables.
    holder = type(owner.__name__, (), {"__annotations__": {name: annotation}})
    try:
        hints = typing.get_type_hints(
            holder, vars(module) if module else {}, names, include_extras=True
        )
    except Exception as exc:  # noqa: BLE001  # an annotation is any expression
        text = annotation if isinstance(annotation, str) else repr(annotation)
        return Unresolved(text, f"{type(exc).__name__}: {exc}")
    return hints[name]
