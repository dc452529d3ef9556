"""Two-step workflows through the asyncio predecessor, ``minions`` 0.0.2, on SQLite.

As published it runs no workflow with its own store: nothing starts the store, two
names were changed on one side only, and the end of each workflow raises. `Mended`
puts that right from outside, each time in the way that costs least. Log and metrics
are off. Its first event is lost, because the pipeline begins before the minion has
subscribed: so the source waits for that.

Nothing bounds its workflows in flight. The source does, and a place is free when the
workflow's row is gone; the time runs until the last one is.

Durability: WAL and ``synchronous=NORMAL``, so that no commit is flushed, only now and
then a checkpoint. A loss of power takes back the last commits. A snapshot is put into a
batch, and its step begins; the batch is written when it is full or 8 ms old, so that
the end of the process loses what waits there. Two batches that meet, or a batch and the
delete at an end, disturb each other: one is lost whole, and a row may stay behind. It
is measured so, and prints what it lost; the error would lose the event, too, which is
mended. ``--one-at-a-time`` puts a lock around its commits: nothing is lost, and hardly
any snapshot is written, because the deletes stand in the queue before the batches.
"""

from __future__ import annotations

import argparse
import asyncio
import importlib
import json
import os
import sys
import tempfile
import time
from contextlib import AbstractAsyncContextManager, closing, nullcontext
from dataclasses import dataclass
from pathlib import Path
from sqlite3 import OperationalError, connect
from typing import Any

# Installed in an environment of its own alone. Elsewhere the name is another package's,
# which PYTHONPATH must not put before it.
hiding = {Path(p).resolve() for p in os.environ.get("PYTHONPATH", "").split(os.pathsep)}
sys.path[:] = [p for p in sys.path if not p or Path(p).resolve() not in hiding]
minions: Any = importlib.import_module("minions")
parts: Any = importlib.import_module("minions.implementations")
TEXT = "x" * 100


@dataclass
class Event:
    number: int
    text: str


@dataclass
class Context:
    total: int = 0
    text: str = ""


class Plan:
    """What this process does; the classes below are made by the predecessor."""

    count = 0
    made = 0
    ended = 0
    saved = 0
    lost = 0
    total = 0
    began = 0.0
    room: asyncio.Semaphore
    turn: AbstractAsyncContextManager[Any] = nullcontext()
    subscribed: asyncio.Event
    done: asyncio.Event


class Source(minions.Pipeline[Event]):  # type: ignore[misc]
    async def produce_event(self) -> Event:
        await Plan.subscribed.wait()
        if Plan.made == Plan.count:
            await asyncio.Event().wait()
        await Plan.room.acquire()
        Plan.began = Plan.began or time.perf_counter()
        Plan.made += 1
        return Event(Plan.made, TEXT)


class TwoSteps(minions.Minion[Event, Context]):  # type: ignore[misc]
    @minions.minion_step  # type: ignore[untyped-decorator]
    async def first(self) -> None:
        self.context.total = self.event.number
        self.context.text = self.event.text

    @minions.minion_step  # type: ignore[untyped-decorator]
    async def second(self) -> None:
        self.context.total += 1
        assert self.context.text == TEXT
        Plan.total += self.context.total


# Where it looks for the classes of a module.
minion, pipeline = TwoSteps, Source


class Mended(parts.SQLiteStateStore):  # type: ignore[misc]
    def __init__(self, path: str, logger: Any) -> None:
        super().__init__(path, logger)
        self._logger = logger

    async def _upsert_now(self, items: Any) -> None:
        try:
            async with Plan.turn:
                await super()._upsert_now(items)
        except OperationalError:
            Plan.lost += len(items)
        else:
            Plan.saved += len(items)

    async def delete_context(self, workflow_id: str) -> None:
        async with self._lock:
            self._batch.pop(workflow_id, None)
        async with Plan.turn:
            await super().delete_context(workflow_id)

    async def _safe_run_and_log(self, *given: Any, **named: Any) -> Any:
        return await self._mn_safe_run_and_log(*given, **named)

    async def _delete_context(self, workflow_id: str) -> Any:
        await super()._delete_context(workflow_id)
        Plan.ended += 1
        Plan.room.release()
        if Plan.ended == Plan.count:
            Plan.done.set()
        # The caller awaits what it has awaited once more.
        return asyncio.sleep(0)


async def measure(folder: Path, given: argparse.Namespace) -> float:
    count, in_flight = given.workflows, given.in_flight
    Plan.count = count
    if given.one_at_a_time:
        Plan.turn = asyncio.Lock()
    Plan.room = asyncio.Semaphore(in_flight)
    Plan.subscribed, Plan.done = asyncio.Event(), asyncio.Event()
    config = folder / "nothing.toml"
    config.touch()
    logger = parts.NoOpLogger()
    store = Mended(str(folder / "minions.db"), logger)
    await store.startup()
    db = store._db  # noqa: SLF001  # the settings are the connection's
    for name, expected in (("journal_mode", "wal"), ("synchronous", 1)):
        async with db.execute(f"PRAGMA {name}") as cursor:
            assert await cursor.fetchone() == (expected,)
    gru = await minions.Gru.create(state_store=store, logger=logger, metrics=None)
    started = await gru.start_minion("__main__", str(config), "__main__")
    assert started.success, started.reason
    Plan.subscribed.set()
    await Plan.done.wait()
    seconds = time.perf_counter() - Plan.began
    await gru.shutdown()
    await store.shutdown()
    return seconds


def rows_left(folder: Path, count: int) -> int:
    """See that every workflow went through both steps; count the rows that stayed."""
    assert (Plan.ended, Plan.total) == (count, count * (count + 3) // 2)
    # A workflow that ends within 8 ms is never written; one writes three times at most.
    assert Plan.saved + Plan.lost <= 3 * count
    with closing(connect(folder / "minions.db")) as db:
        # Not its own row, with which it tries the disk.
        kept = "SELECT count(*) FROM workflows WHERE workflow_id NOT LIKE '!_!_%'"
        (left,) = db.execute(f"{kept} ESCAPE '!'").fetchone()
    return int(left)


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--in-flight", type=int, default=256)
    parser.add_argument("--workflows", type=int, default=3000)
    parser.add_argument("--folder", help="where the file lies; else a temporary one")
    parser.add_argument("--one-at-a-time", action="store_true", help="lose nothing")
    given = parser.parse_args()
    count = given.workflows
    with tempfile.TemporaryDirectory(dir=given.folder) as name:
        folder = Path(name)
        seconds = asyncio.run(asyncio.wait_for(measure(folder, given), 600))
        left = rows_left(folder, count)
    assert not given.one_at_a_time or (Plan.lost, left) == (0, 0)
    found = {
        "workflows_per_s": count / seconds,
        "snapshots_saved_per_workflow": Plan.saved / count,
        "snapshots_lost_per_workflow": Plan.lost / count,
        "rows_left_behind": left,
    }
    print(json.dumps(found))


if __name__ == "__main__":
    main()
