"""Systems and their misfortunes, as plain data.

A :class:`Scenario` says what components there are, what each needs, how its hooks
behave, and what happens when.  :mod:`minions.testing.strategies` draws one, and
:mod:`minions.testing.play` plays it.
"""

from __future__ import annotations

from typing import Literal

import attrs

__all__ = ["Fault", "Hang", "Node", "Order", "Scenario", "What", "Where", "name_of"]

Where = Literal["startup", "run", "background", "context", "shutdown"]
How = Literal["forever", "shield", "thread"]
What = Literal["crash", "two crashes", "stop", "restart", "cancel", "sigint"]


@attrs.frozen
class Fault:
    """A hook that raises, in one life (0: in each), some seconds after it began."""

    where: Where
    epoch: int
    after: float
    # Ctrl-C comes while the hook runs, instead of an exception of its own.
    sigint: bool = False


@attrs.frozen
class Hang:
    """A hook that does not end: until cancelled, or for a while in spite of it."""

    where: Where
    epoch: int
    how: How


@attrs.frozen
class Node:
    """One component; it needs only nodes with a lower number."""

    needs: tuple[int, ...] = ()
    wants: tuple[int, ...] = ()
    startup: float = 0.0
    shutdown: float = 0.0
    # How long a soft drain would take.
    drain: float = 0.0
    faults: tuple[Fault, ...] = ()
    hangs: tuple[Hang, ...] = ()


@attrs.frozen
class Order:
    """What is done from outside."""

    at: float
    """Seconds after the beginning."""

    what: What
    """To one component; ``two crashes`` befall the next one, too, in the same moment,
    and ``cancel`` and ``sigint`` end everything."""

    target: int
    """Counts the components, round and round, in the order of their start."""


@attrs.frozen
class Scenario:
    """A system and what happens to it."""

    nodes: tuple[Node, ...]
    orders: tuple[Order, ...] = ()

    def needs(self) -> dict[str, tuple[str, ...]]:
        """Return by name what each component needs."""
        return {
            name_of(i): tuple(map(name_of, node.needs))
            for i, node in enumerate(self.nodes)
        }

    def wants(self) -> dict[str, tuple[str, ...]]:
        """Return by name what each component wants."""
        return {
            name_of(i): tuple(map(name_of, node.wants))
            for i, node in enumerate(self.nodes)
        }


def name_of(number: int) -> str:
    """Return the name of a node."""
    return f"n{number}"
