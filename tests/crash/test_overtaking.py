"""Who is interrupted before its first commit holds no key: an older one goes first.

The first workflow comes into quarantine and lets its key go.  The second runs its
first step, which is told of a signal; at that moment the first is redriven, and the
step fails.  If what its minion needs crashes before the failure is judged, the step
was interrupted: nothing of it is saved.
"""

from __future__ import annotations

from pathlib import Path
from typing import Any

import msgspec
import pytest

from checker import Checker
from lives import spread
from planned import Fate
from plans import Act, MinionPlan, PipelinePlan, Plan, ResourcePlan, Step

PLAN = Plan(
    durability="async",
    pipelines=[PipelinePlan("lines", events=2)],
    resources=[ResourcePlan("disk")],
    minions=[
        MinionPlan(
            "trader",
            "lines",
            keys=1,
            needs=["disk"],
            steps=[
                Step(
                    "book",
                    [
                        Act("quarantine", every=2),
                        Act("receive", every=2, rest=1),
                        Act("fail", every=2, rest=1),
                    ],
                    attempts=2,
                )
            ],
        )
    ],
)
# As many commits as an undisturbed run makes.
COMMITS = 9


@pytest.mark.slow
@pytest.mark.parametrize("kill", [False, True])
def test_a_crash_at_every_commit_breaks_no_key(tmp_path: Path, *, kill: bool) -> None:
    counts = spread(
        PLAN,
        tmp_path,
        [
            (f"{at} {last}", [Fate(crashes={"disk": [at]}, after=last)])
            for at in range(1, COMMITS + 1)
            for last in (range(at, COMMITS + 1) if kill else [0])
        ],
    )

    assert counts["crash"] >= COMMITS - 1
    assert counts["overtaken"] >= 2, counts


def line(kind: str, workflow: int, attempt: int, at: float) -> dict[str, Any]:
    return {
        "k": kind,
        "w": f"w{workflow}",
        "s": "book",
        "a": attempt,
        "m": "trader",
        "e": f"lines/{workflow - 1}/c",
        "n": workflow - 1,
        "trail": [],
        "t": at,
        "taken": [],
    }


def fails(workflow: int, why: str, at: float) -> list[dict[str, Any]]:
    begins = line("begin", workflow, 1, at)
    return [begins, {**line("fail", workflow, 1, at), "why": why}]


def redrive(workflow: int) -> list[dict[str, Any]]:
    asked = {"what": "redrive", "w": f"w{workflow}", "why": "failed: LookupError"}
    return [{"k": kind, **asked} for kind in ("try", "did")]


def ends(workflow: int, attempt: int, at: float) -> list[dict[str, Any]]:
    return [line(kind, workflow, attempt, at) for kind in ("begin", "end")]


CRASH = {"k": "crash", "c": "disk", "t": 20.0}
BEFORE = [*fails(1, "LookupError", 0.0), *fails(2, "Crash", 20.0)]
LATER = [*redrive(1), *ends(1, 1, 21.0)]


def hear(*lines: dict[str, Any]) -> Checker:
    checker = Checker(PLAN, 1.0)
    checker.hear(lines)
    return checker


def test_an_older_one_goes_before_one_that_was_interrupted() -> None:
    hear(*BEFORE, CRASH, *LATER, *ends(2, 1, 21.0)[:1])


def test_who_was_overtaken_has_not_failed() -> None:
    """Else its retry was saved, and with it its key."""
    with pytest.raises(AssertionError, match="found Flow"):
        hear(*BEFORE, CRASH, *LATER, *ends(2, 2, 200.0))


def test_an_older_one_waits_for_one_that_has_failed() -> None:
    with pytest.raises(AssertionError, match="beside w2"):
        hear(*BEFORE, *LATER)


def test_an_older_one_waits_for_one_that_runs() -> None:
    with pytest.raises(AssertionError, match="beside w2"):
        hear(*BEFORE[:3], CRASH, *LATER)


CUT = {"k": "cut", "w": "w2", "s": "book", "a": 1}


@pytest.mark.parametrize("is_suspect", [False, True])
def test_a_suspect_holds_its_key_from_its_first_step_on(*, is_suspect: bool) -> None:
    """A mark is committed before its step begins, and with it the key."""
    checker = hear(*fails(1, "LookupError", 0.0), *ends(2, 1, 20.0)[:1], CUT)
    checker.hear([{"k": "life"}])
    checker.flows["w2"].is_suspect = is_suspect
    checker.hear([*ends(2, 1, 20.0)[:1], CUT])

    if is_suspect:
        with pytest.raises(AssertionError, match="beside w2"):
            checker.hear(LATER)
    else:
        checker.hear(LATER)


def test_a_redriven_one_holds_no_key_until_its_next_commit() -> None:
    trail = {"trail": ["book"]}
    plan = PLAN.minions[0]
    last = Step("tell", [Act("quarantine")], attempts=2)
    plan = msgspec.structs.replace(plan, steps=[Step("book"), last])
    checker = Checker(msgspec.structs.replace(PLAN, minions=[plan]), 1.0)
    steps: list[dict[str, Any]] = []
    for n, at in ((1, 0.0), (2, 20.0)):
        tells = [{**one, "s": "tell", **trail} for one in fails(n, "LookupError", at)]
        steps += [*ends(n, 1, at), *tells]
    begins = {**line("begin", 2, 1, 20.0), "s": "tell", **trail}
    older = {**line("begin", 1, 1, 21.0), "s": "tell", **trail}

    checker.hear([*steps, *redrive(2), begins, {**CUT, "s": "tell"}])
    checker.hear([*redrive(1), older])
