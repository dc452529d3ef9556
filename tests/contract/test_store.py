"""What every store does, whichever it is."""

from __future__ import annotations

import tempfile
from collections.abc import AsyncIterator
from contextlib import AsyncExitStack
from functools import partial
from pathlib import Path

import pytest
import trio
import trio.testing
from hypothesis import given, settings
from hypothesis import strategies as st

from minions.errors import SnapshotError
from minions.store import Keyspace, MemoryStore, StateStore, Write, open_lmdb_store

RECORD, META = Keyspace.RECORD, Keyspace.META


@pytest.fixture(params=["real", "mock"])
def any_clock(request: pytest.FixtureRequest) -> trio.testing.MockClock | None:
    """pytest-trio takes the clock from a fixture, if one of them is a clock."""
    return trio.testing.MockClock() if request.param == "mock" else None


@pytest.fixture(params=["memory", "fsync", "async"])
async def store(
    request: pytest.FixtureRequest,
    tmp_path: Path,
    any_clock: trio.testing.MockClock | None,
) -> AsyncIterator[StateStore]:
    if request.param == "memory":
        yield MemoryStore(max_record=4096)
    else:
        async with open_lmdb_store(
            tmp_path / "state",
            durability=request.param,
            max_record=4096,
            map_size=2**20,
        ) as store:
            yield store


async def test_what_is_written_is_read(store: StateStore) -> None:
    await store.write([(RECORD, b"a", b"1"), (META, b"a", b"2")])

    assert await store.read(RECORD, b"a") == b"1"
    assert await store.read(META, b"a") == b"2"
    assert await store.read(RECORD, b"b") is None


async def test_none_deletes(store: StateStore) -> None:
    await store.write([(RECORD, b"a", b"1"), (RECORD, b"b", b"2")])

    await store.write([(RECORD, b"a", None), (RECORD, b"never", None)])

    assert await store.page(RECORD) == [(b"b", b"2")]


async def test_an_empty_value_is_a_value(store: StateStore) -> None:
    await store.write([(RECORD, b"a", b"")])

    assert await store.read(RECORD, b"a") == b""


async def test_the_last_write_of_a_key_counts(store: StateStore) -> None:
    await store.write(
        [(RECORD, b"a", b"1"), (RECORD, b"a", None), (RECORD, b"a", b"2")]
    )

    assert await store.read(RECORD, b"a") == b"2"


async def test_pages_are_in_the_order_of_the_keys(store: StateStore) -> None:
    keys = [n.to_bytes(2, "big") for n in range(2500)]
    await store.write([(RECORD, key, b"") for key in reversed(keys)])

    first = await store.page(RECORD, limit=10)
    rest = await store.page(RECORD, after=first[-1][0], limit=5000)
    between = await store.page(RECORD, after=keys[7] + b"x", limit=1)

    assert [key for key, _ in first + rest] == keys
    assert between == [(keys[8], b"")]
    assert await store.page(RECORD, after=keys[-1]) == []


async def test_done_is_called_in_order_after_the_commit(store: StateStore) -> None:
    seen: list[int] = []
    for n in range(100):
        store.write_nowait([(RECORD, b"a", b"%d" % n)], partial(seen.append, n))

    await store.barrier()

    assert seen == list(range(100))
    assert await store.read(RECORD, b"a") == b"99"


async def test_done_may_hand_over_more(store: StateStore) -> None:
    """The order of the calls holds, and no ``done`` runs within another."""
    seen: list[str] = []

    def first() -> None:
        store.write_nowait([(RECORD, b"a", b"2")], lambda: seen.append("inner"))
        seen.append("outer")

    store.write_nowait([(RECORD, b"a", b"1")], first)
    await store.barrier()
    await store.barrier()

    assert seen == ["outer", "inner"]
    assert await store.read(RECORD, b"a") == b"2"


async def test_writes_wait_for_those_before(store: StateStore) -> None:
    seen: list[str] = []
    store.write_nowait([(RECORD, b"a", b"1")], lambda: seen.append("before"))

    await store.write([(RECORD, b"b", b"1")])

    assert seen == ["before"]


@pytest.mark.parametrize(
    ("key", "value", "found"),
    [
        (b"", b"", "found 0"),
        (b"k" * 512, b"", "found 512"),
        ("text", b"", "str"),
        (b"k", "text", "str"),
        (b"k", b"v" * 4097, "4097"),
    ],
)
async def test_a_bad_entry_joins_nothing(
    store: StateStore, key: bytes, value: bytes, found: str
) -> None:
    with pytest.raises(SnapshotError, match=found):
        store.write_nowait([(RECORD, b"good", b"1"), (RECORD, key, value)])
    with pytest.raises(SnapshotError, match=found):
        await store.write([(RECORD, b"good", b"1"), (RECORD, key, value)])

    await store.barrier()
    assert await store.page(RECORD) == []


async def test_a_bad_keyspace_joins_nothing(store: StateStore) -> None:
    with pytest.raises(SnapshotError, match="expected a Keyspace"):
        store.write_nowait([("record", b"a", b"")])  # type: ignore[list-item]


