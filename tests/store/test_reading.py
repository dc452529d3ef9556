"""Reading a state folder that somebody else writes, and copying it."""

from __future__ import annotations

import errno
import json
import subprocess
import sys
from collections.abc import Iterator
from pathlib import Path

import lmdb
import pytest
import trio

from minions.errors import StoreError, StoreFullError
from minions.store import Keyspace, backup, open_lmdb_store, reading
from minions.store.backup import make_backup
from minions.store.reading import open_reader, verify_file

RECORD = Keyspace.RECORD
# Writes in a process of its own: LMDB opens a folder once in each.
WRITER = """
import sys, trio
from minions.store import Keyspace, open_lmdb_store

async def main():
    async with open_lmdb_store(
        sys.argv[1], durability="none", map_size=int(sys.argv[2])
    ) as store:
        n = 0
        for line in sys.stdin:
            for _ in range(int(line)):
                await store.write([
                    (Keyspace.RECORD, b"%08d" % (n % 400), b"%08d" % n * 300),
                    (Keyspace.COLD, b"%08d" % (n % 400), b"%08d" % n * 300),
                ])
                n += 1
            print(n, flush=True)

trio.run(main)
"""


class Writer:
    """A process that writes when it is told to."""

    def __init__(self, folder: Path, map_size: int) -> None:
        self.process = subprocess.Popen(
            [sys.executable, "-c", WRITER, str(folder), str(map_size)],
            stdin=subprocess.PIPE,
            stdout=subprocess.PIPE,
            text=True,
        )

    def ask(self, count: int) -> None:
        assert self.process.stdin is not None
        self.process.stdin.write(f"{count}\n")
        self.process.stdin.flush()

    def wait(self) -> int:
        assert self.process.stdout is not None
        return int(self.process.stdout.readline())

    def write(self, count: int) -> int:
        self.ask(count)
        return self.wait()


def edit_mark(folder: Path, **changes: object) -> None:
    path = folder / "minions.json"
    path.write_text(json.dumps({**json.loads(path.read_text()), **changes}))


@pytest.fixture
def writer(tmp_path: Path) -> Iterator[Writer]:
    """Start one with a small map, which grows soon."""
    one = Writer(tmp_path / "state", 2**20)
    yield one
    one.process.communicate()


@pytest.fixture
def folder(tmp_path: Path) -> Path:
    """Return a folder with twenty records."""

    async def fill() -> None:
        async with open_lmdb_store(tmp_path / "state", durability="none") as store:
            for n in range(20):
                await store.write([(RECORD, b"%d" % n, b"x" * 3000)])

    trio.run(fill)
    return tmp_path / "state"


def test_a_map_that_a_writer_grows_is_followed(tmp_path: Path, writer: Writer) -> None:
    writer.write(1)
    with open_reader(tmp_path / "state") as reader:
        with reader.view() as view:
            assert view.count(RECORD) == 1

        writer.write(399)

        with reader.view() as view:
            assert view.count(RECORD) == 400
            assert len([*view.items(RECORD)]) == 400
            assert reader.statistics(view).used > 2**20


@pytest.mark.slow
def test_a_view_is_of_one_moment(tmp_path: Path, writer: Writer) -> None:
    """The writer goes on meanwhile, and says whose reading keeps its pages."""
    writer.write(10)
    with open_reader(tmp_path / "state") as reader, reader.view() as view:
        before = [*view.items(RECORD)]

        assert writer.write(50) == 60

        assert [*view.items(RECORD)] == before
        assert view.get(RECORD, b"00000030") is None


@pytest.mark.slow
def test_who_else_reads_is_told(tmp_path: Path, writer: Writer) -> None:
    program = (
        "import sys\nfrom minions.store.reading import open_reader\n"
        "with open_reader(sys.argv[1]) as reader, reader.view() as view:\n"
        "    print('reads', flush=True)\n    sys.stdin.read()\n"
    )
    writer.write(1)
    other = subprocess.Popen(
        [sys.executable, "-c", program, str(tmp_path / "state")],
        stdin=subprocess.PIPE,
        stdout=subprocess.PIPE,
    )
    assert other.stdout is not None
    other.stdout.readline()
    writer.write(5)

    with open_reader(tmp_path / "state") as reader, reader.view() as view:
        found = reader.statistics(view)

    assert found.oldest_reader == other.pid
    assert found.reader_lag == 5
    other.communicate()


