"""Whether a step is tried again, and when."""

from __future__ import annotations

from fractions import Fraction
from random import Random
from typing import Any

import attrs
import pytest
import trio
from hypothesis import given
from hypothesis import strategies as st

from minions.errors import AbortWorkflow
from minions.options import Retry
from minions.retry import delay_after, is_retried

RETRIES = st.builds(
    Retry,
    base=st.floats(0, 1e6),
    factor=st.floats(1, 1e9) | st.integers(1, 10**9),
    cap=st.floats(0, 1e8),
    jitter=st.sampled_from(["full", "none"]),
)
KINDS: list[Any] = [OSError, ConnectionError, ValueError, TypeError, BaseException]
LEAVES = st.sampled_from([*KINDS, AbortWorkflow, KeyError]).map(lambda kind: kind())


def a_group(leaves: list[BaseException]) -> BaseException:
    return BaseExceptionGroup("several", leaves)


GROUPS = st.recursive(
    LEAVES, lambda inner: st.lists(inner, min_size=1, max_size=3).map(a_group)
)


def leaves_in(exc: BaseException) -> list[BaseException]:
    if isinstance(exc, BaseExceptionGroup):
        return [leaf for inner in exc.exceptions for leaf in leaves_in(inner)]
    return [exc]


class Highest(Random):
    def random(self) -> float:
        return 1 - 2**-53


@given(
    retry=RETRIES,
    failures=st.integers(1, 60) | st.integers(1, 10**400),
    seed=st.randoms(),
)
def test_a_delay_is_within_its_bounds(retry: Retry, failures: int, seed: Any) -> None:
    whole = delay_after(attrs.evolve(retry, jitter="none"), failures, seed)

    assert 0 <= whole <= retry.cap
    assert whole >= min(retry.base, retry.cap)
    assert 0 <= delay_after(retry, failures, seed) <= whole
    later = delay_after(attrs.evolve(retry, jitter="none"), failures + 1, seed)
    assert later >= whole


@given(
    base=st.floats(1e-6, 1e6),
    factor=st.floats(1, 100),
    cap=st.floats(0, 1e8),
    failures=st.integers(1, 200),
)
def test_the_whole_delay_is_that_of_the_formula(
    base: float, factor: float, cap: float, failures: int
) -> None:
    retry = Retry(base=base, factor=factor, cap=cap, jitter="none")

    exact = min(Fraction(cap), Fraction(base) * Fraction(factor) ** (failures - 1))
    assert delay_after(retry, failures, Random(0)) == pytest.approx(float(exact))  # noqa: S311


def test_the_delays_of_the_defaults() -> None:
    plain = Retry(jitter="none")

    delays = [delay_after(plain, n, Random(0)) for n in (1, 2, 3, 9, 10, 11)]  # noqa: S311

    assert delays == [0.2, 0.4, 0.8, 51.2, 60.0, 60.0]


def test_full_jitter_reaches_from_nothing_to_the_whole() -> None:
    retry = Retry(base=8.0, cap=100.0)
    random = Random(1)  # noqa: S311

    drawn = [delay_after(retry, 2, random) for _ in range(1000)]

    assert min(drawn) < 0.1
    assert 15.9 < max(drawn) <= 16
    assert 7.5 < sum(drawn) / len(drawn) < 8.5
    assert delay_after(retry, 9, Highest()) == pytest.approx(100.0)


@pytest.mark.parametrize("jitter", ["full", "none"])
def test_no_base_is_no_delay(jitter: Any) -> None:
    retry = Retry(base=0, factor=10.0, jitter=jitter)

    assert delay_after(retry, 10**9, Highest()) == 0.0


@given(
    exc=GROUPS,
    on=st.lists(st.sampled_from(KINDS), min_size=1, max_size=3).map(tuple),
    give_up=st.lists(st.sampled_from(KINDS[:-1]), max_size=2).map(tuple),
    limit=st.integers(1, 4),
    failures=st.integers(1, 6),
)
def test_a_group_is_judged_by_its_leaves(
    exc: BaseException, on: Any, give_up: Any, limit: int, failures: int
) -> None:
    retry = Retry(limit, on=on, give_up=give_up)
    leaves = leaves_in(exc)

    wanted = (
        any(not isinstance(leaf, AbortWorkflow) for leaf in leaves)
        and not any(isinstance(leaf, kind) for leaf in leaves for kind in give_up)
        and all(any(isinstance(leaf, kind) for kind in on) for leaf in leaves)
        and failures < limit
    )
    assert is_retried(retry, exc, failures) == wanted


@pytest.mark.parametrize(
    ("exc", "retried"),
    [
        (OSError(), True),
        (NameError(), False),
        (UnboundLocalError(), False),
        (BaseException(), False),
        (AbortWorkflow(), False),
        (a_group([AbortWorkflow(), AbortWorkflow()]), False),
        (a_group([AbortWorkflow(), OSError()]), True),
        (a_group([a_group([OSError()]), ValueError()]), True),
        (a_group([OSError(), a_group([ValueError(), TypeError()])]), False),
        (a_group([OSError(), BaseException()]), False),
    ],
    ids=repr,
)
def test_the_defaults_try_again_what_may_pass(
    exc: BaseException, *, retried: bool
) -> None:
    assert is_retried(Retry(), exc, 1) == retried


@pytest.mark.parametrize("kind", [KeyboardInterrupt, SystemExit, GeneratorExit])
def test_what_ends_more_than_the_step_is_never_tried_again(
    kind: type[BaseException],
) -> None:
    anything = Retry(on=BaseException, give_up=())

    assert is_retried(anything, BaseException(), 1)
    assert not is_retried(anything, kind(), 1)
    assert not is_retried(anything, a_group([OSError(), kind()]), 1)


async def test_a_cancellation_is_never_tried_again() -> None:
    caught: list[BaseException] = []
    with trio.CancelScope() as scope:
        scope.cancel()
        try:
            await trio.lowlevel.checkpoint()
        except trio.Cancelled as exc:
            caught.append(exc)
            raise

    assert not is_retried(Retry(on=BaseException), caught[0], 1)
    assert not is_retried(Retry(on=BaseException), a_group([*caught, OSError()]), 1)


def test_the_last_attempt_is_the_last() -> None:
    tries = [is_retried(Retry(3), OSError(), failures) for failures in (1, 2, 3, 4)]

    assert tries == [True, True, False, False]
    assert not is_retried(Retry(1), OSError(), 1)
