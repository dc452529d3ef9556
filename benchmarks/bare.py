"""A bare trio + LMDB loop that writes what durable workflows must write.

The yardstick for the engine: as many records of the same size, and nothing else. A
workflow is a trio task and three writes: accepted, first step done, and a delete.

One writer commits everything that waits and wakes all of it: with a flush in a thread
of its own, without in the loop. The source does not wait for its commit, a task begins
when its record is safe, and hands its end over, which frees its place.
"""

import argparse
import tempfile
from queue import SimpleQueue
from threading import Thread
from time import perf_counter as now

import lmdb
import msgspec
import outcome
import trio
from trio.lowlevel import Abort, Task, current_task, reschedule, wait_task_rescheduled

from workload import TEXT, computing, parser_of, percentiles, report

# As long as what the product stores beside event and context.
OWNER, KIND = "o" * 96, "k" * 31
Batch = tuple[list[tuple[bytes, bytes]], list[bytes]]


def leave(_: object) -> Abort:
    return Abort.SUCCEEDED


class Bed:
    """Where one task sleeps until it is woken."""

    task: Task | None = None

    async def sleep(self) -> None:
        self.task = current_task()
        await wait_task_rescheduled(leave)

    def wake(self) -> None:
        if self.task is not None:
            reschedule(self.task)
            self.task = None


class Store:
    """Collects writes, commits them together, wakes who waits for them."""

    def __init__(self, env: lmdb.Environment, *, flush: bool) -> None:
        self.env, self.flush, self.closing, self.idle = env, flush, False, Bed()
        self.puts: list[tuple[bytes, bytes]] = []
        self.deletes: list[bytes] = []
        self.waiters: list[Task] = []
        self.batches = SimpleQueue[Batch | None]()

    async def put(self, key: bytes, value: bytes) -> None:
        self.puts.append((key, value))
        self.waiters.append(current_task())
        self.idle.wake()
        await wait_task_rescheduled(leave)

    def delete_nowait(self, key: bytes) -> None:
        self.deletes.append(key)
        self.idle.wake()

    async def run(self) -> None:
        task, token = current_task(), trio.lowlevel.current_trio_token()
        if self.flush:
            Thread(target=self.serve, args=(task, token), daemon=True).start()
        while self.puts or self.deletes or not self.closing:
            if not self.puts and not self.deletes:
                await self.idle.sleep()
                if self.flush:  # who was woken with it may have more for this flush
                    await trio.lowlevel.cancel_shielded_checkpoint()
                continue
            batch, waiters = (self.puts, self.deletes), self.waiters
            self.puts, self.deletes, self.waiters = [], [], []
            if self.flush:
                self.batches.put(batch)
                await wait_task_rescheduled(leave)
            else:
                self.commit(batch)
            for waiter in waiters:
                reschedule(waiter)
        self.batches.put(None)

    def serve(self, task: Task, token: trio.lowlevel.TrioToken) -> None:
        while batch := self.batches.get():
            done = outcome.capture(self.commit, batch)
            token.run_sync_soon(reschedule, task, done)

    def commit(self, batch: Batch) -> None:
        with self.env.begin(write=True) as transaction:
            transaction.cursor().putmulti(batch[0])
            # Their puts are of earlier commits: a workflow waits for each.
            for key in batch[1]:
                transaction.delete(key)


async def measure(store: Store, given: argparse.Namespace) -> list[float]:
    encode = msgspec.msgpack.Encoder().encode
    compute, source, room = computing(given), Bed(), given.in_flight
    took, text = list[float](), "x" * given.context_bytes

    async def workflow(number: int, produced: float) -> None:
        nonlocal room
        key, event, total = number.to_bytes(8), (number, TEXT), 0
        await store.put(key, encode((OWNER, event, "", "", total, "")))
        total = number
        compute()
        await store.put(key, encode((OWNER, event, "second", KIND, total, text)))
        total += 1
        compute()
        took.append(now() - produced)
        store.delete_nowait(key)
        room += 1
        source.wake()

    async with trio.open_nursery() as writer:
        writer.start_soon(store.run)
        async with trio.open_nursery() as tasks:
            for number in range(given.workflows):
                if not room:
                    await source.sleep()
                room -= 1
                tasks.start_soon(workflow, number, now())
        store.closing = True
        store.idle.wake()
    return took


def main() -> None:
    given = parser_of(__doc__).parse_args()
    flush = given.durability == "fsync"
    with tempfile.TemporaryDirectory() as folder:
        env = lmdb.open(folder, map_size=1 << 34, sync=flush, lib_version=0)
        began = now()
        took = trio.run(measure, Store(env, flush=flush), given)
        rate = given.workflows / (now() - began)
        assert env.stat()["entries"] == 0
        env.close()
    assert len(took) == given.workflows
    report({"workflows_per_s": rate, **percentiles("", took)})


if __name__ == "__main__":
    main()
