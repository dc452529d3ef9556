"""Two-step workflows through the product: workflows per second.

``python benchmarks/two_steps.py --in-flight 256 --durability fsync``
"""

from __future__ import annotations

import argparse
import tempfile
import time
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
    workflows: ClassVar[int] = 0

    def __init__(self) -> None:
        self.count = 0

    async def produce_event(self) -> Event:
        if self.count == self.workflows:
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


async def measure(durability: str, folder: str) -> float:
    options = GruOptions(durability=durability)  # type: ignore[arg-type]
    async with open_gru(f"{folder}/state", options=options) as gru:
        began = time.perf_counter()
        orchestration = await gru.start_minion(TwoSteps, Source)
        await orchestration.wait()
        return time.perf_counter() - began


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--in-flight", type=int, default=256)
    parser.add_argument("--workflows", type=int, default=20_000)
    parser.add_argument("--durability", default="fsync")
    parser.add_argument("--folder", help="where the store lies; else a temporary one")
    arguments = parser.parse_args()
    TwoSteps.max_in_flight = arguments.in_flight
    Source.workflows = arguments.workflows
    with tempfile.TemporaryDirectory(dir=arguments.folder) as folder:
        seconds = trio.run(measure, arguments.durability, folder)
    print(f"{arguments.workflows / seconds:.0f} workflows/s")


if __name__ == "__main__":
    main()
