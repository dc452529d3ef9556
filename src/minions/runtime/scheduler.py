"""Which workflow of a minion may run next.

In the order of arrival, as far as keys, suspicion, pacing and ``max_in_flight`` allow.
"""

from __future__ import annotations

from contextvars import copy_context
from typing import TYPE_CHECKING, Any

from minions.declare.specification import MinionSpec
from minions.errors import SnapshotError
from minions.runtime.calls import call_user_sync
from minions.runtime.desk import Desk
from minions.runtime.keys import key_bytes
from minions.runtime.pacing import Pacer
from minions.runtime.suspicion import Suspicion
from minions.runtime.work import Engine, Work
from minions.supervise import Group

if TYPE_CHECKING:
    import trio

__all__ = ["Scheduler"]


class Scheduler:
    """Takes workflows up for one incarnation of a minion."""

    def __init__(self, group: Group, spec: MinionSpec, desk: Desk) -> None:
        self._group = group
        self._spec = spec
        self._desk = desk
        self._table = desk.table
        self._limit = spec.max_in_flight
        self._pacer = Pacer(group.options.resume_rate, group.random)
        self._suspicion = Suspicion()
        # Set when it begins.
        self._minion: Any = None
        self._nursery: trio.Nursery | None = None
        self._engine: Engine | None = None

    def begin(self, minion: Any, nursery: trio.Nursery, engine: Engine) -> None:
        """Hear that the minion is up."""
        self._minion, self._nursery, self._engine = minion, nursery, engine

    def may_take(self) -> bool:
        """Say whether there is somebody to take up, and room."""
        table = self._table
        return bool(
            table.ready
            and table.running < self._limit
            and table.engine is self._engine
            and not (table.is_paused or table.is_held)
        )

    def take(self) -> Work | None:
        """Return the next workflow that may run now; it does so from now on."""
        table = self._table
        while self.may_take():
            work = table.ready.take()
            if work is None:
                return None
            if self._spec.has_key and not self._has_key(work):
                continue
            if work.is_paced:
                self._set_aside(work)
            elif not work.record.crash_count or self._suspicion.admit(work):
                work.state = "running"
                table.running += 1
                return work
        return None

    def _has_key(self, work: Work) -> bool:
        """Compute the key at take-up; queue behind another of the same key."""
        table, ends = self._table, self._desk.ledger.ends
        try:
            key = work.key or work.record.key
            if key is None:
                # What it sets is not seen in the step that follows.
                key = copy_context().run(self._compute_key, work)
        except BaseException as exc:  # noqa: BLE001  # the user's, or undecodable data
            if self._group.leave_if_exit(exc):
                table.put_back(work)
                return False
            reason = "incompatible" if isinstance(exc, SnapshotError) else "key"
            ends.quarantine(table, work, reason=reason, exc=exc)
            return False
        if table.keys.hold(work, key):
            return True
        work.state = "queued"
        table.queued += 1
        table.cold.tell_room()  # who holds the key may be one of those that are due
        return False

    def _compute_key(self, work: Work) -> bytes:
        event = self._desk.codecs.event_of(work)
        return key_bytes(call_user_sync(self._minion.key, event))

    def cleared(self, work: Work) -> bool:
        """Hear that a suspect has ended a step, or runs no longer.

        Returns whether another one may run instead.
        """
        following = self._suspicion.clear(work, self._table.works)
        if following is not None:
            self._table.put_back(following)
        return following is not None

    # Those that were parked.

    def _set_aside(self, work: Work) -> None:
        """Let one that was parked wait for its turn; it has its key meanwhile."""
        assert self._nursery is not None
        self._table.paced.put(work)
        if not self._pacer.is_running:
            self._pacer.is_running = True
            self._nursery.start_soon(self._pacer.run, self._let_one_go)

    def _let_one_go(self) -> bool:
        """Let the next one go that was parked; say whether others may be left."""
        work = self._table.paced.take()
        if work is None:  # those that were left were cancelled
            self._table.on_change()
        else:
            work.is_paced = False
            self._table.put_back(work)
            assert self._engine is not None
            self._engine.dispatch()
        return bool(self._table.paced)

    def disband(self) -> None:
        """Put all back that waits here: the minion has gone."""
        table = self._table
        # Those whose turn had not come wait for it still in the next life.
        while (late := table.paced.take()) is not None:
            table.put_back(late)
        for work in self._suspicion.forget():
            if table.works.get(work.seq) is work:
                table.put_back(work)
        for work in table.keys.forget(table.works):
            table.put_back(work)
        table.queued = 0
