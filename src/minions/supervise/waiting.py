"""Finds waits that would hold up what they wait for."""

from __future__ import annotations

from collections.abc import Mapping

import trio

from minions.supervise.member import Member, State

__all__ = ["check_wait"]


def check_wait(members: Mapping[str, Member], awaited: Member) -> None:
    """Refuse a wait for *awaited* that could not end before it has ended itself.

    A component whose startup or shutdown waits does not come up (again), nor does
    what needs it.  Tasks that a hook has started may wait: whether the hook waits
    for them cannot be told, since a context manager's outlive its entry.  Nothing is
    looked for below what is up: all that it needs is up, and runs no such hook.

    Raises:
        trio.BusyResourceError: This is the startup or shutdown of that component,
            or of one that it needs, directly or not.
    """
    task = trio.lowlevel.current_task()
    seen = {awaited.name}
    waiting = [awaited]
    while waiting:
        member = waiting.pop()
        if member.state is State.UP:
            continue
        if member.runs_hook_in(task):
            why = "itself" if member is awaited else f"{awaited.name}, which needs it"
            raise trio.BusyResourceError(
                f"{member.current}: expected startup and shutdown to wait for nothing"
                f" that waits for them, found a wait for {why}; wait in run(), or in a"
                " task of its nursery"
            )
        new = [name for name in member.plan.needs if name not in seen]
        seen.update(new)
        waiting.extend(members[name] for name in new)
