"""Work goes on where it stood: after a restart, a reopen, a kill; over damage."""

from __future__ import annotations

import random
import subprocess
import sys
from collections import defaultdict
from collections.abc import Callable, Sequence
from pathlib import Path
from typing import ClassVar

import attrs
import pytest
import trio
from trio.testing import MockClock, wait_all_tasks_blocked

from minions import (
    After,
    Backoff,
    Gru,
    Minion,
    Pipeline,
    Restart,
    SnapshotError,
    component_id,
    minion_step,
    open_gru,
)
from minions.notices import Notice, WorkflowQuarantined
from minions.store import MemoryStore, open_lmdb_store
from minions.store.port import Keyspace, Write
from minions.workflow.layout import key_of

State = Path | None
CHILDREN = Path(__file__).parent / "children"

seen: list[int] = []
began: list[tuple[str, int]] = []
gates: dict[int, trio.Event] = {}


@pytest.fixture(autouse=True)
def forget() -> None:
    seen.clear()
    began.clear()
    gates.clear()
    Gated.crash = False


@attrs.frozen
class Number:
    value: int


@attrs.define
class Passed:
    steps: list[str] = attrs.field(factory=list)


class Outside(Pipeline[Number]):
    pass


class Gated(Minion[Number, Passed]):
    """Two steps; the second waits for the event's gate, if there is one."""

    max_in_flight = 3
    restart = Restart(backoff=Backoff(base=0, cap=0))
    crash: ClassVar[bool] = False

    @minion_step
    async def first(self) -> None:
        began.append(("first", self.event.value))
        self.context.steps.append("first")

    @minion_step
    async def second(self) -> None:
        began.append(("second", self.event.value))
        if self.event.value in gates:
            await gates[self.event.value].wait()
        self.context.steps.append("second")
        seen.append(self.event.value)


class InOrder(Gated):
    max_in_flight = 1


class Keyed(Gated):
    max_in_flight = 10

    def key(self, event: Number) -> int:
        return event.value // 10


class Holding(Keyed):
    key_on_quarantine = "hold"
    broken: ClassVar[set[int]] = set()

    @minion_step
    async def first(self) -> None:
        if self.event.value in self.broken:
            raise OSError("broken")


async def reopen(
    folder: Path, minion: type[Minion[Number, Passed]], *values: int, cut: bool = True
) -> None:
    """Start the minion, emit, and leave: cutting what runs, or letting it end."""
    async with open_gru(folder) as gru:
        await gru.start_minion(minion, Outside)
        for value in values:
            await gru.emit(Outside, Number(value))
        await wait_all_tasks_blocked()
        if cut:
            gru.cut_over()
        await gru.stop()


# Order.


async def test_finished_steps_do_not_run_again(
    folder: Path, autojump_clock: MockClock
) -> None:
    gates[1] = trio.Event()
    await reopen(folder, Gated, 1)
    gates.clear()

    await reopen(folder, Gated, cut=False)

    assert began == [("first", 1), ("second", 1), ("second", 1)]
    assert seen == [1]


async def test_saved_work_comes_before_newer_events(
    folder: Path, autojump_clock: MockClock
) -> None:
    gates[1] = trio.Event()
    await reopen(folder, InOrder, 1)
    gates.clear()

    await reopen(folder, InOrder, 2, 3, cut=False)

    assert seen == [1, 2, 3]


async def test_order_of_arrival_holds_over_a_restart_of_the_minion(
    state: State, autojump_clock: MockClock
) -> None:
    gates[1] = trio.Event()
    async with open_gru(state) as gru:
        await gru.start_minion(InOrder, Outside)
        async with trio.open_nursery() as nursery:
            nursery.start_soon(gru.emit, Outside, Number(1))
            await wait_all_tasks_blocked()
            crash(gru)
            for value in (2, 3):
                await gru.emit(Outside, Number(value))
        await trio.sleep(1)
        gates[1].set()
        await trio.sleep(1)
        await gru.stop()

    assert seen == [1, 2, 3]


