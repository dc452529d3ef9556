"""A folder of an older format: brought to the present one, or left as it was."""

# ruff: noqa: ASYNC240  # a test has the event loop to itself

from __future__ import annotations

import errno
import json
from collections.abc import Mapping
from pathlib import Path
from typing import Any

import lmdb
import pytest

from minions.errors import StoreError, StoreFullError, StoreVersionError
from minions.store import Keyspace, migrate, open_lmdb_store
from minions.store.mark import write_mark
from minions.store.migrate import Migrated

RECORD, META = Keyspace.RECORD, Keyspace.META
OLD = {b"a": b"1", b"b": b"2"}
NEW = {b"a": b"1>2>3", b"b": b"2>2>3"}


def mark_of(folder: Path) -> dict[str, Any]:
    mark: dict[str, Any] = json.loads((folder / "minions.json").read_text())
    return mark


def edit_mark(folder: Path, **changes: object) -> None:
    (folder / "minions.json").write_text(json.dumps(mark_of(folder) | changes))


def listing(folder: Path) -> dict[str, bytes]:
    ignored = {"lock.mdb", "minions.lock"}
    return {p.name: p.read_bytes() for p in folder.iterdir() if p.name not in ignored}


def appending(text: bytes) -> migrate.Migration:
    def change(txn: lmdb.Transaction, dbs: Mapping[Keyspace, Any]) -> None:
        for key, value in list(txn.cursor(dbs[RECORD])):
            txn.put(key, bytes(value) + text, db=dbs[RECORD])

    return change


@pytest.fixture
async def folder(tmp_path: Path) -> Path:
    """Make a folder of the present format, which is then an older one."""
    folder = tmp_path / "state"
    async with open_lmdb_store(folder) as store:
        await store.write([(RECORD, key, value) for key, value in OLD.items()])
    return folder


@pytest.fixture
def later(folder: Path, monkeypatch: pytest.MonkeyPatch) -> int:
    """Raise the format by two, each with a migration."""
    old = migrate.FORMAT
    monkeypatch.setattr(migrate, "FORMAT", old + 2)
    table = {old: appending(b">2"), old + 1: appending(b">3")}
    monkeypatch.setattr(migrate, "MIGRATIONS", table)
    return old + 2


async def content_of(folder: Path) -> tuple[dict[bytes, bytes], list[Migrated]]:
    told: list[Migrated] = []
    async with open_lmdb_store(folder, notify_migrated=told.append) as store:
        return dict(await store.page(RECORD)), told


async def test_the_migrations_run_in_order_and_once(folder: Path, later: int) -> None:
    copy = folder.with_name(f"state.format-{later - 2}-copy")

    assert await content_of(folder) == (NEW, [Migrated(later - 2, later, copy)])
    assert await content_of(folder) == (NEW, [])
    assert mark_of(folder)["format"] == later
    assert "migrating_from" not in mark_of(folder)


async def test_the_copy_is_a_backup_in_the_old_format(
    folder: Path, later: int, monkeypatch: pytest.MonkeyPatch
) -> None:
    _, (migrated,) = await content_of(folder)

    mark = mark_of(migrated.copy)
    assert (mark["backup_of"], mark["format"]) == (str(folder), later - 2)
    monkeypatch.setattr(migrate, "FORMAT", later - 2)
    assert await content_of(migrated.copy) == (OLD, [])


async def test_a_migration_that_raises_changes_nothing(
    folder: Path, later: int, monkeypatch: pytest.MonkeyPatch
) -> None:
    def bad(txn: lmdb.Transaction, dbs: Mapping[Keyspace, Any]) -> None:
        txn.drop(dbs[RECORD], delete=False)
        raise KeyError("mine")

    monkeypatch.setitem(migrate.MIGRATIONS, later - 1, bad)
    before = listing(folder)

    with pytest.raises(StoreError, match=r"format \d+ to \d+ failed.*KeyError") as info:
        await content_of(folder)

    assert isinstance(info.value.__cause__, KeyError)
    assert listing(folder) == before
    assert list(folder.parent.iterdir()) == [folder]


