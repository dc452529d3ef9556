"""The process is killed before and after commits, and goes on from its folder."""

from __future__ import annotations

import random
from pathlib import Path

import msgspec
import pytest

from forge import open_forge
from lives import commits_of, spread
from planned import Fate
from scenes import SCENE

# In the fast suite without a flush: to who kills a process it is the same.
QUICK = msgspec.structs.replace(SCENE, durability="async")


@pytest.fixture(scope="module")
def commits(tmp_path_factory: pytest.TempPathFactory) -> int:
    with open_forge() as forge:
        return commits_of(QUICK, tmp_path_factory.mktemp("count"), forge)


def kill_points(commits: int) -> list[tuple[str, list[Fate]]]:
    points = []
    for number in range(1, commits + 1):
        points.append((f"before {number}", [Fate(before=number)]))
        points.append((f"after {number}", [Fate(after=number)]))
    return points


def test_a_kill_at_some_commits_loses_nothing(commits: int, tmp_path: Path) -> None:
    # Two writes may share a commit, or not: the last ones need not come each time.
    points = kill_points(commits * 4 // 5)

    counts = spread(QUICK, tmp_path, points[:: len(points) // 6], workers=1)

    assert counts["kills"] == counts["runs"] >= 6
    assert counts["lives"] == 2 * counts["runs"]


@pytest.mark.slow
def test_a_kill_at_every_commit_loses_nothing(commits: int, tmp_path: Path) -> None:
    counts = spread(SCENE, tmp_path, kill_points(commits))

    assert counts["kills"] == counts["runs"] == 2 * commits


def kills_in_a_row(seed: int, commits: int) -> tuple[str, list[Fate]]:
    rng = random.Random(seed)  # noqa: S311  # a seed, no secret
    ends = [rng.randrange(1, commits // n) for n in (1, 2, 2, 2)]
    fates = [Fate(before=n) if rng.random() < 0.5 else Fate(after=n) for n in ends]
    return f"row {seed}", fates


@pytest.mark.slow
def test_kills_in_a_row_lose_nothing(commits: int, tmp_path: Path) -> None:
    """Who was in flight becomes a suspect, and is as safe as before."""
    cases = [kills_in_a_row(seed, commits) for seed in range(60)]

    counts = spread(SCENE, tmp_path, cases)

    assert counts["runs"] == 60
    assert counts["kills"] > 150
