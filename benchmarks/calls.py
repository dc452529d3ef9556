"""A resource's async method, called through the runtime and without it.

``python benchmarks/calls.py``

A step calls the resource that it depends on, and an instance of the same class that
was made by hand, in turn, in short rounds. The method does next to nothing and has no
checkpoint. The numbers are medians over the rounds; those of the plain call hold the
loop, those of the difference do not.
"""

from __future__ import annotations

import argparse
import json
import statistics
import time
from typing import ClassVar

import attrs
import trio

from minions import Minion, Pipeline, Resource, minion_step, open_gru

CALLS = 2_000


class Counter(Resource):
    def __init__(self) -> None:
        self.count = 0

    async def add(self, number: int) -> int:
        self.count += number
        return self.count


@attrs.frozen
class Event:
    pass


@attrs.define
class Context:
    pass


class Source(Pipeline[Event]):
    pass


@attrs.define
class Rounds:
    """Seconds of each round."""

    guarded: list[float] = attrs.field(factory=list)
    plain: list[float] = attrs.field(factory=list)


async def time_calls(counter: Counter) -> float:
    began = time.perf_counter()
    for _ in range(CALLS):
        await counter.add(1)
    return time.perf_counter() - began


class Caller(Minion[Event, Context]):
    counter: Counter
    rounds: ClassVar[int] = 0

    @minion_step
    async def call(self) -> None:
        plain = Counter()
        assert type(self.counter) is not Counter, "expected a guarded instance"
        for _ in range(self.rounds):
            found.guarded.append(await time_calls(self.counter))
            found.plain.append(await time_calls(plain))
        assert self.counter.count == plain.count == self.rounds * CALLS


found = Rounds()


async def measure() -> None:
    async with open_gru(None) as gru:
        await gru.start_minion(Caller, Source)
        (workflow,) = await gru.emit(Source, Event())
        assert workflow is not None
        ended = await gru.workflows.wait(workflow)
        assert ended.state == "done", ended.reason
        await gru.stop()


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--rounds", type=int, default=200)
    Caller.rounds = parser.parse_args().rounds
    trio.run(measure)
    pairs = zip(found.guarded, found.plain, strict=True)
    beyond = statistics.median(guarded - plain for guarded, plain in pairs)
    numbers = {
        "guarded_ns": statistics.median(found.guarded) / CALLS * 1e9,
        "plain_ns": statistics.median(found.plain) / CALLS * 1e9,
        "beyond_ns": beyond / CALLS * 1e9,
        "beyond_us": beyond / CALLS * 1e6,
    }
    print(json.dumps(numbers))


if __name__ == "__main__":
    main()
