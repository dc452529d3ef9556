"""The table of accepted work of one orchestration.

It belongs to Gru and outlives the incarnations of the minion: what was accepted
while the minion restarts stands here and starts once.  The store holds the same,
so that it outlives the process, too.
"""

from __future__ import annotations

from collections import deque
from collections.abc import Callable
from heapq import heappop, heappush
from typing import Any, Literal, Protocol

import attrs

from minions.supervise.incarnation import Gauge
from minions.workflow.record import WorkflowRecord

__all__ = ["Bounds", "Ended", "Engine", "Work", "WorkState", "WorkTable"]

WorkState = Literal["accepting", "ready", "running", "queued"]


@attrs.define(eq=False)
class Work:
    """One workflow that has not ended."""

    seq: int
    record: WorkflowRecord
    """Its last snapshot: on disk, or handed over to the writer."""

    event: Any = None
    """The event, once somebody needs it as an object."""

    saved: bool = False
    """Whether the snapshot is on disk: only then may its next step begin."""

    state: WorkState = "accepting"
    key: bytes | None = None
    """What it is ordered by, once the minion has taken it up."""

    @property
    def id(self) -> str:
        """The workflow's id, for people and programs."""
        return f"w{self.seq}"


@attrs.frozen
class Bounds:
    """How much may be accepted, and what happens beyond it."""

    max_in_flight: int = 1000
    max_backlog: int = 10_000
    max_unfinished: int = 10_000_000
    overflow: Literal["wait", "reject"] = "wait"


@attrs.frozen
class Ended:
    """How a workflow ended, for those who wait for it."""

    state: Literal["done", "aborted", "discarded", "quarantined"]
    record: WorkflowRecord
    context: Any
    reason: str = ""


class Engine(Protocol):
    """The minion's side, while it is up."""

    def dispatch(self) -> None:
        """Start what is ready, as far as there is room."""


def _seq(work: Work) -> int:
    return work.seq


def _placeholder(seq: int, key: bytes) -> Work:
    """Make what stands in a key's queue for a workflow in quarantine."""
    return Work(seq, WorkflowRecord("", "", b"", "", b"", "", 0.0), key=key)


