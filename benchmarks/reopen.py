"""How soon a store with saved workflows works when it is opened again.

``python benchmarks/reopen.py --state in-flight --saved 100000``

The time begins with the call of ``open_gru``. It ends for a live event, which the
source has at once, when its first step begins, and for the saved ones when the last
end of them is on disk: ``in-flight`` ones have both steps before them, ``due`` ones
slept before their second, and ``cold`` ones go on sleeping.
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

STATES = ("cold", "due", "in-flight")


async def measure(folder: Path, state: str, count: int, durability: str) -> None:
    options = GruOptions(durability=durability)  # type: ignore[arg-type]
    began = time.perf_counter()
    numbers: dict[str, float] = {}
    async with open_gru(folder, options=options) as gru:
        numbers["opened_s"] = time.perf_counter() - began
        orchestration = await gru.start_minion(TwoSteps, Source)
        if state != "cold":
            await orchestration.wait()
            numbers["resumed_s"] = time.perf_counter() - began
            # The live one is one more.
            numbers["workflows_per_s"] = (count + 1) / numbers["resumed_s"]
        else:
            await seen.came.wait()
            assert gru.snapshot().orchestrations[orchestration.id].cold == count
            await gru.stop()
    numbers["live_s"] = seen.live_at - began
    ended = range(1) if state == "cold" else range(count + 1)
    assert sorted(seen.totals) == [number + 1 for number in ended]
    print(json.dumps(numbers))


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--saved", type=int, default=100_000)
    parser.add_argument("--state", choices=STATES, default="cold")
    parser.add_argument("--durability", default="fsync")
    parser.add_argument("--folder", help="where the store lies; else a temporary one")
    given = parser.parse_args()
    with tempfile.TemporaryDirectory(dir=given.folder) as place:
        folder = Path(place) / "state"
        fill_apart(folder, given.state, given.saved)
        trio.run(measure, folder, given.state, given.saved, given.durability)


if __name__ == "__main__":
    main()
