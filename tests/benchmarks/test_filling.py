"""A filled store is what the product itself would have left."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import msgspec
import pytest
import trio
from trio.testing import MockClock

from filling import DAY, Context, Event, Filling, Go, after_first, fill
from minions import After, GruOptions, Minion, Pipeline, Wait, component_id, open_gru
from minions import minion_step as step
from minions.store.lmdb_store import open_lmdb_store
from minions.store.port import Keyspace
from minions.workflow.layout import NEVER, mark_of, sequence_of, time_of
from minions.workflow.record import decode_record

COUNT = 3


@component_id("source")
class Numbered(Pipeline[Event]):
    def __init__(self) -> None:
        self.count = 0

    async def produce_event(self) -> Event:
        if self.count == COUNT:
            await trio.sleep_forever()
        self.count += 1
        return Event(self.count)


class Base(Minion[Event, Context]):
    def note(self) -> None:
        self.context.total = self.event.number
        self.context.text = self.event.text


@component_id("sleeper")
class Sleeper(Base):
    @step
    async def first(self) -> After:
        self.note()
        return After(DAY)

    @step
    async def second(self) -> None:
        pass


@component_id("waiter")
class Waiter(Base):
    @step
    async def first(self) -> Wait:
        self.note()
        return Wait(Go)

    @step
    async def second(self) -> None:
        pass


@component_id("worker")
class Worker(Base):
    @step
    async def first(self) -> None:
        await trio.sleep_forever()

    @step
    async def second(self) -> None:
        pass


CASES = {
    "sleeping": Filling(
        minion=Sleeper,
        pipeline=Numbered,
        event=Event,
        context=after_first,
        step="second",
    ),
    "waiting": Filling(
        minion=Waiter,
        pipeline=Numbered,
        event=Event,
        context=after_first,
        step="second",
        state="waiting",
        delay=None,
        signal=Go,
    ),
    "ready": Filling(minion=Worker, pipeline=Numbered, event=Event, state="ready"),
}


async def left_by_product(folder: Path, case: Filling) -> None:
    async with open_gru(folder, options=GruOptions(durability="none")) as gru:
        orchestration = await gru.start_minion(case.minion, case.pipeline)
        await trio.testing.wait_all_tasks_blocked()
        await orchestration.stop(mode="cutover")


async def contents(folder: Path) -> dict[Keyspace, list[Any]]:
    """Read all that does not depend on the moment."""
    found: dict[Keyspace, list[Any]] = {}
    async with open_lmdb_store(folder) as store:
        assert not store.unclean
        for space in Keyspace:
            page = await store.page(space)
            if space in {Keyspace.RECORD, Keyspace.COLD}:
                found[space] = [(sequence_of(k), timeless(k, v)) for k, v in page]
            elif space is Keyspace.TIMER:
                found[space] = [
                    (key[:16], time_of(key) == NEVER, sequence_of(key))
                    for key, _ in page
                ]
            elif space is not Keyspace.META:  # the numbers that were given
                found[space] = page
    return found


def timeless(key: bytes, value: bytes) -> Any:
    record = decode_record(key, value)
    until = record.until if record.until is None else round(record.until - record.since)
    since = float(record.since > 0)
    return msgspec.structs.replace(record, accepted_at=0.0, since=since, until=until)


@pytest.mark.parametrize(
    "name",
    [
        "sleeping",
        *(pytest.param(n, marks=pytest.mark.slow) for n in ("waiting", "ready")),
    ],
)
def test_a_filled_store_is_as_the_product_leaves_it(name: str, tmp_path: Path) -> None:
    case, clock = CASES[name], MockClock()
    trio.run(left_by_product, tmp_path / "product", case, clock=clock)
    trio.run(fill, tmp_path / "filled", case, COUNT, clock=MockClock())

    product = trio.run(contents, tmp_path / "product")
    filled = trio.run(contents, tmp_path / "filled")

    assert filled == product, (filled, product)
    kept = Keyspace.RECORD if name == "ready" else Keyspace.COLD
    assert [seq for seq, _ in filled[kept]] == [1, 2, 3]
    timers = [mark for mark, *_ in filled[Keyspace.TIMER]]
    assert set(timers) <= {mark_of(filled[kept][0][1].orchestration)}
