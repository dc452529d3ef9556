"""Is a step tried again, and when.

Nothing here waits or reads a clock: counts come in as arguments, so that the
rules are tested with numbers.
"""

from __future__ import annotations

from typing import TYPE_CHECKING

from minions.errors import AbortWorkflow
from minions.notices import leaves_of
from minions.options import ends_more

if TYPE_CHECKING:
    from random import Random

    from minions.options import Retry

__all__ = ["delay_after", "is_retried"]


def delay_after(retry: Retry, failures: int, random: Random) -> float:
    """Return the seconds to wait after so many failures, the last one included."""
    whole = _longest(retry, failures)
    return whole * random.random() if retry.jitter == "full" else whole


def _longest(retry: Retry, failures: int) -> float:
    if retry.base == 0:
        return 0.0  # nothing grows from it, and 0 * inf would be nan
    try:
        # As float: the power of an integer would have as many digits as it takes.
        grown = retry.base * float(retry.factor) ** (failures - 1)
    except OverflowError:
        return float(retry.cap)
    return float(min(retry.cap, grown))


def is_retried(retry: Retry, exc: BaseException, failures: int) -> bool:
    """Say whether a step is tried again.

    A group is judged by the exceptions inside it.  What ends the workflow on
    purpose, or more than the step, is never tried again.

    Args:
        retry: What the step asks for.
        exc: What it raised.
        failures: How often it has failed, this time included.
    """
    leaves = leaves_of(exc)
    if all(isinstance(leaf, AbortWorkflow) for leaf in leaves):
        return False
    if any(isinstance(leaf, retry.give_up) or ends_more(type(leaf)) for leaf in leaves):
        return False
    return failures < retry.max_attempts and all(
        isinstance(leaf, retry.on) for leaf in leaves
    )