@attrs.define(eq=False)
class WorkTable:
    """The unfinished workflows of one orchestration, in the order of arrival."""

    id: str
    bounds: Bounds
    # Called when room may have come, and when anything else has changed.
    on_room: Callable[[], None]
    on_change: Callable[[], None]

    works: dict[int, Work] = attrs.field(factory=dict)
    # Invariant: sorted by seq, all before the first one that is not saved moved on.
    accepting: deque[Work] = attrs.field(factory=deque)
    # State "ready".  Invariant: a heap by seq, since what is put back, be it one of
    # a hundred thousand, takes its place in the order of arrival.
    ready: list[tuple[int, Work]] = attrs.field(factory=list)
    running: int = 0
    engine: Engine | None = None
    # Workflows of one key; the first one holds it.
    keys: dict[bytes, deque[Work]] = attrs.field(factory=dict)
    # Ends that are handed over to the writer and not on disk.
    ends: Gauge = attrs.field(factory=Gauge)
    # Their sequence numbers.
    ending: set[int] = attrs.field(factory=set)
    # By sequence number: the key that it holds if its class says so.
    quarantined: dict[int, bytes | None] = attrs.field(factory=dict)
    rejected: int = 0
    counts: dict[str, int] = attrs.field(factory=dict)
    # Called with the end of a workflow, once that is on disk; or with None when
    # none can come any more.
    waiters: dict[int, list[Callable[[Ended | None], None]]] = attrs.field(factory=dict)
    closed: bool = False

    @property
    def unfinished(self) -> int:
        """How many have not ended, or whose end is not on disk."""
        return len(self.works) + self.ends.count

    @property
    def is_moving(self) -> bool:
        """Whether one runs or will, and not all queue behind a quarantined one."""
        return bool(self.running or self.ready or self.accepting or self.ends.count)

    def has_room(self, count: int) -> bool:
        """Say whether *count* more may be accepted now.

        More than the bound at once are let in when nothing else is there.
        """
        bounds, active = self.bounds, len(self.works)
        limit = bounds.max_backlog if self.engine is None else bounds.max_in_flight
        if active + count > bounds.max_unfinished and active:
            return False
        return active + count <= limit or (count > limit and not active)

    def reserve(self, work: Work) -> None:
        """Take a place for an event whose record is being written."""
        self.works[work.seq] = work
        self.accepting.append(work)

    def withdraw(self, work: Work) -> None:
        """Give the place back: the write never happened."""
        del self.works[work.seq]
        self.accepting.remove(work)
        self._advance()
        self.on_room()
        self.on_change()

    def accepted(self, work: Work) -> None:
        """Hear that the record is on disk; start in order of arrival."""
        work.saved = True
        self._advance()

    def _advance(self) -> None:
        accepting = self.accepting
        moved = False
        while accepting and accepting[0].saved:
            work = accepting.popleft()
            self.put_back(work)
            moved = True
        if moved and self.engine is not None:
            self.engine.dispatch()

    def put_back(self, work: Work) -> None:
        """Make it ready, again or at first, at its place in the order of arrival."""
        work.state = "ready"
        self.works[work.seq] = work
        heappush(self.ready, (work.seq, work))

    def take_ready(self) -> Work:
        """Return the first one that is ready; it is in no line any more."""
        return heappop(self.ready)[1]

    def hold_key(self, work: Work, key: bytes) -> bool:
        """Take a key, or queue behind who holds it; say whether it is taken."""
        work.key = key
        queue = self.keys.get(key)
        if queue is None:
            self.keys[key] = deque([work])
            return True
        if queue[0].seq == work.seq:  # redriven, or interrupted
            queue[0] = work
            return True
        if queue[-1].seq < work.seq:
            queue.append(work)
            return False
        # Redriven: its former self may still stand there, quarantined.
        others = [w for w in list(queue)[1:] if w.seq != work.seq]
        self.keys[key] = deque([queue[0], *sorted([*others, work], key=_seq)])
        return False

    def release_key(self, work: Work) -> None:
        """Let the next workflow of the same key go."""
        if work.key is None:
            return
        queue = self.keys.get(work.key)
        if not queue or work not in queue:
            return
        held = queue[0] is work
        queue.remove(work)
        if not queue:
            del self.keys[work.key]
        elif held and queue[0].state == "queued":
            self.put_back(queue[0])
            if self.engine is not None:
                self.engine.dispatch()

    def hold_quarantined(self) -> None:
        """Let quarantined workflows hold their keys, as before the last restart."""
        for seq, key in sorted(self.quarantined.items()):
            if key is not None and all(w.seq != seq for w in self.keys.get(key, ())):
                self.keys.setdefault(key, deque()).append(_placeholder(seq, key))

    def forget_keys(self) -> None:
        """Let the keys of unfinished workflows go: the minion has gone.

        Those of quarantined ones, and of ends that are not on disk, stay held.
        """
        for key, queue in list(self.keys.items()):
            for work in queue:
                if work.state == "queued":
                    self.put_back(work)
            kept = deque(work for work in queue if work.seq not in self.works)
            if kept:
                self.keys[key] = kept
            else:
                del self.keys[key]

    def close(self) -> None:
        """Hear that nothing works on any more: no end comes but those on their way."""
        self.closed = True
        for seq in self.waiters.keys() - self.ending:
            for waiter in self.waiters.pop(seq):
                waiter(None)

    def tell_end(self, work: Work, ended: Ended) -> None:
        """Hear that an end is on disk: wake who waits, and let the key go."""
        self.ends.down()
        self.ending.discard(work.seq)
        self.counts[ended.state] = self.counts.get(ended.state, 0) + 1
        for waiter in self.waiters.pop(work.seq, ()):
            waiter(ended)
        self.on_change()
