"""A store whose commits fail where a test says so."""

from __future__ import annotations

import errno
import os
from collections.abc import AsyncGenerator, Callable, Mapping, Sequence
from contextlib import asynccontextmanager
from functools import partial
from pathlib import Path
from typing import Any, Literal

import attrs
import lmdb

from minions.errors import StoreError, StoreFullError
from minions.store.group_commit import Entry, QueuedStore
from minions.store.lmdb_store import LmdbStore, open_lmdb_store
from minions.store.memory import MemoryStore
from minions.store.port import MAX_RECORD, Keyspace, Notify, StateStore, StoreStatistics

__all__ = ["Fault", "Faults", "open_faulty_store"]

Kind = Literal["full", "io", "map", "broken"]


@attrs.frozen
class Fault:
    """How one try of a commit fails."""

    kind: Kind = "full"
    """``full``: no room on the disk; ``io``: it refuses; ``map``: the map is full,
    which LMDB's store mends at once; ``broken``: LMDB wants to be opened again."""

    written: bool = False
    """The data are on disk all the same, which nobody is told: a flush that failed
    behind the last write."""

    def error(self) -> Exception:
        """Make the error that LMDB raises then."""
        if self.kind == "map":
            return lmdb.MapFullError("mdb_put: a fault that a test asked for")
        if self.kind == "broken":
            return lmdb.PanicError("mdb_txn_begin: a fault that a test asked for")
        error = lmdb.DiskError("mdb_txn_commit: a fault that a test asked for")
        # Declared final; LMDB's own errors carry it.
        vars(error)["code"] = errno.ENOSPC if self.kind == "full" else errno.EIO
        return error


@attrs.define(eq=False)
class Faults:
    """Which tries of a commit fail; may be changed at any time."""

    at: Mapping[int, Fault] = attrs.field(factory=dict)
    """By the number of the try, from 1."""

    standing: Fault | None = None
    """What every try fails with that is not in ``at``, until it is ``None`` again.
    Not ``map``: the store would try again at once, for ever."""

    tries: int = 0
    """How many commits were tried so far."""

    def commit(self, really: Callable[[Sequence[Entry]], None], batch: Any) -> None:
        """Commit the batch, or fail; called by the store."""
        self.tries += 1
        fault = self.at.get(self.tries, self.standing)
        if fault is None or fault.written:
            really(batch)
        if fault is not None:
            raise fault.error()


@asynccontextmanager
async def open_faulty_store(
    path: str | os.PathLike[str] | None,
    *,
    faults: Faults,
    patience: float = 30.0,
    **options: Any,
) -> AsyncGenerator[StateStore, None]:
    """Open a store in a folder, or in memory, whose commits fail as *faults* say.

    Args:
        path: The folder; ``None`` for a store in memory that queues as LMDB's does.
        faults: Counted from the first commit behind the opening.
        patience: As for :func:`minions.store.open_lmdb_store`.
        **options: As well; ``max_record`` and ``notify`` in memory, too.
    """
    if path is not None:
        async with open_lmdb_store(Path(path), patience=patience, **options) as on_disk:
            assert isinstance(on_disk, LmdbStore)
            _inject(on_disk, faults)
            yield on_disk
        return
    store = _QueuedMemory(
        max_record=options.get("max_record", MAX_RECORD), notify=options.get("notify")
    )
    _inject(store, faults)
    async with store.writing(patience):
        yield store


def _inject(store: QueuedStore, faults: Faults) -> None:
    # The store's own growing, reopening and trying again is what is tested.
    really = store._commit  # noqa: SLF001
    vars(store)["_commit"] = partial(faults.commit, really)


class _QueuedMemory(QueuedStore):
    """The queue of a store on disk in front of one in memory."""

    def __init__(self, *, max_record: int, notify: Notify | None) -> None:
        super().__init__(
            durability="none", max_record=max_record, inline=True, notify=notify
        )
        self._memory = MemoryStore(max_record=max_record)

    def _commit(self, batch: Sequence[Entry]) -> None:
        self._memory.write_nowait([write for writes, _ in batch for write in writes])

    def _recover(self, error: Exception) -> bool:
        return isinstance(error, lmdb.MapFullError)

    def _translate(self, error: Exception) -> StoreError:
        full = getattr(error, "code", None) == errno.ENOSPC
        return (StoreFullError if full else StoreError)(str(error))

    async def read(self, keyspace: Keyspace, key: bytes) -> bytes | None:
        """Read one value; see :meth:`StateStore.read`."""
        return await self._memory.read(keyspace, key)

    async def page(
        self, keyspace: Keyspace, *, after: bytes | None = None, limit: int = 1000
    ) -> list[tuple[bytes, bytes]]:
        """Read some keys with their values; see :meth:`StateStore.page`."""
        return await self._memory.page(keyspace, after=after, limit=limit)

    def statistics(self) -> StoreStatistics:
        """Say what the store is doing."""
        return attrs.evolve(
            self._memory.statistics(),
            state=self._state(),
            waiting=self._waiting(),
            commits=self._commits,
            writes=self._writes,
            peak_batch=self._peak_batch,
            last_error=self._trouble,
        )
