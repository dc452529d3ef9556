"""Two-step workflows through the product: rate and latencies.

``python benchmarks/two_steps.py --in-flight 256 --durability fsync --feed emit-many``

With ``--records`` the store holds so many workflows that sleep for a day and more.
An event is produced when the source has it in hand; a workflow is done when its last
step ends, and the time runs until the last end is on disk.
"""

from __future__ import annotations

import argparse
import contextlib
import tempfile
import time
from collections.abc import Callable, Sequence
from pathlib import Path
from typing import ClassVar

import attrs
import trio

from filling import Filling, fill
from minions import (
    Gru,
    GruOptions,
    Minion,
    Pipeline,
    component_id,
    minion_step,
    open_gru,
)
from minions.store import StateStore
from workload import TEXT, computing, parser_of, percentiles, report

BATCH = 100
now = time.perf_counter


@attrs.frozen
class Event:
    number: int
    text: str = TEXT


@attrs.define
class Context:
    total: int = 0
    text: str = ""


@attrs.define
class Run:
    """What is asked for, and when what happened, by the number of the event."""

    given: argparse.Namespace
    text: str
    compute: Callable[[], None]
    gru: Gru
    done: trio.Event = attrs.field(factory=trio.Event)
    produced: list[float] = attrs.field(factory=list)
    began: dict[int, float] = attrs.field(factory=dict)
    ended: dict[int, float] = attrs.field(factory=dict)
    over: float = 0.0

    def next_event(self) -> Event:
        self.produced.append(now())
        return Event(len(self.produced) - 1)


class Source(Pipeline[Event]):
    of: ClassVar[Run]


@component_id("produce")
class Produce(Source):
    async def produce_event(self) -> Event:
        if len(self.of.produced) == self.of.given.workflows:
            raise trio.EndOfChannel
        return self.of.next_event()


@component_id("emit")
class Emit(Source):
    async def run(self) -> None:
        for _ in range(self.of.given.workflows):
            (workflow,) = await self.emit(self.of.next_event())
            if self.of.given.alone:
                assert workflow is not None
                with contextlib.suppress(KeyError):  # it is on disk that it has ended
                    await self.of.gru.workflows.wait(workflow)


@component_id("emit-many")
class EmitMany(Source):
    async def run(self) -> None:
        count = self.of.given.workflows
        for first in range(0, count, BATCH):
            size = min(BATCH, count - first)
            await self.emit_many([self.of.next_event() for _ in range(size)])


FEEDS = {"produce": Produce, "emit": Emit, "emit-many": EmitMany}


@component_id("two-steps")
class TwoSteps(Minion[Event, Context]):
    max_in_flight: ClassVar[int] = 256

    @minion_step
    async def first(self) -> None:
        run, number = Source.of, self.event.number
        run.began[number] = now()
        self.context.total = number
        self.context.text = run.text
        run.compute()

    @minion_step
    async def second(self) -> None:
        run = Source.of
        self.context.total += 1
        run.compute()
        run.ended[self.event.number] = now()
        if len(run.ended) == run.given.workflows:
            run.done.set()


async def sleep_in(folder: Path, given: argparse.Namespace) -> None:
    """Fill a store with workflows that sleep between their steps."""
    text = "x" * given.context_bytes
    sleeping = Filling(
        minion=TwoSteps,
        pipeline=FEEDS[given.feed],
        event=Event,
        context=lambda number: Context(number, text),
        step="second",
    )
    await fill(folder, sleeping, given.records)


async def measure(given: argparse.Namespace, state: Path | StateStore) -> Run:
    """Run the workflows; return what happened, the last end on disk."""
    TwoSteps.max_in_flight = given.in_flight
    text = "x" * given.context_bytes
    options = GruOptions(durability=given.durability)
    async with open_gru(state, options=options) as gru:
        Source.of = run = Run(given, text, computing(given), gru)
        orchestration = await gru.start_minion(TwoSteps, FEEDS[given.feed])
        if given.records:
            # The sleeping ones keep the orchestration from its end; the commit that
            # ends its subscription stands behind all others.
            await run.done.wait()
            assert gru.snapshot().orchestrations[orchestration.id].cold == given.records
            await orchestration.stop()
        else:
            await orchestration.wait()
        run.over = now()
    return run


def arguments(given: Sequence[str] | None = None) -> argparse.Namespace:
    parser = parser_of(__doc__)
    add = parser.add_argument
    add("--feed", choices=FEEDS, default="produce", help="how the source hands over")
    add("--alone", action="store_true", help="emit the next when the last has ended")
    add("--records", type=int, default=0, help="of sleeping workflows in the store")
    parsed = parser.parse_args(given)
    if parsed.alone and parsed.feed != "emit":
        parser.error("--alone is for --feed emit")
    return parsed


def main() -> None:
    given = arguments()
    with tempfile.TemporaryDirectory() as base:
        folder = Path(base) / "state"
        if given.records:
            trio.run(sleep_in, folder, given)
        run = trio.run(measure, given, folder)
    numbers = range(given.workflows)
    assert len(run.produced) == len(run.began) == len(run.ended) == given.workflows
    took = [run.ended[number] - run.produced[number] for number in numbers]
    first = [run.began[number] - run.produced[number] for number in numbers]
    report(
        {
            "workflows_per_s": given.workflows / (run.over - run.produced[0]),
            **percentiles("", took),
            **percentiles("first_step_", first),
        }
    )


if __name__ == "__main__":
    main()
