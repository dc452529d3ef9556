"""The steps of a minion, in their order."""

from __future__ import annotations

import inspect

import msgspec

from minions.declare.bases import STEP_MARK, StepMark
from minions.declare.hooks import MEMBERS, OPTIONS, parameters_of
from minions.errors import DefinitionError
from minions.options import Retry

__all__ = ["StepSpec", "steps_of"]

_RESERVED = {
    *MEMBERS["minion"],
    *OPTIONS["minion"],
    *("startup", "run", "shutdown", "key", "config"),
}


class StepSpec(msgspec.Struct, frozen=True):
    """One step of a minion."""

    name: str
    renamed_from: str | None = None
    retry: Retry | None = None
    timeout: float | None = None


def steps_of(cls: type, owner: str) -> tuple[StepSpec, ...]:
    """Return the steps in the order of their definition, inherited ones first.

    An override keeps its place, and stays a step without the decorator, too: a
    forgotten line must not make a step vanish from saved workflows.  It keeps its
    retry and timeout then; with the decorator, it has what the decorator says.

    Raises:
        DefinitionError: There is none, one is not an async method without
            arguments, or names collide.
    """
    steps: dict[str, StepSpec] = {}
    for base in reversed(cls.__mro__):
        for name, value in vars(base).items():
            mark = getattr(value, STEP_MARK, None)
            if isinstance(mark, StepMark):
                below = steps.get(name)
                steps[name] = StepSpec(
                    name,
                    mark.renamed_from or (below.renamed_from if below else None),
                    mark.retry,
                    mark.timeout,
                )
    if not steps:
        raise DefinitionError(
            f"{owner}: expected at least one step, found none; put @minion_step above"
            " an async method"
        )
    for name in steps:
        _check(cls, name, owner)
    _check_former({name: step.renamed_from for name, step in steps.items()}, owner)
    return tuple(steps.values())


def _check(cls: type, name: str, owner: str) -> None:
    value = inspect.getattr_static(cls, name)
    if name in _RESERVED:
        raise DefinitionError(
            f"{owner}: expected a step with a name of its own, found step {name!r},"
            " which is the name of a hook, an option or a member; rename the step"
        )
    if not (inspect.isfunction(value) and inspect.iscoroutinefunction(value)):
        raise DefinitionError(
            f"{owner}: expected step {name!r} to be an async method, found {value!r},"
            f" which is not; write `async def {name}(self)`"
        )
    extra = parameters_of(cls, name)
    if extra:
        raise DefinitionError(
            f"{owner}: expected step {name!r} to take no arguments, found"
            f" {', '.join(map(repr, extra))}; use self.event and self.context"
        )


def _check_former(former: dict[str, str | None], owner: str) -> None:
    taken: dict[str, str] = {}
    for name, old in former.items():
        if old is None:
            continue
        if old in former or old in taken:
            other = taken.get(old, old)
            raise DefinitionError(
                f"{owner}: expected each former name to lead to one step, found"
                f" renamed_from={old!r} of step {name!r}, which leads to step"
                f" {other!r}, too; take one of them away"
            )
        taken[old] = name
