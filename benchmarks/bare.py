"""A bare trio + LMDB loop that writes what durable workflows must write.

The yardstick for the engine: as many records of the same size, and nothing else; no
supervision, no bookkeeping, no checks. A workflow is a trio task with two steps and
three writes: when it is accepted, after its first step, and a delete at its end.

One writer commits everything that waits and wakes all of it: with a flush in a thread,
without in the loop. The source does not wait for its commit, a task begins when its
record is safe, and hands its end over, which frees its place.
"""

from __future__ import annotations

import argparse
import tempfile
import time
from functools import partial

import lmdb
import msgspec
import trio

TEXT = "x" * 100
# As long as the names that the product stores beside event and context.
OWNER, KIND = "o" * 64, "k" * 34
Operation = tuple[bytes, bytes | None]


class Record(msgspec.Struct, array_like=True):
    """What is stored: the event, the next step, the context before it."""

    owner: str
    event: tuple[int, str]
    step: str
    kind: str = ""
    total: int = 0
    text: str = ""


def keep(_: object) -> trio.lowlevel.Abort:
    return trio.lowlevel.Abort.FAILED


class Bed:
    """Where one task sleeps until it is woken; a write cannot be taken back."""

    task: trio.lowlevel.Task | None = None

    async def sleep(self) -> None:
        self.task = trio.lowlevel.current_task()
        await trio.lowlevel.wait_task_rescheduled(keep)

    def wake(self) -> None:
        if self.task is not None:
            trio.lowlevel.reschedule(self.task)
            self.task = None


class Store:
    """Collects writes, commits them together, wakes who waits for them."""

    def __init__(self, env: lmdb.Environment, *, flush: bool) -> None:
        self._env = env
        self._flush = flush
        self._writes: list[Operation] = []
        self._waiters: list[trio.lowlevel.Task] = []
        self._idle = Bed()
        self._closing = False

    def write_nowait(self, key: bytes, value: bytes | None) -> None:
        self._writes.append((key, value))
        self._idle.wake()

    async def write(self, key: bytes, value: bytes) -> None:
        self.write_nowait(key, value)
        self._waiters.append(trio.lowlevel.current_task())
        await trio.lowlevel.wait_task_rescheduled(keep)

    def close(self) -> None:
        self._closing = True
        self._idle.wake()

    async def run(self) -> None:
        thread = trio.CapacityLimiter(1)
        while True:
            while not self._writes:
                if self._closing:
                    return
                await self._idle.sleep()
            writes, self._writes = self._writes, []
            waiters, self._waiters = self._waiters, []
            if self._flush:
                await trio.to_thread.run_sync(self._commit, writes, limiter=thread)
            else:
                self._commit(writes)
                await trio.lowlevel.checkpoint()
            for task in waiters:
                trio.lowlevel.reschedule(task)

    def _commit(self, writes: list[Operation]) -> None:
        with self._env.begin(write=True) as transaction:
            put, delete = transaction.put, transaction.delete
            for key, value in writes:
                delete(key) if value is None else put(key, value)


async def measure(store: Store, *, count: int, room: int) -> None:
    encode = msgspec.msgpack.Encoder().encode
    source = Bed()

    async def workflow(number: int) -> None:
        nonlocal room
        key = number.to_bytes(16)
        record = Record(OWNER, (number, TEXT), "first")
        await store.write(key, encode(record))
        record.step, record.kind = "second", KIND
        record.total, record.text = number, TEXT
        await store.write(key, encode(record))
        record.total += 1
        store.write_nowait(key, None)
        room += 1
        source.wake()

    async with trio.open_nursery() as writer:
        writer.start_soon(store.run)
        async with trio.open_nursery() as tasks:
            for number in range(count):
                if not room:
                    await source.sleep()
                room -= 1
                tasks.start_soon(workflow, number)
        store.close()


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--in-flight", type=int, default=256)
    parser.add_argument("--durability", choices=["fsync", "none"], default="fsync")
    parser.add_argument("--workflows", type=int, default=20_000)
    parser.add_argument("--folder", help="where the store lies; else a temporary one")
    given = parser.parse_args()
    flush = given.durability == "fsync"
    with tempfile.TemporaryDirectory(dir=given.folder) as folder:
        env = lmdb.open(folder, map_size=1 << 30, sync=flush, lib_version=0)
        store = Store(env, flush=flush)
        began = time.perf_counter()
        trio.run(partial(measure, store, count=given.workflows, room=given.in_flight))
        rate = given.workflows / (time.perf_counter() - began)
        env.close()
    print(f"{rate:.0f} workflows/s ({given.durability}, {given.in_flight} in flight)")


if __name__ == "__main__":
    main()
