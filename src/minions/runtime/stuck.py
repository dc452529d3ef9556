"""Ends the process when only what is stuck is left, if the options say so."""

from __future__ import annotations

import os

import trio

from minions.notices import ComponentEnded, ComponentStuck, Notice
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
        self._exiting = False

    def heed(self, notice: Notice) -> None:
        """Exit once all that could end has ended."""
        if not isinstance(notice, ComponentStuck | ComponentEnded):
            return
        if self._exiting or self._group.stopping is None:
            return
        left = [m for m in self._group.members.values() if m.running]
        if left and all(self._is_blocked(member) for member in left):
            self._exiting = True
            trio.lowlevel.spawn_system_task(self._exit, name="minions/exit")

    def _is_blocked(self, member: Member) -> bool:
        """Say whether it is stuck, or waits for one that is."""
        if member.state is State.STUCK:
            return True
        members = self._group.members.values()
        return any(
            other.running
            and (member.name in other.plan.needs or other.parent is member)
            and self._is_blocked(other)
            for other in members
        )

    async def _exit(self) -> None:
        await self._store.barrier()
        os._exit(EXIT_STUCK)
