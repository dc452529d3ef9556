"""Greedy group commit: one writer takes all that waits and commits it once.

Theory: a flush to disk costs the same for one write as for hundreds.  So while one
commit is under way the others queue up, and the next commit takes them all: an idle
store commits a single write at once, a busy one shares each flush.  There is no
timer: a timer is paid by every write (rejected, as was a commit per write).

Rules:
1. Entries are committed in the order of the calls, each whole.
2. An entry is either taken by the writer or not.  Until then its caller may take it
   back; afterwards its result is returned, whatever happens to the caller.
3. A batch fails only for reasons that concern all of it.  Then nobody is told
   anything, and the same batch is tried again, until it is on disk or the store is
   closed and its patience has ended.
4. The writer is shielded: it ends by a closing mark, after all that was handed over.
"""

from __future__ import annotations

import abc
from collections.abc import AsyncGenerator, Callable, Sequence
from contextlib import asynccontextmanager
from functools import partial
from typing import Literal

import outcome
import trio

from minions.errors import InternalError, StoreError
from minions.store.commit_thread import CommitThread
from minions.store.port import (
    Durability,
    Notify,
    StateStore,
    Write,
    check_writes,
)

__all__ = ["Entry", "QueuedStore"]

Entry = tuple[Sequence[Write], Callable[[], None] | None]

# At most this many calls share a commit: their release is one stretch of work in
# the event loop, and LMDB's list of dirty pages is finite.
_MAX_BATCH = 16_384
# Writes without a flush that are made in the event loop: about a millisecond.  A
# thread takes longer: LMDB's binding gives the interpreter away at each of them, and
# a loop that is busy is slow to give it back.
_MAX_INLINE = 512
_FIRST_DELAY = 0.1
_LONGEST_DELAY = 5.0


class _Waiter:
    """The ``done`` of a task that is parked in ``write``."""

    __slots__ = ("_task",)

    def __init__(self, task: trio.lowlevel.Task) -> None:
        self._task = task

    def __call__(self) -> None:
        trio.lowlevel.reschedule(self._task)

    def fail(self, error: Exception) -> None:
        trio.lowlevel.reschedule(self._task, outcome.Error(error))


