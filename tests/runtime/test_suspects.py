"""Workflows that were in flight when the process ended without an ordered end."""

from __future__ import annotations

import json
from pathlib import Path
from typing import ClassVar

import attrs
import pytest
import trio
from trio.testing import MockClock, wait_all_tasks_blocked

from minions import GruOptions, Minion, Pipeline, minion_step, open_gru
from minions.store import Keyspace, open_lmdb_store


@attrs.frozen
class Number:
    value: int


@attrs.define
class Memory:
    last: str = ""


class Source(Pipeline[Number]):
    pass


class Slow(Minion[Number, Memory]):
    """Stops in the step that the test names, until it is interrupted."""

    stop_in: ClassVar[str] = ""
    began: ClassVar[list[str]] = []

    def key(self, event: Number) -> str:
        return "one"

    @minion_step
    async def first(self) -> None:
        await self.pass_step("first")

    @minion_step
    async def second(self) -> None:
        await self.pass_step("second")

    async def pass_step(self, name: str) -> None:
        self.began.append(f"{name} {self.event.value}")
        if name == self.stop_in:
            await trio.sleep_forever()


class Free(Slow):
    def key(self, event: Number) -> str:
        return str(event.value)


class Holds(Slow):
    key_on_quarantine = "hold"


@pytest.fixture(autouse=True)
def forget() -> None:
    Slow.began.clear()
    Slow.stop_in = ""


async def live(
    folder: Path, minion: type[Slow], stop_in: str, *numbers: int, kill: bool = True
) -> None:
    """Live once; what was in flight is found there by the next life."""
    Slow.stop_in = stop_in
    async with open_gru(folder) as gru:
        await gru.start_minion(minion, Source)
        for number in numbers:
            await gru.emit(Source, Number(number))
        await wait_all_tasks_blocked()
        if kill:
            gru.cut_over()
        await gru.stop()
    if kill:
        path = folder / "minions.json"
        path.write_text(json.dumps({**json.loads(path.read_text()), "state": "open"}))


async def test_a_suspect_holds_its_key_in_the_store(
    autojump_clock: MockClock, folder: Path
) -> None:
    await live(folder, Slow, "first", 1, 2)
    await live(folder, Slow, "second")

    async with open_lmdb_store(folder) as store:
        (holder,) = await store.page(Keyspace.KEY)
    assert b"\x01" in holder[1][:10]
    await live(folder, Slow, "", kill=False)
    assert Slow.began == [
        "first 1",
        *("first 1", "second 1"),
        *("second 1", "first 2", "second 2"),
    ]


async def test_an_ordered_end_makes_no_suspects(
    autojump_clock: MockClock, folder: Path
) -> None:
    """They all run at once, and not four at a time."""
    await live(folder, Free, "first", *range(10))
    path = folder / "minions.json"
    path.write_text(json.dumps({**json.loads(path.read_text()), "state": "closed"}))
    Slow.began.clear()

    await live(folder, Free, "first")

    assert len(Slow.began) == 10


async def test_suspects_run_four_at_a_time(
    autojump_clock: MockClock, folder: Path
) -> None:
    await live(folder, Free, "first", *range(10))
    Slow.began.clear()

    await live(folder, Free, "first")

    assert sorted(Slow.began) == [f"first {n}" for n in range(4)]
    Slow.began.clear()

    # Of these four one may be guilty; the others are suspects as before.
    await live(folder, Free, "first")

    assert sorted(Slow.began) == [f"first {n}" for n in (0, 4, 5, 6, 7)]
    await live(folder, Free, "", kill=False)
    assert sorted(Slow.began[5:]) == sorted(
        f"{step} {n}" for n in range(10) for step in ("first", "second")
    )


async def test_who_is_cancelled_in_the_line_of_suspects_keeps_nobody_waiting(
    autojump_clock: MockClock, folder: Path
) -> None:
    await live(folder, Free, "first", *range(10))
    Slow.began.clear()
    Slow.stop_in = "first"
    async with open_gru(folder) as gru:
        await gru.start_minion(Free, Source)
        await wait_all_tasks_blocked()
        flows = [flow async for flow in gru.workflows.list()]
        for flow in flows[4:8]:
            await gru.workflows.cancel(flow.id)
        for flow in flows[:4]:
            await gru.workflows.cancel(flow.id)
        await wait_all_tasks_blocked()
        assert sorted(Slow.began[4:]) == ["first 8", "first 9"]
        gru.cut_over()
        await gru.stop()


@pytest.mark.parametrize("minion", [Slow, Holds])
async def test_who_is_found_guilty_at_open_keeps_its_key_if_its_class_wants_it(
    autojump_clock: MockClock, folder: Path, minion: type[Slow]
) -> None:
    """Its class is not known until it is started, be it in a later process."""
    for numbers in ([1, 2], []):
        await live(folder, minion, "first", *numbers)
    Slow.began.clear()
    Slow.stop_in = ""
    options = GruOptions(max_crashes=1)
    async with open_gru(folder, options=options):
        pass

    for _ in range(2):
        async with open_gru(folder, options=options) as gru:
            await gru.start_minion(minion, Source)
            await wait_all_tasks_blocked()
            (guilty,) = [w async for w in gru.workflows.list(state="quarantined")]
            assert guilty.reason.startswith("crashed")
            if minion is Slow:
                assert Slow.began == ["first 2", "second 2"]
            else:
                assert Slow.began == []
            await gru.stop()

    async with open_gru(folder, options=options) as gru:
        await gru.start_minion(minion, Source)
        await gru.workflows.redrive(guilty.id)
        await gru.workflows.wait(guilty.id)
        await wait_all_tasks_blocked()
        assert sorted(Slow.began) == ["first 1", "first 2", "second 1", "second 2"]
        await gru.stop()
    async with open_lmdb_store(folder) as store:
        assert await store.page(Keyspace.KEY) == []
