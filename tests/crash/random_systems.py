"""Random systems, and what befalls them."""

from __future__ import annotations

import random

from planned import Fate
from plans import Act, Kind, MinionPlan, PipelinePlan, Plan, ResourcePlan, Step

__all__ = ["random_fates", "random_plan"]

# About as many commits as a random system makes.
_COMMITS = 60


def random_plan(rng: random.Random) -> Plan:
    resources = [
        ResourcePlan(f"r{n}", [f"r{m}" for m in range(n) if rng.random() < 0.4])
        for n in range(rng.randint(0, 2))
    ]
    kinds = ["cursor" if rng.random() < 0.7 else "outside"]
    kinds += rng.choices(["cursor", "outside", "target"], k=rng.randint(0, 2))
    # An emit goes to a later one only: no event goes round for ever.
    kinds.sort(key=lambda kind: kind == "target")
    pipelines = [
        PipelinePlan(
            f"p{n}",
            kind,  # type: ignore[arg-type]
            events=0 if kind == "target" else rng.randint(1, 9),
            batch=rng.randint(1, 4),
        )
        for n, kind in enumerate(kinds)
    ]
    # Each pipeline has a minion, so that all are known in the store.
    homes = list(range(len(pipelines)))
    homes += rng.choices(homes, k=rng.randint(0, max(0, 4 - len(homes))))
    minions = [
        _minion(rng, f"m{n}", home, pipelines, resources)
        for n, home in enumerate(homes)
    ]
    is_virtual = rng.random() < 0.7
    return Plan(
        pipelines=pipelines,
        minions=minions,
        resources=resources,
        seed=rng.randrange(10**6),
        is_virtual=is_virtual,
        delay=100.0 if is_virtual else rng.choice([0.005, 0.02, 0.05]),
        durability=rng.choice(["fsync", "async"]),
        keep=rng.choice([1e7, 1e7, 0.0, 150.0 if is_virtual else 0.1]),
        max_kept=rng.choice([100_000, 100_000, 3]),
    )


def _minion(
    rng: random.Random,
    name: str,
    home: int,
    pipelines: list[PipelinePlan],
    resources: list[ResourcePlan],
) -> MinionPlan:
    needs = [resource.name for resource in resources if rng.random() < 0.5]
    targets = [p.name for p in pipelines[home + 1 :] if p.kind == "target"]
    names = [f"s{n}" for n in range(rng.randint(1, 5))]
    keys = rng.choice([0, 0, 1, 2, 3])
    return MinionPlan(
        name,
        pipelines[home].name,
        [
            _step(rng, step, names[n + 1 :], needs=needs, targets=targets)
            for n, step in enumerate(names)
        ],
        max_in_flight=rng.choice([1, 2, 4, 8, 100]),
        keys=keys,
        hold=bool(keys) and rng.random() < 0.5,
        discards=rng.random() < 0.15,
        needs=needs,
    )


def _step(
    rng: random.Random,
    name: str,
    later: list[str],
    *,
    needs: list[str],
    targets: list[str],
) -> Step:
    acts: list[Act] = []

    def maybe(kind: Kind, chance: float, **fields: object) -> None:
        if rng.random() < chance:
            every = rng.randint(1, 4)
            rest = rng.randrange(every)
            acts.append(Act(kind, every=every, rest=rest, **fields))  # type: ignore[arg-type]

    if needs:
        maybe("call", 0.6, to=rng.choice(needs))
    if targets:
        maybe("emit", 0.5, to=rng.choice(targets), times=rng.randint(1, 2))
    maybe("receive", 0.2, timed=rng.random() < 0.3, early=rng.random() < 0.5)
    times = rng.randint(1, 3)
    maybe("fail", 0.3, times=times)
    maybe("quarantine", 0.1, to="discard" if rng.random() < 0.3 else "")
    maybe("abort", 0.08)
    acts += _returned(rng, later)
    return Step(name, acts, attempts=times + rng.randint(1, 2))


def _returned(rng: random.Random, later: list[str]) -> list[Act]:
    """Make what a step returns; for no number two things."""
    every = rng.randint(1, 4)
    acts: list[Act] = []
    for rest in range(every):
        if rng.random() < 0.45:
            continue
        kind = rng.choices(
            ["after", "wait", "goto", "done", "cancel"], [5, 5, 3, 1, 1]
        )[0]
        to = rng.choice([*later, ""]) if kind in {"after", "wait", "goto"} else ""
        if kind == "goto" and not to:
            continue
        acts.append(
            Act(
                kind,  # type: ignore[arg-type]
                every=every,
                rest=rest,
                to=to,
                timed=kind == "wait" and rng.random() < 0.4,
                early=kind == "wait" and rng.random() < 0.4,
            )
        )
    return acts


def random_fates(rng: random.Random, plan: Plan) -> list[Fate]:
    """Say what befalls a system: kills, and crashes of its components."""
    names = [resource.name for resource in plan.resources]
    names += [pipeline.name for pipeline in plan.pipelines]
    names += [minion.name for minion in plan.minions]
    fates: list[Fate] = []
    for _ in range(rng.randint(0, 6)):
        number = rng.randrange(1, _COMMITS)
        crashes = {
            name: sorted(rng.sample(range(1, _COMMITS), rng.randint(1, 3)))
            for name in names
            if rng.random() < 0.3
        }
        kind = rng.randrange(2 if plan.is_virtual else 3)
        fates.append(
            Fate(
                before=number if kind == 0 else 0,
                after=number if kind == 1 else 0,
                at=rng.uniform(0.01, 0.5) if kind == 2 else 0.0,
                crashes=crashes,
            )
        )
    return fates
