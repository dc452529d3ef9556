"""What a step may return beside ``None``."""

from __future__ import annotations

from typing import Any

import attrs

from minions.declare.kinds import is_data, type_name
from minions.errors import DefinitionError
from minions.options import TEN_YEARS, is_number

__all__ = ["After", "Done", "GoTo", "Outcome", "Wait"]

# In Wait itself, `type` is the name of a field.
SignalClass = type[Any]


def _step_name(instance: object, _: attrs.Attribute[Any], value: object) -> None:
    if not (isinstance(value, str) and value.isidentifier()):
        raise DefinitionError(
            f"{type(instance).__name__}: expected the name of a step, found {value!r};"
            " write the name of a step of the same minion, as text"
        )


def _seconds(instance: object, attribute: attrs.Attribute[Any], value: object) -> None:
    if not is_number(value, 0, TEN_YEARS):
        raise DefinitionError(
            f"{type(instance).__name__}: expected as {attribute.name} a number of"
            f" seconds from 0 to {TEN_YEARS:.0f} (ten years), found {value!r}; set it"
            " to such a value"
        )


def _data_class(_: object, __: attrs.Attribute[Any], value: object) -> None:
    if not is_data(value):
        raise DefinitionError(
            "Wait: expected the class of a signal, an attrs, dataclass or"
            f" msgspec.Struct class, found {type_name(value)}; write Wait(Class)"
        )


@attrs.frozen
class GoTo:
    """Return it from a step to go on at another step of the same minion."""

    step: str = attrs.field(validator=_step_name)
    """The name of the step."""


@attrs.frozen
class After:
    """Return it from a step to go on later.

    The workflow waits on disk: it holds no task, and the time is kept over a
    restart of the process.  It goes on no earlier than that.

    Raises:
        DefinitionError: The time is no number from 0 to ten years, or the step is
            no name.
    """

    seconds: float = attrs.field(validator=_seconds)
    """How long to wait, counted from the end of this step."""

    step: str | None = attrs.field(
        default=None, validator=attrs.validators.optional(_step_name)
    )
    """The step at which to go on; ``None``: the next one."""


@attrs.frozen
class Wait:
    """Return it from a step to go on when a signal is there.

    ``type`` is the class of the signal.  The workflow waits on disk, as for
    :class:`After`.  A signal that came earlier and that no step has taken is there
    at once.

    Raises:
        DefinitionError: What is waited for is no data class, the time is no number
            from 0 to ten years, or the step is no name.
    """

    type: SignalClass = attrs.field(validator=_data_class)
    """The class of the signal."""

    timeout: float | None = attrs.field(
        default=None, validator=attrs.validators.optional(_seconds)
    )
    """The seconds after which it goes on without a signal; ``None``: never."""

    step: str | None = attrs.field(
        default=None, validator=attrs.validators.optional(_step_name)
    )
    """The step at which to go on; ``None``: the next one."""


@attrs.frozen
class Done:
    """Return it from a step to end the workflow; no later step runs."""


Outcome = GoTo | After | Wait | Done | None
