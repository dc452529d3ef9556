"""A store in trouble, and the system above it: nothing is lost, nothing doubled."""

from __future__ import annotations

from collections.abc import AsyncIterator, Awaitable, Callable
from contextlib import asynccontextmanager
from functools import partial
from pathlib import Path
from typing import Any

import attrs
import pytest
import trio
from trio.testing import MockClock, wait_all_tasks_blocked

from minions import Minion, Pipeline, StoreFullError, minion_step, open_gru
from minions.notices import Notice, StoreRecovered, StoreTrouble
from minions.runtime.gru import Gru
from minions.store import Keyspace, open_lmdb_store
from minions.testing.faults import Fault, Faults, open_faulty_store

FAULTS = [
    Fault("full"),
    Fault("io"),
    Fault("broken"),
    Fault("full", written=True),
    Fault("io", written=True),
]
Open = Callable[[], Any]


@attrs.frozen
class Number:
    value: int


@attrs.define
class Sum:
    total: int = 0


class Outside(Pipeline[Number]):
    pass


# What the steps did to the world, which no store can take back.
ledger: list[tuple[int, str]] = []
gate = trio.Event()


class Careful(Minion[Number, Sum]):
    @minion_step
    async def first(self) -> None:
        ledger.append((self.event.value, "first"))
        self.context.total += self.event.value
        await gate.wait()

    @minion_step
    async def second(self) -> None:
        ledger.append((self.event.value, "second"))
        if self.event.value < 0 and ledger.count((self.event.value, "second")) == 1:
            raise ValueError("the first time")
        self.context.total *= 2

    @minion_step
    async def third(self) -> None:
        ledger.append((self.event.value, f"third {self.context.total}"))


@pytest.fixture(autouse=True)
def fresh() -> None:
    global gate  # noqa: PLW0603  # the steps' world
    ledger.clear()
    gate = trio.Event()
    gate.set()


@pytest.fixture
def faults() -> Faults:
    return Faults()


@pytest.fixture(params=["memory", pytest.param("folder", marks=pytest.mark.slow)])
def opened(
    request: pytest.FixtureRequest,
    tmp_path: Path,
    monkeypatch: pytest.MonkeyPatch,
    faults: Faults,
) -> Open:
    """Open a Gru over a store that fails as *faults* say."""

    def opener(path: Path, **options: Any) -> Any:
        place = None if request.param == "memory" else path
        return open_faulty_store(place, faults=faults, **options)

    monkeypatch.setattr("minions.runtime.opening.open_lmdb_store", opener)
    return partial(open_gru, tmp_path / "state")


@asynccontextmanager
async def hearing(gru: Gru) -> AsyncIterator[list[Notice]]:
    """Collect what is said of the store."""
    heard: list[Notice] = []

    async def listen() -> None:
        async for notice in gru.notices():
            if isinstance(notice, StoreTrouble | StoreRecovered):
                heard.append(notice)  # noqa: PERF401  # one by one, as they come

    async with trio.open_nursery() as nursery:
        nursery.start_soon(listen)
        await wait_all_tasks_blocked()
        yield heard
        await wait_all_tasks_blocked()
        nursery.cancel_scope.cancel()


async def in_trouble(
    gru: Gru, faults: Faults, fault: Fault, act: Callable[[], Awaitable[object]]
) -> Any:
    """Act while every commit fails; returns what the act gave when that had ended."""
    results: list[object] = []

    async def run() -> None:
        results.append(await act())

    assert gru.snapshot().healthy
    faults.standing = fault
    tried, before = faults.tries, list(ledger)
    async with hearing(gru) as heard, trio.open_nursery() as nursery:
        nursery.start_soon(run)
        try:
            await trio.sleep(60)

            snapshot = gru.snapshot()
            # Nobody was told, and no step has begun on what is not saved.
            assert (results, ledger) == ([], before)
            assert (snapshot.store.state, snapshot.healthy) == ("backoff", False)
            assert snapshot.store.last_error is not None
            assert [type(notice) for notice in heard] == [StoreTrouble]
            # With backoff: no more than a disk can bear.
            assert 5 < faults.tries - tried < 30
        finally:  # else nothing comes to an end
            faults.standing = None
    assert [type(notice) for notice in heard] == [StoreTrouble, StoreRecovered]
    assert gru.snapshot().healthy
    return results[0]


