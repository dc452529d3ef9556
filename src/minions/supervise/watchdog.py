"""Reports what overruns its grace, with the stacks of its tasks.

Python cannot end a task by force, nor a thread.  What does not leave when it is
cancelled is *stuck*: it is named, its stacks are shown, and what it needs stays
up for it.
"""

from __future__ import annotations

import math
import traceback
from collections.abc import Callable
from typing import Protocol

import attrs
import msgspec
import trio

__all__ = ["OVERRUN", "Watchdog", "stacks_of"]

OVERRUN = 0.1
"""Seconds after the end of its grace in which a cancelled hook may still unwind."""


class Watched(Protocol):
    """What can be stuck."""

    name: str
    epoch: int
    overdue: bool

    def tasks(self) -> list[trio.lowlevel.Task]:
        """Return the tasks whose stacks say why."""


class _Watch(msgspec.Struct):
    thing: Watched
    stage: str
    deadline: float


@attrs.define(eq=False)
class Watchdog:
    """One task that calls ``on_stuck(thing, stage)`` when a deadline has passed."""

    on_stuck: Callable[[Watched, str], None]
    _watches: dict[int, _Watch] = attrs.field(factory=dict, init=False)
    _next_at: float = attrs.field(default=math.inf, init=False)
    _sleep: trio.CancelScope | None = attrs.field(default=None, init=False)

    def watch(self, thing: Watched, stage: str, after: float) -> None:
        """Expect *thing* to be over, or at another stage, in *after* seconds."""
        deadline = trio.current_time() + after + OVERRUN
        self._watches[id(thing)] = _Watch(thing, stage, deadline)
        if deadline < self._next_at and self._sleep is not None:
            self._sleep.cancel(reason="an earlier deadline")

    def unwatch(self, thing: Watched) -> None:
        """Expect nothing of *thing* any more."""
        self._watches.pop(id(thing), None)

    async def run(self) -> None:
        """Report overruns until cancelled."""
        while True:
            self._report_overdue()
            deadlines = (watch.deadline for watch in self._watches.values())
            self._next_at = min(deadlines, default=math.inf)
            with trio.CancelScope(deadline=self._next_at) as self._sleep:
                await trio.sleep_forever()

    def _report_overdue(self) -> None:
        # A function of its own: what it has looked at last must not stay alive in
        # the frame of a task that sleeps.
        now = trio.current_time()
        for key, watch in list(self._watches.items()):
            if watch.deadline <= now:
                del self._watches[key]
                self.on_stuck(watch.thing, watch.stage)


def stacks_of(thing: Watched) -> str:
    """Return where each task of *thing* is, innermost call last."""
    parts = []
    for task in thing.tasks():
        frames = traceback.StackSummary.extract(task.iter_await_frames())
        parts.append(f"{task.name}:\n{''.join(frames.format())}")
    return "".join(parts)
