"""A thread of its own for the commits that wait for a disk.

A hop to one of trio's threads and back starts or finds a thread, takes a place in a
limiter and copies a context, each time; that is a good part of what a flush takes.
"""

from __future__ import annotations

from collections.abc import Callable
from queue import SimpleQueue
from threading import Thread

import outcome
import trio

__all__ = ["CommitThread"]

_Call = tuple[Callable[[], None], trio.lowlevel.Task, trio.lowlevel.TrioToken]


class CommitThread:
    """Runs one function after the other; starts with the first, ends with `close`."""

    def __init__(self) -> None:
        self._calls: SimpleQueue[_Call | None] = SimpleQueue()
        self._thread: Thread | None = None

    async def run(self, function: Callable[[], None]) -> None:
        """Call a function in the thread; what it raises is raised here.

        Cancellation:
            Not honoured: the function runs to its end.
        """
        if self._thread is None:
            # A daemon: an interpreter that ends for another reason must not wait.
            self._thread = Thread(
                target=self._serve, name="minions: commits", daemon=True
            )
            self._thread.start()
        task = trio.lowlevel.current_task()
        self._calls.put((function, task, trio.lowlevel.current_trio_token()))
        await trio.lowlevel.wait_task_rescheduled(_never)

    def close(self) -> None:
        """Let the thread end; nothing runs in it."""
        if self._thread is not None:
            self._calls.put(None)
            self._thread.join()
            self._thread = None

    def _serve(self) -> None:
        while (call := self._calls.get()) is not None:
            function, task, token = call
            result = outcome.capture(function)
            token.run_sync_soon(trio.lowlevel.reschedule, task, result)
            del call, function, task, result


def _never(_: object) -> trio.lowlevel.Abort:
    return trio.lowlevel.Abort.FAILED
