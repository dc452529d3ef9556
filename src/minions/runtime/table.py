"""The table of accepted work of one orchestration.

It belongs to Gru and outlives the incarnations of the minion: what was accepted
while the minion restarts stands here and starts once.  The store holds the same,
so that it outlives the process, too.
"""

from __future__ import annotations

from collections import deque
from collections.abc import Callable

import attrs

from minions.runtime.cold import ColdIndex
from minions.runtime.keys import KeyQueues
from minions.runtime.line import Line
from minions.runtime.pacing import Outage
from minions.runtime.work import Bounds, Ended, Engine, Work
from minions.supervise.incarnation import Gauge
from minions.workflow.record import WorkflowRecord

__all__ = ["WorkTable", "step_of", "tell_room"]


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
    # Those of state "ready", in the order of arrival.
    ready: Line = attrs.field(
        init=False,
        default=attrs.Factory(lambda self: Line(self.works), takes_self=True),
    )
    # Those of them that come back in their turn: apart, so that nobody waits behind
    # them.
    paced: Line = attrs.field(
        init=False,
        default=attrs.Factory(lambda self: Line(self.works), takes_self=True),
    )
    running: int = 0
    # How many of those in memory have the state "queued".
    queued: int = 0
    engine: Engine | None = None
    keys: KeyQueues = attrs.field(factory=KeyQueues)
    cold: ColdIndex = attrs.field(factory=ColdIndex)
    outage: Outage = attrs.field(factory=Outage)
    # Names what is down of all that the minion needs; empty if nothing is.
    parked_on: Callable[[], str] = attrs.field(default=lambda: "")
    # The name of its minion's first step, once that is known: a snapshot that no step
    # has left names none.
    first_step: str = ""
    # Whether an orchestration of this process has this table.
    is_started: bool = False
    # Whether nothing may run yet: a step that emits to its own pipeline must find
    # the subscription there.
    is_held: bool = False
    # Whether nothing more begins, not even a next step, until it is started again:
    # here, since the minion may restart meanwhile.
    is_paused: bool = False
    # Whether cold workflows stay so: a drain leaves them saved.
    is_resting: bool = False
    # Whether no event comes any more.
    is_exhausted: bool = False
    # Ends that are handed over to the writer and not on disk.
    ends: Gauge = attrs.field(factory=Gauge)
    # Their sequence numbers.
    ending: set[int] = attrs.field(factory=set)
    # By sequence number: its key, and whether it holds it still.
    quarantined: dict[int, tuple[bytes | None, bool]] = attrs.field(factory=dict)
    rejected: int = 0
    counts: dict[str, int] = attrs.field(factory=dict)
    # Called with the end of a workflow, once that is on disk; or with None when
    # none can come any more.
    waiters: dict[int, list[Callable[[Ended | None], None]]] = attrs.field(factory=dict)
    closed: bool = False

    @property
    def unfinished(self) -> int:
        """How many have not ended, or whose end is not on disk."""
        return len(self.works) + self.ends.count + self.cold.count

    @property
    def is_moving(self) -> bool:
        """Whether one runs or will, and not all queue behind a quarantined one."""
        ready = self.ready or self.paced
        return bool(self.running or ready or self.accepting or self.ends.count)

    def has_room(self, count: int) -> bool:
        """Say whether *count* more may be accepted now.

        More than the bound at once are let in when nothing else is there.
        """
        bounds, active = self.bounds, len(self.works)
        limit = bounds.max_backlog
        if self.engine is not None:
            limit = bounds.max_in_flight
            if self.cold.is_due:  # those that wake come before new events
                return False
        unfinished = active + self.cold.count
        if unfinished and unfinished + count > bounds.max_unfinished:
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
        tell_room(self)
        self.changed()

    def accepted(self, work: Work) -> None:
        """Hear that the record is on disk; start in order of arrival."""
        work.saved = True
        self._advance()

    def _advance(self) -> None:
        accepting = self.accepting
        moved = False
        while accepting and accepting[0].saved:
            work = accepting.popleft()
            work.state = "ready"
            self.ready.put(work)
            moved = True
        if moved and self.engine is not None:
            self.engine.dispatch()

    def woken(self, works: list[Work]) -> None:
        """Hear that these are on disk as ready: cold ones, or redriven."""
        for work in works:
            work.saved = True
            if self.works.get(work.seq) is work:
                self.put_back(work)
        if self.engine is not None:
            self.engine.dispatch()

    def put_back(self, work: Work) -> None:
        """Make it ready, again or at first, at its place in the order of arrival."""
        work.state = "ready"
        self.works[work.seq] = work
        self.ready.put(work)

    def cool(self, work: Work) -> None:
        """Let a workflow go that waits from now on; it keeps its key."""
        del self.works[work.seq]
        if work.key is not None and self.keys.holds(work.seq, work.key):
            self.keys.stand_in(work.seq, work.key)
        self.cold.count += 1
        self.cold.cooling.add(work.seq)

    def uncool(self, work: Work) -> None:
        """Take it back: its snapshot cannot be stored."""
        self.works[work.seq] = work
        if work.key is not None:
            self.keys.hold(work, work.key)
        self.cold.count -= 1
        self.cold.cooling.discard(work.seq)

    def release_key(self, seq: int, key: bytes | None) -> None:
        """Let the next workflow of the same key go."""
        following = self.keys.release(seq, key)
        if following is not None:
            self.queued -= 1
            self.put_back(following)
            if self.engine is not None:
                self.engine.dispatch()

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
        self.changed()

    def changed(self) -> None:
        """Hear of a step towards the end of all, which somebody may wait for."""
        if self.is_resting or self.is_exhausted:
            self.on_change()


def tell_room(table: WorkTable) -> None:
    """Tell that a place is free: cold ones that are due come first."""
    table.cold.tell_room()
    table.on_room()


def step_of(table: WorkTable, record: WorkflowRecord) -> str:
    """Name the step at which a workflow stands, as far as that is known."""
    return record.step or table.first_step