async def test_keys_keep_their_order_over_a_reopen(
    folder: Path, autojump_clock: MockClock
) -> None:
    gates[10] = gates[20] = trio.Event()
    async with open_gru(folder) as gru:
        await gru.start_minion(Keyed, Outside)
        for value in (10, 11, 20, 12, 21):
            await gru.emit(Outside, Number(value))
        await wait_all_tasks_blocked()
        assert {n for _, n in began} == {10, 20}
        gru.cut_over()
        await gru.stop()
    gates.clear()

    await reopen(folder, Keyed, 13, 22, cut=False)

    assert [n for n in seen if n < 20] == [10, 11, 12, 13]
    assert [n for n in seen if n >= 20] == [20, 21, 22]


async def test_keys_keep_their_order_over_a_restart_of_the_minion(
    state: State, autojump_clock: MockClock
) -> None:
    gates[10] = trio.Event()
    async with open_gru(state) as gru:
        await gru.start_minion(Keyed, Outside)
        for value in (10, 11, 12):
            await gru.emit(Outside, Number(value))
        await wait_all_tasks_blocked()
        crash(gru)
        await gru.emit(Outside, Number(13))
        gates[10].set()
        await trio.sleep(1)
        await gru.stop()

    assert seen == [10, 11, 12, 13]


def crash(gru: Gru) -> None:
    """Crash the minion, as a task in its nursery would."""
    group = gru._group
    for member in group.members.values():
        if member.current is not None and "Outside" not in member.name:
            group.crash(member.current, OSError("on purpose"))


@pytest.mark.parametrize("reopened", [False, True], ids=["same", "reopened"])
async def test_a_quarantined_workflow_may_hold_its_key(
    folder: Path, autojump_clock: MockClock, *, reopened: bool
) -> None:
    """Over a reopen, too: the next of its key waits for redrive or discard."""
    Holding.broken = {10}
    async with open_gru(folder) as gru:
        await gru.start_minion(Holding, Outside)
        (bad,) = await gru.emit(Outside, Number(10))
        if not reopened:
            crash(gru)
            await trio.sleep(1)
            await check_hold(gru, str(bad))
        else:
            gru.cut_over()
        await gru.stop()
    if reopened:
        async with open_gru(folder) as gru:
            await gru.start_minion(Holding, Outside)
            await check_hold(gru, str(bad))
            await gru.stop()


async def check_hold(gru: Gru, bad: str) -> None:
    await gru.emit(Outside, Number(11))
    await gru.emit(Outside, Number(20))
    await trio.sleep(1)
    assert seen == [20]
    Holding.broken = set()
    await gru.workflows.redrive(bad)
    await trio.sleep(1)
    assert seen == [20, 10, 11]


async def test_a_discard_lets_a_held_key_go(
    folder: Path, autojump_clock: MockClock
) -> None:
    Holding.broken = {10, 11}
    await reopen(folder, Holding, 10)
    async with open_gru(folder) as gru:
        await gru.start_minion(Holding, Outside)
        await gru.emit(Outside, Number(11))
        await gru.emit(Outside, Number(12))
        await trio.sleep(1)
        for expected in ([], [12]):
            found = [w async for w in gru.workflows.list(state="quarantined")]
            assert len(found) == 1
            await gru.workflows.discard(found[0].id)
            await trio.sleep(1)
            assert seen == expected
        await gru.stop()


async def test_a_quarantined_workflow_lets_the_next_of_its_key_go(
    state: State, autojump_clock: MockClock
) -> None:
    Holding.broken = {10}
    async with open_gru(state) as gru:
        await gru.start_minion(Letting, Outside)
        await gru.emit(Outside, Number(10))
        await gru.emit(Outside, Number(11))
        await trio.sleep(1)
        await gru.stop()

    assert seen == [11]


class Letting(Holding):
    key_on_quarantine = "release"


# A disk that is slow.


