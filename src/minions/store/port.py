"""What the runtime asks of a store, whichever it is.

A store holds bytes under keys, in a few keyspaces, and commits batches of writes
atomically and in the order of the calls.  It knows nothing of what they mean.
"""

from __future__ import annotations

import abc
from collections.abc import Callable, Sequence
from pathlib import Path
from typing import Literal

import attrs

from minions.errors import SnapshotError, StoreError
from minions.workflow.layout import Keyspace, Write

__all__ = [
    "MAX_KEY",
    "MAX_RECORD",
    "Durability",
    "Keyspace",
    "Notify",
    "StateStore",
    "StoreStatistics",
    "Write",
    "check_writes",
]

MAX_KEY = 511
"""The longest key, in bytes: LMDB's limit."""

MAX_RECORD = 16 * 2**20
"""The largest value by default, in bytes."""

Durability = Literal["fsync", "async", "none"]
"""What a committed write survives: ``fsync`` a loss of power, ``async`` a crash of
the process, ``none`` an ordered end only."""

Notify = Callable[[StoreError | None], None]
"""Called in the event loop with the error when trouble begins or changes, and with
``None`` when it has ended."""


@attrs.frozen(kw_only=True)
class StoreStatistics:
    """What a store is doing."""

    durability: Durability
    state: Literal["ok", "backoff", "closed"]
    """``backoff``: the last commit failed and is being tried again."""

    waiting: int
    """Calls that were handed over and are not committed."""

    commits: int
    """Batches committed since the store was opened."""

    writes: int
    """Puts and deletes in them."""

    peak_batch: int
    """The most calls that one commit held."""

    last_error: str | None
    """The trouble of the last failed commit since the store was last well."""

    map_size: int
    """The address space, in bytes; 0 in memory."""

    used: int
    """What the data takes, in bytes."""


def _nothing() -> None:
    """Stop what has never begun."""


class StateStore(abc.ABC):
    """Bytes under keys, committed in atomic batches in the order of the calls."""

    folder: Path | None = None
    """The state folder that it holds; ``None``: it is in none."""

    @property
    @abc.abstractmethod
    def durability(self) -> Durability:
        """What a committed write survives."""

    @property
    def unclean(self) -> bool:
        """Whether its last user did not close it: what was in flight may be guilty."""
        return False

    def heed(self, notify: Notify) -> Callable[[], None]:
        """Call *notify* when trouble begins, changes and ends; return what stops that.

        It is called at once if there is trouble already.  A store that can have
        none never calls it.
        """
        del notify
        return _nothing

    @abc.abstractmethod
    async def write(self, writes: Sequence[Write]) -> None:
        """Commit all of *writes*, or none.

        Returns when they are as safe as the durability names.  A store in trouble
        (no room on the disk) does not raise here: the call waits until the trouble
        has ended.  Do not change *writes* afterwards.

        Raises:
            SnapshotError: A key or value cannot be stored; nothing was accepted.
            StoreError: The store was closed in trouble and gave these writes up.
            trio.ClosedResourceError: The store is closed.

        Cancellation:
            Honoured until the writer has taken the writes: then they never
            happened.  Ignored after: then the call returns.
        """

    @abc.abstractmethod
    def write_nowait(
        self, writes: Sequence[Write], done: Callable[[], None] | None = None
    ) -> None:
        """Hand *writes* over, to be committed whole and in the order of the calls.

        Args:
            writes: Not to be changed afterwards.
            done: Called in the event loop once they are committed, in the order of
                the calls.  It must not raise; it may hand over more.

        Raises:
            SnapshotError: A key or value cannot be stored; nothing was accepted.
            trio.ClosedResourceError: The store is closed.
        """

    @property
    def max_record(self) -> int:
        """The largest value that it takes, in bytes."""
        return MAX_RECORD

    @abc.abstractmethod
    async def barrier(self) -> None:
        """Wait until all that was handed over before is committed.

        Raises:
            StoreError: The store was closed in trouble and gave them up.
            trio.ClosedResourceError: The store is closed.
        """

    @abc.abstractmethod
    async def read(self, keyspace: Keyspace, key: bytes) -> bytes | None:
        """Read one value as it was last committed.

        Raises:
            StoreError: The store could not be read.
            trio.ClosedResourceError: The store is closed.
        """

    @abc.abstractmethod
    async def page(
        self, keyspace: Keyspace, *, after: bytes | None = None, limit: int = 1000
    ) -> list[tuple[bytes, bytes]]:
        """Read up to *limit* keys with their values, in the order of the keys.

        Each thousand is one read transaction, so that no long one pins the pages
        that writers free; a larger page need not be of one moment.

        Args:
            keyspace: Where to read.
            after: Begin behind this key, be it there or not.
            limit: Fewer than this many mean that there are no more.

        Raises:
            StoreError: The store could not be read.
            trio.ClosedResourceError: The store is closed.
        """

    @abc.abstractmethod
    def statistics(self) -> StoreStatistics:
        """Say what the store is doing; works on a closed one, too."""


def check_writes(writes: Sequence[Write], max_record: int) -> None:
    """Find what is wrong with one entry before it can spoil a batch.

    Raises:
        SnapshotError: A key is empty, longer than 511 bytes or no bytes, a value
            is larger than *max_record* or no bytes, or the keyspace is none.
    """
    for space, key, value in writes:
        if (
            space.__class__ is not Keyspace
            or key.__class__ is not bytes
            or not 0 < len(key) <= MAX_KEY
            or (
                value is not None
                and (
                    value.__class__ is not bytes
                    # What waits for a person is a record and the reason why.
                    or (len(value) > max_record and space is not Keyspace.QUARANTINE)
                )
            )
        ):
            raise SnapshotError(_what_is_wrong(space, key, value, max_record))


def _what_is_wrong(space: object, key: object, value: object, limit: int) -> str:
    if not isinstance(space, Keyspace):
        return f"store: expected a Keyspace, found {space!r}"
    if not isinstance(key, bytes):
        return f"store, {space.value}: expected a key of bytes, found {type(key)!r}"
    if not 0 < len(key) <= MAX_KEY:
        return (
            f"store, {space.value}: expected a key of 1 to {MAX_KEY} bytes, found"
            f" {len(key)}; use a hash of it"
        )
    if not isinstance(value, bytes):
        return f"store, {space.value}: expected a value of bytes, found {type(value)!r}"
    return (
        f"store, {space.value}: expected a record of at most {limit} bytes"
        f" (max_record), found {len(value)}; keep large data outside the context, or"
        " raise max_record"
    )
