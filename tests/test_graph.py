from __future__ import annotations

import itertools
from collections.abc import Mapping

import pytest
from hypothesis import given
from hypothesis import strategies as st

from minions.errors import DependencyError
from minions.graph import (
    find_cycle,
    immediate_dominators,
    topological_order,
    transitive_dependents,
    transitive_needs,
)

Graph = dict[str, list[str]]


@st.composite
def dags(draw: st.DrawFn) -> Graph:
    names = [f"n{i}" for i in range(draw(st.integers(0, 9)))]
    graph = {
        name: draw(st.lists(st.sampled_from(names[:i]), unique=True)) if i else []
        for i, name in enumerate(names)
    }
    return {name: graph[name] for name in draw(st.permutations(names))}


@st.composite
def graphs(draw: st.DrawFn) -> Graph:
    names = "abcdef"[: draw(st.integers(1, 6))]
    return {n: draw(st.lists(st.sampled_from(names), max_size=3)) for n in names}


def reach(graph: Mapping[str, list[str]], start: str, without: str = "") -> set[str]:
    found: set[str] = set()
    todo = [n for n in graph.get(start, []) if n != without]
    while todo:
        node = todo.pop()
        if node not in found:
            found.add(node)
            todo += [n for n in graph.get(node, []) if n != without]
    return found


@given(dags())
def test_order_puts_each_after_what_it_needs(graph: Graph) -> None:
    order = topological_order(graph)

    assert sorted(order) == sorted(graph)
    for node, needs in graph.items():
        assert all(order.index(n) < order.index(node) for n in needs)


@given(graphs())
def test_a_cycle_is_found_if_and_only_if_there_is_one(graph: Graph) -> None:
    cycle = find_cycle(graph)

    assert (cycle is not None) == any(n in reach(graph, n) for n in graph)
    if cycle:
        assert cycle[0] == cycle[-1]
        assert len(set(cycle)) == len(cycle) - 1
        assert all(b in graph[a] for a, b in itertools.pairwise(cycle))
        with pytest.raises(DependencyError, match="→"):
            topological_order(graph)


def dominators(graph: Graph, node: str) -> set[str]:
    """By definition: without it, nothing that needs nothing is reached any more."""

    def reaches_root(without: str) -> bool:
        return any(not graph[n] for n in {node} | reach(graph, node, without))

    return {d for d in graph if d != node and not reaches_root(d)}


@given(dags())
def test_the_immediate_dominator_is_the_nearest_on_all_paths(graph: Graph) -> None:
    found = immediate_dominators(graph)

    assert found.keys() == graph.keys()
    for node, parent in found.items():
        above = dominators(graph, node)
        nearest = {d for d in above if above - {d} == dominators(graph, d)}
        assert ({parent} if parent else set()) == nearest


@given(dags())
def test_transitive_needs_and_dependents(graph: Graph) -> None:
    for node in graph:
        needs = transitive_needs(graph, node)
        assert needs == reach(graph, node)
        assert transitive_dependents(graph, node) == {
            n for n in graph if node in reach(graph, n)
        }


def test_a_name_that_is_only_needed_counts() -> None:
    graph = {"a": ["b"]}

    assert topological_order(graph) == ["b", "a"]
    assert immediate_dominators(graph) == {"b": None, "a": "b"}
    assert transitive_dependents(graph, "b") == {"a"}


def test_two_layers_of_a_diamond() -> None:
    graph = {"db": [], "x": ["db"], "y": ["db", "x"], "top": ["x", "y"], "w": ["z"]}

    assert immediate_dominators(graph) == {
        "db": None,
        "z": None,
        "x": "db",
        "y": "db",
        "top": "db",
        "w": "z",
    }


@pytest.mark.parametrize("width", [1, 5])
def test_a_thousand_components(width: int) -> None:
    graph = {
        f"n{i}": [f"n{j}" for j in range(max(0, i - width), i)] for i in range(1000)
    }

    assert topological_order(graph) == list(graph)
    assert find_cycle(graph) is None
    assert immediate_dominators(graph)["n999"] == ("n998" if width == 1 else "n0")
    assert len(transitive_needs(graph, "n999")) == 999
    assert len(transitive_dependents(graph, "n0")) == 999
