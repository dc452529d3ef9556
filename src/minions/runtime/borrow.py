"""Leases of somebody who is no component."""

from __future__ import annotations

import contextlib
from collections.abc import AsyncIterator, Callable
from typing import Any

import attrs
import trio

from minions.errors import DependencyLost
from minions.supervise import Cause, Group

__all__ = ["lease"]


@attrs.define(eq=False)
class _Borrower:
    """A lease of somebody who is no component."""

    name: str
    scope: trio.CancelScope
    task: trio.lowlevel.Task
    on_drain: Callable[[_Borrower], None]
    cause: Cause | None = None
    epoch: int = 0
    overdue: bool = False

    def tasks(self) -> list[trio.lowlevel.Task]:
        return [self.task]

    def begin_drain(self, cause: Cause) -> None:
        if self.cause is None:
            self.cause = cause
            self.scope.cancel(reason=f"borrow: {cause}")
            self.on_drain(self)

    def harden(self) -> None:
        """Do nothing: its first cause has cancelled it."""


@contextlib.asynccontextmanager
async def lease(group: Group, identity: str) -> AsyncIterator[Any]:
    """Lease a component that is up for the length of the block.

    Raises:
        DependencyLost: It went; the block was cancelled.
    """
    incarnation = await group.wait_up(identity)
    task = trio.lowlevel.current_task()
    grace = group.options.grace
    watchdog = group.watchdog
    borrower = _Borrower(
        task.name,
        trio.CancelScope(),
        task,
        lambda thing: watchdog.watch(thing, f"leaving {identity}", grace),
    )
    incarnation.admit(borrower)
    try:
        with borrower.scope:
            yield getattr(incarnation.life, "value", None)
    finally:
        watchdog.unwatch(borrower)
        incarnation.leave(borrower)
    if borrower.scope.cancelled_caught:
        raise DependencyLost(
            f"{incarnation}: expected it to stay up while it was borrowed, found"
            f" that it drains ({borrower.cause}); borrow it again"
        )
