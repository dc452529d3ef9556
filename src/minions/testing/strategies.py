"""Draws graphs, systems and misfortunes; the only module here that needs hypothesis."""

from __future__ import annotations

from collections.abc import Sequence

from hypothesis import strategies as st

from minions.testing.scenarios import Fault, Hang, Node, Order, Scenario, What
from minions.testing.trials import StandIn, Trial

__all__ = ["graphs", "orders", "scenarios", "storms", "trials"]

# Few values, so that moments coincide; some beyond the graces used in play.
_SECONDS = st.sampled_from([0.0, 0.01, 0.1, 0.3])
_MOMENTS = st.sampled_from([0.0, 0.05, 0.2, 0.5, 1.0, 1.05, 2.0, 5.0])
_KINDS: list[What] = ["crash", "two crashes", "stop", "restart"]
_ENDS: list[What] = ["cancel", "cancel", "sigint"]
# How long a soft drain would take; the last is cut off.
_DRAINS = st.sampled_from([0.0, 0.0, 0.1, 100.0])
# A fault later than this would come after most other things are over.
_LATEST = 1.05
_SHORT = _MOMENTS.filter(lambda seconds: seconds <= _LATEST)
_WHERES = st.sampled_from(["startup", "run", "background", "context", "shutdown"])
_FAULTS = st.builds(
    Fault,
    where=_WHERES,
    epoch=st.integers(1, 3),
    after=_SHORT,
    sigint=st.sampled_from([False] * 6 + [True]),
)
_HANGS = st.builds(
    Hang,
    where=_WHERES.filter(lambda where: where != "context"),
    epoch=st.integers(1, 2),
    how=st.sampled_from(["forever", "shield", "thread"]),
)
# In each life: what starts must be able to end its starting.
_STORMS = st.builds(
    Fault,
    where=st.sampled_from(["run", "background", "context"]),
    epoch=st.just(0),
    after=_MOMENTS,
)


@st.composite
def graphs(
    draw: st.DrawFn, *, max_nodes: int = 9, max_needs: int = 3
) -> tuple[tuple[int, ...], ...]:
    """Draw what each node needs: nodes of lower numbers."""
    size = draw(st.integers(1, max_nodes))
    return tuple(
        tuple(sorted(draw(_lower(number, at_most=max_needs)))) for number in range(size)
    )


def _lower(number: int, *, at_most: int) -> st.SearchStrategy[set[int]]:
    lower = st.integers(0, number - 1) if number else st.nothing()
    return st.sets(lower, max_size=min(at_most, number))


@st.composite
def orders(
    draw: st.DrawFn, *, size: int, most: int, ends: bool = True
) -> tuple[Order, ...]:
    """Draw orders to *size* components, in the order of their time.

    With *ends* the last of them may end everything.
    """

    def order(kinds: Sequence[What]) -> st.SearchStrategy[Order]:
        kind, target = st.sampled_from(kinds), st.integers(0, size - 1)
        return st.builds(Order, at=_MOMENTS, what=kind, target=target)

    found = draw(st.lists(order(_KINDS), max_size=most))
    if ends and draw(st.booleans()):
        found.append(draw(order(_ENDS)))
    return tuple(sorted(found, key=lambda order: order.at))


@st.composite
def scenarios(
    draw: st.DrawFn, *, max_nodes: int = 9, max_orders: int = 5, hostile: bool = True
) -> Scenario:
    """Draw a system; ``hostile`` ones have hooks that raise and hang."""
    few = 1 if hostile else 0
    needs = draw(graphs(max_nodes=max_nodes))
    nodes = tuple(
        Node(
            needs=needed,
            wants=tuple(sorted(draw(_lower(number, at_most=1)) - set(needed))),
            startup=draw(_SECONDS),
            shutdown=draw(_SECONDS),
            drain=draw(_DRAINS),
            faults=tuple(draw(st.lists(_FAULTS, max_size=2 * few))),
            hangs=tuple(draw(st.lists(_HANGS, max_size=few))),
        )
        for number, needed in enumerate(needs)
    )
    return Scenario(nodes, draw(orders(size=len(nodes), most=max_orders, ends=hostile)))


@st.composite
def storms(draw: st.DrawFn, *, max_nodes: int = 6) -> Scenario:
    """Draw a system some of whose components crash in each of their lives."""
    nodes = tuple(
        Node(needs=needed, faults=tuple(draw(st.lists(_STORMS, max_size=1))))
        for needed in draw(graphs(max_nodes=max_nodes))
    )
    return Scenario(nodes, draw(orders(size=len(nodes), most=3, ends=False)))


@st.composite
def trials(
    draw: st.DrawFn, resources: tuple[type, ...], *, max_stand_ins: int, max_orders: int
) -> Trial:
    """Draw who needs the resources, and what happens."""
    number = st.integers(0, len(resources) - 1) if resources else st.nothing()
    stand_ins = tuple(
        StandIn(
            needs=needed,
            uses=tuple(resources[n] for n in sorted(draw(st.sets(number)))),
            startup=draw(_SECONDS),
            shutdown=draw(_SECONDS),
        )
        for needed in draw(graphs(max_nodes=max_stand_ins))
    )
    size = len(resources) + len(stand_ins)
    return Trial(resources, stand_ins, draw(orders(size=size, most=max_orders)))
