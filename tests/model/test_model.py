"""The real engine against a pure model of it, all vocabulary included.

`--tally N` plays N plans over each store, and shows in how many of them each
command, outcome and refusal happened.
"""

from __future__ import annotations

import gc
import sys
from collections import Counter
from collections.abc import Callable

import hypothesis
import pytest
from hypothesis import HealthCheck, Phase, given, seed, settings
from tests.model.model import Ambiguous
from tests.model.mutants import MUTANTS, Patch
from tests.model.play import Backend, Plan, play
from tests.model.scripts import ENDS
from tests.model.strategies import COMMANDS, plans

QUIET = list(HealthCheck)
BACKENDS = pytest.mark.parametrize("backend", ["memory", "folder"])

# All that a few thousand plans bring.
HAPPENINGS = (
    *COMMANDS,
    *(f"act: {end}" for end in ENDS),
    "act: hear",
    "act: tell",
    "an older one overtakes an interrupted one",
    "a receive times out",
    "a signal is received in a step",
    "a signal was there before the wait",
    "a step emits",
    "a step is interrupted",
    "a step is tried again",
    "a step times out",
    "a suspect waits for its turn",
    "discarded by hand",
    "end: aborted",
    "end: cancelled",
    "end: discarded",
    "end: done",
    "quarantined: crashed",
    "quarantined: failed",
    "quarantined: incompatible",
    "quarantined: unstorable",
    "queued behind a key",
    "refused: AlreadyRunningError",
    "refused: DefinitionError",
    "refused: KeyError",
    "refused: NotRunningError",
    "refused: TypeError",
    "stop: cutover",
    "stop: drain",
    "stop: pause",
    "woken: retrying",
    "woken: sleeping",
    "woken: waiting",
)


@pytest.fixture(autouse=True)
def quiet(caplog: pytest.LogCaptureFixture) -> None:
    """What fails on purpose says so in the log, thousands of times."""
    caplog.set_level("CRITICAL", logger="minions")


def happened(backend: Backend, number: int, examples: int) -> Counter[str]:
    """Play as many plans; count in how many of them each thing happened."""
    tally: Counter[str] = Counter()

    @seed(number)
    @settings(
        max_examples=examples,
        deadline=None,
        database=None,
        suppress_health_check=QUIET,
    )
    @given(plan=plans())
    def search(plan: Plan) -> None:
        try:
            found = play(plan, backend)
        except Ambiguous:
            tally["ambiguous"] += 1
        else:
            tally.update(set(found))
            tally["played"] += 1

    search()
    return tally


@BACKENDS
def test_the_engine_does_what_the_model_says(
    backend: Backend, request: pytest.FixtureRequest
) -> None:
    """`--tally N` plays N plans."""
    asked = request.config.getoption("--tally")

    tally = happened(backend, 0, asked or 20)

    request.node.user_properties.append((f"tally {backend}", dict(tally)))
    assert tally["ambiguous"] <= tally["played"] // 5
    if asked and asked >= 1000:
        assert [what for what in HAPPENINGS if not tally[what]] == []


@pytest.mark.slow
@BACKENDS
@pytest.mark.parametrize("number", range(1, 6))
def test_it_does_so_for_long(
    backend: Backend, number: int, request: pytest.FixtureRequest
) -> None:
    tally = happened(backend, number, 500)

    request.node.user_properties.append((f"tally {backend}", dict(tally)))
    assert tally["ambiguous"] <= tally["played"] // 5


# The mutants.


def examples_until_found(number: int, most: int) -> int | None:
    """Search without shrinking; return how many plans it took, if any did it."""
    played = 0

    @seed(number)
    @settings(
        max_examples=most,
        deadline=None,
        database=None,
        phases=[Phase.generate],
        report_multiple_bugs=False,
        suppress_health_check=QUIET,
        verbosity=hypothesis.Verbosity.quiet,
    )
    @given(plan=plans())
    def search(plan: Plan) -> None:
        nonlocal played
        played += 1
        try:
            play(plan, "memory")
        except Ambiguous:
            return

    found = False
    try:
        search()
    except (Exception, BaseExceptionGroup):
        found = True
    gc.collect()  # what a broken run left behind complains here, not later
    return played if found else None


@pytest.mark.slow
def test_the_search_finds_nothing_in_the_real_engine() -> None:
    """What finds the mutants is the mutants, not the search."""
    assert [examples_until_found(number, 300) for number in range(3)] == [None] * 3


@pytest.mark.slow
@pytest.mark.filterwarnings("ignore")  # a run that broke leaves coroutines
@pytest.mark.parametrize("mutant", MUTANTS)
def test_a_mutant_is_found(
    mutant: Callable[[Patch], None],
    monkeypatch: pytest.MonkeyPatch,
    record_property: Callable[[str, object], None],
) -> None:
    """Three fixed seeds find each mutant within 300 examples."""
    mutant(monkeypatch)
    monkeypatch.setattr(sys, "unraisablehook", lambda _: None)

    found = [examples_until_found(number, 300) for number in range(3)]

    record_property("examples", found)
    assert all(found), found
