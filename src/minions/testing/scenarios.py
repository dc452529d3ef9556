"""Random systems and random misfortunes, for trying what supervises them.

A :class:`Scenario` is plain data: components with what they need and how their
hooks behave, and what happens to them when.  :func:`scenarios` draws one;
:mod:`minions.testing.play` plays it.
"""

from __future__ import annotations

from typing import Literal

import attrs
from hypothesis import strategies as st

__all__ = ["Fault", "Hang", "Node", "Order", "Scenario", "scenarios"]

Where = Literal["startup", "run", "background", "context", "shutdown"]
How = Literal["forever", "shield", "thread"]
What = Literal["crash", "stop", "restart", "cancel", "sigint"]


@attrs.frozen
class Fault:
    """A hook that raises, in one life, some seconds after it began."""

    where: Where
    epoch: int
    after: float


@attrs.frozen
class Hang:
    """A hook that does not end: until cancelled, or for a while in spite of it."""

    where: Where
    epoch: int
    how: How


@attrs.frozen
class Node:
    """One component; it needs only nodes with a lower number."""

    needs: tuple[int, ...]
    wants: tuple[int, ...]
    startup: float
    shutdown: float
    faults: tuple[Fault, ...]
    hangs: tuple[Hang, ...]


@attrs.frozen
class Order:
    """What is done from outside, ``at`` seconds after the beginning."""

    at: float
    what: What
    node: int


@attrs.frozen
class Scenario:
    """A system and what happens to it."""

    nodes: tuple[Node, ...]
    orders: tuple[Order, ...]

    def needs(self) -> dict[str, tuple[str, ...]]:
        """Return the graph by name."""
        return {
            name_of(i): tuple(map(name_of, node.needs))
            for i, node in enumerate(self.nodes)
        }


def name_of(number: int) -> str:
    """Return the name of a node."""
    return f"n{number}"


# Few values, so that moments coincide; some beyond the graces used in play.
_SECONDS = st.sampled_from([0.0, 0.01, 0.1, 0.3])
_MOMENTS = st.sampled_from([0.0, 0.05, 0.2, 0.5, 1.0, 1.05, 2.0, 5.0])
# A fault later than this would come after most other things are over.
_LATEST = 1.05
_WHERES = st.sampled_from(["startup", "run", "background", "context", "shutdown"])
_FAULTS = st.builds(
    Fault,
    where=_WHERES,
    epoch=st.integers(1, 3),
    after=_MOMENTS.filter(lambda t: t <= _LATEST),
)
_HANGS = st.builds(
    Hang,
    where=_WHERES.filter(lambda where: where != "context"),
    epoch=st.integers(1, 2),
    how=st.sampled_from(["forever", "shield", "thread"]),
)


@st.composite
def _nodes(draw: st.DrawFn, number: int, *, hostile: bool) -> Node:
    lower = st.integers(0, number - 1) if number else st.nothing()
    needs = draw(st.sets(lower, max_size=min(3, number)))
    wants = draw(st.sets(lower, max_size=1)) - needs if number else set()
    few = 1 if hostile else 0
    return Node(
        needs=tuple(sorted(needs)),
        wants=tuple(sorted(wants)),
        startup=draw(_SECONDS),
        shutdown=draw(_SECONDS),
        faults=tuple(draw(st.lists(_FAULTS, max_size=2 * few))),
        hangs=tuple(draw(st.lists(_HANGS, max_size=few))),
    )


@st.composite
def scenarios(
    draw: st.DrawFn, *, max_nodes: int = 9, max_orders: int = 5, hostile: bool = True
) -> Scenario:
    """Draw a system; ``hostile`` ones have hooks that raise and hang."""
    size = draw(st.integers(1, max_nodes))
    nodes = tuple(draw(_nodes(number, hostile=hostile)) for number in range(size))
    ends: list[What] = ["cancel", "sigint"] if hostile else []
    orders = draw(
        st.lists(
            st.builds(
                Order,
                at=_MOMENTS,
                what=st.sampled_from(["crash", "crash", "stop", "restart", *ends]),
                node=st.integers(0, size - 1),
            ),
            max_size=max_orders,
        )
    )
    return Scenario(nodes, tuple(sorted(orders, key=lambda order: order.at)))
