"""A bare trio + LMDB loop that writes what durable workflows must write.

The yardstick for the engine: as many records of the same size, and nothing else; no
supervision, no bookkeeping, no checks. A workflow is a trio task with two steps and
three writes: when it is accepted, after its first step, and a delete at its end.

One writer commits everything that waits and wakes all of it: with a flush in a thread,
without in the loop. The source does not wait for its commit, a task begins when its
record is safe, and hands its end over, which frees its place.
"""

import argparse
import tempfile
import time

import lmdb
import msgspec
import trio

from workload import TEXT, computing, parser_of, percentiles, report

# As long as what the product stores beside event and context.
OWNER, KIND = "o" * 96, "k" * 31
Operation = tuple[bytes, bytes | None]
now = time.perf_counter


class Record(msgspec.Struct, array_like=True):
    """What is stored: the event, the next step, the context before it."""

    owner: str
    event: tuple[int, str]
    step: str = ""
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
        self.env, self.flush, self.closing = env, flush, False
        self.writes: list[Operation] = []
        self.waiters: list[trio.lowlevel.Task] = []
        self.idle = Bed()

    def write_nowait(self, key: bytes, value: bytes | None) -> None:
        self.writes.append((key, value))
        self.idle.wake()

    async def write(self, key: bytes, value: bytes) -> None:
        self.write_nowait(key, value)
        self.waiters.append(trio.lowlevel.current_task())
        await trio.lowlevel.wait_task_rescheduled(keep)

    async def run(self) -> None:
        thread = trio.CapacityLimiter(1)
        while self.writes or not self.closing:
            if not self.writes:
                await self.idle.sleep()
                continue
            writes, self.writes = self.writes, []
            waiters, self.waiters = self.waiters, []
            if self.flush:
                await trio.to_thread.run_sync(self.commit, writes, limiter=thread)
            else:
                self.commit(writes)
                await trio.lowlevel.cancel_shielded_checkpoint()
            for task in waiters:
                trio.lowlevel.reschedule(task)

    def commit(self, writes: list[Operation]) -> None:
        with self.env.begin(write=True) as transaction:
            put, delete = transaction.put, transaction.delete
            for key, value in writes:
                delete(key) if value is None else put(key, value)


async def measure(store: Store, given: argparse.Namespace) -> list[float]:
    encode = msgspec.msgpack.Encoder().encode
    compute, source, room = computing(given), Bed(), given.in_flight
    took: list[float] = []
    text = "x" * given.context_bytes

    async def workflow(number: int, produced: float) -> None:
        nonlocal room
        key, record = number.to_bytes(8), Record(OWNER, (number, TEXT))
        await store.write(key, encode(record))
        record.total, record.text = number, text
        compute()
        record.step, record.kind = "second", KIND
        await store.write(key, encode(record))
        record.total += 1
        compute()
        took.append(now() - produced)
        store.write_nowait(key, None)
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
