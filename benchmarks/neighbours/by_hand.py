"""Two-step workflows with asyncio and ``sqlite3`` by hand: workflows per second.

What a competent user writes in an afternoon. One table with a row for each unfinished
workflow: its event, the name of its next step, its context. One connection, in a thread
of its own, since a commit blocks; WAL, so that a commit is one flush, not four. Three
commits a workflow: when it is accepted, after its first step, at its end. A semaphore
bounds those in flight, and at the start unfinished ones go on where they stood.

``--commit each`` makes a commit of each write, as such programs do; ``--commit group``
takes all that waits into one, which is what one would come to after measuring.

Durability: ``--synchronous FULL`` flushes each commit: what is acknowledged survives a
loss of power. ``NORMAL`` flushes at checkpoints alone: it survives the end of the
process, and a loss of power takes back the last commits. The program asks the
connection for both settings and counts its commits.
"""

from __future__ import annotations

import argparse
import asyncio
import json
import sqlite3
import tempfile
import time
from concurrent.futures import ThreadPoolExecutor
from dataclasses import asdict, dataclass, field
from pathlib import Path
from typing import Any

TEXT = "x" * 100
SETTINGS = {"NORMAL": 1, "FULL": 2}
TABLE = """CREATE TABLE IF NOT EXISTS workflows (
    id INTEGER PRIMARY KEY, event TEXT NOT NULL, step TEXT NOT NULL,
    context TEXT NOT NULL)"""
START = "INSERT INTO workflows (id, event, step, context) VALUES (?, ?, ?, ?)"
SAVE = "UPDATE workflows SET step = ?, context = ? WHERE id = ?"
END = "DELETE FROM workflows WHERE id = ?"


@dataclass
class Event:
    number: int
    text: str


@dataclass
class Context:
    total: int = 0
    text: str = ""


async def first(event: Event, context: Context) -> None:
    context.total = event.number
    context.text = event.text


async def second(_: Event, context: Context) -> None:
    context.total += 1


STEPS = {"first": first, "second": second}
NAMES = list(STEPS)
Write = tuple[str, tuple[Any, ...]]


@dataclass
class Store:
    """The one connection and its thread."""

    path: Path
    synchronous: str = "FULL"
    group: bool = False
    commits: int = 0
    _thread: ThreadPoolExecutor = field(default_factory=lambda: ThreadPoolExecutor(1))
    _waiting: list[tuple[Write, asyncio.Future[None]]] = field(default_factory=list)
    _writer: asyncio.Task[None] | None = None

    async def open(self) -> list[tuple[Any, ...]]:
        """Return the rows of unfinished workflows."""
        rows: list[tuple[Any, ...]] = await self._call(self._open)
        return rows

    def _open(self) -> list[tuple[Any, ...]]:
        self._db = sqlite3.connect(self.path, isolation_level=None)
        self._db.execute("PRAGMA journal_mode = WAL")
        self._db.execute(f"PRAGMA synchronous = {self.synchronous}")
        for name, expected in self._expected().items():
            assert self._db.execute(f"PRAGMA {name}").fetchone() == (expected,), name
        self._db.execute(TABLE)
        return self._db.execute("SELECT * FROM workflows ORDER BY id").fetchall()

    def _expected(self) -> dict[str, Any]:
        return {"journal_mode": "wal", "synchronous": SETTINGS[self.synchronous]}

    async def write(self, sql: str, *values: Any) -> None:
        """Return when the write is committed."""
        if not self.group:
            await self._call(self._commit, [(sql, values)])
            return
        done = asyncio.get_running_loop().create_future()
        self._waiting.append(((sql, values), done))
        if self._writer is None or self._writer.done():
            self._writer = asyncio.create_task(self._write_all())
        await done

    async def _write_all(self) -> None:
        while self._waiting:
            batch, self._waiting = self._waiting, []
            try:
                await self._call(self._commit, [write for write, _ in batch])
            except sqlite3.Error as exc:
                for _, done in batch:
                    done.set_exception(exc)
            else:
                for _, done in batch:
                    done.set_result(None)

    def _commit(self, writes: list[Write]) -> None:
        self.commits += 1
        self._db.execute("BEGIN IMMEDIATE")
        with self._db:
            for sql, values in writes:
                self._db.execute(sql, values)

    async def close(self) -> None:
        await self._call(self._shut)
        self._thread.shutdown()

    def _shut(self) -> None:
        # The connection is this thread's.
        self._db.close()

    async def _call(self, function: Any, *given: Any) -> Any:
        loop = asyncio.get_running_loop()
        return await loop.run_in_executor(self._thread, function, *given)


class Runner:
    """Runs workflows, no more than *in_flight* at once."""

    def __init__(self, store: Store, in_flight: int) -> None:
        self._store = store
        self._room = asyncio.Semaphore(in_flight)
        self.ended = 0
        self.total = 0

    async def run(self, count: int) -> None:
        async with asyncio.TaskGroup() as tasks:
            for number, event, step, context in await self._store.open():
                await self._room.acquire()
                saved = Event(**json.loads(event)), Context(**json.loads(context))
                tasks.create_task(self._go_on(number, step, *saved))
            for number in range(1, count + 1):
                await self._room.acquire()
                tasks.create_task(self._accept(number, Event(number, TEXT)))
        await self._store.close()

    async def _accept(self, number: int, event: Event) -> None:
        context = Context()
        values = json.dumps(asdict(event)), NAMES[0], json.dumps(asdict(context))
        await self._store.write(START, number, *values)
        await self._go_on(number, NAMES[0], event, context)

    async def _go_on(
        self, number: int, step: str, event: Event, context: Context
    ) -> None:
        at = NAMES.index(step)
        await STEPS[step](event, context)
        for name in NAMES[at + 1 :]:
            await self._store.write(SAVE, name, json.dumps(asdict(context)), number)
            await STEPS[name](event, context)
        await self._store.write(END, number)
        assert context.text == event.text
        self.ended += 1
        self.total += context.total
        self._room.release()


def measure(store: Store, *, count: int, in_flight: int) -> float:
    async def run() -> Runner:
        runner = Runner(store, in_flight)
        await runner.run(count)
        return runner

    began = time.perf_counter()
    runner = asyncio.run(run())
    seconds = time.perf_counter() - began
    assert (runner.ended, runner.total) == (count, count * (count + 3) // 2)
    assert store.commits == 3 * count or (store.group and store.commits < 3 * count)
    return seconds


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--in-flight", type=int, default=64)
    parser.add_argument("--workflows", type=int, default=3000)
    parser.add_argument("--synchronous", choices=[*SETTINGS], default="FULL")
    parser.add_argument("--commit", choices=["each", "group"], default="each")
    parser.add_argument("--folder", help="where the file lies; else a temporary one")
    given = parser.parse_args()
    count = given.workflows
    with tempfile.TemporaryDirectory(dir=given.folder) as folder:
        path = Path(folder) / "workflows.db"
        store = Store(path, given.synchronous, group=given.commit == "group")
        seconds = measure(store, count=count, in_flight=given.in_flight)
    rates = {
        "workflows_per_s": count / seconds,
        "commits_per_workflow": store.commits / count,
    }
    print(json.dumps(rates))


if __name__ == "__main__":
    main()
