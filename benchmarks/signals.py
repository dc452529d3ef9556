"""From a signal to its step, beside workflows that wait for one as well.

``python benchmarks/signals.py --waiting 100000 --signals 500``

One signal at a time, to workflows spread over all that wait. The time is from the
call of ``signal`` until the step that it was for begins.
"""

from __future__ import annotations

import argparse
import json
import statistics
import tempfile
import time
from pathlib import Path

import trio

from filling import Go, Source, Waits, fill_apart, seen
from minions import GruOptions, open_gru


async def measure(
    folder: Path, waiting: int, signals: int, durability: str
) -> list[float]:
    times = []
    Source.emitted = 1  # no live event
    options = GruOptions(durability=durability)  # type: ignore[arg-type]
    async with open_gru(folder, options=options) as gru:
        orchestration = await gru.start_minion(Waits, Source)
        for number in range(signals):
            target = 1 + number * waiting // signals
            seen.came = trio.Event()
            began = time.perf_counter()
            await gru.workflows.signal(f"w{target}", Go(target))
            await seen.came.wait()
            times.append(seen.received_at - began)
            assert seen.received[-1] == Go(target)
        assert len(seen.received) == signals
        left = gru.snapshot().orchestrations[orchestration.id].cold
        assert left == waiting - signals
        await gru.stop()
    return times


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--waiting", type=int, default=100_000)
    parser.add_argument("--signals", type=int, default=500)
    parser.add_argument("--durability", default="fsync")
    parser.add_argument("--folder", help="where the store lies; else a temporary one")
    given = parser.parse_args()
    if not 1 < given.signals <= given.waiting:
        parser.error("--signals: expected 2 to --waiting")
    with tempfile.TemporaryDirectory(dir=given.folder) as place:
        folder = Path(place) / "state"
        fill_apart(folder, "waiting", given.waiting)
        arguments = (given.waiting, given.signals, given.durability)
        times = trio.run(measure, folder, *arguments)
    hundredths = statistics.quantiles(times, n=100)
    print(json.dumps({"p50_s": statistics.median(times), "p99_s": hundredths[98]}))


if __name__ == "__main__":
    main()
