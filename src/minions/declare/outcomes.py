"""What a step may return beside ``None``."""

from __future__ import annotations

from typing import Any

import attrs

from minions.errors import DefinitionError

__all__ = ["Done", "GoTo", "Outcome"]


def _step_name(_: object, __: attrs.Attribute[Any], value: object) -> None:
    if not (isinstance(value, str) and value.isidentifier()):
        raise DefinitionError(
            f"GoTo: expected the name of a step, found {value!r}; write"
            ' GoTo("step") with the name of a step of the same minion'
        )


@attrs.frozen
class GoTo:
    """Return it from a step to go on at another step of the same minion."""

    step: str = attrs.field(validator=_step_name)
    """The name of the step."""


@attrs.frozen
class Done:
    """Return it from a step to end the workflow; no later step runs."""


Outcome = GoTo | Done | None
