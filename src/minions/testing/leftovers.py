"""What of a run is left when it should have ended: trio's own tasks and threads."""

from __future__ import annotations

from collections.abc import Iterator

import attrs
import trio

__all__ = ["Leftovers"]


@attrs.define(eq=False)
class Leftovers:
    """All of trio's tasks, and the threads at work, when this was made."""

    tasks: set[trio.lowlevel.Task] = attrs.field(init=False)
    threads: float = attrs.field(init=False)

    def __attrs_post_init__(self) -> None:
        self.tasks = set(_all_tasks())
        self.threads = _threads()

    def check(self) -> None:
        """Fail if there is more now.

        Raises:
            AssertionError: A task or a thread at work is left; names the tasks.
        """
        left = sorted(task.name for task in set(_all_tasks()) - self.tasks)
        assert not left, f"tasks are left: {left}"
        more = _threads() - self.threads
        assert more <= 0, f"{more:g} threads are left at work"


def _all_tasks() -> Iterator[trio.lowlevel.Task]:
    root = trio.lowlevel.current_root_task()
    assert root is not None
    waiting = [root]
    while waiting:
        task = waiting.pop()
        yield task
        for nursery in task.child_nurseries:
            waiting.extend(nursery.child_tasks)


def _threads() -> float:
    """Count the threads at work; one that was abandoned keeps its token, too."""
    return trio.to_thread.current_default_thread_limiter().borrowed_tokens
