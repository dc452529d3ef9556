"""What workflows are ordered by: keys as bytes, and who holds them.

Workflows of one key run one after the other, in the order of arrival.  The first of
a key's queue holds it.  From its first commit on the store says so, too: a workflow
that is half way goes on before an older one that a person has sent on again.
"""

from __future__ import annotations

import hashlib
from collections.abc import Container
from heapq import heapify, heappop, heappush

import msgspec

from minions.errors import DefinitionError
from minions.runtime.work import Work
from minions.workflow.record import WorkflowRecord

__all__ = ["KeyQueues", "key_bytes"]

_LONGEST_KEY = 256


def key_bytes(value: object) -> bytes:
    """Make what workflows are ordered by; long ones as a hash.

    Raises:
        DefinitionError: The key is no plain value.
    """
    try:
        data = msgspec.msgpack.encode([type(value).__qualname__, value])
    except (TypeError, ValueError, OverflowError, UnicodeError) as exc:
        raise DefinitionError(
            f"key: expected a plain value (text, number, bytes, date, UUID, or a tuple"
            f" of them), found {value!r}; return one of these"
        ) from exc
    if len(data) <= _LONGEST_KEY:
        return data
    return hashlib.blake2b(data, digest_size=16).digest()


def _stand_in(seq: int, key: bytes) -> Work:
    """Make what stands in a queue for a workflow that is not in memory."""
    record = WorkflowRecord("", "", b"", "", b"", "", 0.0)
    return Work(seq, record, key=key, state="away", holds=True)


class _Queue(msgspec.Struct, eq=False):
    """Who holds a key, and those behind."""

    first: Work
    behind: dict[int, Work] = msgspec.field(default_factory=dict)
    # A heap of ranks and numbers.  Invariant: it has all that are behind; others
    # have left.
    _line: list[tuple[int, int]] = msgspec.field(default_factory=list)

    def add(self, work: Work) -> None:
        """Let one stand behind, in the order of arrival; once, if it is there."""
        self.behind[work.seq] = work
        heappush(self._line, (work.seq, work.seq))

    def precede(self, work: Work) -> None:
        """Let one stand before all others."""
        self.behind[self.first.seq] = self.first
        heappush(self._line, (-1, self.first.seq))
        self.first = work

    def leave(self, seq: int) -> None:
        """Let one go that is behind."""
        self.behind.pop(seq, None)
        # Cleared now and then, so that leaving costs the same however many there are.
        if len(self._line) > 2 * len(self.behind) + 8:
            self._line = [entry for entry in self._line if entry[1] in self.behind]
            heapify(self._line)

    def advance(self) -> bool:
        """Let the first one go; say whether there is another."""
        while self._line:
            following = self.behind.pop(heappop(self._line)[1], None)
            if following is not None:
                self.first = following
                return True
        return False


class KeyQueues(msgspec.Struct, eq=False):
    """The workflows of one orchestration by their keys."""

    _queues: dict[bytes, _Queue] = msgspec.field(default_factory=dict)

    def hold(self, work: Work, key: bytes) -> bool:
        """Take a key, or queue behind who holds it; say whether it is taken."""
        work.key = key
        queue = self._queues.get(key)
        if queue is None:
            self._queues[key] = _Queue(work)
            return True
        if queue.first.seq == work.seq:  # woken, redriven, or interrupted
            queue.first = work
            return True
        queue.add(work)
        return False

    def release(self, seq: int, key: bytes | None) -> Work | None:
        """Let a key go, or the place in its queue; return who is to go on."""
        queue = self._queues.get(key) if key is not None else None
        if queue is None or key is None:
            return None
        if queue.first.seq != seq:
            queue.leave(seq)
            return None
        if not queue.advance():
            del self._queues[key]
            return None
        return queue.first if queue.first.state == "queued" else None

    def stand_in(self, seq: int, key: bytes) -> None:
        """Let a workflow that is not in memory hold a key."""
        queue = self._queues.get(key)
        if queue is None:
            self._queues[key] = _Queue(_stand_in(seq, key))
        elif queue.first.seq == seq:
            queue.first = _stand_in(seq, key)
        else:
            queue.precede(_stand_in(seq, key))

    def holder_of(self, key: bytes) -> Work | None:
        """Return who holds a key, as far as is known in memory."""
        queue = self._queues.get(key)
        return queue.first if queue is not None else None

    def held_by(self, seq: int) -> bytes | None:
        """Return the key that a workflow holds, whose record cannot be read."""
        for key, queue in self._queues.items():
            if queue.first.seq == seq:
                return key
        return None

    def holds(self, seq: int, key: bytes | None) -> bool:
        """Say whether a workflow is the one that holds the key."""
        queue = self._queues.get(key) if key is not None else None
        return queue is not None and queue.first.seq == seq

    def forget(self, unfinished: Container[int]) -> list[Work]:
        """Let the keys go that no commit holds: the minion has gone.

        Returns those that queued, to be made ready again.
        """
        queued: list[Work] = []
        for key, queue in list(self._queues.items()):
            works = [queue.first, *sorted(queue.behind.values())]
            queued += [work for work in works if work.state == "queued"]
            kept = [w for w in works if w.holds or w.seq not in unfinished]
            del self._queues[key]
            for work in kept[:1]:
                self._queues[key] = _Queue(work)
            for work in kept[1:]:
                self._queues[key].add(work)
        return queued