class HeldStore(MemoryStore):
    """Commits nothing while held; the writes wait in order."""

    def __init__(self) -> None:
        super().__init__()
        self.held = False
        self._kept: list[tuple[Sequence[Write], Callable[[], None] | None]] = []

    def write_nowait(
        self, writes: Sequence[Write], done: Callable[[], None] | None = None
    ) -> None:
        if self.held:
            self._kept.append((writes, done))
        else:
            super().write_nowait(writes, done)

    async def write(self, writes: Sequence[Write]) -> None:
        saved = trio.Event()
        self.write_nowait(writes, saved.set)
        await saved.wait()

    async def barrier(self) -> None:
        await self.write(())

    def let_go(self) -> None:
        self.held = False
        kept, self._kept = self._kept, []
        for writes, done in kept:
            self.write_nowait(writes, done)


async def test_the_next_step_waits_for_the_disk_over_a_crash(
    autojump_clock: MockClock,
) -> None:
    """Else a kill could make the earlier step run again after the next began."""
    store = HeldStore()
    async with open_gru(store) as gru:
        await gru.start_minion(Gated, Outside)
        await gru.emit(Outside, Number(1))
        store.held = True
        await wait_all_tasks_blocked()
        crash(gru)
        await trio.sleep(1)

        assert began == [("first", 1)]
        store.let_go()
        await trio.sleep(1)
        await gru.stop()

    assert began == [("first", 1), ("second", 1)]


class Failing(Minion[Number, Passed]):
    @minion_step
    async def fail(self) -> None:
        raise OSError("x" * 5000)


async def test_a_wait_between_quarantine_and_disk_gets_it(
    autojump_clock: MockClock,
) -> None:
    store = HeldStore()
    async with open_gru(store) as gru:
        await gru.start_minion(Failing, Outside)
        (bad,) = await gru.emit(Outside, Number(1))
        store.held = True
        await wait_all_tasks_blocked()
        found: list[str] = []

        async def wait() -> None:
            found.append((await gru.workflows.wait(str(bad))).state)

        async def get() -> None:
            found.append((await gru.workflows.get(str(bad))).state)

        async with trio.open_nursery() as nursery:
            nursery.start_soon(wait)
            nursery.start_soon(get)
            await wait_all_tasks_blocked()
            store.let_go()
        await gru.stop()

    assert found == ["quarantined", "quarantined"]


async def test_a_report_that_is_too_long_does_not_keep_from_quarantine(
    autojump_clock: MockClock,
) -> None:
    async with open_gru(MemoryStore(max_record=1024)) as gru:
        await gru.start_minion(Failing, Outside)
        (bad,) = await gru.emit(Outside, Number(1))
        answer = await gru.workflows.wait(str(bad))
        found = await gru.workflows.get(str(bad))

        assert answer.state == "quarantined"
        assert found.reason.startswith("failed: OSError: xxx")
        await gru.stop()


# Damage, and classes that have changed.


async def read_all(gru: Gru, into: list[Notice]) -> None:
    async for notice in gru.notices():
        into.append(notice)  # noqa: PERF401  # it never ends


async def flip(folder: Path, keyspace: Keyspace) -> None:
    """Flip a byte of the first record of a keyspace."""
    async with open_lmdb_store(folder) as store:
        ((key, value), *_) = await store.page(keyspace)
        spoilt = value[:5] + bytes([value[5] ^ 0xFF]) + value[6:]
        await store.write([(keyspace, key, spoilt)])


async def test_a_damaged_record_is_quarantined_and_the_others_go_on(
    folder: Path, autojump_clock: MockClock
) -> None:
    gates[1] = gates[2] = trio.Event()
    await reopen(folder, Gated, 1, 2)
    gates.clear()
    await flip(folder, Keyspace.RECORD)

    async with open_gru(folder) as gru:
        await gru.start_minion(Gated, Outside)
        await trio.sleep(1)
        (found,) = [w async for w in gru.workflows.list(state="quarantined")]
        assert found.reason.startswith("corrupt")
        with pytest.raises(SnapshotError):
            await gru.workflows.redrive(found.id)
        await gru.workflows.discard(found.id)
        assert not [w async for w in gru.workflows.list()]
        await gru.stop()

    assert seen == [2]


