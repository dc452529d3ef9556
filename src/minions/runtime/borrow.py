"""Leases of somebody who is no component."""

from __future__ import annotations

import contextlib
from collections.abc import AsyncIterator, Callable
from contextvars import ContextVar
from typing import Any

import msgspec
import trio

from minions.errors import DependencyLost
from minions.runtime.calls import caller_in
from minions.supervise import Cause, CauseKind, Group

__all__ = ["lease", "note_stop"]


class _Borrower(msgspec.Struct, eq=False):
    """A lease of somebody who is no component."""

    name: str
    group: Group
    scope: trio.CancelScope
    task: trio.lowlevel.Task
    on_drain: Callable[[_Borrower], None]
    cause: Cause | None = None
    epoch: int = 0
    overdue: bool = False
    # Whether code in its block has asked for the stop of everything.
    asked_stop: bool = False

    def tasks(self) -> list[trio.lowlevel.Task]:
        return [self.task]

    def begin_drain(self, cause: Cause) -> None:
        if self.cause is None:
            self.cause = cause
            self.scope.cancel(reason=f"borrow: {cause}")
            self.on_drain(self)

    def harden(self) -> None:
        """Do nothing: its first cause has cancelled it."""


# Whose blocks this code is in, outermost first; tasks that start there inherit it.
_inside: ContextVar[tuple[_Borrower, ...]] = ContextVar("minions_borrowers", default=())


def note_stop(group: Group) -> None:
    """Hear that this code asks for the stop of everything in *group*.

    A component's is heard of no more than any other: what it did not get to do
    must be done again.
    """
    if caller_in(group) is None:
        for borrower in _inside.get():
            borrower.asked_stop |= borrower.group is group


@contextlib.asynccontextmanager
async def lease(group: Group, identity: str) -> AsyncIterator[Any]:
    """Lease a component that is up for the length of the block.

    If code in the block asks for the stop of everything, the block ends by that in
    order, when all has stopped.  If the Gru's block is left by the stop, as by an OS
    signal, that is left from here.

    Raises:
        DependencyLost: It went; the block was cancelled.
    """
    incarnation = await group.wait_up(identity)
    task = trio.lowlevel.current_task()
    grace = group.options.grace
    watchdog = group.watchdog
    borrower = _Borrower(
        task.name,
        group,
        trio.CancelScope(),
        task,
        lambda thing: watchdog.watch(thing, f"leaving {identity}", grace),
    )
    incarnation.admit(borrower)
    outer = _inside.get()
    _inside.set((*outer, borrower))
    try:
        with borrower.scope:
            yield getattr(incarnation.life, "value", None)
    finally:
        _inside.set(outer)
        watchdog.unwatch(borrower)
        incarnation.leave(borrower)
    if not borrower.scope.cancelled_caught:
        return
    assert borrower.cause is not None
    if borrower.cause.root.kind is CauseKind.STOP:
        if borrower.asked_stop:
            await group.runners.wait_zero()
            return
        if group.left is not None and caller_in(group) is None:
            # In the body of Gru's block this is where it is left; elsewhere it is not.
            await group.left.wait()
            await trio.lowlevel.checkpoint()
    raise DependencyLost(
        f"{incarnation}: expected it to stay up while it was borrowed, found that it"
        f" drains ({borrower.cause}); borrow it again"
    )
