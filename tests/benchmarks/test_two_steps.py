"""The bare loop and the product do the same durable work."""

from __future__ import annotations

import threading
from collections import Counter
from collections.abc import Callable, Sequence
from pathlib import Path

import lmdb
import pytest
import trio

import bare
import two_steps
import workload
from minions.store import Keyspace, MemoryStore, Write

COUNT = 120
# A longer event or context may cost the one a longer head than the other.
NEAR = 8


class Counting(MemoryStore):
    """Keeps what is handed over of workflows: their numbers, and how long it is."""

    def __init__(self) -> None:
        super().__init__()
        self.seen: list[tuple[Keyspace, bytes, int | None]] = []
        self.most = 0

    def write_nowait(
        self, writes: Sequence[Write], done: Callable[[], None] | None = None
    ) -> None:
        for space, key, value in writes:
            self.seen.append((space, key, None if value is None else len(value)))
        puts = [w for w in writes if w[0] is Keyspace.RECORD and w[2] is not None]
        self.most = max(self.most, len(puts))
        super().write_nowait(writes, done)


class CountingLoop(bare.Store):
    """Keeps what the bare loop commits."""

    def __init__(self, env: lmdb.Environment) -> None:
        super().__init__(env, flush=False)
        self.seen: list[tuple[bytes, int | None]] = []

    def commit(self, batch: bare.Batch) -> None:
        puts, deletes = batch
        self.seen += [(key, len(value)) for key, value in puts]
        self.seen += [(key, None) for key in deletes]
        super().commit(batch)


def bare_writes(folder: Path, *given: str) -> list[tuple[bytes, int | None]]:
    with lmdb.open(str(folder), sync=False, lib_version=0) as env:
        store = CountingLoop(env)
        took = trio.run(bare.measure, store, two_steps.arguments(given))
        assert env.stat()["entries"] == 0
    assert len(took) == COUNT
    return store.seen


@pytest.mark.parametrize("size", ["100", "3000"])
def test_the_bare_loop_writes_what_the_product_writes(
    tmp_path: Path, size: str
) -> None:
    given = ["--workflows", str(COUNT), "--in-flight", "16", "--context-bytes", size]
    given += ["--durability", "none"]
    store = Counting()

    trio.run(two_steps.measure, two_steps.arguments(given), store)
    ours = [w for w in store.seen if w[0] is Keyspace.RECORD]
    limit = bare_writes(tmp_path, *given)

    # What belongs to no workflow: the subscription, and the last number.
    others = [w for w in store.seen if w[0] is not Keyspace.RECORD]
    assert len(others) <= 4
    assert len(ours) == len(limit) == 3 * COUNT
    assert set(Counter(key for _, key, _ in ours).values()) == {3}
    assert set(Counter(key for key, _ in limit).values()) == {3}
    assert {len(key) for _, key, _ in ours} == {len(key) for key, _ in limit}
    sizes = sorted(size or 0 for *_, size in ours)
    bare_sizes = sorted(size or 0 for _, size in limit)
    assert sizes[0] == bare_sizes[0] == 0
    pairs = zip(sizes, bare_sizes, strict=True)
    assert max(abs(a - b) for a, b in pairs) <= NEAR


def test_the_bare_loop_is_short() -> None:
    assert Path(bare.__file__).read_text("utf-8").count("\n") <= 150


@pytest.mark.parametrize("room", [1, 7])
def test_the_bare_loop_keeps_to_its_room(tmp_path: Path, room: int) -> None:
    """A place is free from the moment at which a workflow hands over its end."""
    unended: set[bytes] = set()
    most = 0

    class Watching(bare.Store):
        async def put(self, key: bytes, value: bytes) -> None:
            nonlocal most
            unended.add(key)
            most = max(most, len(unended))
            await super().put(key, value)

        def delete_nowait(self, key: bytes) -> None:
            unended.remove(key)
            super().delete_nowait(key)

    given = ["--workflows", "50", "--in-flight", str(room)]
    with lmdb.open(str(tmp_path), sync=False, lib_version=0) as env:
        store = Watching(env, flush=False)
        trio.run(bare.measure, store, two_steps.arguments(given))

    assert (most, unended) == (room, set())