async def test_a_damaged_quarantine_hides_no_other(
    folder: Path, autojump_clock: MockClock
) -> None:
    Holding.broken = {10, 20}
    await reopen(folder, Letting, 10, 20)
    await flip(folder, Keyspace.QUARANTINE)

    async with open_gru(folder) as gru:
        await gru.start_minion(Letting, Outside)
        found = [w async for w in gru.workflows.list(state="quarantined")]
        assert [w.reason.split(":")[0] for w in found] == ["corrupt", "failed"]
        await gru.workflows.discard(found[0].id)
        assert len([w async for w in gru.workflows.list()]) == 1
        await gru.stop()


async def test_numbers_stay_unique_when_their_count_is_lost(
    folder: Path, autojump_clock: MockClock
) -> None:
    gates[1] = trio.Event()
    await reopen(folder, Gated, 1)
    async with open_lmdb_store(folder) as store:
        await store.write([(Keyspace.META, b"next_seq", None)])

    async with open_gru(folder) as gru:
        await gru.start_minion(Gated, Outside)
        (second,) = await gru.emit(Outside, Number(2))
        assert second != "w1"
        await leave(gru)


async def leave(gru: Gru) -> None:
    gru.cut_over()
    await gru.stop()


def minion_with(context: type) -> type[Minion[Number, Passed]]:
    @component_id("changing")
    class Changing(Minion[Number, context]):  # type: ignore[valid-type]
        @minion_step
        async def first(self) -> None:
            if context is Old:
                self.context.total = 5

        @minion_step
        async def second(self) -> None:
            if self.event.value in gates:
                await gates[self.event.value].wait()
            seen.append(getattr(self.context, "total", -1))
            seen.append(getattr(self.context, "more", -1))

    return Changing


@attrs.define
class Old:
    total: int = 0


@attrs.define
class Gained:
    total: int = 0
    more: int = 3


@attrs.define
class Lost:
    more: int = 4


@attrs.define
class Changed:
    total: list[str] = attrs.field(factory=list)


@pytest.mark.parametrize(
    ("context", "expected"),
    [(Gained, [5, 3]), (Lost, [-1, 4]), (Changed, [])],
    ids=["gained", "lost", "changed"],
)
async def test_a_context_class_that_has_changed(
    folder: Path, autojump_clock: MockClock, context: type, expected: list[int]
) -> None:
    gates[1] = trio.Event()
    await reopen(folder, minion_with(Old), 1)
    gates.clear()
    notices: list[Notice] = []

    async with trio.open_nursery() as nursery, open_gru(folder) as gru:
        nursery.start_soon(read_all, gru, notices)
        await wait_all_tasks_blocked()
        await gru.start_minion(minion_with(context), Outside)
        await trio.sleep(1)
        await gru.stop()

    reasons = [n.reason for n in notices if isinstance(n, WorkflowQuarantined)]
    assert seen == expected
    assert reasons == ([] if expected else ["incompatible"])


# kill -9.


def check(lines: list[str], kills: int, events: int) -> None:
    """Compare what the steps wrote with what G4 and G5 say."""
    owner: dict[int, set[str]] = defaultdict(set)
    steps: dict[int, list[int]] = defaultdict(list)
    for line in lines:
        _, workflow, value, step = line.split()
        owner[int(value)].add(workflow)
        steps[int(value)].append(int(step))
    assert sorted(owner) == list(range(events)), "no event is lost"
    assert all(len(ids) == 1 for ids in owner.values()), "none is started twice"
    repeated = 0
    for found in steps.values():
        assert found == sorted(found), "a finished step does not run again"
        assert set(found) == {0, 1, 2}
        repeated += len(found) - 3
    assert repeated <= kills * 20, "only what was running can run again"
    for key in range(4):
        values = [int(line.split()[2]) for line in lines]
        order = [value for value in values if value % 4 == key]
        assert order == sorted(order), "a key keeps its order"


