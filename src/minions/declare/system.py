"""All components that a system consists of, from those that its user starts."""

from __future__ import annotations

from collections.abc import Iterable
from typing import Literal

import msgspec

from minions.declare.dependencies import Dependency, Provided
from minions.declare.specification import (
    MinionSpec,
    PipelineSpec,
    ResourceSpec,
    specify,
)
from minions.errors import DefinitionError
from minions.graph import topological_order
from minions.identity import (
    component_identity,
    has_component_id,
    is_local,
    provided_identity,
)

__all__ = ["ProvidedSpec", "Spec", "specify_all"]


class ProvidedSpec(msgspec.Struct, frozen=True, kw_only=True):
    """A resource from elsewhere: a factory makes it, its class is not ours to read."""

    cls: type
    name: str | None
    identity: str
    kind: Literal["provided"] = "provided"
    dependencies: tuple[Dependency, ...] = ()


Spec = ResourceSpec | PipelineSpec | MinionSpec | ProvidedSpec


def specify_all(
    roots: Iterable[type], provided: Provided = (), *, durable: bool = False
) -> dict[str, Spec]:
    """Read the classes and all that they depend on, by identity, needed ones first.

    Args:
        roots: What is started.
        provided: What is provided from elsewhere: class and name.
        durable: Whether there is a state folder, which outlives local classes.

    Raises:
        DefinitionError: A class cannot run as it is declared, or two have the
            same identity.
        DependencyError: Dependencies form a cycle, or one is missing or unclear.
    """
    specs: dict[str, Spec] = {}
    waiting: list[tuple[tuple[type, str | None, str], tuple[str, ...]]] = [
        ((cls, None, _label(cls)), (_label(cls),)) for cls in reversed([*roots])
    ]
    while waiting:
        (cls, name, key), path = waiting.pop()
        if key in specs:
            _check_same(specs[key], cls, path)
            continue
        try:
            spec = _specify(cls, name, provided, durable=durable)
        except DefinitionError as exc:
            raise type(exc)(f"{exc}{_on(path)}") from exc.__cause__
        specs[key] = spec
        waiting.extend(
            ((d.cls, d.name, d.key), (*path, d.key))
            for d in reversed(spec.dependencies)
        )
    needs = {key: [d.key for d in spec.dependencies] for key, spec in specs.items()}
    return {key: specs[key] for key in topological_order(needs)}


def _label(cls: object) -> str:
    return component_identity(cls) if isinstance(cls, type) else repr(cls)


def _on(path: tuple[str, ...]) -> str:
    return f" (path: {' → '.join(path)})" if len(path) > 1 else ""


def _specify(cls: type, name: str | None, provided: Provided, *, durable: bool) -> Spec:
    if (cls, name) in provided:
        return ProvidedSpec(cls=cls, name=name, identity=provided_identity(cls, name))
    spec = specify(cls, provided=provided)
    if (
        durable
        and spec.kind != "resource"
        and is_local(cls)
        and not has_component_id(cls)
    ):
        raise DefinitionError(
            f"{spec.identity}: expected an identity that the next process finds again,"
            f" found a {spec.kind} that is defined in a function; put"
            ' @component_id("...") above it, or move it to the top of a module'
        )
    return spec


def _check_same(spec: Spec, cls: type, path: tuple[str, ...]) -> None:
    if spec.cls is not cls:
        raise DefinitionError(
            f"{spec.identity}: expected one class of this identity, found two:"
            f" {spec.cls.__module__}.{spec.cls.__qualname__} and"
            f" {cls.__module__}.{cls.__qualname__}; put another @component_id above"
            f" one of them{_on(path)}"
        )