def test_keys_of_a_prefix_are_read(folder: Path) -> None:
    with open_reader(folder) as reader, reader.view() as view:
        assert [key for key, _ in view.items(RECORD, b"1")] == sorted(
            [b"1", *(b"%d" % n for n in range(10, 20))]
        )
        assert [*view.items(RECORD, b"3")] == [(b"3", b"x" * 3000)]
        assert [*view.items(RECORD, b"z")] == []
        assert [*view.items(Keyspace.COLD)] == []
        assert view.get(RECORD, b"") is None
        assert view.get(RECORD, b"x" * 512) is None


def test_a_keyspace_that_the_writer_does_not_know_is_empty(folder: Path) -> None:
    edit_mark(folder, checksum=None)
    with lmdb.open(str(folder), max_dbs=64, lib_version=0) as env:
        db = env.open_db(b"cold")
        with env.begin(write=True) as txn:
            txn.drop(db)

    with open_reader(folder) as reader, reader.view() as view:
        assert view.count(Keyspace.COLD) == 0
        assert [*view.items(Keyspace.COLD)] == []
        assert view.get(Keyspace.COLD, b"1") is None


def test_nothing_but_the_table_of_readers_is_touched(folder: Path) -> None:
    before = {p.name: (p.stat().st_mtime_ns, p.stat().st_ino) for p in folder.iterdir()}

    with open_reader(folder) as reader, reader.view() as view:
        assert view.count(RECORD) == 20

    after = {p.name: (p.stat().st_mtime_ns, p.stat().st_ino) for p in folder.iterdir()}
    del before["lock.mdb"], after["lock.mdb"]
    assert after == before


