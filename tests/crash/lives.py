"""Runs systems over several lives, and holds each against the checker."""

from __future__ import annotations

import shutil
from collections import Counter
from collections.abc import Iterable, Sequence
from concurrent.futures import ThreadPoolExecutor
from contextlib import ExitStack
from pathlib import Path

import msgspec

from checker import Checker, read_ledger
from forge import KILLED, Forge, open_forge
from planned import Fate
from plans import Plan, write_plan

__all__ = ["BrokenError", "Stage", "commits_of", "replay", "spread", "tally"]

_MOST_LIVES = 60
# The order of things that need threads is another one each time.
_REPLAYS = 20
# The clock of the ledger begins a little before that of the system.
_TOLERANCE = {True: 1.0, False: 0.001}


class BrokenError(AssertionError):
    """A guarantee does not hold; says how to see it again."""


class Stage:
    """A place for the runs of one plan."""

    def __init__(self, plan: Plan, folder: Path, forge: Forge) -> None:
        self.plan, self.folder, self.forge = plan, folder, forge
        folder.mkdir(parents=True, exist_ok=True)
        write_plan(folder / "plan.json", plan)

    def play(self, name: str, fates: Sequence[Fate]) -> tuple[Checker, list[int]]:
        """Run lives as they are fated, and then undisturbed ones until the end."""
        place = self.folder / name
        place.mkdir()
        checker = Checker(self.plan, _TOLERANCE[self.plan.is_virtual])
        codes: list[int] = []
        try:
            while not codes or codes[-1] in KILLED:
                life = len(codes)
                assert life < _MOST_LIVES, "it does not come to an end"
                fate = fates[life] if life < len(fates) else Fate()
                fate = msgspec.structs.replace(fate, life=life)
                codes.append(self.forge.run(self.folder / "plan.json", place, fate))
                assert codes[-1] in {*KILLED, 0}, f"it ended with {codes[-1]}"
                checker.hear_ledger(place / "ledger")
                if codes[-1] in KILLED:
                    checker.look(place / "state")
            checker.finish(place / "state")
        except Exception as exc:
            errors = (place / "errors").read_text()[-2000:]
            raise BrokenError(f"{errors}\n{place}: {exc!r}") from exc
        shutil.rmtree(place)
        return checker, codes


def commits_of(plan: Plan, folder: Path, forge: Forge) -> int:
    """Count the commits of an undisturbed run."""
    stage = Stage(plan, folder, forge)
    place = folder / "count"
    place.mkdir()
    assert forge.run(folder / "plan.json", place, Fate()) == 0
    (number,) = [
        line["n"] for line in read_ledger(place / "ledger") if line["k"] == "commits"
    ]
    checker = Checker(plan, _TOLERANCE[plan.is_virtual])
    checker.hear_ledger(place / "ledger")
    checker.finish(place / "state")
    shutil.rmtree(place)
    del stage
    return int(number)


def all_came(codes: Sequence[int], fates: Sequence[Fate]) -> bool:
    """Say whether every kill that was planned has come."""
    kills = sum(code in KILLED for code in codes)
    return kills >= sum(1 for fate in fates if fate.is_deadly)


def tally(
    counts: Counter[str], checker: Checker, codes: Sequence[int], fates: Sequence[Fate]
) -> None:
    """Add what has happened in one run."""
    kills = sum(code in KILLED for code in codes)
    counts["runs"] += 1
    counts["lives"] += len(codes)
    counts["kills"] += kills
    counts["not reached"] += not all_came(codes, fates)
    counts["workflows"] += len(checker.flows)
    for kind, count in checker.tallies.items():
        counts[kind] += count


def spread(
    plan: Plan,
    folder: Path,
    cases: Iterable[tuple[str, list[Fate]]],
    *,
    workers: int = 2,
    tries: int = 1,
) -> Counter[str]:
    """Play many cases side by side; return how often what happened.

    A case whose kill does not come, since the run has made fewer calls than the one
    before, is played again, so many times in all.
    """
    counts: Counter[str] = Counter()
    with ExitStack() as stack:
        forges = [stack.enter_context(open_forge()) for _ in range(workers)]
        stages = [Stage(plan, folder / str(i), forge) for i, forge in enumerate(forges)]
        queue = [(name, fates, tries) for name, fates in cases]
        queue.reverse()

        def serve(stage: Stage) -> None:
            while queue:
                name, fates, left = queue.pop()
                try:
                    checker, codes = stage.play(name, fates)
                except BaseException:
                    queue.clear()  # the others need not go on
                    raise
                if left > 1 and not all_came(codes, fates):
                    queue.append((name, fates, left - 1))
                    continue
                tally(counts, checker, codes, fates)

        with ThreadPoolExecutor(workers) as pool:
            for done in [pool.submit(serve, stage) for stage in stages]:
                done.result()
    return counts


def replay(plan: str, fates: str, folder: Path) -> None:
    """Play what the soak has found; more than once if it may go another way."""
    system = msgspec.json.decode(plan, type=Plan)
    lives = msgspec.json.decode(fates, type=list[Fate])
    with open_forge() as forge:
        for n in range(1 if system.is_virtual else _REPLAYS):
            Stage(system, folder, forge).play(f"run {n}", lives)
