"""The memory of workflows that run, and of a process that opened a store.

``python benchmarks/memory.py --running 10000``
``python benchmarks/memory.py --cold 1000000``

RssAnon of ``/proc/self/status``: what the process has written to, without the pages
of the store's file, which the kernel may take back.

``--running`` holds that many two-step workflows in their second step. What their
events and contexts take is measured before, on as many plain ones, and taken off.
``--cold`` opens a store with that many workflows that sleep for a day; run it with 0
as well, and look at the difference.
"""

from __future__ import annotations

import argparse
import gc
import json
import tempfile
from pathlib import Path
from typing import ClassVar

import trio

from filling import Context, Event, TwoSteps, fill_apart, seen
from filling import Source as LiveSource
from minions import GruOptions, Minion, Pipeline, minion_step, open_gru

STATUS = Path("/proc/self/status")
WARM = 200


def rss_anon() -> int:
    """Return the process's own memory, in bytes."""
    gc.collect()
    for line in STATUS.read_text(encoding="ascii").splitlines():
        if line.startswith("RssAnon:"):
            return int(line.split()[1]) * 1024
    raise AssertionError("expected RssAnon in /proc/self/status: Linux 4.5")


def event_of(number: int) -> Event:
    # Its own text: one that all share would take nothing.
    return Event(number, f"{number:0100}")


class Source(Pipeline[Event]):
    """Emits a few, and many once it is told."""

    total: ClassVar[int] = 0

    def __init__(self) -> None:
        self.count = 0

    async def produce_event(self) -> Event:
        if self.count == WARM:
            await warm.wait()
        if self.count == WARM + self.total:
            raise trio.EndOfChannel
        self.count += 1
        return event_of(self.count)


class Holding(Minion[Event, Context]):
    max_in_flight: ClassVar[int] = WARM

    @minion_step
    async def first(self) -> None:
        self.context.total = self.event.number
        self.context.text = self.event.text

    @minion_step
    async def second(self) -> None:
        held.append(self.event.number)
        if len(held) in (WARM, WARM + Source.total):
            all_held.set()
        await release.wait()
        seen.totals.append(self.context.total)


held: list[int] = []
warm = trio.Event()
all_held = trio.Event()
release = trio.Event()


def plain(count: int) -> list[tuple[Event, Context]]:
    """Make events, and contexts as the first step leaves them."""
    events = [event_of(number) for number in range(count)]
    return [(event, Context(event.number, event.text)) for event in events]


async def measure_running(count: int, folder: Path) -> dict[str, float]:
    global all_held  # noqa: PLW0603  # a second one, for those that count
    async with open_gru(folder, options=GruOptions(durability="none")) as gru:
        orchestration = await gru.start_minion(Holding, Source)
        await all_held.wait()
        all_held = trio.Event()
        empty = rss_anon()
        data = plain(count)
        before = rss_anon()
        warm.set()
        await all_held.wait()
        after = rss_anon()
        running = gru.snapshot().orchestrations[orchestration.id].running
        assert running == count + WARM
        assert len(data) == count
        release.set()
        await orchestration.wait()
    assert sorted(seen.totals) == list(range(1, count + WARM + 1))
    each, data_kb = (after - before) / count / 1000, (before - empty) / count / 1000
    return {"each_kb": each, "data_kb": data_kb, "beyond_kb": each - data_kb}


async def measure_cold(count: int, folder: Path) -> dict[str, float]:
    async with open_gru(folder, options=GruOptions(durability="none")) as gru:
        orchestration = await gru.start_minion(TwoSteps, LiveSource)
        await seen.came.wait()
        assert gru.snapshot().orchestrations[orchestration.id].cold == count
        found = rss_anon()
        await gru.stop()
    assert seen.totals == [1]
    return {"rss_anon_mib": found / 2**20}


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__)
    what = parser.add_mutually_exclusive_group(required=True)
    what.add_argument("--running", type=int)
    what.add_argument("--cold", type=int)
    parser.add_argument("--folder", help="where the store lies; else a temporary one")
    given = parser.parse_args()
    if not STATUS.exists():
        print(json.dumps({"not_measured": "RssAnon is read from Linux's /proc"}))
        return
    with tempfile.TemporaryDirectory(dir=given.folder) as place:
        folder = Path(place) / "state"
        if given.running is not None:
            Source.total = given.running
            Holding.max_in_flight = given.running + WARM
            numbers = trio.run(measure_running, given.running, folder)
        else:
            fill_apart(folder, "cold", given.cold)
            numbers = trio.run(measure_cold, given.cold, folder)
    print(json.dumps(numbers))


if __name__ == "__main__":
    main()
