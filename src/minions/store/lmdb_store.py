"""The store on disk: one LMDB environment in a folder that it holds locked.

Rules:
1. One writer, one transaction at a time; each begins and ends in one function, so
   that it never leaves the thread that it belongs to.
2. Reads are short and made in the event loop, between two checkpoints.  Growing the
   map is done there too, by the writer between two commits: so no transaction is
   open then, and no lock is needed.  (Growing under an open read transaction
   raises nothing; later reads fail or crash the process.)
3. Under a clock other than trio's own, commits are made in the event loop as well:
   a clock that jumps when all tasks are blocked would jump over a thread.

Source:
    LMDB's caveats: http://www.lmdb.tech/doc/
"""

from __future__ import annotations

import errno
import os
from collections.abc import AsyncGenerator, Callable, Sequence
from contextlib import asynccontextmanager, suppress
from functools import partial
from pathlib import Path
from typing import Any, TypeVar

import lmdb
import trio

from minions.errors import StoreError, StoreFullError, StoreVersionError
from minions.store.folder import StateFolder, claim_folder, translate_os_error
from minions.store.group_commit import Entry, QueuedStore
from minions.store.port import (
    MAX_RECORD,
    Durability,
    Keyspace,
    Notify,
    StateStore,
    StoreStatistics,
)

__all__ = ["open_lmdb_store"]

# Room for keyspaces of later versions.
_MAX_DBS = 64
_PAGE = 1000
_MAP_SIZE = 16 * 2**30
_PATIENCE = 30.0

T = TypeVar("T")


@asynccontextmanager
async def open_lmdb_store(
    path: str | os.PathLike[str],
    *,
    durability: Durability = "fsync",
    map_size: int = _MAP_SIZE,
    max_record: int = MAX_RECORD,
    notify: Notify | None = None,
    allow_network: bool = False,
    patience: float = _PATIENCE,
) -> AsyncGenerator[StateStore, None]:
    """Open the store in a folder, which is made with mode 0700 if it is not there.

    When the block ends, all that was handed over is committed, also under outer
    cancellation, and the folder is marked as closed.  An exception of the block
    comes out as itself; with one of the store's beside it, in a group.

    Args:
        path: The folder.  Its parent must exist.
        durability: What a committed write survives.
        map_size: Address space, in bytes.  It takes no disk space, and it grows.
        max_record: The largest value, in bytes.
        notify: Called with the error when commits begin to fail, and with ``None``
            when they succeed again.
        allow_network: Do not refuse a network file system.
        patience: Seconds for which the end of the block waits for a disk that
            refuses writes, before it gives them up.

    Raises:
        StoreLockedError: Somebody uses the folder.
        StoreVersionError: The folder is of a newer format.
        StoreFullError: There is no room; or, at the end, writes were given up.
        StoreError: The folder is another program's, damaged, not writable; or, at
            the end, writes were given up.

    Cancellation:
        Honoured before the folder is opened, and in the block.
    """
    inline = not _has_system_clock()
    limiter = trio.CapacityLimiter(1)

    async def call(sync_fn: Callable[[], T]) -> T:
        if inline:
            return sync_fn()
        return await trio.to_thread.run_sync(sync_fn, limiter=limiter)

    await trio.lowlevel.checkpoint()
    store = LmdbStore(
        durability=durability,
        max_record=max_record,
        inline=inline,
        notify=notify,
        map_size=map_size,
    )
    claim = partial(
        claim_folder, Path(path), durability=durability, allow_network=allow_network
    )
    await call(lambda: store.open(claim))
    try:
        async with store.writing(patience):
            yield store
    finally:
        # A thread is not abandoned: the shield lets it begin.
        with trio.move_on_after(patience, shield=True):
            await call(store.shut)


def _has_system_clock() -> bool:
    # trio does not export the class of its own clock.
    kind = type(trio.lowlevel.current_clock())
    return kind.__module__.partition(".")[0] == "trio" and kind.__name__ == (
        "SystemClock"
    )


