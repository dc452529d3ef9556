"""Options are refused where they stand, with what to set instead."""

from __future__ import annotations

import math
from random import Random
from typing import Any

import pytest
from hypothesis import given
from hypothesis import strategies as st

from minions.errors import ConfigError
from minions.notices import report_of
from minions.options import Backoff, GruOptions, Restart
from minions.restart import BackoffState, RestartWindow


@pytest.mark.parametrize(
    ("make", "values", "named"),
    [
        (Backoff, {"base": -1}, "Backoff.base: expected a number of at least 0"),
        (Backoff, {"factor": 0.5}, "Backoff.factor: expected a number of at least 1"),
        (Backoff, {"cap": math.nan}, "found nan"),
        (Backoff, {"cap": math.inf}, "found inf"),
        (Backoff, {"cap": True}, "found True"),
        (Restart, {"type": "always"}, "'permanent', 'transient', 'temporary'"),
        (Restart, {"max_restarts": 1.5}, "expected an integer of at least 0"),
        (GruOptions, {"durability": "sync"}, "GruOptions.durability: expected one of"),
        (Restart, {"type": "always"}, "found 'always'; set it to one of these"),
        (Restart, {"backoff": 3}, "Restart.backoff: expected a Backoff, found 3; set"),
        (GruOptions, {"wait_for_failed": 1}, "wait_for_failed: expected a bool, fou"),
        (GruOptions, {"grace": "10"}, "GruOptions.grace: expected a number"),
    ],
)
def test_nonsense_is_refused(make: Any, values: dict[str, Any], named: str) -> None:
    with pytest.raises(ConfigError) as caught:
        make(**values)

    assert named in str(caught.value)


@given(
    limit=st.integers(0, 5),
    within=st.floats(0.1, 100),
    gaps=st.lists(st.floats(0, 50), max_size=40),
)
def test_no_window_holds_more_than_the_limit(
    limit: int, within: float, gaps: list[float]
) -> None:
    window = RestartWindow(limit, within)
    now = 0.0
    admitted: list[float] = []
    for gap in gaps:
        now += gap
        inside = [t for t in admitted if now - t < within]
        assert window.has_room(now) == (len(inside) < limit)
        if window.admit(now):
            admitted.append(now)
            assert len(inside) < limit
    window.clear()
    assert window.has_room(now) == (limit > 0)


@given(
    base=st.floats(0, 100),
    factor=st.floats(1, 1e9),
    cap=st.floats(0, 1000),
    failures=st.integers(0, 100_000),
)
def test_a_delay_is_within_its_half_and_its_whole(
    base: float, factor: float, cap: float, failures: int
) -> None:
    state = BackoffState(Backoff(base, factor, cap), failures)

    delay = state.next_delay(Random(0))  # noqa: S311

    assert 0 <= delay <= cap
    if failures == 0:
        assert min(base, cap) / 2 <= delay <= min(base, cap)
    state.clear()
    assert state.failures == 0


def test_a_report_is_flat_and_text() -> None:
    class Unprintable(Exception):  # noqa: N818
        def __str__(self) -> str:
            raise RuntimeError

    inner = ExceptionGroup("inner", [ValueError("one"), Unprintable()])
    report = report_of(ExceptionGroup("outer", [inner, KeyError()]))

    assert [leaf.type.rpartition(".")[2] for leaf in report.leaves] == [
        "ValueError",
        "Unprintable",
        "KeyError",
    ]
    assert "<its text raised RuntimeError>" in str(report)
    assert str(report).startswith("ValueError: one; ")
    assert str(report).endswith("; KeyError")
