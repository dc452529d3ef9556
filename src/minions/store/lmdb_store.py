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

import os
from collections.abc import AsyncGenerator, Callable, Sequence
from contextlib import asynccontextmanager, suppress
from functools import partial
from pathlib import Path
from typing import Any, TypeVar

import lmdb
import trio

from minions.errors import StoreError
from minions.store.folder import StateFolder, claim_folder, translate_os_error
from minions.store.group_commit import Entry, QueuedStore
from minions.store.lmdb_errors import translate_error, unreadable
from minions.store.migrate import MAX_DBS, Migrated
from minions.store.port import (
    MAX_RECORD,
    Durability,
    Keyspace,
    Notify,
    StateStore,
    StoreStatistics,
)
from minions.store.total import TOTAL_DB, Total, forget_total

__all__ = ["open_lmdb_store"]

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
    notify_migrated: Callable[[Migrated], None] | None = None,
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
        notify_migrated: Called once the folder was brought from an older format to
            the present one, with both and with the path of the copy that was made
            before.
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
    call = _call_inline if inline else _call_in_thread
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
        if store.migrated is not None and notify_migrated is not None:
            notify_migrated(store.migrated)
        async with store.writing(patience):
            yield store
    finally:
        # A thread is not abandoned: the shield lets it begin.
        with trio.move_on_after(patience, shield=True):
            await call(store.shut)


async def _call_inline(sync_fn: Callable[[], T]) -> T:
    return sync_fn()


async def _call_in_thread(sync_fn: Callable[[], T]) -> T:
    # A folder waits for no other one's, and the limiter of all others' threads may
    # be used up.
    return await trio.to_thread.run_sync(sync_fn, limiter=trio.CapacityLimiter(1))


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
        # None if commits are flushed.
        self._total: Total | None = None
        self.migrated: Migrated | None = None

    @property
    def unclean(self) -> bool:
        """Whether the folder's last user ended without closing it."""
        return self._folder is not None and self._folder.unclean

    def open(self, claim: Callable[[], StateFolder]) -> None:
        """Claim the folder and open the environment, or leave no trace."""
        folder = claim()
        try:
            folder.expect_data()
            self._folder = folder
            self.folder: Path | None = folder.path
            folder.check_total(self._map_size)
            self.migrated = folder.migrate(self._map_size)
            env = self._open_environment()
            if not folder.found:
                # On disk before the mark: afterwards an empty file is a damaged one.
                _open_databases(env, self._durability)
            # What its last user did not flush must not be torn by our flushes.
            env.sync(True)
            names = _names_in(env)
            folder.check_names(names)
            folder.mark("open", names)
            self._dbs, self._total = _open_databases(env, self._durability)
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
                names = _names_in(env)
                env.close()
                if not self._queue and self._trouble is None:
                    _mark_closed(folder, names)
        except (lmdb.Error, OSError) as exc:
            raise self._translate(exc) from exc
        finally:
            folder.release()

    def _open_environment(self) -> lmdb.Environment:
        assert self._folder is not None
        self._env = env = lmdb.open(
            str(self._folder.path),
            map_size=self._map_size,
            max_dbs=MAX_DBS,
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
        return env

    def _commit(self, batch: Sequence[Entry]) -> None:
        # Each key once.  A value that is replaced by a shorter one within the same
        # transaction keeps its pages, which `lmdb.verify` takes for damage.
        last: dict[Keyspace, dict[bytes, bytes | None]] = {}
        for writes, _ in batch:
            for space, key, value in writes:
                if space in last:
                    last[space][key] = value
                else:
                    last[space] = {key: value}
        with self._environment().begin(write=True) as txn:
            if self._total is not None:
                self._total.write(txn, self._dbs, last)
                return
            for space, values in last.items():
                db = self._dbs[space]
                puts = [
                    (key, value) for key, value in values.items() if value is not None
                ]
                if puts:
                    with txn.cursor(db) as cursor:
                        cursor.putmulti(puts)
                if len(puts) < len(values):
                    for key, value in values.items():
                        if value is None:
                            txn.delete(key, db=db)

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
            env = self._open_environment()
            self._dbs, self._total = _open_databases(env, self._durability)

    def _translate(self, error: Exception) -> StoreError:
        path = None if self._folder is None else self._folder.path
        return translate_error(error, path, self._map_size)

    async def read(self, keyspace: Keyspace, key: bytes) -> bytes | None:
        """Read one value; see :meth:`StateStore.read`."""
        self._check_open()
        await trio.lowlevel.checkpoint()
        try:
            with self._environment().begin() as txn:
                return txn.get(key, db=self._dbs[keyspace])
        except lmdb.Error as exc:
            raise unreadable(self._folder, exc) from exc

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
                part = _read_page(
                    self._environment(), self._dbs[keyspace], after, wanted
                )
            except lmdb.Error as exc:
                raise unreadable(self._folder, exc) from exc
            found += part
            if len(part) < wanted or len(found) >= limit:
                return found
            after = part[-1][0]

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


def _open_databases(
    env: lmdb.Environment, durability: Durability
) -> tuple[dict[Keyspace, Any], Total | None]:
    """Open the database of each keyspace; those that are not there are made."""
    with env.begin(write=True) as txn:
        dbs = {space: env.open_db(space.value.encode(), txn=txn) for space in Keyspace}
        if durability == "fsync":
            forget_total(env, txn)
    return dbs, None if durability == "fsync" else Total(env)


def _mark_closed(folder: StateFolder, names: list[str]) -> None:
    try:
        folder.mark("closed", names)
    except OSError as exc:
        error = translate_os_error(folder.path, exc)
        raise type(error)(
            f"{error}. All writes are saved, but the folder could not be marked as"
            " closed: the next start takes this for an unclean end"
        ) from exc


def _names_in(env: lmdb.Environment) -> list[str]:
    # A reader would leave its mark in the lock file of a folder that is refused.
    with env.begin(write=True) as txn:
        names = [bytes(key) for key, _ in txn.cursor()]
    # The sum comes and goes with the durability.
    return [name.decode(errors="replace") for name in names if name != TOTAL_DB]


def _read_page(
    env: lmdb.Environment, db: Any, after: bytes | None, limit: int
) -> list[tuple[bytes, bytes]]:
    found: list[tuple[bytes, bytes]] = []
    with env.begin(db=db) as txn, txn.cursor() as cursor:
        more = cursor.first() if after is None else cursor.set_range(after)
        if more and after is not None and cursor.key() == after:
            more = cursor.next()
        while more and len(found) < limit:
            found.append(cursor.item())
            more = cursor.next()
    return found


def _used(env: lmdb.Environment) -> int:
    return (env.info()["last_pgno"] + 1) * env.stat()["psize"]
