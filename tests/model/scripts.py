"""What the system and its model both know: the scripts that workflows follow.

The n-th run of a step of a workflow, whichever step that is, does what the n-th act
of its script says; when the script is over, steps just go on.
"""

from __future__ import annotations

from typing import Literal

import attrs

__all__ = [
    "BACKOFF",
    "ENDS",
    "GRACE",
    "KINDS",
    "RETRIES",
    "SETTLE",
    "STEPS",
    "TIMEOUTS",
    "Act",
    "End",
    "Order",
    "Shape",
    "shapes",
]

End = Literal[
    "go",
    "goto",
    "nowhere",
    "nonsense",
    "after",
    "wait",
    "done",
    "abort",
    "fail",
    "fail in a group",
    "bug",
    "bug in a group",
    "unstorable",
    "stay",
]
ENDS: tuple[End, ...] = End.__args__  # type: ignore[attr-defined]

STEPS = ("one", "two", "three")
# Per step: attempts in all, first delay, factor.
RETRIES = {"one": (3, 2.1, 2.0), "three": (2, 0.0, 1.0)}
TIMEOUTS = {"two": 5.9, "three": 33.3}
KINDS = ("Ping", "Pong")

GRACE = 10.0
SETTLE = 0.05
# Of whatever has crashed.
BACKOFF = 3.0


@attrs.frozen
class Act:
    """What one run of a step does, in this order."""

    tell: bool = False
    """Emits an event to the other pipeline."""

    hear: str = ""
    """Receives a signal of this kind inside the step."""

    limit: float | None = None
    """For so many seconds at most."""

    pause: float = 0.0
    """Sleeps."""

    end: str = "go"
    step: str | None = None
    seconds: float | None = None
    """Of ``after``; the timeout of ``wait``."""

    kind: str = "Ping"
    """Of the signal for which it waits."""


@attrs.frozen
class Order:
    """An event: what its workflow is to do."""

    label: str
    key: int = 0
    script: tuple[Act, ...] = ()


@attrs.frozen
class Shape:
    """What is declared of a minion's class."""

    has_key: bool = False
    holds: bool = False
    discards: bool = False
    needs: bool = False


shapes = {
    "Plain": Shape(needs=True),
    "Keyed": Shape(has_key=True, needs=True),
    "Holds": Shape(has_key=True, holds=True),
    "Drops": Shape(has_key=True, discards=True),
    "Echoes": Shape(),
}
