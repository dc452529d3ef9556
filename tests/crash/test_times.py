"""The process is killed at any time, in several lives in a row; time is real."""

from __future__ import annotations

import random
from pathlib import Path

import msgspec
import pytest

from lives import spread
from planned import Fate
from scenes import SCENE


def rows(seed: str, count: int) -> list[tuple[str, list[Fate]]]:
    rng = random.Random(seed)  # noqa: S311  # a seed, no secret
    return [
        (
            f"row {n}",
            [Fate(at=rng.uniform(0.01, 0.3)) for _ in range(rng.randint(1, 6))],
        )
        for n in range(count)
    ]


@pytest.mark.slow
@pytest.mark.parametrize("durability", ["fsync", "async"])
def test_kills_at_any_time_lose_nothing(tmp_path: Path, durability: str) -> None:
    plan = msgspec.structs.replace(
        SCENE, is_virtual=False, delay=0.02, durability=durability
    )

    counts = spread(plan, tmp_path, rows(durability, 120))

    print(counts)
    assert counts["runs"] == 120
    assert counts["kills"] >= 200