def expected(*values: int) -> list[tuple[int, str]]:
    return sorted(
        (value, step)
        for value in values
        for step in ("first", "second", f"third {2 * value}")
    )


@pytest.mark.parametrize("fault", FAULTS, ids=str)
async def test_an_emit_waits(
    opened: Open, faults: Faults, fault: Fault, autojump_clock: MockClock
) -> None:
    async with opened() as gru:
        await gru.start_minion(Careful, Outside)

        async def act() -> object:
            return await gru.emit(Outside, Number(1))

        (workflow_id,) = await in_trouble(gru, faults, fault, act)
        ended = await gru.workflows.wait(workflow_id)
        await gru.stop()

    assert ended.state == "done"
    assert sorted(ledger) == expected(1)


async def test_a_store_that_the_user_has_opened_tells_of_trouble(
    faults: Faults, autojump_clock: MockClock
) -> None:
    heard: list[object] = []
    async with open_faulty_store(None, faults=faults, notify=heard.append) as store:
        for _ in range(2):
            async with open_gru(store) as gru:
                await gru.start_minion(Careful, Outside)
                emit = partial(gru.emit, Outside, Number(1))
                await in_trouble(gru, faults, FAULTS[0], emit)
                await gru.stop()

    # Whoever opened it hears the same, and no Gru hears of it behind its end.
    assert [type(error) for error in heard] == 2 * [StoreFullError, type(None)]


async def test_a_gru_that_opens_a_store_in_trouble_tells_so(
    faults: Faults, autojump_clock: MockClock, caplog: pytest.LogCaptureFixture
) -> None:
    async with open_faulty_store(None, faults=faults) as store:
        faults.standing = FAULTS[0]
        store.write_nowait([(Keyspace.META, b"k", b"v")])
        await trio.sleep(60)
        with caplog.at_level("INFO", "minions"):
            async with open_gru(store) as gru:
                assert not gru.snapshot().healthy
                faults.standing = None
                await trio.sleep(60)
                assert gru.snapshot().healthy

    said = [record.getMessage().partition(":")[0] for record in caplog.records]
    assert said == ["store trouble", "store recovered"]


@pytest.mark.parametrize("fault", FAULTS, ids=str)
async def test_a_next_step_waits(
    opened: Open, faults: Faults, fault: Fault, autojump_clock: MockClock
) -> None:
    global gate  # noqa: PLW0603  # the steps' world
    gate = trio.Event()
    async with opened() as gru:
        await gru.start_minion(Careful, Outside)
        (workflow_id,) = await gru.emit(Outside, Number(1))
        await wait_all_tasks_blocked()

        async def act() -> object:
            gate.set()
            ended = await gru.workflows.wait(workflow_id)
            assert ledger.count((1, "second")) == 1
            return ended

        ended = await in_trouble(gru, faults, fault, act)
        await gru.stop()

    assert ended.state == "done"
    assert sorted(ledger) == expected(1)


@pytest.mark.parametrize("fault", FAULTS, ids=str)
async def test_a_quarantine_waits(
    opened: Open, faults: Faults, fault: Fault, autojump_clock: MockClock
) -> None:
    global gate  # noqa: PLW0603  # the steps' world
    async with opened() as gru:
        await gru.start_minion(Careful, Outside)
        gate = trio.Event()
        (workflow_id,) = await gru.emit(Outside, Number(-1))
        await wait_all_tasks_blocked()

        async def act() -> object:
            # The step before ends in the trouble, and so does this one behind it.
            gate.set()
            return (await gru.workflows.wait(workflow_id)).state

        assert await in_trouble(gru, faults, fault, act) == "quarantined"
        found = [w.id async for w in gru.workflows.list(state="quarantined")]
        await gru.stop()

    assert found == [workflow_id]
    assert sorted(ledger) == [(-1, "first"), (-1, "second")]


