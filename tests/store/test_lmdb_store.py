"""The store on disk: closing, cancellation, growth, trouble."""

# ruff: noqa: ASYNC240  # a test has the event loop to itself

from __future__ import annotations

import errno
import os
import stat
import threading
from collections.abc import Callable, Sequence
from functools import partial
from pathlib import Path
from typing import Any

import lmdb
import pytest
import trio
import trio.testing

from minions.errors import InternalError, StoreError, StoreFullError
from minions.store import Keyspace, open_lmdb_store
from minions.store.commit_thread import CommitThread
from minions.store.group_commit import Entry
from minions.store.lmdb_store import LmdbStore

RECORD = Keyspace.RECORD


@pytest.fixture
def folder(tmp_path: Path) -> Path:
    return tmp_path / "state"


def break_commits(
    monkeypatch: pytest.MonkeyPatch, errors: Sequence[Exception | None]
) -> list[int]:
    """Let the next commits fail with these errors; returns the sizes of all."""
    pending = list(errors)
    sizes: list[int] = []
    commit = LmdbStore._commit

    def broken(store: LmdbStore, batch: Sequence[Entry]) -> None:
        sizes.append(len(batch))
        error = pending.pop(0) if pending else None
        if error is not None:
            raise error
        commit(store, batch)

    monkeypatch.setattr(LmdbStore, "_commit", broken)
    return sizes


def full() -> lmdb.Error:
    error = lmdb.DiskError("mdb_txn_commit")
    error.code = errno.ENOSPC  # type: ignore[misc]
    return error


async def test_the_folder_is_private(folder: Path) -> None:
    async with open_lmdb_store(folder):
        modes = {stat.S_IMODE(path.stat().st_mode) for path in folder.iterdir()}

        assert stat.S_IMODE(folder.stat().st_mode) == 0o700
        assert modes <= {0o600, 0o644}


@pytest.mark.parametrize("durability", ["fsync", "async", "none"])
async def test_what_was_handed_over_is_there_at_the_next_open(
    folder: Path, durability: Any
) -> None:
    async with open_lmdb_store(folder, durability=durability) as store:
        for n in range(1000):
            store.write_nowait([(RECORD, b"%d" % n, b"x")])

    async with open_lmdb_store(folder) as store:
        assert len(await store.page(RECORD, limit=2000)) == 1000


@pytest.mark.parametrize("clock", ["real", "mock"])
def test_an_outer_cancel_loses_nothing(folder: Path, clock: str) -> None:
    async def main() -> None:
        with trio.CancelScope() as scope:
            async with open_lmdb_store(folder) as store:
                store.write_nowait([(RECORD, b"a", b"1")])
                scope.cancel()
                await trio.sleep_forever()
        assert scope.cancelled_caught
        async with open_lmdb_store(folder) as store:
            assert await store.read(RECORD, b"a") == b"1"

    if clock == "real":
        trio.run(main)
    else:
        trio.run(main, clock=trio.testing.MockClock(autojump_threshold=0))


async def test_an_error_of_the_block_comes_out_as_itself(folder: Path) -> None:
    with pytest.raises(KeyError) as caught:
        async with open_lmdb_store(folder):
            raise KeyError("mine")

    assert caught.value.args == ("mine",)


