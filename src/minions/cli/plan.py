"""From what a ``minions.toml`` says to classes that are known to fit together."""

from __future__ import annotations

import difflib
import importlib
import sys
import traceback
from typing import Any

import attrs
import trio

from minions.cli.system_file import OrchestrationTable, SystemFile
from minions.declare.specification import ResourceSpec
from minions.declare.system import Spec
from minions.errors import ConfigError, DefinitionError
from minions.runtime.opening import open_gru
from minions.store.memory import MemoryStore

__all__ = ["PlannedStart", "SystemPlan", "make_plan"]


@attrs.frozen
class PlannedStart:
    """One orchestration, with its classes."""

    minion: type
    pipeline: type
    name: str
    config: object


@attrs.frozen
class SystemPlan:
    """A system that was checked."""

    file: SystemFile
    starts: tuple[PlannedStart, ...]
    components: tuple[type, ...]
    configs: tuple[tuple[type, object], ...]
    size: int
    """How many components it has, with those that others need."""


def make_plan(file: SystemFile) -> SystemPlan:
    """Import the classes and check all that can be known before a start.

    The folder goes to the front of ``sys.path``.  Nothing is started, and the state
    folder is neither made nor looked at.

    Raises:
        DefinitionError: A class cannot be imported, or cannot run as declared.
        ConfigError: A config does not fit.
        AlreadyRunningError: Two orchestrations are the same.
    """
    if str(file.folder) not in sys.path:
        sys.path.insert(0, str(file.folder))
    if not file.orchestrations and not file.components:
        raise ConfigError(
            f"{file.path}: expected something to run, found neither"
            " [[orchestration]] nor [[component]]; add one"
        )
    plan = SystemPlan(
        file,
        tuple(_planned(table) for table in file.orchestrations),
        tuple(_import_class(table.path) for table in file.components),
        tuple((_import_class(n), source) for n, source in file.configs.items()),
        0,
    )
    return attrs.evolve(plan, size=trio.run(_check, plan))


def _planned(table: OrchestrationTable) -> PlannedStart:
    minion, pipeline = _import_class(table.minion), _import_class(table.pipeline)
    return PlannedStart(minion, pipeline, table.name, table.config)


async def _check(plan: SystemPlan) -> int:
    """Go through the checks of every start, in a Gru that starts nothing."""
    async with open_gru(MemoryStore(), options=plan.file.options) as gru:
        launcher, components = gru._launcher, gru._components  # noqa: SLF001
        for cls, source in plan.configs:
            gru.configure(cls, source)
        prepared = [
            launcher.prepare(
                start.minion, start.pipeline, config=start.config, name=start.name
            )
            for start in plan.starts
        ]
        # Once more together: what fits alone may collide with another.
        given = {s.minion: s.config for s in plan.starts if s.config is not None}
        pairs = [cls for s in plan.starts for cls in (s.minion, s.pipeline)]
        specs = components.reader.read([*pairs, *plan.components], given).specs
        for orchestration in prepared:
            launcher.abandon(orchestration)
    _check_components(plan, specs)
    _check_configs(plan, specs)
    return len(specs)


def _check_components(plan: SystemPlan, specs: dict[str, Spec]) -> None:
    for spec in specs.values():
        if spec.cls in plan.components and not isinstance(spec, ResourceSpec):
            raise DefinitionError(
                f"{plan.file.path}: [[component]] {spec.identity}: expected a resource,"
                f" found a {spec.kind}; name it in an [[orchestration]]"
            )


def _check_configs(plan: SystemPlan, specs: dict[str, Spec]) -> None:
    used = {spec.cls for spec in specs.values()}
    for name, (cls, _) in zip(plan.file.configs, plan.configs, strict=True):
        if cls not in used:
            known = [f"{c.__module__}:{c.__qualname__}" for c in used]
            near = difflib.get_close_matches(name, known, 1, 0)
            raise ConfigError(
                f"{plan.file.path}: [config.{name!r}]: expected a component of this"
                f" system, found one that it does not use; take it away, or did you"
                f" mean {near[0]!r}?"
            )


def _import_class(path: str) -> type:
    """Return the class at ``module:Class``.

    Raises:
        DefinitionError: There is none, or its module raised while it was imported.
    """
    module, colon, names = path.partition(":")
    if not (module and colon and names):
        raise DefinitionError(
            f'{path!r}: expected "module:Class", found no such pair; write it so'
        )
    found: Any
    try:
        found = importlib.import_module(module)
    except Exception as exc:
        raise DefinitionError(
            f"{path}: expected a module that can be imported, found"
            f" {type(exc).__name__}: {exc}{_place_of(exc)}; mend the module or"
            " the name"
        ) from exc
    for name in names.split("."):
        try:
            found = getattr(found, name)
        except AttributeError:
            near = difflib.get_close_matches(name, dir(found), 1)
            hint = f"did you mean {near[0]!r}?" if near else "mend the name"
            where = getattr(sys.modules[module], "__file__", module)
            raise DefinitionError(
                f"{path}: expected a class of this name, found none in {where}; {hint}"
            ) from None
    if not isinstance(found, type):
        raise DefinitionError(
            f"{path}: expected a class, found {found!r}; name its class"
        )
    return found


def _place_of(exc: Exception) -> str:
    """Say where a module raised; nothing if that was in the import system."""
    frames = traceback.extract_tb(exc.__traceback__)
    inner = [f for f in frames if "importlib" not in f.filename]
    # The first frame is ours.
    return f" ({inner[-1].filename}, line {inner[-1].lineno})" if inner[1:] else ""
