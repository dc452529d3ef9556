"""What workflows are ordered by: keys as bytes, and who holds them.

Workflows of one key run one after the other, in the order of arrival.  The first of
a key's queue holds it.  From its first commit on the store says so, too: a workflow
that is half way goes on before an older one that a person has sent on again.
"""

from __future__ import annotations

import hashlib
from collections import deque
from collections.abc import Container

import attrs
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


def _seq(work: Work) -> int:
    return work.seq


def _stand_in(seq: int, key: bytes) -> Work:
    """Make what stands in a queue for a workflow that is not in memory."""
    record = WorkflowRecord("", "", b"", "", b"", "", 0.0)
    return Work(seq, record, key=key, state="away", holds=True)


@attrs.define(eq=False)
class KeyQueues:
    """The workflows of one orchestration by their keys."""

    # By key; the first of each holds it.  Invariant: no queue is empty.
    _queues: dict[bytes, deque[Work]] = attrs.field(factory=dict)

    def __bool__(self) -> bool:
        """Say whether any key is held."""
        return bool(self._queues)

    def hold(self, work: Work, key: bytes) -> bool:
        """Take a key, or queue behind who holds it; say whether it is taken."""
        work.key = key
        queue = self._queues.get(key)
        if queue is None:
            self._queues[key] = deque([work])
            return True
        if queue[0].seq == work.seq:  # woken, redriven, or interrupted
            queue[0] = work
            return True
        if queue[-1].seq < work.seq:
            queue.append(work)
            return False
        # Redriven: its former self may still stand there.
        others = [w for w in list(queue)[1:] if w.seq != work.seq]
        self._queues[key] = deque([queue[0], *sorted([*others, work], key=_seq)])
        return False

    def release(self, seq: int, key: bytes | None) -> Work | None:
        """Let a key go, or the place in its queue; return who is to go on."""
        queue = self._queues.get(key) if key is not None else None
        if not queue or key is None:
            return None
        held = queue[0].seq == seq
        if held:
            queue.popleft()
        else:
            self._queues[key] = queue = deque(w for w in queue if w.seq != seq)
        if not queue:
            del self._queues[key]
            return None
        return queue[0] if held and queue[0].state == "queued" else None

    def stand_in(self, seq: int, key: bytes) -> None:
        """Let a workflow that is not in memory hold a key."""
        queue = self._queues.get(key)
        if queue is None:
            self._queues[key] = deque([_stand_in(seq, key)])
        elif queue[0].seq == seq:
            queue[0] = _stand_in(seq, key)
        else:
            queue.appendleft(_stand_in(seq, key))

    def holder_of(self, key: bytes) -> Work | None:
        """Return who holds a key, as far as is known in memory."""
        queue = self._queues.get(key)
        return queue[0] if queue else None

    def held_by(self, seq: int) -> bytes | None:
        """Return the key that a workflow holds, whose record cannot be read."""
        for key, queue in self._queues.items():
            if queue[0].seq == seq:
                return key
        return None

    def holds(self, seq: int, key: bytes | None) -> bool:
        """Say whether a workflow is the one that holds the key."""
        queue = self._queues.get(key) if key is not None else None
        return bool(queue) and queue[0].seq == seq if queue else False

    def forget(self, unfinished: Container[int]) -> list[Work]:
        """Let the keys go that no commit holds: the minion has gone.

        Returns those that queued, to be made ready again.
        """
        queued: list[Work] = []
        for key, queue in list(self._queues.items()):
            queued += [work for work in queue if work.state == "queued"]
            kept = deque(w for w in queue if w.holds or w.seq not in unfinished)
            if kept:
                self._queues[key] = kept
            else:
                del self._queues[key]
        return queued