async def test_a_format_without_a_migration_is_refused(
    folder: Path, later: int, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.delitem(migrate.MIGRATIONS, later - 2)
    before = listing(folder)

    with pytest.raises(StoreVersionError, match=f"format {later}, found"):
        await content_of(folder)

    assert listing(folder) == before


@pytest.mark.parametrize("number", [True, "1", 1.0, None, [1], -1])
async def test_a_format_that_is_no_number_is_refused(
    folder: Path, number: object
) -> None:
    edit_mark(folder, format=number)

    with pytest.raises(StoreVersionError):
        await content_of(folder)


def fail_at(monkeypatch: pytest.MonkeyPatch, number: int) -> None:
    """Let the process die at this write of a mark, as far as a test can."""
    write, calls = write_mark, []

    def broken(folder: Path, fields: Mapping[str, Any]) -> None:
        calls.append(fields)
        if len(calls) >= number:
            raise OSError(errno.EIO, "died")
        write(folder, fields)

    monkeypatch.setattr(migrate, "write_mark", broken)


async def test_a_death_behind_the_transaction_is_made_good(
    folder: Path, later: int, monkeypatch: pytest.MonkeyPatch
) -> None:
    with monkeypatch.context() as patch:
        fail_at(patch, 3)
        with pytest.raises(StoreError, match="died"):
            await content_of(folder)
    assert mark_of(folder)["migrating_from"] == later - 2

    copy = folder.with_name(f"state.format-{later - 2}-copy")
    assert await content_of(folder) == (NEW, [Migrated(later - 2, later, copy)])


async def test_an_older_version_does_not_open_what_may_be_migrated(
    folder: Path, later: int, monkeypatch: pytest.MonkeyPatch
) -> None:
    with monkeypatch.context() as patch:
        fail_at(patch, 3)
        with pytest.raises(StoreError, match="died"):
            await content_of(folder)
    with monkeypatch.context() as patch:
        patch.setattr(migrate, "FORMAT", later - 2)
        with pytest.raises(StoreVersionError):
            await content_of(folder)


async def test_the_copy_of_a_killed_attempt_is_used_again(
    folder: Path, later: int
) -> None:
    old = later - 2
    copy = folder.with_name(f"state.format-{old}-copy")
    await content_of(folder)
    made = listing(copy)
    for path in folder.iterdir():
        path.unlink()
    for name, data in made.items():
        (folder / name).write_bytes(data)
    half = folder.with_name(f"state.format-{old}-copy.new")
    half.mkdir()
    (half / "data.mdb").write_bytes(b"half")

    edit_mark(folder, format=later, migrating_from=old, copy=str(copy))
    assert await content_of(folder) == (NEW, [Migrated(old, later, copy)])
    assert listing(copy) == made


async def test_an_older_copy_of_other_data_is_kept(
    folder: Path, later: int, monkeypatch: pytest.MonkeyPatch
) -> None:
    """The older version went on after an attempt: what it wrote needs a copy, too."""
    old = later - 2
    await content_of(folder)
    first = folder.with_name(f"state.format-{old}-copy")
    made = listing(first)
    for name, data in made.items():
        (folder / name).write_bytes(data)
    with monkeypatch.context() as patch:
        patch.setattr(migrate, "FORMAT", old)
        async with open_lmdb_store(folder) as store:
            await store.write([(RECORD, b"c", b"3")])

    content, (migrated,) = await content_of(folder)

    assert content == NEW | {b"c": b"3>2>3"}
    assert migrated.copy == folder.with_name(f"state.format-{old}-copy-2")
    assert listing(first) == made


async def test_a_migration_may_need_a_larger_map(
    folder: Path, later: int, monkeypatch: pytest.MonkeyPatch
) -> None:
    def widen(txn: lmdb.Transaction, dbs: Mapping[Keyspace, Any]) -> None:
        for n in range(100):
            txn.put(b"%d" % n, bytes(2**14), db=dbs[META])

    monkeypatch.setitem(migrate.MIGRATIONS, later - 1, widen)
    async with open_lmdb_store(folder, map_size=2**18) as store:
        assert len(await store.page(META)) == 100
        assert dict(await store.page(RECORD)) == {b"a": b"1>2", b"b": b"2>2"}


@pytest.mark.parametrize(
    ("refusal", "what"),
    [
        ((errno.ENOSPC, StoreFullError), "free some room"),
        ((errno.EROFS, StoreError), "let this process write here"),
    ],
)
async def test_without_a_copy_nothing_is_migrated(
    folder: Path,
    later: int,
    monkeypatch: pytest.MonkeyPatch,
    refusal: tuple[int, type[StoreError]],
    what: str,
) -> None:
    number, error = refusal

    def refuse(*_: object) -> None:
        raise OSError(number, "refused")

    monkeypatch.setattr(migrate, "_make_copy", refuse)
    before = listing(folder)

    with pytest.raises(StoreError, match=what) as caught:
        await content_of(folder)

    assert type(caught.value) is error
    assert listing(folder) == before
    assert list(folder.parent.iterdir()) == [folder]


async def test_a_disk_that_fills_in_the_middle_changes_nothing(
    folder: Path, later: int, monkeypatch: pytest.MonkeyPatch
) -> None:
    def full(txn: lmdb.Transaction, dbs: Mapping[Keyspace, Any]) -> None:
        txn.drop(dbs[RECORD], delete=False)
        error = lmdb.DiskError("mdb_put")
        error.code = errno.ENOSPC  # type: ignore[misc]
        raise error

    monkeypatch.setitem(migrate.MIGRATIONS, later - 1, full)
    before = listing(folder)

    with pytest.raises(StoreFullError):
        await content_of(folder)

    assert listing(folder) == before
    assert list(folder.parent.iterdir()) == [folder]


async def test_the_unclean_end_before_is_not_forgotten(
    folder: Path, later: int, monkeypatch: pytest.MonkeyPatch
) -> None:
    edit_mark(folder, state="open")
    with monkeypatch.context() as patch:
        fail_at(patch, 3)
        with pytest.raises(StoreError, match="died"):
            await content_of(folder)

    async with open_lmdb_store(folder) as store:
        assert store.unclean
    async with open_lmdb_store(folder) as store:
        assert not store.unclean


async def test_a_new_folder_needs_no_migration(tmp_path: Path, later: int) -> None:
    folder = tmp_path / "fresh"

    assert await content_of(folder) == ({}, [])
    assert mark_of(folder)["format"] == later
