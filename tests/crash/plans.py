"""Plans of systems: what each step of each minion does, for each number of an event.

A plan is plain data.  ``planned.py`` makes components of it and runs them;
``checker.py`` asks :func:`path_of` what must have become of each workflow.  Neither
knows anything of the other.
"""

from __future__ import annotations

from collections.abc import Iterator
from pathlib import Path
from typing import Literal

import msgspec

Kind = Literal[
    "call",  # a method of a resource
    "emit",  # events to another pipeline, with the commit that ends the step
    "receive",  # takes a signal inside of the step
    "fail",  # raises in the first attempts
    "quarantine",  # raises until somebody has mended the context
    "abort",
    # What the step returns; at most one of them applies to a number.
    "after",
    "wait",
    "goto",
    "done",
    "cancel",  # waits for a signal that nobody sends, until it is cancelled
]


class Act(msgspec.Struct, frozen=True):
    """Something that a step does for every n-th event."""

    kind: Kind
    every: int = 1
    rest: int = 0
    to: str = ""
    """The resource, pipeline or step; ``discard``: what becomes of the quarantined."""

    times: int = 1
    timed: bool = False
    """Whether it waits until a timeout, and no signal is sent."""

    early: bool = False
    """Whether the signal is sent as soon as the workflow is seen."""


class Step(msgspec.Struct, frozen=True):
    name: str
    acts: list[Act] = []
    attempts: int = 1

    def acts_for(self, number: int) -> list[Act]:
        return [act for act in self.acts if number % act.every == act.rest]


class MinionPlan(msgspec.Struct, frozen=True):
    name: str
    pipeline: str
    steps: list[Step]
    max_in_flight: int = 4
    keys: int = 0
    """How many keys there are; 0: it has none."""

    hold: bool = False
    discards: bool = False
    needs: list[str] = []

    def step(self, name: str) -> Step:
        return next(step for step in self.steps if step.name == name)

    def index_of(self, name: str) -> int:
        return [step.name for step in self.steps].index(name)


class PipelinePlan(msgspec.Struct, frozen=True):
    name: str
    kind: Literal["cursor", "outside", "target"] = "cursor"
    events: int = 0
    batch: int = 2


class ResourcePlan(msgspec.Struct, frozen=True):
    name: str
    needs: list[str] = []


class Plan(msgspec.Struct, frozen=True):
    pipelines: list[PipelinePlan]
    minions: list[MinionPlan]
    resources: list[ResourcePlan] = []
    seed: int = 0
    is_virtual: bool = True
    """Whether time is virtual, and commits are made in the event loop."""

    delay: float = 100.0
    durability: str = "fsync"
    keep: float = 1e7
    max_kept: int = 100_000
    dedup_window: float = 86400.0

    def minion(self, name: str) -> MinionPlan:
        return next(minion for minion in self.minions if minion.name == name)

    def minions_of(self, pipeline: str) -> list[MinionPlan]:
        return [minion for minion in self.minions if minion.pipeline == pipeline]


def read_plan(path: Path) -> Plan:
    return msgspec.json.decode(path.read_bytes(), type=Plan)


def write_plan(path: Path, plan: Plan) -> None:
    path.write_bytes(msgspec.json.encode(plan))


class Visit(msgspec.Struct, frozen=True):
    """A step as one workflow passes it."""

    step: Step
    acts: list[Act]
    state: str = ""
    """The end of the workflow, if it ends in this step."""

    def act(self, *kinds: Kind) -> Act | None:
        return next((act for act in self.acts if act.kind in kinds), None)

    @property
    def failures(self) -> int:
        act = self.act("fail")
        return act.times if act is not None else 0


def path_of(minion: MinionPlan, number: int) -> list[Visit]:
    """Say by which steps a workflow goes, and how it ends."""
    return list(_walk(minion, number))


def _walk(minion: MinionPlan, number: int) -> Iterator[Visit]:
    index, mended = 0, False
    while True:
        step = minion.steps[index]
        acts = [
            act
            for act in step.acts_for(number)
            if act.kind != "quarantine" or not mended
        ]
        visit = Visit(step, acts)
        mended = mended or visit.act("quarantine") is not None
        state = _end_in(minion, visit)
        goto = visit.act("after", "wait", "goto")
        index += 1
        if goto is not None and goto.to:
            index = minion.index_of(goto.to)
        if not state and index == len(minion.steps):
            state = "done"
        yield msgspec.structs.replace(visit, state=state)
        if state:
            return


def _end_in(minion: MinionPlan, visit: Visit) -> str:
    bad = visit.act("quarantine")
    if bad is not None and minion.discards:
        return "discarded"
    if bad is not None and bad.to == "discard":
        return "thrown away"
    for kind, state in (("abort", "aborted"), ("cancel", "cancelled")):
        if any(act.kind == kind for act in visit.acts):
            return state
    returned = visit.act("after", "wait", "goto", "done")
    return "done" if returned is not None and returned.kind == "done" else ""


def signal_of(minion: MinionPlan, step: str, *, inside: bool) -> str:
    """Name the type of signal that a step takes; none is taken by two steps."""
    return f"{'Inside' if inside else 'Wait'}{minion.index_of(step)}"


def event_key(pipeline: str, number: int, origin: str) -> str:
    """Name an event for ever."""
    return f"{pipeline}/{number}/{origin}"
