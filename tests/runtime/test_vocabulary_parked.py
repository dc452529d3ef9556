"""Workflows that wait for a resource that is down."""

from __future__ import annotations

from collections.abc import Iterator

import attrs
import trio
from trio.testing import MockClock, wait_all_tasks_blocked

from minions import Minion, Pipeline, Resource, minion_step, open_gru


@attrs.frozen
class Number:
    value: int


@attrs.define
class Memory:
    notes: list[str] = attrs.field(factory=list)


class Source(Pipeline[Number]):
    pass


class Slow(Resource):
    """Takes its time to come back."""

    async def startup(self) -> None:
        await trio.sleep(5)


class Needs(Minion[Number, Memory]):
    slow: Slow

    @minion_step
    async def work(self) -> None:
        self.context.notes.append("worked")


def task_names(task: trio.lowlevel.Task) -> Iterator[str]:
    yield task.name
    for nursery in task.child_nurseries:
        for child in nursery.child_tasks:
            yield from task_names(child)


async def test_nobody_polls_for_a_parked_one_that_was_cancelled(
    autojump_clock: MockClock,
) -> None:
    async with open_gru(None) as gru:
        await gru.start_minion(Needs, Source)
        async with trio.open_nursery() as nursery:
            nursery.start_soon(gru.restart, Slow)
            await wait_all_tasks_blocked()
            (workflow,) = await gru.emit(Source, Number(1))
            assert workflow is not None
            assert (await gru.workflows.get(workflow)).state == "parked"
            await gru.workflows.cancel(workflow)
        await gru.wait_up(Needs)
        await trio.sleep(1)

        root = trio.lowlevel.current_root_task()
        assert root is not None
        pacers = [name for name in task_names(root) if "Pacer" in name]

        assert pacers == []
        await gru.stop()
