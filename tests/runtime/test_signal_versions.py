"""Signals that an older version of the program has kept, received by a newer one."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import attrs
import pytest
import trio
from trio.testing import MockClock

from minions import (
    After,
    Gru,
    GruOptions,
    Minion,
    Pipeline,
    Wait,
    component_id,
    migrates,
    minion_step,
    open_gru,
    schema,
)
from minions.notices import FieldsDropped

OPTIONS = GruOptions(durability="none", keep=1e6)


@attrs.frozen
class Task:
    how: str


@attrs.define
class Notes:
    got: str = ""


@component_id("tasks")
class Tasks(Pipeline[Task]):
    pass


@component_id("go")
@attrs.frozen
class OldGo:
    cents: int
    gone: str = "gone"


@component_id("go")
@schema(version=2)
@attrs.frozen
class Go:
    euros: float

    @migrates(from_=1)
    @staticmethod
    def in_euros(old: dict[str, Any]) -> dict[str, Any]:
        if broken:
            raise ValueError("not yet")
        return {"euros": old["cents"] / 100, "gone": old["gone"]}


broken: list[bool] = []


def worker(go: type) -> type[Any]:
    """Return the minion as the program with this class of signals has it."""

    @component_id("worker")
    class Worker(Minion[Task, Notes]):
        signals = (go,)

        @minion_step
        async def begin(self) -> After:
            # Long enough for the program to be changed.
            return After(3600, step=self.event.how)

        @minion_step
        async def wait(self) -> Wait:
            return Wait(go, timeout=60)

        @minion_step
        async def note(self) -> None:
            self.context.got = repr(self.workflow.received)

        @minion_step
        async def receive(self) -> None:
            if not self.context.got:
                self.context.got = repr(await self.workflow.receive(go, timeout=60))

    return Worker


async def keep_signals(folder: Path) -> dict[str, str]:
    """Run the old program: a signal waits for each way to take it."""
    async with open_gru(folder, options=OPTIONS) as gru:
        await gru.start_minion(worker(OldGo), Tasks)
        ids: dict[str, str] = {}
        for how in ("wait", "receive"):
            (workflow_id,) = await gru.emit(Tasks, Task(how))
            assert workflow_id is not None
            ids[how] = workflow_id
        await trio.sleep(1)
        for workflow_id in ids.values():
            await gru.workflows.signal(workflow_id, OldGo(250))
        gru.cut_over()
        await gru.stop()
    return ids


async def ends(gru: Gru, ids: dict[str, str]) -> list[tuple[str, str]]:
    found = [await gru.workflows.wait(workflow_id) for workflow_id in ids.values()]
    return [(w.state, getattr(w.context, "got", "")) for w in found]


@pytest.fixture(autouse=True)
def fresh() -> None:
    broken.clear()


async def test_a_kept_signal_is_migrated(
    tmp_path: Path, autojump_clock: MockClock
) -> None:
    ids = await keep_signals(tmp_path / "s")

    async with open_gru(tmp_path / "s", options=OPTIONS) as gru:
        notices = gru.notices()
        await gru.start_minion(worker(Go), Tasks)
        assert await ends(gru, ids) == 2 * [("done", "Go(euros=2.5)")]
        await gru.stop()

    dropped = [n async for n in notices if isinstance(n, FieldsDropped)]
    assert [(n.type_name, n.fields) for n in dropped] == [("go", ("gone",))]


async def test_a_migration_that_fails_keeps_the_signal(
    tmp_path: Path, autojump_clock: MockClock
) -> None:
    """Once it is mended, a redrive finds the signal again."""
    ids = await keep_signals(tmp_path / "s")

    broken.append(True)
    for _ in range(2):
        async with open_gru(tmp_path / "s", options=OPTIONS) as gru:
            await gru.start_minion(worker(Go), Tasks)
            assert [state for state, _ in await ends(gru, ids)] == 2 * ["quarantined"]
            shown = await gru.workflows.get(ids["wait"])
            assert "the migration from version 1 raised ValueError" in shown.reason
            gru.cut_over()
            await gru.stop()

    broken.clear()
    async with open_gru(tmp_path / "s", options=OPTIONS) as gru:
        await gru.start_minion(worker(Go), Tasks)
        for workflow_id in ids.values():
            await gru.workflows.redrive(workflow_id)
        assert await ends(gru, ids) == 2 * [("done", "Go(euros=2.5)")]
        await gru.stop()
