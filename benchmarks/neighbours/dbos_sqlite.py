"""Two-step workflows through DBOS on SQLite: workflows per second.

As its documentation has it: a workflow and two steps are plain functions with its
decorators, and ``DBOS.start_workflow`` runs each workflow in a thread of DBOS's pool.
A semaphore, given back by the workflow's last line, keeps ``--in-flight`` of them
going. Its queues make as many commits for a workflow, and look for work once a second.

Durability: DBOS leaves SQLite as it comes, with a rollback journal and
``synchronous=FULL``; so each commit is flushed, and there are four a workflow (it has
begun, each step's result, it has ended). The program checks both settings on DBOS's
own connection, and that all results are in the file. An ended workflow stays there.
"""

from __future__ import annotations

import argparse
import importlib
import json
import tempfile
import threading
import time
from contextlib import closing
from pathlib import Path
from sqlite3 import connect
from typing import Any

# Installed in an environment of its own alone.
dbos: Any = importlib.import_module("dbos")
sqlalchemy: Any = importlib.import_module("sqlalchemy")
TEXT = "x" * 100

Values = dict[str, Any]
SETTINGS: dict[str, set[Any]] = {"journal_mode": set(), "synchronous": set()}


def note_settings(connection: Any, *_: Any) -> None:
    """Note what a connection was really set to, when DBOS closes it."""
    for name, found in SETTINGS.items():
        found.add(connection.execute(f"PRAGMA {name}").fetchone()[0])


def first(event: Values) -> Values:
    return {"total": event["number"], "text": event["text"]}


def second(context: Values) -> Values:
    return {**context, "total": context["total"] + 1}


def measure(path: Path, *, count: int, in_flight: int) -> float:
    first_step = dbos.DBOS.step()(first)
    second_step = dbos.DBOS.step()(second)
    room = threading.Semaphore(in_flight)

    @dbos.DBOS.workflow()  # type: ignore[untyped-decorator]
    def two_steps(event: Values) -> Values:
        try:
            context: Values = second_step(first_step(event))
            return context
        finally:
            room.release()

    sqlalchemy.event.listen(sqlalchemy.pool.Pool, "close", note_settings)
    url = f"sqlite:///{path}"
    config = {"name": "bench", "system_database_url": url, "log_level": "ERROR"}
    dbos.DBOS(config=config)
    dbos.DBOS.launch()
    try:
        began = time.perf_counter()
        handles = []
        for number in range(1, count + 1):
            room.acquire()
            event = {"number": number, "text": TEXT}
            handles.append(dbos.DBOS.start_workflow(two_steps, event))
        results = [handle.get_result() for handle in handles]
        seconds = time.perf_counter() - began
    finally:
        dbos.DBOS.destroy()
    assert [r["total"] for r in results] == list(range(2, count + 2))
    assert all(r["text"] == TEXT for r in results)
    return seconds


def check(path: Path, count: int) -> None:
    """See that each workflow and each step is in the file, and how it got there."""
    with closing(connect(path)) as db:
        ended = "SELECT count(*) FROM workflow_status WHERE status = 'SUCCESS'"
        assert db.execute(ended).fetchone() == (count,)
        steps = "SELECT count(*) FROM operation_outputs WHERE output IS NOT NULL"
        assert db.execute(steps).fetchone() == (2 * count,)
    flushed: dict[str, set[Any]] = {"journal_mode": {"delete"}, "synchronous": {2}}
    assert flushed == SETTINGS, f"expected {flushed}, found {SETTINGS}"


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--in-flight", type=int, default=64)
    parser.add_argument("--workflows", type=int, default=500)
    parser.add_argument("--folder", help="where the file lies; else a temporary one")
    given = parser.parse_args()
    with tempfile.TemporaryDirectory(dir=given.folder) as folder:
        path = Path(folder) / "dbos.sqlite"
        seconds = measure(path, count=given.workflows, in_flight=given.in_flight)
        check(path, given.workflows)
    print(json.dumps({"workflows_per_s": given.workflows / seconds}))


if __name__ == "__main__":
    main()
