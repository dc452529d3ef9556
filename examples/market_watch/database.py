"""SQLite for trio: one connection, used by one worker thread at a time."""

from __future__ import annotations

import sqlite3
from functools import partial
from pathlib import Path
from typing import Any, Self

import trio


class Database:
    """One SQLite file.

    A statement is its own transaction, and is on disk when the call returns.

    Cancellation:
        Honoured before a statement begins, ignored after: old or new, never half.
    """

    def __init__(self, connection: sqlite3.Connection) -> None:
        self._connection = connection
        self._limiter = trio.CapacityLimiter(1)

    @classmethod
    async def open(cls, path: Path, *schema: str) -> Self:
        """Open the file at *path*, made if need be, and create its tables."""
        path.parent.mkdir(parents=True, exist_ok=True)
        connect = partial(
            sqlite3.connect, path, isolation_level=None, check_same_thread=False
        )
        database = cls(await trio.to_thread.run_sync(connect))
        try:
            await database.execute("PRAGMA journal_mode = WAL")
            await database.execute("PRAGMA synchronous = FULL")
            for statement in schema:
                await database.execute(statement)
        except BaseException:
            database._connection.close()
            raise
        return database

    async def execute(self, statement: str, *parameters: object) -> list[Any]:
        """Run one statement and return its rows."""

        def work() -> list[Any]:
            return self._connection.execute(statement, parameters).fetchall()

        return await trio.to_thread.run_sync(work, limiter=self._limiter)

    async def aclose(self) -> None:
        """Close the file, also when cancelled: a connection may not be left open."""
        with trio.CancelScope(shield=True), trio.move_on_after(5):
            await trio.to_thread.run_sync(self._connection.close, limiter=self._limiter)
