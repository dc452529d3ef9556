"""Order, cycles, dominators, and who depends on whom.

A graph is a mapping from each component to what it needs.  A name that is only
needed counts as a component that needs nothing.  All functions are
deterministic: they follow the order of the mapping and of its values.
"""

from __future__ import annotations

from collections import deque
from collections.abc import Collection, Iterator, Mapping

from minions.errors import DependencyError

__all__ = [
    "find_cycle",
    "immediate_dominators",
    "topological_order",
    "transitive_dependents",
    "transitive_needs",
]

Needs = Mapping[str, Collection[str]]


def _complete(needs: Needs) -> dict[str, tuple[str, ...]]:
    graph = {node: tuple(dict.fromkeys(found)) for node, found in needs.items()}
    for found in list(graph.values()):
        for node in found:
            graph.setdefault(node, ())
    return graph


def _reversed(graph: Mapping[str, tuple[str, ...]]) -> dict[str, list[str]]:
    dependents: dict[str, list[str]] = {node: [] for node in graph}
    for node, found in graph.items():
        for needed in found:
            dependents[needed].append(node)
    return dependents


def find_cycle(needs: Needs) -> list[str] | None:
    """Return one cycle as a path that ends where it began, or ``None``."""
    graph = _complete(needs)
    done: set[str] = set()
    for start in graph:
        if start in done:
            continue
        # The path from start to where the search stands, in order.
        path: dict[str, Iterator[str]] = {start: iter(graph[start])}
        while path:
            node = next(reversed(path))
            below = next((n for n in path[node] if n not in done), None)
            if below is None:
                done.add(node)
                del path[node]
            elif below in path:
                nodes = list(path)
                return [*nodes[nodes.index(below) :], below]
            else:
                path[below] = iter(graph[below])
    return None


def topological_order(needs: Needs) -> list[str]:
    """Return all components, each after all that it needs.

    Raises:
        DependencyError: There is a cycle; the message shows it.
    """
    graph = _complete(needs)
    dependents = _reversed(graph)
    missing = {node: len(found) for node, found in graph.items()}
    ready = deque(node for node, count in missing.items() if count == 0)
    order: list[str] = []
    while ready:
        node = ready.popleft()
        order.append(node)
        for dependent in dependents[node]:
            missing[dependent] -= 1
            if missing[dependent] == 0:
                ready.append(dependent)
    if len(order) < len(graph):
        cycle = find_cycle(graph) or []
        raise DependencyError(
            f"{cycle[0]}: expected dependencies without a cycle, found"
            f" {' → '.join(cycle)}; take one of these dependencies away"
        )
    return order


def immediate_dominators(needs: Needs) -> dict[str, str | None]:
    """Return for each component the nearest one on all paths to it.

    Paths begin at a root that stands above all and lead from what is needed to
    what needs it.  ``None`` is that root.

    Raises:
        DependencyError: There is a cycle.

    Source:
        K. D. Cooper, T. J. Harvey, K. Kennedy, "A Simple, Fast Dominance
        Algorithm" (2001).  Without cycles, one pass in topological order does.
    """
    graph = _complete(needs)
    parents: dict[str, str | None] = {}
    depth: dict[str | None, int] = {None: 0}
    for node in topological_order(graph):
        found = graph[node]
        parent = found[0] if found else None
        for other in found[1:]:
            parent = _common(parent, other, parents, depth)
        parents[node] = parent
        depth[node] = depth[parent] + 1
    return parents


def _common(
    left: str | None,
    right: str | None,
    parents: Mapping[str, str | None],
    depth: Mapping[str | None, int],
) -> str | None:
    """Climb from both until they meet."""
    while left != right:
        if depth[left] < depth[right]:
            left, right = right, left
        assert left is not None  # the deeper of two different ones is no root
        left = parents[left]
    return left


def transitive_needs(needs: Needs, node: str) -> set[str]:
    """Return all that *node* needs, directly or through others, without itself."""
    return _reach(_complete(needs), node)


def transitive_dependents(needs: Needs, node: str) -> set[str]:
    """Return all that need *node*, directly or through others, without itself."""
    return _reach(_reversed(_complete(needs)), node)


def _reach(graph: Mapping[str, Collection[str]], start: str) -> set[str]:
    reached = {start}
    waiting = [start]
    while waiting:
        for node in graph.get(waiting.pop(), ()):
            if node not in reached:
                reached.add(node)
                waiting.append(node)
    return reached - {start}
