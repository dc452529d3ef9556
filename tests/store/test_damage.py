"""A damaged folder: found or refused, and never the end of the process."""

from __future__ import annotations

import json
import os
from collections import Counter
from pathlib import Path
from typing import Any

import lmdb
import pytest

from minions.errors import StoreError
from minions.store import Keyspace, open_lmdb_store
from minions.store.backups import newest_backup
from minions.store.datafile import _verify, checksum_of
from minions.store.port import Durability

RECORD = Keyspace.RECORD
PAGE = 4096


@pytest.fixture
async def folder(tmp_path: Path) -> Path:
    folder = tmp_path / "state"
    async with open_lmdb_store(folder) as store:
        for n in range(20):
            await store.write([(RECORD, b"%d" % n, b"x" * 3000)])
    return folder


def edit_mark(folder: Path, **changes: object) -> None:
    path = folder / "minions.json"
    path.write_text(json.dumps(json.loads(path.read_text()) | changes))


def flip(folder: Path, place: int) -> None:
    data = bytearray((folder / "data.mdb").read_bytes())
    data[place] ^= 2
    (folder / "data.mdb").write_bytes(data)


def place_of_transaction(folder: Path) -> int:
    """Find the number of the newest transaction in the meta pages."""
    data = (folder / "data.mdb").read_bytes()
    at = [16 + 128, PAGE + 16 + 128]
    return max(at, key=lambda place: int.from_bytes(data[place : place + 8], "little"))


async def refusal(folder: Path) -> str:
    with pytest.raises(StoreError) as caught:
        async with open_lmdb_store(folder):
            pass
    return str(caught.value)


async def test_a_bit_of_a_meta_page_is_found_behind_an_ordered_end(
    folder: Path,
) -> None:
    """LMDB would open what was there one commit before, and say nothing."""
    flip(folder, place_of_transaction(folder))

    assert "not those with which it was closed" in await refusal(folder)


async def test_meta_pages_of_distant_commits_are_refused(folder: Path) -> None:
    edit_mark(folder, state="open", checksum=None)
    flip(folder, place_of_transaction(folder) + 1)

    assert "not of consecutive commits" in await refusal(folder)


async def test_a_data_file_of_another_time_is_refused(folder: Path) -> None:
    """Copied one file at a time, or restored in part."""
    older = (folder / "data.mdb").read_bytes()
    async with open_lmdb_store(folder) as store:
        await store.write([(RECORD, b"a", b"1")])
    (folder / "data.mdb").write_bytes(older)

    assert "not those with which it was closed" in await refusal(folder)


async def test_a_whole_copy_is_opened(folder: Path, tmp_path: Path) -> None:
    copy = tmp_path / "copy"
    copy.mkdir()
    for name in ("minions.json", "data.mdb"):
        (copy / name).write_bytes((folder / name).read_bytes())

    async with open_lmdb_store(copy) as store:
        assert len(await store.page(RECORD)) == 20


async def test_a_compact_backup_is_opened(folder: Path, tmp_path: Path) -> None:
    """Its meta pages are others than those of what it is a copy of."""
    backup = tmp_path / "backup"
    backup.mkdir()
    with lmdb.open(str(folder), lib_version=0, create=False) as env:
        env.copy(str(backup), compact=True)
    (backup / "minions.json").write_text((folder / "minions.json").read_text())
    edit_mark(backup, backup_of=str(folder), made_at="2026-01-01T00:00:00+00:00")
    assert checksum_of(backup) != checksum_of(folder)

    async with open_lmdb_store(backup) as store:
        assert len(await store.page(RECORD)) == 20


async def test_an_empty_data_file_is_no_new_one(folder: Path) -> None:
    os.truncate(folder / "data.mdb", 0)

    assert "it is empty" in await refusal(folder)


async def test_a_lost_database_is_not_made_anew(folder: Path) -> None:
    """Its name has lost a bit: LMDB would make an empty one."""
    data = (folder / "data.mdb").read_bytes()
    edit_mark(folder, state="open", checksum=None)
    # The newest page that holds the names is found by trying.
    places = [n for n in range(len(data)) if data.startswith(b"quarantine", n)]
    texts = []
    for place in places:
        flip(folder, place + len("quarantin"))
        try:
            async with open_lmdb_store(folder):
                pass
        except StoreError as exc:
            texts.append(str(exc))
        (folder / "data.mdb").write_bytes(data)
        edit_mark(folder, state="open", checksum=None)

    assert len(texts) == 1
    assert "expected the databases quarantine, found" in texts[0]


async def test_the_end_of_a_long_value_may_be_missing(folder: Path) -> None:
    """The walk does not see it; LMDB would read past the end of the file."""
    async with open_lmdb_store(folder) as store:
        await store.write([(RECORD, b"z", b"y" * 9000)])
    data = (folder / "data.mdb").read_bytes()
    end = data.rindex(b"y" * 100) // PAGE * PAGE
    if end + PAGE < len(data):
        pytest.skip("the value is not at the end of the file")
    edit_mark(folder, state="open", checksum=None)
    os.truncate(folder / "data.mdb", end)
    assert _verify(str(folder)) == []

    async with open_lmdb_store(folder) as store:
        value = await store.read(RECORD, b"z")

    # A frame's checksum tells.
    assert value is not None
    assert len(value) == 9000
    assert value != b"y" * 9000


