"""Random systems, killed and crashed for minutes, each held against a checker.

``python tests/soak/soak.py --minutes 10 --seed 1``

A round is a random system: pipelines with cursors or fed from outside, minions with
random steps, resources that crash.  It runs in a process that is killed before or
after some commit, or at some time, and goes on in the next one until all is done.
What the steps wrote outside, and the folder, must fit the plan after each life.

A failure prints its seed and schedule, and writes a test that plays it again.
"""

from __future__ import annotations

import argparse
import random
import shutil
import sys
import tempfile
import time
from collections import Counter
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path

import msgspec

HERE = Path(__file__).parent
sys.path.insert(0, str(HERE.parent / "crash"))

from forge import Forge, open_forge  # noqa: E402
from lives import BrokenError, Stage, tally  # noqa: E402
from planned import Fate  # noqa: E402
from plans import Plan  # noqa: E402
from random_systems import random_fates, random_plan  # noqa: E402

_SHOWN = {
    "runs": "rounds",
    "lives": "lives of a process",
    "kills": "kills",
    "crash": "crashes of components",
    "workflows": "workflows",
    "begin": "steps begun",
    "end": "steps ended",
    "fail": "steps failed",
    "cut": "steps interrupted",
    "did": "events and signals from outside, redrives, cancels",
    "suspected": "workflows found in quarantine as crashed",
}
_TEST = '''"""Plays again what the soak has found with seed {seed}."""

from __future__ import annotations

from pathlib import Path

from lives import replay

PLAN = """
{plan}
"""
FATES = """
{fates}
"""


def test_soak_{seed}(tmp_path: Path) -> None:
    replay(PLAN, FATES, tmp_path)
'''


def case_of(seed: int) -> tuple[Plan, list[Fate]]:
    rng = random.Random(seed)  # noqa: S311  # a seed, no secret
    plan = random_plan(rng)
    return plan, random_fates(rng, plan)


def write_test(seed: int, plan: Plan, fates: list[Fate]) -> Path:
    """Write a failure as a test."""
    path = HERE / f"test_soak_{seed}.py"

    def pretty(value: object) -> str:
        text = msgspec.json.format(msgspec.json.encode(value), indent=1)
        return text.decode()

    path.write_text(_TEST.format(seed=seed, plan=pretty(plan), fates=pretty(fates)))
    return path


def play(seed: int, folder: Path, forge: Forge, counts: Counter[str]) -> bool:
    """Play one round; say whether all held."""
    plan, fates = case_of(seed)
    try:
        checker, codes = Stage(plan, folder / str(seed), forge).play("run", fates)
    except BrokenError as exc:
        print(f"{exc}\nseed {seed} has failed", file=sys.stderr)
        print(f"schedule: {fates}", file=sys.stderr)
        print(f"written: {write_test(seed, plan, fates)}", file=sys.stderr, flush=True)
        return False
    shutil.rmtree(folder / str(seed))
    tally(counts, checker, codes, fates)
    return True


def soak(first: int, seconds: float, folder: Path, *, workers: int) -> bool:
    """Play rounds side by side until the time is over or one fails."""
    counts: Counter[str] = Counter()
    seeds = iter(range(first, sys.maxsize))
    until = time.monotonic() + seconds
    failed: list[int] = []

    def serve() -> None:
        with open_forge() as forge:
            while time.monotonic() < until and not failed:
                seed = next(seeds)
                if not play(seed, folder, forge, counts):
                    failed.append(seed)

    with ThreadPoolExecutor(workers) as pool:
        for done in [pool.submit(serve) for _ in range(workers)]:
            done.result()
    for name, text in _SHOWN.items():
        print(f"{counts[name]:>9,} {text}")
    print(
        f"seeds {first} to {next(seeds) - 1}: {f'FAILED {failed}' if failed else 'ok'}"
    )
    return not failed


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__.partition("\n")[0])
    parser.add_argument("--minutes", type=float, default=10)
    parser.add_argument("--seed", type=int, default=None, help="of the first round")
    parser.add_argument("--workers", type=int, default=2)
    given = parser.parse_args()
    seed = given.seed if given.seed is not None else int(time.time())
    folder = Path(tempfile.mkdtemp(prefix="soak-"))
    well = soak(seed, 60 * given.minutes, folder, workers=given.workers)
    if well:
        shutil.rmtree(folder)
    sys.exit(0 if well else 1)


if __name__ == "__main__":
    main()
