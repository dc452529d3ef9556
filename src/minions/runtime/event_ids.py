"""The ids of events: an event that comes again starts nothing.

A pipeline remembers an id for ``dedup_window`` seconds, and ``max_dedup`` ids at
most.  They stand in the store, committed with the workflows that their events
started; in memory stand only their number and a page of the oldest.
"""

from __future__ import annotations

import contextlib
from collections import deque
from collections.abc import AsyncIterator, Container, Iterator, Mapping, Sequence

import attrs
import msgspec
import trio

from minions.errors import SnapshotError
from minions.runtime.ledger import Ledger
from minions.store.port import Keyspace, Write
from minions.workflow.layout import (
    dedup_age_key,
    dedup_key,
    dedup_of_age,
    mark_of,
    time_of_dedup,
)
from minions.workflow.record import seal, unseal

__all__ = ["EventIds", "check_ids", "pick_new", "put_together"]

Ids = tuple[str | None, ...]
_PAGE = 256
# Ids whose time is over go with later ones, a few at a time.
_AT_ONCE = 8

_encode = msgspec.msgpack.Encoder().encode
_decoder = msgspec.msgpack.Decoder(tuple[float, tuple[str | None, ...]])


def check_ids(pipeline: str, ids: Sequence[object], events: int) -> None:
    """Refuse what cannot be ids.

    Raises:
        ValueError: There are more or fewer than events.
        TypeError: One is no text.
    """
    if len(ids) != events:
        raise ValueError(
            f"{pipeline}: expected one id for each of {events} events, found"
            f" {len(ids)}; give None for an event without one"
        )
    for event_id in ids:
        if event_id is not None and not (isinstance(event_id, str) and event_id):
            raise TypeError(
                f"{pipeline}: expected the id of an event to be text that is not empty,"
                f" found {event_id!r}; give str(id), or None"
            )


def pick_new(ids: Sequence[str | None], known: Container[str]) -> list[int]:
    """Return the places of the events that are new; the first of each id is."""
    seen: set[str] = set()
    new: list[int] = []
    for index, event_id in enumerate(ids):
        if event_id is None or (event_id not in known and event_id not in seen):
            new.append(index)
        if event_id is not None:
            seen.add(event_id)
    return new


def put_together(
    ids: Sequence[str | None], known: Mapping[str, Ids], new: Mapping[int, Ids]
) -> tuple[Ids, ...]:
    """Return for each event what its first emit has returned."""
    first = {**known, **{i: new[n] for n in new if (i := ids[n]) is not None}}
    return tuple(
        new[index] if event_id is None else first[event_id]
        for index, event_id in enumerate(ids)
    )