async def test_the_newest_backup_beside_it_is_named(
    folder: Path, tmp_path: Path
) -> None:
    def backup(name: str, **mark: object) -> None:
        (tmp_path / name).mkdir()
        whole = {"application": "minions", "backup_of": str(folder), **mark}
        (tmp_path / name / "minions.json").write_text(json.dumps(whole))

    os.truncate(folder / "data.mdb", 5 * PAGE)
    assert "`minions backup DEST` makes one" in await refusal(folder)

    backup("old", made_at="2026-01-02T00:00:00+00:00")
    backup("new", made_at="2026-01-02T23:00:00-05:00")
    backup("naive", made_at="2026-01-03T01:00:00")
    backup("others", made_at="2027-01-01T00:00:00+00:00", backup_of="/somewhere")
    backup("foreign", made_at="2027-01-01T00:00:00+00:00", application="other")
    backup("senseless", made_at=7)
    backup("timeless")
    (tmp_path / "torn").mkdir()
    (tmp_path / "torn" / "minions.json").write_text("{")

    text = await refusal(folder)

    assert f"its newest backup is {tmp_path / 'new'}, made at 2026-01-02T23" in text


def test_a_folder_without_neighbours_has_no_backup(tmp_path: Path) -> None:
    assert newest_backup(tmp_path / "no" / "state") is None


async def test_many_writes_of_a_key_in_a_commit_are_no_damage(tmp_path: Path) -> None:
    """LMDB leaves too many pages to a value that is shortened in a transaction."""
    folder = tmp_path / "state"
    async with open_lmdb_store(folder) as store:
        store.write_nowait([(RECORD, b"a", bytes(9000)), (RECORD, b"a", bytes(1500))])
        store.write_nowait([(RECORD, b"a", bytes(9000))])
        store.write_nowait([(RECORD, b"a", bytes(10))])

    assert _verify(str(folder)) == []
    async with open_lmdb_store(folder) as store:
        assert await store.read(RECORD, b"a") == bytes(10)


async def test_data_of_several_commits_are_refused(tmp_path: Path) -> None:
    """A page of an older commit is as sound as the right one; the sum tells."""
    folder = tmp_path / "state"
    async with open_lmdb_store(folder, durability="async") as store:
        await store.write([(RECORD, b"a", b"old value")])
    edit_mark(folder, state="open", boot="another", checksum=None)
    data = (folder / "data.mdb").read_bytes()
    async with open_lmdb_store(folder, durability="async") as store:
        assert await store.read(RECORD, b"a") == b"old value"

    (folder / "data.mdb").write_bytes(data.replace(b"old value", b"odd value"))
    edit_mark(folder, state="open", boot="another", checksum=None)
    assert _verify(str(folder)) == []

    assert "expected the data of one commit" in await refusal(folder)


async def test_the_sum_goes_with_flushed_commits(tmp_path: Path) -> None:
    """It would be wrong, and refuse a sound store."""
    folder = tmp_path / "state"
    order: list[Durability] = ["async", "fsync", "none", "async"]
    right = {b"b": b"2"}
    for durability in order:
        right[durability.encode()] = b"1"
        async with open_lmdb_store(folder, durability=durability) as store:
            await store.write([(RECORD, durability.encode(), b"1")])
            await store.write([(RECORD, b"a", b"1"), (RECORD, b"b", None)])
            await store.write([(RECORD, b"a", None), (RECORD, b"b", b"2")])
        edit_mark(folder, state="open", boot="another", checksum=None)

        async with open_lmdb_store(folder, durability=durability) as store:
            assert dict(await store.page(RECORD)) == right


@pytest.mark.slow
@pytest.mark.parametrize("state", ["closed", "killed", "rebooted"])
def test_damage_anywhere_is_found_or_refused(
    children: Any, tmp_path: Path, state: str
) -> None:
    """Cut files, zeroed pages, and bits of each kind of page."""
    outcomes: dict[int, tuple[str, str]] = {}
    while True:
        child = children.run(
            *("damaged.py", tmp_path / "start", tmp_path / "image", state),
            *(len(outcomes), 200),
        )
        assert child.stdout, child.stderr
        for line in child.stdout.splitlines():
            number, kind, what, *_ = line.split(" ", 3)
            outcomes[int(number)] = (kind, what)
        if child.returncode == 0:
            break
        outcomes[max(outcomes)] = (outcomes[max(outcomes)][0], "died")

    counts = Counter(outcomes.values())
    print(f"{state}: {dict(counts)}")
    assert {what for _, what in counts} == {"same", "found", "refused"}
    # What was cut off may have been free.
    assert counts["cut", "refused"] > 150
    assert counts["bit-in-overflow", "found"] > 50
