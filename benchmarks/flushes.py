"""What a durable batch costs: LMDB's commits against a log in front of LMDB.

``python benchmarks/flushes.py --csv docs/explanation/flush-times.csv``

The ways of `flush_ways.py` write the same batches in turn, in one process, each into a
folder of its own on one disk: puts and deletes of records of 250 bytes, as workflows
write them. For each size of a batch it prints the time of a batch (the median of all
turns, the least and the most of the turns' medians) and the mean, in which the
checkpoints of the logs are. What is there at the end is compared, after opening again.

With strace it counts the calls of a batch, too.
"""

from __future__ import annotations

import argparse
import csv
import json
import os
import re
import shutil
import statistics
import subprocess
import sys
import tempfile
import time
from collections import Counter
from collections.abc import Iterator
from itertools import count, islice
from pathlib import Path

from flush_ways import WAYS, Content, Way, Write

SIZES = (1, 16, 256, 2048)
RECORD = bytes(range(250))
IN_FLIGHT = 256
CALLS = "fdatasync,fsync,pwrite64,writev"


def writes() -> Iterator[Write]:
    """Yield what two-step workflows write: a record, another one, a delete."""
    for number in count():
        yield number.to_bytes(16), RECORD
        if number >= IN_FLIGHT // 2:
            yield (number - IN_FLIGHT // 2).to_bytes(16), RECORD[::-1]
        if number >= IN_FLIGHT:
            yield (number - IN_FLIGHT).to_bytes(16), None


def expected(total: int) -> Content:
    """Return what is there after so many writes."""
    content: dict[bytes, bytes | None] = dict(islice(writes(), total))
    return {key: value for key, value in content.items() if value is not None}


class Lane:
    """One way's folder, and the times of its batches."""

    def __init__(self, name: str, folder: Path) -> None:
        self.name, self._folder = name, folder
        folder.mkdir()
        self._way = WAYS[name](folder)
        self._source = writes()
        self._total = 0
        self.medians: list[float] = []
        self.seconds: list[float] = []

    def turn(self, size: int, batches: int) -> None:
        times = []
        for _ in range(batches):
            batch = list(islice(self._source, size))
            self._total += size
            began = time.perf_counter()
            self._way.write(batch)
            times.append(time.perf_counter() - began)
        self.medians.append(statistics.median(times))
        self.seconds += times

    def end(self) -> None:
        """Compare what is there with what was written, before and after."""
        assert self._way.content() == expected(self._total), self.name
        self._way.close()
        again: Way = WAYS[self.name](self._folder)
        assert again.content() == expected(self._total), self.name
        again.close()


def measure(folder: Path, size: int, *, turns: int, batches: int) -> list[Lane]:
    lanes = [Lane(name, folder / f"{name}-{size}") for name in WAYS]
    for lane in lanes:
        lane.turn(size, max(1, batches // 10))
        lane.medians.clear()
        lane.seconds.clear()
    for _ in range(turns):
        for lane in lanes:
            lane.turn(size, batches)
    for lane in lanes:
        lane.end()
    return lanes


def batches_of(size: int, given: int) -> int:
    """Make fewer of the large ones."""
    return max(5, given // (1 + size // 64))


def calls_of(folder: Path, name: str, size: int) -> dict[str, float]:
    """Count what a batch asks of the disk, checkpoints included."""
    batches = batches_of(size, 200)
    trace = folder / "trace"
    program = [sys.executable, __file__, "--one", name, str(size), str(batches)]
    strace = ("strace", "-s", "8", "-o", trace, "-e", f"trace=openat,write,{CALLS}")
    subprocess.run(
        [*strace, *program, folder / f"{name}-{size}-traced"],
        check=True,
        stdout=subprocess.DEVNULL,
    )
    text = trace.read_text(encoding="utf-8", errors="replace")
    # What opening and closing need is not the batches'.
    before, within, _ = re.split(r'(?m)^write\(1, "(?:begin|end)".*$', text)
    found = Counter(re.findall(r"(?m)^(\w+)\(", within))
    writes_made = found["pwrite64"] + found["writev"]
    # A write to a file that was opened so is a flush, too.
    (durable,) = re.findall(r"(?m)data\.mdb.*O_DSYNC.* = (\d+)$", before)
    flushing = len(re.findall(rf"(?m)^p?writev?(?:64)?\({durable},", within))
    flushes = found["fdatasync"] + found["fsync"] + flushing
    return {"flushes": flushes / batches, "writes": writes_made / batches}


def write_some(name: str, size: str, batches: str, folder: str) -> None:
    """Be the process whose calls are counted."""
    Path(folder).mkdir()
    way, source = WAYS[name](Path(folder)), writes()
    os.write(1, b"begin")
    for _ in range(int(batches)):
        way.write(list(islice(source, int(size))))
    os.write(1, b"end")
    way.close()


def rows_of(folder: Path, size: int, lanes: list[Lane]) -> Iterator[dict[str, str]]:
    counted = shutil.which("strace") is not None
    for lane in lanes:
        median = statistics.median(lane.medians)
        turns = zip(lane.medians, lanes[0].medians, strict=True)
        ratio = statistics.median(own / sync for own, sync in turns)
        calls = {"flushes": "not counted", "writes": "not counted"}
        if counted:
            found = calls_of(folder, lane.name, size)
            calls = {what: f"{number:.2f}" for what, number in found.items()}
        yield {
            "batch": str(size),
            "way": lane.name,
            "median, ms": f"{1e3 * median:.3f}",
            "least to most of the turns, ms": (
                f"{1e3 * min(lane.medians):.3f} to {1e3 * max(lane.medians):.3f}"
            ),
            "mean, ms": f"{1e3 * statistics.mean(lane.seconds):.3f}",
            "against sync, turn by turn": f"{ratio:.2f}",
            **calls,
        }


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--turns", type=int, default=7)
    parser.add_argument("--batches", type=int, default=200, help="of one write, a turn")
    parser.add_argument("--folder", help="where the files lie; else a temporary one")
    parser.add_argument("--csv", type=Path, help="where the table goes")
    parser.add_argument("--one", nargs=4, help=argparse.SUPPRESS)
    given = parser.parse_args()
    if given.one:
        write_some(*given.one)
        return
    numbers: dict[str, float] = {}
    rows: list[dict[str, str]] = []
    for size in SIZES:
        with tempfile.TemporaryDirectory(dir=given.folder) as name:
            folder, batches = Path(name), batches_of(size, given.batches)
            lanes = measure(folder, size, turns=given.turns, batches=batches)
            for lane in lanes:
                key = f"{lane.name}_{size}"
                numbers[f"{key}_median_s"] = statistics.median(lane.medians)
                numbers[f"{key}_mean_s"] = statistics.mean(lane.seconds)
            if given.csv:
                rows += rows_of(folder, size, lanes)
    if given.csv:
        with given.csv.open("w", newline="", encoding="utf-8") as file:
            table = csv.DictWriter(file, rows[0], lineterminator="\n")
            table.writeheader()
            table.writerows(rows)
    print(json.dumps(numbers))


if __name__ == "__main__":
    main()
