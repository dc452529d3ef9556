"""Single commits that are flushed, each in a thread: what one of them takes.

``python benchmarks/commit.py --commits 1000``

Each puts one record of the size that a two-step workflow's have, and the next begins
when it has returned.
"""

from __future__ import annotations

import argparse
import tempfile
import time

import lmdb
import trio

from workload import percentiles, report

VALUE = b"x" * 350


async def measure(env: lmdb.Environment, count: int) -> list[float]:
    thread = trio.CapacityLimiter(1)
    took = []

    def commit(number: int) -> None:
        with env.begin(write=True) as transaction:
            transaction.put(number.to_bytes(8, "big"), VALUE)

    for number in range(count):
        began = time.perf_counter()
        await trio.to_thread.run_sync(commit, number, limiter=thread)
        took.append(time.perf_counter() - began)
    return took


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--commits", type=int, default=1000)
    given = parser.parse_args()
    with tempfile.TemporaryDirectory() as folder:
        env = lmdb.open(folder, map_size=1 << 30, lib_version=0)
        took = trio.run(measure, env, given.commits)
        assert env.stat()["entries"] == given.commits
        env.close()
    report(percentiles("", took))


if __name__ == "__main__":
    main()