class LmdbStore(QueuedStore):
    """The queue of :class:`QueuedStore` in front of an LMDB environment."""

    def __init__(self, *, map_size: int, **options: Any) -> None:
        super().__init__(**options)
        self._map_size = map_size
        self._used = 0
        self._folder: StateFolder | None = None
        # None before it is open, after it is closed, and while it is broken.
        self._env: lmdb.Environment | None = None
        self._dbs: dict[Keyspace, Any] = {}

    def open(self, claim: Callable[[], StateFolder]) -> None:
        """Claim the folder and open the environment, or leave no trace."""
        folder = claim()
        try:
            folder.expect_data()
            self._folder = folder
            env = self._open_environment()
            if folder.unclean:
                # What its last user did not flush must not be torn by our flushes.
                env.sync(True)
            folder.mark("open")
        except BaseException as exc:
            if self._env is not None:
                self._env.close()
                self._env = None
            folder.undo()
            if isinstance(exc, lmdb.Error | OSError):
                raise self._translate(exc) from exc
            raise
        folder.keep()

    def shut(self) -> None:
        """Flush and close the environment, and give the folder back."""
        folder, env = self._folder, self._env
        assert folder is not None
        self._env = None
        try:
            if env is not None:
                self._used = _used(env)
                if self._durability != "fsync":
                    env.sync(True)
                env.close()
                if not self._queue and self._trouble is None:
                    folder.mark("closed")
        except (lmdb.Error, OSError) as exc:
            raise self._translate(exc) from exc
        finally:
            folder.release()

    def _open_environment(self) -> lmdb.Environment:
        assert self._folder is not None
        self._env = env = lmdb.open(
            str(self._folder.path),
            map_size=self._map_size,
            max_dbs=_MAX_DBS,
            sync=self._durability == "fsync",
            metasync=self._durability == "fsync",
            mode=0o600,
            create=False,
            max_spare_txns=1,
            # An environment variable can change the format of new folders.
            lib_version=0,
        )
        # Grown before: the file remembers.
        self._map_size = env.info()["map_size"]
        env.reader_check()
        with env.begin(write=True) as txn:
            self._dbs = {
                space: env.open_db(space.value.encode(), txn=txn) for space in Keyspace
            }
        return env

    def _commit(self, batch: Sequence[Entry]) -> None:
        dbs = self._dbs
        with self._environment().begin(write=True) as txn:
            put, delete = txn.put, txn.delete
            for writes, _ in batch:
                for space, key, value in writes:
                    if value is None:
                        delete(key, db=dbs[space])
                    else:
                        put(key, value, db=dbs[space])

    def _recover(self, error: Exception) -> bool:
        env = self._env
        if env is not None and isinstance(error, lmdb.MapFullError):
            try:
                env.set_mapsize(2 * self._map_size)
                self._map_size = env.info()["map_size"]
            except (lmdb.Error, OSError, OverflowError):
                # LMDB has unmapped the file before it failed to map it again.
                self._reopen()
                return False
            return True
        if env is None or isinstance(error, lmdb.PanicError):
            # LMDB refuses everything after a failed write of a meta page.
            self._reopen()
        return False

    def _reopen(self) -> None:
        if self._env is not None:
            self._env.close()
            self._env = None
        # What it fails with, the next commit fails with.
        with suppress(lmdb.Error, OSError):
            self._open_environment()

    def _translate(self, error: Exception) -> StoreError:
        path = None if self._folder is None else self._folder.path
        if isinstance(error, StoreError):
            return error
        if isinstance(error, lmdb.MapFullError):
            return StoreFullError(
                f"{path}: the map of {self._map_size} bytes is full and cannot grow;"
                " expected address space for twice as much; delete old records or"
                " raise the limit of the process (ulimit -v)"
            )
        if isinstance(error, lmdb.InvalidError | lmdb.VersionMismatchError):
            return StoreVersionError(
                f"{path}: expected a data file of LMDB 0.9, found another: {error};"
                " open it with the version of minions that wrote it"
            )
        code = getattr(error, "code", None)
        if isinstance(error, OSError):
            code = error.errno
        if path is not None and code in {errno.ENOSPC, errno.EDQUOT}:
            return translate_os_error(path, OSError(code, str(error)))
        return StoreError(
            f"{path}: expected the disk to take a write, found"
            f" {type(error).__name__}: {error}; see whether the disk is well"
        )

    async def read(self, keyspace: Keyspace, key: bytes) -> bytes | None:
        """Read one value; see :meth:`StateStore.read`."""
        self._check_open()
        await trio.lowlevel.checkpoint()
        try:
            with self._environment().begin() as txn:
                return txn.get(key, db=self._dbs[keyspace])
        except lmdb.Error as exc:
            raise _unreadable(self._folder, exc) from exc

    async def page(
        self, keyspace: Keyspace, *, after: bytes | None = None, limit: int = 1000
    ) -> list[tuple[bytes, bytes]]:
        """Read some keys with their values; see :meth:`StateStore.page`."""
        self._check_open()
        found: list[tuple[bytes, bytes]] = []
        while True:
            await trio.lowlevel.checkpoint()
            wanted = min(_PAGE, limit - len(found))
            try:
                part = self._read_page(keyspace, after, wanted)
            except lmdb.Error as exc:
                raise _unreadable(self._folder, exc) from exc
            found += part
            if len(part) < wanted or len(found) >= limit:
                return found
            after = part[-1][0]

    def _read_page(
        self, keyspace: Keyspace, after: bytes | None, limit: int
    ) -> list[tuple[bytes, bytes]]:
        found: list[tuple[bytes, bytes]] = []
        with (
            self._environment().begin(db=self._dbs[keyspace]) as txn,
            txn.cursor() as cursor,
        ):
            more = cursor.first() if after is None else cursor.set_range(after)
            if more and after is not None and cursor.key() == after:
                more = cursor.next()
            while more and len(found) < limit:
                found.append(cursor.item())
                more = cursor.next()
        return found

    def statistics(self) -> StoreStatistics:
        """Say what the store is doing."""
        return StoreStatistics(
            durability=self._durability,
            state=self._state(),
            waiting=self._waiting(),
            commits=self._commits,
            writes=self._writes,
            peak_batch=self._peak_batch,
            last_error=self._trouble,
            map_size=self._map_size,
            used=self._used if self._env is None else _used(self._env),
        )

    def _check_open(self) -> None:
        if self._closing:
            raise trio.ClosedResourceError("the store is closed")

    def _environment(self) -> lmdb.Environment:
        if self._env is None:
            # A read that began before the store was closed ends here, too.
            self._check_open()
            raise StoreError(
                f"{self._folder and self._folder.path}: expected an open data file,"
                " found that it could not be opened again after an error of the"
                " disk; see whether the disk is well"
            )
        return self._env

    def __repr__(self) -> str:
        path = None if self._folder is None else self._folder.path
        return f"<LmdbStore in {path}, {self._durability}, {self._state()}>"


def _unreadable(folder: StateFolder | None, exc: lmdb.Error) -> StoreError:
    return StoreError(
        f"{folder and folder.path}: expected to read a record, found"
        f" {type(exc).__name__}: {exc}; see whether the disk is well"
    )


def _used(env: lmdb.Environment) -> int:
    return (env.info()["last_pgno"] + 1) * env.stat()["psize"]