class QueuedStore(StateStore):
    """The queue and the writer; a subclass commits."""

    def __init__(
        self,
        *,
        durability: Durability,
        max_record: int,
        inline: bool,
        notify: Notify | None = None,
    ) -> None:
        self._durability = durability
        self._max_record = max_record
        self._inline = inline
        self._heeding: list[Notify] = [notify] if notify is not None else []
        self._thread = CommitThread()
        self._queue: list[Entry] = []
        # How many entries the writer has taken so far.  Invariant: the entry at
        # index i of the queue has the number _taken + i.
        self._taken = 0
        # Numbers of queued entries that their callers took back.
        self._withdrawn: set[int] = set()
        self._in_flight: list[Entry] = []
        self._parked: trio.lowlevel.Task | None = None
        self._closing = False
        self._give_up_at = float("inf")
        self._error: StoreError | None = None
        self._commits = 0
        self._writes = 0
        self._peak_batch = 0

    @abc.abstractmethod
    def _commit(self, batch: Sequence[Entry]) -> None:
        # Write the batch in one transaction; may be called in a thread.
        ...

    @abc.abstractmethod
    def _recover(self, error: Exception) -> bool:
        # In the event loop, with no commit under way: may the batch be tried
        # again at once?
        ...

    @abc.abstractmethod
    def _translate(self, error: Exception) -> StoreError: ...

    @property
    def durability(self) -> Durability:
        """What a committed write survives."""
        return self._durability

    def heed(self, notify: Notify) -> Callable[[], None]:
        """Tell of trouble; see :meth:`StateStore.heed`."""
        self._heeding.append(notify)
        if self._error is not None:
            notify(self._error)
        return lambda: self._heeding.remove(notify)

    @property
    def max_record(self) -> int:
        """The largest value that it takes, in bytes."""
        return self._max_record

    @trio.lowlevel.enable_ki_protection
    def write_nowait(
        self, writes: Sequence[Write], done: Callable[[], None] | None = None
    ) -> None:
        """Hand *writes* over; see :meth:`StateStore.write_nowait`."""
        if self._closing:
            raise trio.ClosedResourceError("the store is closed")
        check_writes(writes, self._max_record)
        self._queue.append((writes, done))
        if self._parked is not None:
            trio.lowlevel.reschedule(self._parked)
            self._parked = None

    # A Ctrl-C between the hand-over and the wait would leave a waiter that waits
    # for nothing.
    @trio.lowlevel.enable_ki_protection
    async def write(self, writes: Sequence[Write]) -> None:
        """Commit all of *writes*, or none; see :meth:`StateStore.write`."""
        self.write_nowait(writes, _Waiter(trio.lowlevel.current_task()))
        number = self._taken + len(self._queue) - 1

        def abort(_: object) -> trio.lowlevel.Abort:
            if number < self._taken:
                return trio.lowlevel.Abort.FAILED
            self._withdrawn.add(number)
            return trio.lowlevel.Abort.SUCCEEDED

        await trio.lowlevel.wait_task_rescheduled(abort)

    async def barrier(self) -> None:
        """Wait for all that was handed over; see :meth:`StateStore.barrier`."""
        await self.write(())

    @asynccontextmanager
    async def writing(self, patience: float) -> AsyncGenerator[None, None]:
        """Run the writer until the block has ended and all is committed."""
        error: BaseException | None = None
        try:
            async with trio.open_nursery() as nursery:
                nursery.start_soon(self._run_writer, nursery)
                try:
                    yield
                finally:
                    self._close(patience)
        except BaseExceptionGroup as group:
            # A single error comes out as itself.
            error = group.exceptions[0] if len(group.exceptions) == 1 else group
        if error is not None:
            raise error

    def _close(self, patience: float) -> None:
        """Refuse new entries, and let the writer end behind the last one."""
        self._closing = True
        self._give_up_at = trio.current_time() + patience
        if self._parked is not None:
            trio.lowlevel.reschedule(self._parked)
            self._parked = None

    @trio.lowlevel.enable_ki_protection
    async def _run_writer(self, nursery: trio.Nursery) -> None:
        # Without a deadline: the closing mark ends it, and _close bounds its
        # patience with a disk that is full.
        with trio.CancelScope(shield=True):
            try:
                while self._queue or not self._closing:
                    await self._serve(nursery)
            except BaseException as exc:
                # A task whose write was taken waits for an answer, whatever befalls.
                self._closing = True
                self._abandon(exc)
                raise
            finally:
                self._thread.close()

    async def _serve(self, nursery: trio.Nursery) -> None:
        if self._queue:
            batch, count = self._take()
            await self._commit_surely(batch, count)
            self._in_flight = []
            self._release(batch, nursery)
            if self._queue:
                # The writer must not keep the event loop to itself while those whom
                # it tells hand over more.
                await trio.lowlevel.cancel_shielded_checkpoint()
        else:
            self._parked = trio.lowlevel.current_task()
            await trio.lowlevel.wait_task_rescheduled(_never)
            if self._durability == "fsync":
                # Who was woken together with it may have more for the same flush: the
                # end of one workflow makes room for another.
                await trio.lowlevel.cancel_shielded_checkpoint()

    def _take(self) -> tuple[list[Entry], int]:
        if len(self._queue) <= _MAX_BATCH:
            batch, self._queue = self._queue, []
        else:
            batch = self._queue[:_MAX_BATCH]
            del self._queue[:_MAX_BATCH]
        first = self._taken
        self._taken += len(batch)
        if self._withdrawn:
            gone, kept = self._withdrawn, []
            for number, entry in enumerate(batch, first):
                if number in gone:
                    gone.discard(number)
                else:
                    kept.append(entry)
            batch = kept
        self._in_flight = batch
        return batch, sum([len(writes) for writes, _ in batch])

    async def _commit_surely(self, batch: list[Entry], count: int) -> None:
        """Commit the batch, however often it must be tried."""
        delay = _FIRST_DELAY
        while count:
            try:
                await self._try_commit(batch, count)
            except Exception as exc:  # told of and tried again
                if self._recover(exc):
                    continue
                self._begin_trouble(self._translate(exc))
                if trio.current_time() >= self._give_up_at:
                    raise self._given_up(exc) from exc
            else:
                self._end_trouble()
                self._commits += 1
                self._writes += count
                self._peak_batch = max(self._peak_batch, len(batch))
                return
            await trio.sleep(delay)
            delay = min(2 * delay, _LONGEST_DELAY)

    async def _try_commit(self, batch: list[Entry], count: int) -> None:
        if self._inline or (self._durability != "fsync" and count <= _MAX_INLINE):
            self._commit(batch)
        else:
            await self._thread.run(partial(self._commit, batch))

    def _release(self, batch: list[Entry], nursery: trio.Nursery) -> None:
        entries = iter(batch)
        while True:
            try:
                for _, done in entries:
                    if done is not None:
                        done()
            except Exception as exc:  # noqa: BLE001  # raised below; the others go on
                nursery.start_soon(_raise_bug, exc)
            else:
                return

    def _begin_trouble(self, error: StoreError) -> None:
        if self._error is None or _text(error) != self._trouble:
            self._error = error
            self._tell()

    def _end_trouble(self) -> None:
        if self._error is not None:
            self._error = None
            self._tell()

    def _tell(self) -> None:
        for notify in [*self._heeding]:
            notify(self._error)

    @property
    def _trouble(self) -> str | None:
        return _text(self._error) if self._error is not None else None

    def _given_up(self, cause: Exception) -> StoreError:
        error = self._translate(cause)
        return type(error)(
            f"{error} The store was closed in this state: {self._waiting()} writes are"
            " not saved."
        )

    def _abandon(self, cause: BaseException) -> None:
        """Answer every task that waits for a write."""
        kind = type(cause) if isinstance(cause, StoreError) else InternalError
        entries = [*self._in_flight, *self._queue]
        for number, (_, done) in enumerate(entries, self._taken - len(self._in_flight)):
            if isinstance(done, _Waiter) and number not in self._withdrawn:
                done.fail(kind(f"this write is not saved: {cause}"))
        self._in_flight = []
        self._queue.clear()
        self._withdrawn.clear()

    def _state(self) -> Literal["ok", "backoff", "closed"]:
        if self._closing and not self._in_flight and not self._queue:
            return "closed"
        return "ok" if self._trouble is None else "backoff"

    def _waiting(self) -> int:
        return len(self._in_flight) + len(self._queue) - len(self._withdrawn)


def _text(error: StoreError) -> str:
    return f"{type(error).__name__}: {error}"


def _never(_: object) -> trio.lowlevel.Abort:
    # The writer is shielded, so that this is asked only by a Ctrl-C, which the
    # protected writer leaves to the main task.
    return trio.lowlevel.Abort.FAILED


async def _raise_bug(cause: Exception) -> None:
    raise InternalError(
        "a callback of the store raised; expected it not to. What it was told of is"
        " saved; please report this with its traceback"
    ) from cause
