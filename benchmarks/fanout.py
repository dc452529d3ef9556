"""One pipeline, many minions: workflows per second.

``python benchmarks/fanout.py --minions 16 --workflows 16000``

Every event starts one two-step workflow for each minion, in one commit. The time is
from the first call of the source until the last end is on disk.
"""

from __future__ import annotations

import argparse
import json
import tempfile
import time
from collections import Counter
from typing import ClassVar

import attrs
import trio

from minions import GruOptions, Minion, Pipeline, minion_step, open_gru


@attrs.frozen
class Event:
    number: int
    text: str


@attrs.define
class Context:
    total: int = 0
    text: str = ""


class Source(Pipeline[Event]):
    events: ClassVar[int] = 0
    began: ClassVar[float] = 0.0

    def __init__(self) -> None:
        self.count = 0

    async def produce_event(self) -> Event:
        if not self.count:
            Source.began = time.perf_counter()
        if self.count == self.events:
            raise trio.EndOfChannel
        self.count += 1
        return Event(self.count, "x" * 100)


class TwoSteps(Minion[Event, Context]):
    max_in_flight = 256

    @minion_step
    async def first(self) -> None:
        self.context.total = self.event.number
        self.context.text = self.event.text

    @minion_step
    async def second(self) -> None:
        self.context.total += 1
        totals.append(self.context.total)


totals: list[int] = []


async def measure(minions: int, durability: str, folder: str) -> float:
    options = GruOptions(durability=durability)  # type: ignore[arg-type]
    async with open_gru(f"{folder}/state", options=options) as gru:
        async with gru.starting():
            orchestrations = [
                await gru.start_minion(TwoSteps, Source, name=f"n{number}")
                for number in range(minions)
            ]
        for orchestration in orchestrations:
            await orchestration.wait()
        return time.perf_counter() - Source.began


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--minions", type=int, default=16)
    parser.add_argument("--workflows", type=int, default=16_000, help="in all")
    parser.add_argument("--in-flight", type=int, default=256, help="of each minion")
    parser.add_argument("--durability", default="fsync")
    parser.add_argument("--folder", help="where the store lies; else a temporary one")
    given = parser.parse_args()
    TwoSteps.max_in_flight = given.in_flight
    Source.events, left = divmod(given.workflows, given.minions)
    if left:
        parser.error("--workflows: expected a multiple of --minions")
    with tempfile.TemporaryDirectory(dir=given.folder) as folder:
        seconds = trio.run(measure, given.minions, given.durability, folder)
    expected = {number + 2: given.minions for number in range(Source.events)}
    assert Counter(totals) == expected, "some workflow ran twice, or never"
    numbers = {
        "workflows_per_s": given.workflows / seconds,
        "events_per_s": Source.events / seconds,
    }
    print(json.dumps(numbers))


if __name__ == "__main__":
    main()
