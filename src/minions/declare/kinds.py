"""Which classes are components, of which kind, and which are plain data."""

from __future__ import annotations

import dataclasses
import inspect
import types
import typing
from typing import Any, Literal, TypeVar

import attrs
import msgspec

from minions.declare.bases import RESOURCE_MARK, Minion, Pipeline, Resource
from minions.errors import DefinitionError
from minions.identity import component_identity

__all__ = [
    "ComponentKind",
    "init_of",
    "is_data",
    "is_marked",
    "kind_of",
    "kinds_of",
    "required_arguments",
    "type_arguments",
    "type_name",
]

ComponentKind = Literal["resource", "pipeline", "minion"]

_BASES: dict[type, ComponentKind] = {
    Resource: "resource",
    Pipeline: "pipeline",
    Minion: "minion",
}


def type_name(tp: Any) -> str:
    """Return a type as a reader would write it."""
    if isinstance(tp, type) and not isinstance(tp, types.GenericAlias):
        return tp.__qualname__
    return repr(tp).replace("typing.", "")


def is_marked(cls: type) -> bool:
    """Say whether *cls* is a resource by ``@resource``, with no members of ours."""
    return getattr(cls, RESOURCE_MARK, False) is True and not issubclass(cls, Resource)


def kinds_of(cls: type) -> list[ComponentKind]:
    """Return the kinds of component that *cls* declares itself to be."""
    kinds = [
        kind for base, kind in _BASES.items() if issubclass(cls, base) and cls != base
    ]
    if is_marked(cls):
        kinds.append("resource")
    return kinds


def kind_of(cls: object) -> ComponentKind:
    """Return what *cls* is.

    Raises:
        DefinitionError: It is no component, or of two kinds at once.
    """
    if not isinstance(cls, type):
        raise DefinitionError(
            f"{cls!r}: expected a class, found an object of type"
            f" {type(cls).__name__}; pass the class itself"
        )
    kinds = kinds_of(cls)
    if not kinds:
        raise DefinitionError(
            f"{component_identity(cls)}: expected a component, found a class that is"
            " none; derive it from Resource, Pipeline or Minion, or mark it with"
            " @resource"
        )
    if len(kinds) > 1:
        raise DefinitionError(
            f"{component_identity(cls)}: expected a component of one kind, found"
            f" {' and '.join(kinds)}; make two classes of it"
        )
    return kinds[0]


def is_data(tp: object) -> bool:
    """Say whether *tp* is an attrs, dataclass or ``msgspec.Struct`` class."""
    return isinstance(tp, type) and (
        attrs.has(tp) or dataclasses.is_dataclass(tp) or issubclass(tp, msgspec.Struct)
    )


def init_of(cls: type) -> Any:
    """Return the constructor that instances of *cls* go through."""
    return inspect.getattr_static(cls, "__init__")


def required_arguments(cls: type) -> list[str]:
    """Return the arguments without which no instance can be made."""
    if issubclass(cls, msgspec.Struct):
        # msgspec.structs.fields() would evaluate the annotations, which may fail.
        names, defaults = cls.__struct_fields__, cls.__struct_defaults__
        known = names[len(names) - len(defaults) :]
        given = zip(known, defaults, strict=True)
        optional = {name for name, value in given if value is not msgspec.NODEFAULT}
        return [name for name in names if name not in optional]
    parameters = list(inspect.signature(init_of(cls)).parameters.values())
    return [
        p.name
        for p in parameters[1:]
        if p.default is p.empty and p.kind not in (p.VAR_POSITIONAL, p.VAR_KEYWORD)
    ]


def type_arguments(cls: type, base: type) -> tuple[Any, ...] | None:
    """Return what *cls* puts in the place of the parameters of *base*.

    Follows generic classes in between.  ``None``: *base* stands there bare.
    """
    bases = vars(cls).get("__orig_bases__", cls.__bases__)
    for original in bases:
        origin = typing.get_origin(original) or original
        if origin is base:
            return typing.get_args(original) or None
        if isinstance(origin, type) and issubclass(origin, base):
            inner = type_arguments(origin, base)
            if inner is None:
                return None
            names = getattr(origin, "__parameters__", ())
            given = dict(zip(names, typing.get_args(original), strict=False))
            return tuple(
                given.get(arg, arg) if isinstance(arg, TypeVar) else arg
                for arg in inner
            )
    return None
