"""What a class needs and wants, read from one annotation at a time."""

from __future__ import annotations

import difflib
import types
import typing
from collections.abc import Collection, Iterator
from typing import Annotated, Any, Final, Union

import msgspec

from minions.declare.annotations import Declared
from minions.declare.kinds import kinds_of, type_name
from minions.errors import DependencyError
from minions.identity import provided_identity

__all__ = ["Dependency", "Provided", "dependency_in"]

Provided = Collection[tuple[type, str | None]]


class Dependency(msgspec.Struct, frozen=True):
    """One dependency of a component."""

    attribute: str
    """The attribute that holds it."""

    parameter: str | None
    """The constructor's argument, or ``None``: the attribute is set afterwards."""

    cls: type
    name: str | None
    """The name under which it is provided."""

    optional: bool
    """Whether it is wanted (``X | None``) or needed."""

    @property
    def key(self) -> str:
        """The identity of what is depended on."""
        return provided_identity(self.cls, self.name)


class _Member(msgspec.Struct, frozen=True):
    cls: type
    names: tuple[str, ...]


def _members(tp: Any, names: tuple[str, ...] = ()) -> Iterator[_Member | None]:
    """Take an annotation apart into the types it may be; ``None`` is None."""
    origin = typing.get_origin(tp)
    if origin is Annotated:
        inner, *extras = typing.get_args(tp)
        found = tuple(extra for extra in extras if isinstance(extra, str))
        yield from _members(inner, (*names, *found))
    elif origin is Union or origin is types.UnionType:
        for arg in typing.get_args(tp):
            yield from _members(arg, names)
    elif origin is Final:
        yield from _members(typing.get_args(tp)[0], names)
    elif tp is type(None) or tp is None:
        yield None
    elif not isinstance(tp, type) and hasattr(tp, "__value__"):
        yield from _members(tp.__value__, names)
    else:
        yield _Member(origin if isinstance(origin, type) else tp, names)


def dependency_in(
    declared: Declared, parameter: str | None, *, owner: str, provided: Provided
) -> Dependency | None:
    """Return the dependency that an annotated attribute declares, if it does.

    Args:
        declared: The attribute, with its annotation resolved.
        parameter: The constructor's argument for it, if there is one.
        owner: The identity of the component, for messages.
        provided: What is provided from elsewhere: class and name.

    Raises:
        DependencyError: It is unclear which is meant, it is not provided under
            that name, or it is something that cannot be depended on.
    """
    where = f"{owner}: attribute {declared.name!r}"
    members = list(_members(declared.type))
    options = [member for member in members if member is not None]
    known = {cls for cls, _ in provided}
    chosen = [m for m in options if _injectable(m.cls, known)]
    if not chosen:
        return None
    if len(options) > 1:
        raise DependencyError(
            f"{where}: expected one resource, found several types"
            f" ({' | '.join(type_name(m.cls) for m in options)}), which is ambiguous;"
            " annotate it with one of them"
        )
    cls = chosen[0].cls
    kinds = kinds_of(cls)
    if "pipeline" in kinds or "minion" in kinds:
        raise DependencyError(
            f"{where}: expected a resource, found the {kinds[0]} {cls.__qualname__};"
            " pipelines and minions cannot be depended on: share a resource with it"
        )
    name = _name_in(chosen[0], where, provided)
    return Dependency(declared.name, parameter, cls, name, len(members) > len(options))


def _injectable(cls: Any, known: set[type]) -> bool:
    return isinstance(cls, type) and (cls in known or bool(kinds_of(cls)))


def _name_in(member: _Member, where: str, provided: Provided) -> str | None:
    cls = member.cls
    names = sorted({name for c, name in provided if c is cls and name is not None})
    listed = ", ".join(map(repr, names)) or "none"
    if len(member.names) > 1:
        raise DependencyError(
            f"{where}: expected one name for {cls.__qualname__}, found"
            f" {', '.join(map(repr, member.names))}, which is ambiguous; keep one"
        )
    if not member.names:
        unnamed = (cls, None) in provided or kinds_of(cls)
        if not unnamed:
            raise DependencyError(
                f"{where}: expected a {cls.__qualname__} provided without a name,"
                f" found it only under the names {listed}, which is ambiguous; write"
                f' Annotated[{cls.__qualname__}, "{names[0]}"]'
            )
        return None
    name = member.names[0]
    if name not in names:
        near = difflib.get_close_matches(name, names, 1)
        hint = f"; did you mean {near[0]!r}?" if near else ""
        raise DependencyError(
            f"{where}: expected a {cls.__qualname__} provided under the name {name!r},"
            f" found these names: {listed}{hint}; call"
            f" gru.provide({cls.__qualname__}, ..., name={name!r}) first"
        )
    return name