async def test_the_longest_key_and_value_fit(store: StateStore) -> None:
    await store.write([(RECORD, b"k" * 511, b"v" * 4096)])

    assert await store.read(RECORD, b"k" * 511) == b"v" * 4096


async def test_all_async_calls_are_checkpoints(store: StateStore) -> None:
    for call in (
        lambda: store.write([(RECORD, b"a", b"1")]),
        lambda: store.write([]),
        store.barrier,
        lambda: store.read(RECORD, b"a"),
        lambda: store.page(RECORD),
    ):
        with trio.testing.assert_checkpoints():
            await call()


async def test_a_cancelled_write_never_happened(store: StateStore) -> None:
    with trio.CancelScope() as scope:
        scope.cancel()
        await store.write([(RECORD, b"a", b"1")])

    await store.barrier()
    assert scope.cancelled_caught
    assert await store.page(RECORD) == []
    assert store.statistics().waiting == 0


async def test_taking_one_back_leaves_the_others(store: StateStore) -> None:
    async def write(key: bytes, scope: trio.CancelScope) -> None:
        with scope:
            await store.write([(RECORD, key, b"1")])

    scopes = [trio.CancelScope() for _ in range(4)]
    scopes[1].cancel()
    scopes[2].cancel()
    async with trio.open_nursery() as nursery:
        for n, scope in enumerate(scopes):
            nursery.start_soon(write, b"%d" % n, scope)

    assert [key for key, _ in await store.page(RECORD)] == [b"0", b"3"]


async def test_statistics_count(store: StateStore) -> None:
    await store.write([(RECORD, b"a", b"1"), (RECORD, b"b", b"2")])

    statistics = store.statistics()

    assert (statistics.state, statistics.waiting, statistics.writes) == ("ok", 0, 2)
    assert statistics.durability == store.durability
    assert statistics.last_error is None
    assert statistics.used > 0


@pytest.mark.parametrize("kind", ["memory", "lmdb"])
async def test_a_closed_store_refuses(kind: str, tmp_path: Path) -> None:
    store: StateStore
    if kind == "memory":
        store = memory = MemoryStore()
        memory.close()
    else:
        async with open_lmdb_store(tmp_path / "state") as store:
            pass

    for call in (
        lambda: store.write([]),
        store.barrier,
        lambda: store.read(RECORD, b"a"),
        lambda: store.page(RECORD),
    ):
        with pytest.raises(trio.ClosedResourceError):
            await call()
    with pytest.raises(trio.ClosedResourceError):
        store.write_nowait([])
    assert store.statistics().state == "closed"


KEYS = st.sampled_from([b"a", b"b", b"c", b"\x00", b"\xff" * 5])
WRITES = st.lists(
    st.tuples(st.sampled_from([RECORD, META]), KEYS, st.none() | st.binary(max_size=9)),
    max_size=4,
)
COMMANDS = st.lists(
    st.tuples(st.sampled_from(["write", "nowait", "cancel"]), WRITES)
    | st.tuples(st.sampled_from(["barrier", "reopen", "check"]), st.just([])),
    max_size=12,
)
Model = dict[tuple[Keyspace, bytes], bytes]


def apply(model: Model, writes: list[Write]) -> None:
    for space, key, value in writes:
        model.pop((space, key), None)
        if value is not None:
            model[space, key] = value


async def contents(store: StateStore) -> Model:
    return {
        (space, key): value
        for space in Keyspace
        for key, value in await store.page(space)
    }


async def play(commands: list[tuple[str, list[Write]]], folder: Path | None) -> None:
    model: Model = {}
    handed: list[int] = []
    done: list[int] = []
    async with AsyncExitStack() as stack:
        store: StateStore = MemoryStore()

        async def reopen() -> None:
            nonlocal store
            if folder is not None:
                await stack.aclose()
                opened = open_lmdb_store(folder, durability="async", map_size=2**20)
                store = await stack.enter_async_context(opened)

        await reopen()
        for number, (command, writes) in enumerate(commands):
            if command == "write":
                await store.write(writes)
                apply(model, writes)
            elif command == "nowait":
                store.write_nowait(writes, partial(done.append, number))
                handed.append(number)
                apply(model, writes)
            elif command == "cancel":
                with trio.CancelScope() as scope:
                    scope.cancel()
                    await store.write(writes)
                assert scope.cancelled_caught
            elif command == "reopen":
                await reopen()
            else:
                await store.barrier()
                assert done == handed
                assert await contents(store) == model
        await reopen()
        assert done == handed
        assert await contents(store) == model


@pytest.mark.parametrize("kind", ["memory", "lmdb"])
@settings(max_examples=40, deadline=None)
@given(commands=COMMANDS)
def test_a_store_is_a_dict(kind: str, commands: list[tuple[str, list[Write]]]) -> None:
    with tempfile.TemporaryDirectory() as folder:
        path = Path(folder) / "state" if kind == "lmdb" else None
        trio.run(
            play, commands, path, clock=trio.testing.MockClock(autojump_threshold=0)
        )