def test_a_read_only_disk_is_read(
    folder: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    (folder / "lock.mdb").unlink()
    monkeypatch.setattr(reading, "_is_read_only", lambda path: True)

    with open_reader(folder) as reader, reader.view() as view:
        assert view.count(RECORD) == 20

    assert not (folder / "lock.mdb").exists()


def test_what_lmdb_refuses_is_a_store_error(
    folder: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    def refuse(*args: object, **options: object) -> None:
        raise lmdb.Error("no")

    monkeypatch.setattr(lmdb, "open", refuse)
    with (
        pytest.raises(StoreError, match="that can be read, found Error: no"),
        open_reader(folder),
    ):
        pass


def test_damaged_pages_are_named(folder: Path) -> None:
    assert verify_file(folder) == []
    data = bytearray((folder / "data.mdb").read_bytes())
    data[2 * 4096 :] = bytes(len(data) - 2 * 4096)
    (folder / "data.mdb").write_bytes(data)

    assert verify_file(folder)

    (folder / "data.mdb").write_bytes(b"short")
    assert verify_file(folder)


# Backups.


@pytest.mark.parametrize("how", ["whole", "compact"])
async def test_a_backup_opens_and_goes_on(
    folder: Path, tmp_path: Path, how: str
) -> None:
    plan = make_backup(folder, tmp_path / "copy", compact=how == "compact")

    assert plan.target == tmp_path / "copy"
    mark = json.loads((tmp_path / "copy" / "minions.json").read_text())
    assert (mark["state"], mark["durability"]) == ("closed", "none")
    assert mark["backup_of"] == str(folder)
    assert mark["made_at"].endswith("+00:00")
    names = {path.name for path in (tmp_path / "copy").iterdir()}
    assert names == {"data.mdb", "minions.json"}
    assert (tmp_path / "copy").stat().st_mode & 0o777 == 0o700
    assert (tmp_path / "copy" / "data.mdb").stat().st_mode & 0o777 == 0o600
    async with open_lmdb_store(tmp_path / "copy") as store:
        assert store.unclean is False
        assert len(await store.page(RECORD)) == 20
        await store.write([(RECORD, b"new", b"x")])


def test_a_backup_of_a_backup_is_one(folder: Path, tmp_path: Path) -> None:
    make_backup(folder, tmp_path / "one")
    make_backup(tmp_path / "one", tmp_path / "two")

    with open_reader(tmp_path / "two") as reader, reader.view() as view:
        assert view.count(RECORD) == 20


def test_a_backup_under_load_is_of_one_moment(tmp_path: Path, writer: Writer) -> None:
    """Each commit changes two records alike: a torn copy would tell them apart."""
    writer.write(400)
    writer.ask(3000)
    for round_ in range(6):
        copy = tmp_path / f"copy{round_}"

        make_backup(tmp_path / "state", copy, compact=bool(round_ % 2))

        assert verify_file(copy) == []
        with open_reader(copy) as reader, reader.view() as view:
            records = dict(view.items(RECORD))
            assert len(records) == 400
            assert records == dict(view.items(Keyspace.COLD))
    writer.wait()


def test_a_compact_backup_is_smaller(folder: Path, tmp_path: Path) -> None:
    edit_mark(folder, checksum=None)
    with lmdb.open(str(folder), max_dbs=64, lib_version=0) as env:
        db = env.open_db(b"record")
        with env.begin(write=True) as txn:
            txn.drop(db, delete=False)

    full = make_backup(folder, tmp_path / "full")
    small = make_backup(folder, tmp_path / "small", compact=True)

    sizes = [(tmp_path / n / "data.mdb").stat().st_size for n in ("full", "small")]
    assert sizes[1] < sizes[0] / 2
    assert small.size < full.size
    assert full.size == sizes[0]


@pytest.mark.parametrize("kind", ["folder", "file", "link"])
def test_nothing_is_replaced(folder: Path, tmp_path: Path, kind: str) -> None:
    target = tmp_path / "copy"
    if kind == "folder":
        target.mkdir()
    elif kind == "file":
        target.write_text("mine")
    else:
        target.symlink_to(tmp_path / "nowhere")
        (tmp_path / "nowhere").mkdir()

    with pytest.raises(StoreError, match="a backup never replaces anything"):
        make_backup(folder, target)


def test_a_backup_needs_a_place(folder: Path, tmp_path: Path) -> None:
    with pytest.raises(StoreError, match="its parent exists"):
        make_backup(folder, tmp_path / "no" / "copy")
    with pytest.raises(StoreError, match="outside the state folder"):
        make_backup(folder, folder / "copy")


def test_two_backups_to_one_place_do_not_mix(folder: Path, tmp_path: Path) -> None:
    (tmp_path / "copy.part").mkdir()

    with pytest.raises(StoreError, match=r"copy\.part: expected that no other backup"):
        make_backup(folder, tmp_path / "copy")

    assert (tmp_path / "copy.part").exists()


@pytest.mark.parametrize("error", [OSError(errno.ENOSPC, "full"), KeyboardInterrupt()])
def test_an_unfinished_backup_goes_again(
    folder: Path,
    tmp_path: Path,
    monkeypatch: pytest.MonkeyPatch,
    error: BaseException,
) -> None:
    def fail(*args: object, **mark: object) -> None:
        raise error

    monkeypatch.setattr(backup, "write_mark", fail)
    with pytest.raises((StoreFullError, KeyboardInterrupt)):
        make_backup(folder, tmp_path / "copy")

    assert {path.name for path in tmp_path.iterdir()} == {"state"}


@pytest.mark.slow
def test_a_disk_that_takes_no_more_is_named(folder: Path, tmp_path: Path) -> None:
    program = (
        "import resource, sys\nfrom pathlib import Path\n"
        "import signal\nsignal.signal(signal.SIGXFSZ, signal.SIG_IGN)\n"
        "resource.setrlimit(resource.RLIMIT_FSIZE, (8192, 8192))\n"
        "from minions.errors import StoreError\n"
        "from minions.store.backup import make_backup\n"
        "try:\n    make_backup(Path(sys.argv[1]), Path(sys.argv[2]))\n"
        "except StoreError as exc:\n    print(exc)\n"
    )
    said = subprocess.run(
        [sys.executable, "-c", program, str(folder), str(tmp_path / "copy")],
        capture_output=True,
        text=True,
        check=True,
    ).stdout

    assert "File too large" in said
    assert {path.name for path in tmp_path.iterdir()} == {"state"}


def test_what_only_its_owner_may_mend_is_refused(folder: Path) -> None:
    """A short file, and one that may be of several commits: neither is touched."""
    edit_mark(folder, state="open", checksum=None, boot="another")
    with pytest.raises(StoreError, match="power was lost"), open_reader(folder):
        pass
    edit_mark(folder, durability="fsync")
    with open_reader(folder) as reader, reader.view() as view:
        assert view.count(RECORD) == 20
    path = folder / "data.mdb"
    path.write_bytes(path.read_bytes()[:-4096])
    size = path.stat().st_size

    with pytest.raises(StoreError, match="which mends or refuses it"):
        make_backup(folder, folder.parent / "copy")

    assert path.stat().st_size == size
