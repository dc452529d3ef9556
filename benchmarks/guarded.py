"""The fixed work whose instructions `guard.py` counts: two-step workflows.

``python benchmarks/guarded.py --workflows 2000``

It does the same each time: neither a clock, nor a thread, nor chance decides what is
done. Under trio's test clock the store commits in the event loop, and no time passes;
trio's scheduler, which turns batches of tasks round by chance, is given a seed.
"""

from __future__ import annotations

import argparse
import json
import tempfile
from importlib import import_module
from pathlib import Path
from typing import ClassVar

import attrs
import trio
from trio.testing import MockClock

import minions
from minions import GruOptions, Minion, Pipeline, minion_step, open_gru

IN_FLIGHT = 16


@attrs.frozen
class Event:
    number: int
    text: str


@attrs.define
class Context:
    total: int = 0
    text: str = ""


class Source(Pipeline[Event]):
    workflows: ClassVar[int] = 0

    def __init__(self) -> None:
        self.count = 0

    async def produce_event(self) -> Event:
        if self.count == self.workflows:
            raise trio.EndOfChannel
        self.count += 1
        return Event(self.count, "x" * 100)


class TwoSteps(Minion[Event, Context]):
    max_in_flight = IN_FLIGHT

    @minion_step
    async def first(self) -> None:
        self.context.total = self.event.number
        self.context.text = self.event.text

    @minion_step
    async def second(self) -> None:
        self.context.total += 1
        totals.append(self.context.total)


totals: list[int] = []


def seed_scheduler() -> None:
    """Let trio turn its batches of tasks round in the same order each time."""
    # No public way; a name that goes makes this fail, and not the counts vary.
    import_module("trio._core._run")._r.seed(0)  # noqa: SLF001


async def work(folder: Path) -> None:
    options = GruOptions(durability="none")
    async with open_gru(folder / "state", options=options) as gru:
        orchestration = await gru.start_minion(TwoSteps, Source)
        await orchestration.wait()


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--workflows", type=int, default=2_000)
    parser.add_argument("--source", type=Path, help="where minions must come from")
    given = parser.parse_args()
    found = Path(minions.__file__).parents[1]
    if given.source is not None and found != given.source.resolve():
        parser.exit(1, f"expected minions from {given.source}, found it in {found}\n")
    seed_scheduler()
    Source.workflows = given.workflows
    with tempfile.TemporaryDirectory() as folder:
        trio.run(work, Path(folder), clock=MockClock())
    assert sorted(totals) == [number + 2 for number in range(given.workflows)]
    print(json.dumps({"workflows": len(totals)}))


if __name__ == "__main__":
    main()
