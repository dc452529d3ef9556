"""A store that keeps everything in memory, for tests and for ``state=None``."""

from __future__ import annotations

from bisect import bisect_right
from collections import deque
from collections.abc import Callable, Sequence
from typing import Literal

import msgspec
import trio

from minions.store.port import (
    MAX_RECORD,
    Durability,
    Keyspace,
    StateStore,
    StoreStatistics,
    Write,
    check_writes,
)

__all__ = ["MemoryStore"]


class _Space(msgspec.Struct):
    """One keyspace: values by key, and the keys in order once somebody asked."""

    values: dict[bytes, bytes] = msgspec.field(default_factory=dict)
    # Invariant: either None or sorted(values).
    _keys: list[bytes] | None = None

    def apply(self, key: bytes, value: bytes | None) -> None:
        if value is not None:
            if key not in self.values:
                self._keys = None
            self.values[key] = value
        elif self.values.pop(key, None) is not None:
            self._keys = None

    def page(self, after: bytes | None, limit: int) -> list[tuple[bytes, bytes]]:
        if self._keys is None:
            self._keys = sorted(self.values)
        begin = 0 if after is None else bisect_right(self._keys, after)
        return [(key, self.values[key]) for key in self._keys[begin : begin + limit]]


class MemoryStore(StateStore):
    """Keep everything in memory; it is gone with the object.

    It has no task and needs no closing.  A write is committed at once, inside the
    call, and ``done`` is called before :meth:`write_nowait` returns; what a
    ``done`` hands over is committed at once as well, but its own ``done`` is called
    only after the one that is running has returned, so that they keep their order
    and never nest.
    """

    def __init__(self, *, max_record: int = MAX_RECORD) -> None:
        self._max_record = max_record
        self._spaces = {space: _Space() for space in Keyspace}
        self._dones: deque[Callable[[], None]] = deque()
        self._calling = False
        self._closed = False
        self._commits = 0
        self._writes = 0

    @property
    def durability(self) -> Durability:
        """Nothing survives the object: always ``"none"``."""
        return "none"

    @property
    def max_record(self) -> int:
        """The largest value that it takes, in bytes."""
        return self._max_record

    def close(self) -> None:
        """Refuse everything from now on; what was written is kept."""
        self._closed = True

    async def write(self, writes: Sequence[Write]) -> None:
        """Commit all of *writes*, or none; see :meth:`StateStore.write`.

        Cancellation:
            Honoured before the write, ignored after.
        """
        await trio.lowlevel.checkpoint_if_cancelled()
        self.write_nowait(writes)
        await trio.lowlevel.cancel_shielded_checkpoint()

    @trio.lowlevel.enable_ki_protection
    def write_nowait(
        self, writes: Sequence[Write], done: Callable[[], None] | None = None
    ) -> None:
        """Commit all of *writes*, or none; see :meth:`StateStore.write_nowait`."""
        self._check_open()
        check_writes(writes, self._max_record)
        for space, key, value in writes:
            self._spaces[space].apply(key, value)
        self._commits += 1
        self._writes += len(writes)
        if done is not None:
            self._dones.append(done)
            if not self._calling:
                self._call()

    def _call(self) -> None:
        self._calling = True
        try:
            while self._dones:
                self._dones.popleft()()
        finally:
            self._calling = False

    async def barrier(self) -> None:
        """Return at once: what was handed over is committed."""
        self._check_open()
        await trio.lowlevel.checkpoint()

    async def read(self, keyspace: Keyspace, key: bytes) -> bytes | None:
        """Read one value; see :meth:`StateStore.read`."""
        self._check_open()
        await trio.lowlevel.checkpoint()
        return self._spaces[keyspace].values.get(key)

    async def page(
        self, keyspace: Keyspace, *, after: bytes | None = None, limit: int = 1000
    ) -> list[tuple[bytes, bytes]]:
        """Read some keys with their values; see :meth:`StateStore.page`."""
        self._check_open()
        await trio.lowlevel.checkpoint()
        return self._spaces[keyspace].page(after, limit)

    def statistics(self) -> StoreStatistics:
        """Say what the store holds."""
        state: Literal["ok", "closed"] = "closed" if self._closed else "ok"
        return StoreStatistics(
            durability="none",
            state=state,
            waiting=0,
            commits=self._commits,
            writes=self._writes,
            peak_batch=1 if self._commits else 0,
            last_error=None,
            map_size=0,
            used=sum(
                len(key) + len(value)
                for space in self._spaces.values()
                for key, value in space.values.items()
            ),
        )

    def _check_open(self) -> None:
        if self._closed:
            raise trio.ClosedResourceError("the store is closed")

    def __repr__(self) -> str:
        count = sum(len(space.values) for space in self._spaces.values())
        return f"<MemoryStore with {count} values>"
