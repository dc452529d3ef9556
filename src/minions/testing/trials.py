"""Trials of a user's own components: random users of them, random misfortunes.

A :class:`Trial` is plain data, which hypothesis draws and prints; :func:`run_trial`
runs it in a Gru under a virtual clock, and checks the rules of supervision.
"""

from __future__ import annotations

from typing import TYPE_CHECKING

import attrs

from minions.testing.scenarios import Order

if TYPE_CHECKING:
    import hypothesis.strategies

__all__ = ["StandIn", "Trial", "trials"]


@attrs.frozen
class StandIn:
    """A resource that stands for whatever may need yours."""

    needs: tuple[int, ...]
    """Other stand-ins that it needs, by number; only lower ones."""

    uses: tuple[type, ...]
    """Which of your resources it needs."""

    startup: float
    """How long its ``startup`` takes, in seconds."""

    shutdown: float
    """How long its ``shutdown`` takes, in seconds."""


@attrs.frozen
class Trial:
    """Your resources, who needs them, and what happens to all of them."""

    resources: tuple[type, ...]
    """Yours, which are started whether a stand-in needs them or not."""

    stand_ins: tuple[StandIn, ...]
    """Those that need them and each other."""

    orders: tuple[Order, ...]
    """What happens, in the order of time."""


def trials(
    *resources: type, max_stand_ins: int = 4, max_orders: int = 5
) -> hypothesis.strategies.SearchStrategy[Trial]:
    """Return a Hypothesis strategy that draws trials of your resources.

    Each has a graph of up to *max_stand_ins* resources that need yours and each
    other, and up to *max_orders* misfortunes and orders from outside at random
    moments: a crash of one component or of two at once, in a task of its nursery; a
    stop or a restart by an operator; in half of all trials a cancellation or a
    Ctrl-C at the end.

    Args:
        *resources: Classes as `minions.Gru.start` takes them; none: stand-ins alone.
        max_stand_ins: At least 1.
        max_orders: 0: nothing but an end may happen.

    Raises:
        ImportError: Hypothesis is not installed.
    """
    try:
        from minions.testing import strategies  # noqa: PLC0415  # needs hypothesis
    except ImportError as exc:
        raise ImportError(
            "minions.testing.trials: expected hypothesis to be installed, found none;"
            " install it with your tests"
        ) from exc
    return strategies.trials(
        resources, max_stand_ins=max_stand_ins, max_orders=max_orders
    )