def lives(program: list[str], limits: list[int]) -> int:
    """Run it, killing it after so many lines of each life; return the kills."""
    kills = 0
    while True:
        with subprocess.Popen(program, stdout=subprocess.PIPE) as child:
            assert child.stdout is not None
            for count, _ in enumerate(child.stdout):
                if limits and count == limits[0]:
                    child.kill()
            code = child.wait()
        if code == 0:
            return kills
        assert code == -9
        limits.pop(0)
        kills += 1


@pytest.mark.parametrize(
    ("durability", "events", "kills"),
    [
        ("fsync", 50, 2),
        ("async", 50, 2),
        pytest.param("fsync", 500, 20, marks=pytest.mark.slow),
        pytest.param("async", 500, 20, marks=pytest.mark.slow),
    ],
)
def test_a_kill_loses_nothing_and_starts_nothing_twice(
    tmp_path: Path, durability: str, events: int, kills: int
) -> None:
    rng = random.Random(f"{durability} {kills}")  # noqa: S311  # a seed, no secret
    limits = [rng.randrange(1, 2 * events // kills) for _ in range(kills)]
    program = [sys.executable, str(CHILDREN / "worker.py"), str(tmp_path), durability]

    happened = lives([*program, str(events)], limits)

    assert happened == kills
    check((tmp_path / "out").read_text().splitlines(), kills, events)


class OneByOne(Minion[Number, Passed]):
    seen: ClassVar[list[str]] = []

    def key(self, event: Number) -> str:
        return "one"

    @minion_step
    async def first(self) -> After:
        self.seen.append(f"first {self.event.value}")
        return After(10)

    @minion_step
    async def second(self) -> None:
        self.seen.append(f"second {self.event.value}")


@pytest.mark.parametrize("where", ["record", "cold"])
async def test_who_cannot_be_read_holds_no_key(
    autojump_clock: MockClock, folder: Path, where: str
) -> None:
    OneByOne.seen.clear()
    async with open_gru(folder) as gru:
        await gru.start_minion(OneByOne, Outside)
        for number in (1, 2):
            await gru.emit(Outside, Number(number))
        await wait_all_tasks_blocked()
        assert OneByOne.seen == ["first 1"]
        await gru.stop()
    async with open_lmdb_store(folder) as store:
        space = Keyspace.COLD
        if where == "record":
            ((timer, _),) = await store.page(Keyspace.TIMER)
            space = Keyspace.RECORD
            await store.write(
                [(Keyspace.COLD, key_of(1), None), (Keyspace.TIMER, timer, None)]
            )
        await store.write([(space, key_of(1), b"nonsense")])

    async with open_gru(folder) as gru:
        await gru.start_minion(OneByOne, Outside)
        await trio.sleep(100)
        assert OneByOne.seen == ["first 1", "first 2", "second 2"]
        (damaged,) = [w async for w in gru.workflows.list()]
        assert (damaged.id, damaged.state) == ("w1", "quarantined")
        await gru.stop()
    async with open_lmdb_store(folder) as store:
        assert await store.page(Keyspace.KEY) == []


async def test_a_damaged_entry_of_a_key_keeps_nobody_from_going_on(
    autojump_clock: MockClock, folder: Path
) -> None:
    OneByOne.seen.clear()
    async with open_gru(folder) as gru:
        await gru.start_minion(OneByOne, Outside)
        await gru.emit(Outside, Number(1))
        await wait_all_tasks_blocked()
        await gru.stop()
    async with open_lmdb_store(folder) as store:
        ((entry, _),) = await store.page(Keyspace.KEY)
        await store.write([(Keyspace.KEY, entry, b"nonsense")])

    async with open_gru(folder) as gru:
        await gru.start_minion(OneByOne, Outside)
        await trio.sleep(100)
        assert OneByOne.seen == ["first 1", "second 1"]
        await gru.stop()