@attrs.define(eq=False)
class EventIds:
    """The ids of the events of one pipeline."""

    pipeline: str
    ledger: Ledger
    window: float
    """Seconds for which an id is remembered."""

    max_dedup: int
    # Ids of calls that are under way.
    _claims: dict[str, trio.Event] = attrs.field(factory=dict, init=False)
    # How many the store holds; None: not counted yet.
    _count: int | None = attrs.field(default=None, init=False)
    # By key: the index keys of ids that come again after their time is over.
    _over: dict[bytes, bytes] = attrs.field(factory=dict, init=False)
    # Index keys of the oldest, oldest first.
    _oldest: deque[bytes] = attrs.field(factory=deque, init=False)
    # One call reads them at a time: an entry that stood there twice would be
    # forgotten a second time when its id has come again.
    _loading: trio.Lock = attrs.field(factory=trio.Lock, init=False)
    # Index keys that went while they were read.
    _dropped: set[bytes] = attrs.field(factory=set, init=False)

    @contextlib.contextmanager
    def _claimed(self, ids: set[str]) -> Iterator[None]:
        mine = {event_id: trio.Event() for event_id in ids}
        self._claims |= mine
        try:
            yield
        finally:
            for event_id, event in mine.items():
                del self._claims[event_id]
                event.set()

    @contextlib.asynccontextmanager
    async def claim(self, ids: Sequence[str | None]) -> AsyncIterator[dict[str, Ids]]:
        """Keep others with the same ids waiting for the length of the block.

        Gives what the first emit of each id has returned, for those that are known.
        """
        wanted = {event_id for event_id in ids if event_id is not None}
        while busy := [self._claims[i] for i in wanted if i in self._claims]:
            await busy[0].wait()
        with self._claimed(wanted):
            async with self._loading:
                await self._load()
            yield {i: found for i in wanted if (found := await self._seen(i))}

    async def _load(self) -> None:
        """Count those that the store holds, and read the oldest."""
        prefix = mark_of(self.pipeline)
        if self._count is None:
            count, after = 0, prefix
            while True:
                page = await self.ledger.store.page(Keyspace.DEDUP_AGE, after=after)
                keys = [key for key, _ in page if key.startswith(prefix)]
                count += len(keys)
                if len(keys) < len(page) or not page:
                    break
                after = keys[-1]
            self._count = count
        if not self._oldest and self._count:
            # Those that were forgotten last are to be gone from the disk.
            self._dropped.clear()
            await self.ledger.store.barrier()
            page = await self.ledger.store.page(
                Keyspace.DEDUP_AGE, after=prefix, limit=_PAGE
            )
            keys = [key for key, _ in page if key.startswith(prefix)]
            self._oldest.extend(key for key in keys if key not in self._dropped)

    async def _seen(self, event_id: str) -> Ids | None:
        """Return what the first emit with this id has returned."""
        key = dedup_key(self.pipeline, event_id)
        value = await self.ledger.store.read(Keyspace.DEDUP, key)
        if value is None:
            return None
        try:
            at, ids = _decoder.decode(unseal(key, value))
        except msgspec.DecodeError as exc:
            raise SnapshotError(
                f"{self.pipeline}: the entry of the event id {event_id!r} is damaged:"
                f" {exc}; restore the state folder from a copy"
            ) from exc
        if self.ledger.now() - at < self.window:
            return ids
        self._over[key] = dedup_age_key(at, key)
        return None

    def writes(self, accepted: dict[str, Ids]) -> list[Write]:
        """Return what remembers new ids, and forgets old ones."""
        now = self.ledger.now()
        writes: list[Write] = self._forget(now, len(accepted))
        for event_id, ids in accepted.items():
            key = dedup_key(self.pipeline, event_id)
            age = dedup_age_key(now, key)
            over = self._over.pop(key, None)
            if over is not None:
                self._drop(over)
                writes.append((Keyspace.DEDUP_AGE, over, None))
            writes.append((Keyspace.DEDUP, key, seal(key, _encode((now, ids)))))
            writes.append((Keyspace.DEDUP_AGE, age, seal(age, b"")))
        if self._count is not None:
            self._count += len(accepted)
        return writes

    def _drop(self, age: bytes) -> None:
        """Forget an index entry that goes with its id's coming again."""
        if self._count is not None:
            self._count = max(0, self._count - 1)
        if self._loading.locked():
            self._dropped.add(age)
        with contextlib.suppress(ValueError):
            self._oldest.remove(age)

    def undo(self) -> None:
        """Hear that the writes never happened: count and read again."""
        self._count = None
        self._oldest.clear()

    def _forget(self, now: float, more: int) -> list[Write]:
        writes: list[Write] = []
        count = self._count
        if count is None:  # another call was taken back, and nothing is known
            return writes
        while self._oldest and len(writes) < 2 * max(_AT_ONCE, more):
            age = self._oldest[0]
            is_over = now - time_of_dedup(age) >= self.window
            if not is_over and count + more <= self.max_dedup:
                break
            self._oldest.popleft()
            count -= 1
            key = dedup_of_age(age)
            self._over.pop(key, None)
            writes.append((Keyspace.DEDUP, key, None))
            writes.append((Keyspace.DEDUP_AGE, age, None))
        self._count = count
        return writes