async def test_a_write_that_was_taken_returns(
    folder: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """Cancelled or done, never both: here the commit is under way."""
    taken, go = trio.Event(), threading.Event()
    commit, token = LmdbStore._commit, trio.lowlevel.current_trio_token()

    def slow(store: LmdbStore, batch: Sequence[Entry]) -> None:
        token.run_sync_soon(taken.set)
        go.wait()
        commit(store, batch)

    monkeypatch.setattr(LmdbStore, "_commit", slow)
    returned: list[trio.CancelScope] = []

    async def write(scope: trio.CancelScope) -> None:
        with scope:
            await store.write([(RECORD, b"a", b"1")])
            returned.append(scope)

    scope = trio.CancelScope()
    async with open_lmdb_store(folder) as store, trio.open_nursery() as nursery:
        nursery.start_soon(write, scope)
        await taken.wait()
        scope.cancel()
        late = trio.CancelScope(deadline=0)
        nursery.start_soon(write, late)
        await trio.testing.wait_all_tasks_blocked()
        go.set()

    assert returned == [scope]
    assert late.cancelled_caught


async def test_what_waits_shares_a_commit(folder: Path) -> None:
    async with open_lmdb_store(folder) as store:
        async with trio.open_nursery() as nursery:
            for n in range(200):
                nursery.start_soon(store.write, [(RECORD, b"%d" % n, b"x")])
        statistics = store.statistics()

    assert statistics.writes == 200
    assert statistics.commits <= 10
    assert statistics.peak_batch >= 100


async def test_the_map_grows_while_it_is_read(
    folder: Path, autojump_clock: trio.testing.MockClock
) -> None:
    troubles: list[object] = []
    async with open_lmdb_store(
        folder, map_size=2**17, notify=troubles.append, durability="none"
    ) as store:
        for n in range(64):
            await store.write([(RECORD, b"%02d" % n, bytes(2**14))])
            assert len(await store.page(RECORD)) == n + 1
        statistics = store.statistics()

    assert statistics.map_size >= 2**20
    assert statistics.used > 2**20
    assert troubles == []
    async with open_lmdb_store(folder, map_size=2**17) as store:
        assert len(await store.page(RECORD)) == 64


async def test_trouble_is_told_and_tried_again(
    folder: Path,
    monkeypatch: pytest.MonkeyPatch,
    autojump_clock: trio.testing.MockClock,
) -> None:
    """Nobody is told that it is saved, nothing is lost, and the delay grows."""
    troubles: list[StoreError | None] = []
    states = []
    async with open_lmdb_store(folder, notify=troubles.append) as store:
        sizes = break_commits(
            monkeypatch, [full(), full(), OSError(errno.EIO, "bad"), full()]
        )
        began = trio.current_time()
        store.write_nowait([(RECORD, b"a", b"1")], lambda: states.append("saved"))
        await trio.sleep(0.05)
        states.append(store.statistics().state)
        store.write_nowait([(RECORD, b"b", b"2")])
        await store.barrier()
        took = trio.current_time() - began
        after = store.statistics()

    assert states == ["backoff", "saved"]
    assert took == pytest.approx(0.1 + 0.2 + 0.4 + 0.8)
    assert [type(trouble) for trouble in troubles] == [
        StoreFullError,
        StoreError,
        StoreFullError,
        type(None),
    ]
    assert "expected room on the disk" in str(troubles[0])
    assert (after.state, after.last_error) == ("ok", None)
    assert sizes == [1, 1, 1, 1, 1, 2]


async def test_trouble_at_the_end_is_given_up(
    folder: Path,
    monkeypatch: pytest.MonkeyPatch,
    autojump_clock: trio.testing.MockClock,
) -> None:
    """The block ends with an error that counts what is not saved."""
    results: list[object] = []

    async def write(key: bytes) -> None:
        try:
            await store.write([(RECORD, key, b"1")])
        except StoreFullError as exc:
            results.append(exc)

    async with trio.open_nursery() as nursery:
        with pytest.raises(StoreFullError, match="2 writes are not saved"):
            async with open_lmdb_store(folder, patience=10) as store:
                break_commits(monkeypatch, [full() for _ in range(1000)])
                nursery.start_soon(write, b"a")
                await trio.sleep(1)
                nursery.start_soon(write, b"b")
                await trio.sleep(1)

    assert len(results) == 2
    monkeypatch.undo()
    async with open_lmdb_store(folder) as store:
        assert await store.page(RECORD) == []


async def test_a_broken_environment_is_opened_again(
    folder: Path,
    monkeypatch: pytest.MonkeyPatch,
    autojump_clock: trio.testing.MockClock,
) -> None:
    """LMDB refuses everything after a failed write of its meta page."""
    async with open_lmdb_store(folder) as store:
        await store.write([(RECORD, b"a", b"1")])
        break_commits(monkeypatch, [lmdb.PanicError("mdb_txn_begin")])
        await store.write([(RECORD, b"b", b"2")])

        assert len(await store.page(RECORD)) == 2


async def test_a_map_that_cannot_grow_is_trouble(
    folder: Path,
    monkeypatch: pytest.MonkeyPatch,
    autojump_clock: trio.testing.MockClock,
) -> None:
    troubles: list[StoreError | None] = []
    async with open_lmdb_store(folder, notify=troubles.append) as store:
        assert isinstance(store, LmdbStore)
        break_commits(monkeypatch, [lmdb.MapFullError("mdb_put")])
        before = store._map_size
        store._map_size = 2**46  # no address space for twice as much
        store.write_nowait([(RECORD, b"a", b"1")])
        await trio.sleep(0.05)
        store._map_size = before
        assert await store.read(RECORD, b"a") is None
        await store.barrier()

    assert isinstance(troubles[0], StoreFullError)
    assert "cannot grow" in str(troubles[0])


async def test_a_callback_that_raises_is_our_bug(folder: Path) -> None:
    """The others are called, what was handed over is saved, and the block ends."""
    seen: list[int] = []

    def bad() -> None:
        raise ZeroDivisionError

    with pytest.raises(InternalError) as caught:
        async with open_lmdb_store(folder) as store:
            store.write_nowait([(RECORD, b"a", b"1")], bad)
            store.write_nowait([(RECORD, b"b", b"1")], lambda: seen.append(1))
            await trio.sleep_forever()

    assert isinstance(caught.value.__cause__, ZeroDivisionError)
    assert seen == [1]
    async with open_lmdb_store(folder) as store:
        assert len(await store.page(RECORD)) == 2


async def test_a_notify_that_raises_leaves_nobody_waiting(
    folder: Path,
    monkeypatch: pytest.MonkeyPatch,
    autojump_clock: trio.testing.MockClock,
) -> None:
    def bad(error: StoreError | None) -> None:
        raise ZeroDivisionError

    results: list[BaseException] = []
    with pytest.raises(ZeroDivisionError):
        async with open_lmdb_store(folder, notify=bad) as store:
            break_commits(monkeypatch, [full()])
            try:
                await store.write([(RECORD, b"a", b"1")])
            except InternalError as exc:
                results.append(exc)
            with pytest.raises(trio.ClosedResourceError):
                store.write_nowait([])

    assert len(results) == 1


async def test_under_another_clock_no_thread_is_used(
    folder: Path,
    monkeypatch: pytest.MonkeyPatch,
    autojump_clock: trio.testing.MockClock,
) -> None:
    async def refuse(*args: object, **kwargs: object) -> None:
        raise AssertionError("a thread")

    monkeypatch.setattr(trio.to_thread, "run_sync", refuse)
    monkeypatch.setattr(CommitThread, "run", refuse)
    async with open_lmdb_store(folder) as store:
        await store.write([(RECORD, b"%d" % n, b"1") for n in range(100)])

        assert len(await store.page(RECORD)) == 100


@pytest.mark.parametrize(
    ("durability", "count", "threaded"),
    [("fsync", 1, True), ("async", 512, False), ("async", 513, True)],
)
async def test_only_a_flush_or_many_writes_take_a_thread(
    folder: Path,
    monkeypatch: pytest.MonkeyPatch,
    durability: Any,
    count: int,
    threaded: bool,  # noqa: FBT001  # a parameter of the test
) -> None:
    threads: list[bool] = []
    commit = LmdbStore._commit

    def spy(store: LmdbStore, batch: Sequence[Entry]) -> None:
        threads.append(threading.current_thread() is not threading.main_thread())
        commit(store, batch)

    async with open_lmdb_store(folder, durability=durability) as store:
        monkeypatch.setattr(LmdbStore, "_commit", spy)
        await store.write([(RECORD, b"%d" % n, b"1") for n in range(count)])

    assert threads == [threaded]


async def test_an_environment_variable_does_not_change_the_format(
    folder: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setenv("LMDB_DEFAULT_LIB_VERSION", "1")
    async with open_lmdb_store(folder) as store:
        assert isinstance(store, LmdbStore)

        assert store._environment().lib_version()[0] == 0


async def test_a_store_in_trouble_reads_with_an_error(folder: Path) -> None:
    async with open_lmdb_store(folder) as store:
        assert isinstance(store, LmdbStore)
        env, store._env = store._env, None

        with pytest.raises(StoreError, match="could not be opened again"):
            await store.read(RECORD, b"a")
        store._env = env


async def test_a_large_batch_is_parted(
    folder: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """One commit is one stretch of work in the event loop at its end."""
    monkeypatch.setattr("minions.store.group_commit._MAX_BATCH", 10)
    seen: list[int] = []
    async with open_lmdb_store(folder, durability="none") as store:
        for n in range(25):
            store.write_nowait([(RECORD, b"a", b"%d" % n)], partial(seen.append, n))
        await store.barrier()

        assert seen == list(range(25))
        assert store.statistics().commits == 3


async def test_the_repr_says_where(folder: Path) -> None:
    async with open_lmdb_store(folder) as store:
        assert str(folder) in repr(store)


class PathLike:
    def __init__(self, path: Path) -> None:
        self._path = path

    def __fspath__(self) -> str:
        return os.fspath(self._path)


OPENERS: list[Callable[[Path], Any]] = [str, Path, PathLike]


@pytest.mark.parametrize("make", OPENERS)
async def test_any_path_will_do(folder: Path, make: Callable[[Path], Any]) -> None:
    async with open_lmdb_store(make(folder)):
        assert folder.is_dir()
