"""Options are refused where they stand, with what to set instead."""

from __future__ import annotations

import math
from random import Random
from typing import Any

import pytest
import trio
from hypothesis import given
from hypothesis import strategies as st

from minions.errors import ConfigError
from minions.notices import report_of
from minions.options import TEN_YEARS, Backoff, GruOptions, Restart, Retry
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
        (GruOptions, {"grace": 10**400}, "expected a number of at least 0, found 1000"),
        (GruOptions, {"max_crashes": 0}, "an integer of at least 1, found 0; set it"),
        (GruOptions, {"max_crashes": True}, "GruOptions.max_crashes: expected an int"),
        (GruOptions, {"max_crashes": 2.0}, "GruOptions.max_crashes: expected an int"),
        (GruOptions, {"resume_rate": 0}, "resume_rate: expected a number above 0, fou"),
        (GruOptions, {"resume_rate": -1.0}, "found -1.0; set it to such a value"),
        (GruOptions, {"resume_rate": math.inf}, "found inf"),
        (GruOptions, {"resume_rate": math.nan}, "found nan"),
        (GruOptions, {"resume_rate": True}, "found True"),
        (GruOptions, {"keep": -0.1}, "GruOptions.keep: expected a number of at least"),
        (GruOptions, {"keep": math.inf}, "found inf"),
        (GruOptions, {"keep": None}, "found None"),
        (GruOptions, {"max_kept": 0}, "GruOptions.max_kept: expected an integer of at"),
        (
            Retry,
            {"on": ()},
            "Retry.on: expected at least one exception class",
        ),
        (Retry, {"max_attempts": 0}, "Retry.max_attempts: expected an integer of at l"),
        (Retry, {"max_attempts": True}, "found True; set it to such a value"),
        (Retry, {"max_attempts": 2.0}, "found 2.0"),
        (Retry, {"max_attempts": math.inf}, "found inf"),
        (Retry, {"base": -0.1}, "Retry.base: expected a number of at least 0, found"),
        (Retry, {"base": math.inf}, "found inf"),
        (Retry, {"base": math.nan}, "found nan"),
        (Retry, {"base": 10**400}, "Retry.base: expected a number"),
        (Retry, {"base": "1"}, "found '1'"),
        (Retry, {"factor": 0.99}, "Retry.factor: expected a number of at least 1"),
        (Retry, {"factor": False}, "found False"),
        (
            Retry,
            {"cap": -1},
            "Retry.cap: expected a number of at least 0 and at most 3",
        ),
        (Retry, {"cap": TEN_YEARS + 1}, "found 315576001.0; set it to such a value"),
        (Retry, {"cap": math.inf}, "found inf"),
        (Retry, {"cap": math.nan}, "found nan"),
        (Retry, {"jitter": "half"}, "Retry.jitter: expected one of 'full', 'none', "),
        (Retry, {"jitter": None}, "found None"),
        (Retry, {"on": 3}, "Retry.on: expected an exception class or a tuple of them,"),
        (Retry, {"on": [OSError]}, "found [<class 'OSError'>]; write for example ("),
        (Retry, {"on": int}, "found (<class 'int'>,)"),
        (Retry, {"on": (OSError, "x")}, "Retry.on: expected an exception class or a"),
        (Retry, {"on": (OSError(),)}, "found (OSError(),)"),
        (Retry, {"on": ((OSError,),)}, "Retry.on: expected an exception class or a"),
        (Retry, {"give_up": None}, "Retry.give_up: expected an exception class or"),
        (Retry, {"on": trio.Cancelled}, "found Cancelled, which ends more than the"),
        (Retry, {"on": (OSError, KeyboardInterrupt)}, "found KeyboardInterrupt"),
        (Retry, {"on": SystemExit}, "Retry.on: expected exceptions that make a step"),
        (Retry, {"on": GeneratorExit}, "found GeneratorExit"),
        (Retry, {"give_up": (trio.Cancelled,)}, "Retry.give_up: expected exceptions"),
        (Retry, {"give_up": type("Stop", (SystemExit,), {})}, "found Stop, which ends"),
        (Retry, {"on": ExceptionGroup}, "found ExceptionGroup, which never counts"),
        (Retry, {"give_up": (BaseExceptionGroup,)}, "name what the groups hold"),
    ],
)
def test_nonsense_is_refused(make: Any, values: dict[str, Any], named: str) -> None:
    with pytest.raises(ConfigError) as caught:
        make(**values)

    assert named in str(caught.value)


def test_the_defaults_of_a_retry() -> None:
    retry = Retry()

    assert retry == Retry(5, 0.2, 2, 60.0, "full", (Exception,), retry.give_up)
    assert retry.give_up == (TypeError, AttributeError, NameError)
    assert hash(retry) == hash(Retry())


@pytest.mark.parametrize(
    "values",
    [
        {"max_attempts": 1, "base": 0, "factor": 1, "cap": 0},
        {"cap": TEN_YEARS, "base": 1e300, "jitter": "none"},
        {"on": (OSError,), "give_up": ()},
        {"on": BaseException, "give_up": type("Cancelled", (Exception,), {})},
    ],
)
def test_the_edges_of_a_retry(values: dict[str, Any]) -> None:
    Retry(**values)


def test_a_single_exception_class_will_do() -> None:
    retry = Retry(on=OSError, give_up=BlockingIOError)

    assert (retry.on, retry.give_up) == ((OSError,), (BlockingIOError,))


def test_the_options_of_workflows() -> None:
    options = GruOptions()

    assert (options.max_crashes, options.resume_rate) == (3, 200.0)
    assert (options.keep, options.max_kept) == (0.0, 100_000)
    GruOptions(max_crashes=1, resume_rate=1e-9, keep=0, max_kept=1)


def test_what_may_be_endless_still_may() -> None:
    assert GruOptions(grace=math.inf).grace == math.inf
    with pytest.raises(ConfigError, match="found -inf"):
        GruOptions(grace=-math.inf)


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
