"""Cold workflows: what they cost while they wait, and at a reopening.

``python benchmarks/cold.py --cold 100000 --idle 30``

It fills a store with workflows that sleep for a day, opens it, waits, and runs
two-step workflows beside them.
"""

from __future__ import annotations

import argparse
import resource
import tempfile
import time
from collections.abc import Iterator
from functools import partial
from pathlib import Path
from typing import ClassVar

import attrs
import trio

from minions import GruOptions, Minion, Pipeline, component_id, minion_step, open_gru
from minions.identity import orchestration_id
from minions.store.codec import codec_for
from minions.store.lmdb_store import open_lmdb_store
from minions.workflow.record import WorkflowRecord
from minions.workflow.stored import entries

BESIDE = 10_000
BATCH = 2_000


@attrs.frozen
class Event:
    number: int
    text: str = "x" * 100


@attrs.define
class Context:
    total: int = 0


@component_id("cold-source")
class Source(Pipeline[Event]):
    def __init__(self) -> None:
        self.count = 0

    async def produce_event(self) -> Event:
        if self.count == BESIDE:
            raise trio.EndOfChannel
        if not self.count:
            await beside.wait()
        self.count += 1
        return Event(self.count)


@component_id("cold-minion")
class TwoSteps(Minion[Event, Context]):
    max_in_flight: ClassVar[int] = 256

    @minion_step
    async def first(self) -> None:
        self.context.total = self.event.number

    @minion_step
    async def second(self) -> None:
        self.context.total += 1
        done.append(self.event.number)
        if len(done) == BESIDE:
            all_done.set()


beside = trio.Event()
all_done = trio.Event()
done: list[int] = []


def sleeping(count: int) -> Iterator[tuple[int, WorkflowRecord]]:
    """Make the records of workflows that sleep for a day and more."""
    event = codec_for(Event, component="cold")
    context = codec_for(Context, component="cold")
    identity = orchestration_id("cold-minion", "cold-source", "")
    now = time.time()
    for number in range(1, count + 1):
        yield (
            number,
            WorkflowRecord(
                identity,
                event.type_name,
                event.encode(Event(number)),
                context.type_name,
                context.encode(Context(number)),
                "second",
                now,
                state="sleeping",
                since=now,
                until=now + 86_400 + number / 100,
            ),
        )


async def fill(folder: Path, count: int) -> None:
    """Put the records into a new store."""
    async with open_lmdb_store(folder, durability="none") as store:
        for number, record in sleeping(count):
            store.write_nowait(entries(number, record))
            if number % BATCH == 0:
                await store.barrier()


async def measure(folder: Path, count: int, idle: float) -> None:
    """Open the store, wait, and work beside the sleeping ones."""
    began, used = time.perf_counter(), time.process_time()
    async with open_gru(folder, options=GruOptions(durability="none")) as gru:
        opened = time.perf_counter() - began
        cpu = time.process_time() - used
        tasks = trio.lowlevel.current_statistics().tasks_living
        orchestration = await gru.start_minion(TwoSteps, Source)
        cold = gru.snapshot().orchestrations[orchestration.id].cold
        memory = resource.getrusage(resource.RUSAGE_SELF).ru_maxrss / 1024
        print(f"{cold} cold: opened in {opened:.3f} s ({cpu:.3f} s of CPU)")
        print(f"{tasks} tasks, {memory:.0f} MiB, on disk {size_of(folder):.0f} MiB")
        used = time.process_time()
        await trio.sleep(idle)
        share = (time.process_time() - used) / idle
        print(f"{share:.4%} of a CPU over {idle:g} s")
        used = time.process_time()
        beside.set()
        await all_done.wait()
        each = (time.process_time() - used) / BESIDE
        print(f"{each * 1e6:.1f} µs of CPU for each two-step workflow beside them")
        await gru.stop()
    assert cold == count


def size_of(folder: Path) -> float:
    return (folder / "data.mdb").stat().st_size / 2**20


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--cold", type=int, default=100_000)
    parser.add_argument("--idle", type=float, default=30.0)
    arguments = parser.parse_args()
    with tempfile.TemporaryDirectory() as place:
        folder = Path(place) / "state"
        trio.run(partial(fill, folder, arguments.cold))
        trio.run(measure, folder, arguments.cold, arguments.idle)


if __name__ == "__main__":
    main()
