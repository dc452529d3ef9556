"""What 100,000 sleeping workflows take of the processor while nothing is due.

``python benchmarks/idle.py --saved 100000 --idle 30``

All threads of the process count. The time begins when the store has been opened and
its live event has ended.
"""

from __future__ import annotations

import argparse
import json
import tempfile
import time
from pathlib import Path

import trio

from filling import Source, TwoSteps, fill_apart, seen
from minions import GruOptions, open_gru


async def measure(folder: Path, count: int, idle: float) -> dict[str, float]:
    options = GruOptions(durability="none")
    async with open_gru(folder, options=options) as gru:
        orchestration = await gru.start_minion(TwoSteps, Source)
        await seen.came.wait()
        await trio.sleep(0.1)  # its end is on disk, and threads have gone to sleep
        began, used = time.perf_counter(), time.process_time()
        await trio.sleep(idle)
        share = (time.process_time() - used) / (time.perf_counter() - began)
        tasks = trio.lowlevel.current_statistics().tasks_living
        assert gru.snapshot().orchestrations[orchestration.id].cold == count
        assert len(seen.totals) == 1, "expected that nobody wakes meanwhile"
        await gru.stop()
    return {"cpu_percent": share * 100, "tasks": tasks}


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--saved", type=int, default=100_000)
    parser.add_argument("--idle", type=float, default=30.0, help="seconds")
    parser.add_argument("--folder", help="where the store lies; else a temporary one")
    given = parser.parse_args()
    with tempfile.TemporaryDirectory(dir=given.folder) as place:
        folder = Path(place) / "state"
        fill_apart(folder, "cold", given.saved)
        print(json.dumps(trio.run(measure, folder, given.saved, given.idle)))


if __name__ == "__main__":
    main()