@pytest.mark.parametrize("fault", FAULTS, ids=str)
async def test_a_redrive_waits(
    opened: Open, faults: Faults, fault: Fault, autojump_clock: MockClock
) -> None:
    async with opened() as gru:
        await gru.start_minion(Careful, Outside)
        (workflow_id,) = await gru.emit(Outside, Number(-1))
        assert (await gru.workflows.wait(workflow_id)).state == "quarantined"

        async def act() -> object:
            await gru.workflows.redrive(workflow_id)
            return (await gru.workflows.wait(workflow_id)).state

        assert await in_trouble(gru, faults, fault, act) == "done"
        found = [w.id async for w in gru.workflows.list(state="quarantined")]
        await gru.stop()

    assert found == []
    assert sorted(ledger) == sorted([*expected(-1), (-1, "second")])


@pytest.mark.parametrize("fault", FAULTS, ids=str)
async def test_a_subscription_waits(
    opened: Open, faults: Faults, fault: Fault, autojump_clock: MockClock
) -> None:
    async with opened() as gru:

        async def act() -> object:
            return await gru.start_minion(Careful, Outside)

        orchestration = await in_trouble(gru, faults, fault, act)
        assert orchestration.status == "running"
        ids = await gru.emit(Outside, Number(1))
        await gru.workflows.wait(ids[0])
        await gru.stop()

    assert len(ids) == 1
    assert sorted(ledger) == expected(1)


async def everything(opened: Open) -> list[tuple[int, str]]:
    """Emit, fail, redrive, discard and stop, and let all of it be saved."""
    ledger.clear()
    async with opened() as gru:
        await gru.start_minion(Careful, Outside)
        ids = [(await gru.emit(Outside, Number(n)))[0] for n in (1, -1, 2, -2)]
        states = [(await gru.workflows.wait(i)).state for i in ids]
        assert states == ["done", "quarantined", "done", "quarantined"]
        await gru.workflows.redrive(ids[1])
        assert (await gru.workflows.wait(ids[1])).state == "done"
        await gru.workflows.discard(ids[3])
        await gru.stop()
    return sorted(ledger)


@pytest.mark.slow
@pytest.mark.parametrize("fault", [*FAULTS, Fault("map"), Fault("map", written=True)])
@pytest.mark.parametrize("on_disk", [False, True])
async def test_any_commit_may_fail(
    monkeypatch: pytest.MonkeyPatch,
    tmp_path: Path,
    autojump_clock: MockClock,
    fault: Fault,
    *,
    on_disk: bool,
) -> None:
    """Whichever it is, and however often, the world looks as without it."""
    faults = Faults()

    def opener(path: Path, **options: Any) -> Any:
        place = path if on_disk else None
        return open_faulty_store(place, faults=faults, **options)

    monkeypatch.setattr("minions.runtime.opening.open_lmdb_store", opener)
    right = await everything(partial(open_gru, tmp_path / "right"))
    number = 0
    # How many share a commit is chance: until one is not reached any more.
    while faults.tries >= number:
        number += 1
        for times in (1, 3):
            faults = Faults(at=dict.fromkeys(range(number, number + times), fault))
            state = tmp_path / f"{number} {times}"

            assert await everything(partial(open_gru, state)) == right

            if on_disk:
                async with open_lmdb_store(state) as store:
                    assert await store.page(Keyspace.RECORD) == []
                    assert await store.page(Keyspace.QUARANTINE) == []
    print(f"{fault}, on_disk={on_disk}: {number - 1} commits failed, twice")
    assert number > 10
