"""Ends the process when only what is stuck is left, if the options say so."""

from __future__ import annotations

import os

import trio

from minions.store.port import StateStore
from minions.supervise import Group, Member, State

__all__ = ["EXIT_STUCK", "ExitWhenStuck"]

EXIT_STUCK = 70
"""The exit code: an internal software error, as in sysexits.h."""


class ExitWhenStuck:
    """Watches a group that stops; see ``GruOptions.on_stuck``."""

    def __init__(self, group: Group, store: StateStore) -> None:
        self._group: Group = group
        self._store: StateStore = store
        self._scope = trio.CancelScope()
        # No task of the Gru's: those end before what is stuck does.
        trio.lowlevel.spawn_system_task(self._watch, name="minions/exit")

    def close(self) -> None:
        """Watch no longer: all has ended."""
        self._scope.cancel(reason="the Gru has ended")

    async def _watch(self) -> None:
        """Exit once all that could end has ended."""
        with self._scope:
            while not self._is_only_blocked_left():
                await self._group.changed.wait()
            await self._store.barrier()
            os._exit(EXIT_STUCK)

    def _is_only_blocked_left(self) -> bool:
        left = [m for m in self._group.members.values() if m.running]
        if self._group.stopping is None or not left:
            return False
        blocked = {m.name for m in left if _is_stuck(m)}
        # What is blocked holds up what it needs, and where it runs.
        waiting = [*blocked]
        while waiting:
            member = self._group.members[waiting.pop()]
            parents = () if member.parent is None else (member.parent.name,)
            held = {*member.plan.needs, *parents} - blocked
            blocked |= held
            waiting.extend(held)
        return all(member.name in blocked for member in left)


def _is_stuck(member: Member) -> bool:
    lessees = member.current.lessees.values() if member.current is not None else ()
    return member.state is State.STUCK or any(lessee.overdue for lessee in lessees)