@pytest.mark.parametrize("flush", [True, False])
def test_the_bare_loop_goes_on_when_its_record_is_safe(
    tmp_path: Path, *, flush: bool
) -> None:
    """With a flush the commit is a thread's, without one the loop's."""
    committed: Counter[bytes] = Counter()
    threads = set()
    waited = []

    class Watching(bare.Store):
        async def put(self, key: bytes, value: bytes) -> None:
            before = committed[key]
            await super().put(key, value)
            waited.append(committed[key] - before)

        def commit(self, batch: bare.Batch) -> None:
            super().commit(batch)
            committed.update(key for key, _ in batch[0])
            committed.update(batch[1])
            threads.add(threading.current_thread() is threading.main_thread())

    given = ["--workflows", "30", "--in-flight", "8"]
    with lmdb.open(str(tmp_path), sync=False, lib_version=0) as env:
        store = Watching(env, flush=flush)
        trio.run(bare.measure, store, two_steps.arguments(given))

    assert waited == [1] * 60
    assert set(committed.values()) == {3}
    assert threads == {not flush}


def test_a_commit_that_fails_ends_the_bare_loop(tmp_path: Path) -> None:
    """Else it would wait for ever for the thread."""

    class Failing(bare.Store):
        def commit(self, batch: bare.Batch) -> None:
            raise OSError("no room")

    with lmdb.open(str(tmp_path), sync=False, lib_version=0) as env:
        store = Failing(env, flush=True)
        with pytest.raises(ExceptionGroup) as caught:
            trio.run(bare.measure, store, two_steps.arguments(["--workflows", "9"]))

    assert caught.group_contains(OSError, match=r"^no room$")


@pytest.mark.parametrize(
    "feed", [["produce"], ["emit"], ["emit-many"], ["emit", "--alone"]]
)
def test_each_feed_runs_every_workflow_once(feed: list[str]) -> None:
    given = ["--workflows", str(COUNT), "--in-flight", "8", "--feed", *feed]
    given += ["--durability", "none"]

    store = Counting()

    run = trio.run(two_steps.measure, two_steps.arguments(given), store)

    assert sorted(run.began) == sorted(run.ended) == list(range(COUNT))
    for number, produced in enumerate(run.produced):
        assert produced <= run.began[number] <= run.ended[number] <= run.over
    if feed != ["produce"]:
        assert store.most == (100 if feed == ["emit-many"] else 1)
    if "--alone" in feed:
        pairs = zip(run.produced[1:], range(COUNT), strict=False)
        assert all(run.ended[before] <= produced for produced, before in pairs)


def test_sleeping_workflows_stand_beside_those_that_run(tmp_path: Path) -> None:
    given = two_steps.arguments(
        ["--workflows", "20", "--records", "30", "--durability", "none"]
    )
    folder = tmp_path / "state"

    trio.run(two_steps.sleep_in, folder, given)
    run = trio.run(two_steps.measure, given, folder)

    assert len(run.ended) == 20


def test_one_call_in_so_many_computes(monkeypatch: pytest.MonkeyPatch) -> None:
    clock = iter(range(10_000))
    monkeypatch.setattr("time.perf_counter", lambda: next(clock) / 1000)
    given = ["--compute-every", "3", "--compute-ms", "10"]
    compute = workload.computing(two_steps.arguments(given))
    spent = []

    for _ in range(6):
        before = next(clock)
        compute()
        spent.append(next(clock) - before > 10)

    assert spent == [False, False, True] * 2


def test_percentiles_are_those_of_the_sorted_times() -> None:
    seconds = [float(n) for n in range(101)]

    found = workload.percentiles("x_", seconds[::-1])

    assert found == {"x_p50_s": 50.0, "x_p99_s": 99.0}
    assert workload.percentiles("", [4.0]) == {"p50_s": 4.0, "p99_s": 4.0}
