"""What a state folder is refused for, and that it is left as it was."""

# ruff: noqa: ASYNC221, ASYNC240  # a test has the event loop to itself

from __future__ import annotations

import fcntl
import json
import os
import subprocess
import sys
from collections.abc import Callable
from pathlib import Path

import lmdb
import pytest
import trio

from minions.errors import (
    StoreError,
    StoreFullError,
    StoreLockedError,
    StoreVersionError,
)
from minions.store import Keyspace, open_lmdb_store
from minions.store.machine import boot_id, file_system_of, is_network

RECORD = Keyspace.RECORD
FILL = b"x" * 3000


def listing(folder: Path) -> dict[str, bytes] | None:
    if not folder.exists():
        return None
    if not folder.is_dir():
        return {"": folder.read_bytes()}
    ignored = {"lock.mdb", "minions.lock"}
    return {
        path.name: b"" if path.name in ignored else path.read_bytes()
        for path in folder.iterdir()
    }


async def fill(folder: Path, durability: str = "fsync") -> None:
    async with open_lmdb_store(folder, durability=durability) as store:  # type: ignore[arg-type]
        for n in range(20):
            await store.write([(RECORD, b"%d" % n, FILL)])


def edit_mark(folder: Path, **changes: object) -> None:
    path = folder / "minions.json"
    path.write_text(json.dumps({**json.loads(path.read_text()), **changes}))


async def newer(folder: Path) -> None:
    await fill(folder)
    edit_mark(folder, format=3)


async def newer_lmdb(folder: Path) -> None:
    await fill(folder)
    (folder / "data.mdb").unlink()
    lmdb.open(str(folder), lib_version=1, lock=False).close()


async def foreign(folder: Path) -> None:
    folder.mkdir()
    (folder / "notes.txt").write_text("mine")


async def foreign_lmdb(folder: Path) -> None:
    lmdb.open(str(folder), lib_version=0).close()


async def foreign_mark(folder: Path) -> None:
    await fill(folder)
    edit_mark(folder, application="despicable")


async def torn_mark(folder: Path) -> None:
    await fill(folder)
    (folder / "minions.json").write_text('{"application"')


async def no_data(folder: Path) -> None:
    await fill(folder)
    (folder / "data.mdb").unlink()


async def a_file(folder: Path) -> None:
    folder.write_text("text")


async def no_parent(folder: Path) -> None:
    assert not folder.exists()


async def truncated(folder: Path) -> None:
    await fill(folder)
    os.truncate(folder / "data.mdb", 5 * 4096)


async def beheaded(folder: Path) -> None:
    await fill(folder)
    os.truncate(folder / "data.mdb", 100)


async def overwritten(folder: Path) -> None:
    await fill(folder)
    (folder / "data.mdb").write_bytes(b"text" * 9999)


async def lost_power(folder: Path) -> None:
    """A page was never written, and the file has its right length."""
    await fill(folder, "async")
    edit_mark(folder, state="open", boot="another")
    with (folder / "data.mdb").open("r+b") as file:
        file.seek(6 * 4096)
        file.write(bytes(40 * 4096))


@pytest.mark.parametrize(
    ("prepare", "error", "found"),
    [
        (
            newer,
            StoreVersionError,
            "expected a state folder of format 2, found format 3",
        ),
        (newer_lmdb, StoreVersionError, "expected LMDB's data format 1, found"),
        (foreign, StoreError, "found 1 entries and no minions.json: it belongs to"),
        (foreign_lmdb, StoreError, "it belongs to another program"),
        (foreign_mark, StoreError, "a minions.json of another program"),
        (torn_mark, StoreError, "expected JSON"),
        (no_data, StoreError, "expected the data file data.mdb, found none"),
        (a_file, StoreError, "expected a folder that can be written, found: Not a dir"),
        (truncated, StoreError, "expected a sound data file, found a damaged one"),
        (beheaded, StoreError, "it ends within its first two pages"),
        (overwritten, StoreError, "it does not begin as an LMDB file does"),
        (lost_power, StoreError, "expected a sound data file, found a damaged one"),
    ],
)
async def test_a_refused_folder_is_left_as_it_was(
    tmp_path: Path,
    prepare: Callable[[Path], trio.abc.AsyncResource],
    error: type[StoreError],
    found: str,
) -> None:
    folder = tmp_path / "state"
    await prepare(folder)  # type: ignore[misc]
    before = listing(folder)

    with pytest.raises(StoreError) as caught:
        async with open_lmdb_store(folder):
            raise AssertionError("it was opened")

    assert type(caught.value) is error
    assert found in str(caught.value)
    assert str(tmp_path) in str(caught.value)
    assert listing(folder) == before


async def test_a_folder_without_a_parent_is_not_made(tmp_path: Path) -> None:
    with pytest.raises(StoreError, match="No such file"):
        async with open_lmdb_store(tmp_path / "no" / "state"):
            pass

    assert list(tmp_path.iterdir()) == []


@pytest.mark.parametrize("number", [28, 122, 30])
async def test_a_disk_that_refuses_is_left_as_it_was(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, number: int
) -> None:
    """The folder that was made on the way is taken away again."""

    def refuse(fd: int) -> None:
        raise OSError(number, os.strerror(number))

    monkeypatch.setattr(os, "fsync", refuse)
    with pytest.raises(StoreFullError if number != 30 else StoreError):
        async with open_lmdb_store(tmp_path / "state"):
            pass

    assert list(tmp_path.iterdir()) == []


async def test_an_lmdb_that_does_not_open_leaves_no_trace(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    def refuse(*args: object, **options: object) -> None:
        (tmp_path / "state" / "data.mdb").touch()
        raise lmdb.DiskError("mdb_env_open")

    monkeypatch.setattr(lmdb, "open", refuse)
    with pytest.raises(StoreError, match="DiskError"):
        async with open_lmdb_store(tmp_path / "state"):
            pass

    assert list(tmp_path.iterdir()) == []


@pytest.mark.skipif(os.geteuid() == 0, reason="root may write anywhere")
async def test_a_folder_that_cannot_be_written_is_refused(tmp_path: Path) -> None:
    folder = tmp_path / "state"
    folder.mkdir(mode=0o500)

    with pytest.raises(StoreError, match="Permission denied"):
        async with open_lmdb_store(folder):
            pass

    assert list(folder.iterdir()) == []


async def test_a_read_only_mount_is_refused(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    folder = tmp_path / "state"
    folder.mkdir()
    flags = os.statvfs(folder)
    read_only = os.statvfs_result((*flags[:8], flags.f_flag | os.ST_RDONLY, flags[9]))
    monkeypatch.setattr(os, "access", lambda *_: False)
    monkeypatch.setattr(os, "statvfs", lambda _: read_only)

    with pytest.raises(StoreError, match="Read-only file system"):
        async with open_lmdb_store(folder):
            pass

    assert list(folder.iterdir()) == []


@pytest.mark.parametrize("way", ["plain", "link"])
async def test_the_same_folder_twice_is_refused(tmp_path: Path, way: str) -> None:
    folder, other = tmp_path / "state", tmp_path / "state"
    async with open_lmdb_store(folder) as store:
        if way == "link":
            other = tmp_path / "link"
            other.symlink_to(folder)
        before = listing(folder)
        with pytest.raises(StoreLockedError, match=rf"{os.getpid()}.*this process"):
            async with open_lmdb_store(other):
                pass

        assert listing(folder) == before
        await store.write([(RECORD, b"a", b"1")])
    async with open_lmdb_store(other) as store:
        assert await store.read(RECORD, b"a") == b"1"


HOLD = """
import sys, trio
from minions.store import open_lmdb_store
async def main():
    async with open_lmdb_store(sys.argv[1]) as store:
        print("ready", flush=True)
        await trio.to_thread.run_sync(sys.stdin.readline)
        if len(sys.argv) > 2:
            import os
            os._exit(9)
trio.run(main)
"""


def hold(folder: Path, *arguments: str) -> subprocess.Popen[str]:
    child = subprocess.Popen(
        [sys.executable, "-c", HOLD, str(folder), *arguments],
        stdin=subprocess.PIPE,
        stdout=subprocess.PIPE,
        text=True,
    )
    assert child.stdout is not None
    assert child.stdout.readline() == "ready\n"
    return child


async def test_another_process_is_named(tmp_path: Path) -> None:
    folder = tmp_path / "state"
    with hold(folder) as child:
        host, since = os.uname().nodename, r"since \d{4}-\d\d-\d\dT"
        with pytest.raises(
            StoreLockedError, match=f"process {child.pid} on {host} {since}"
        ):
            async with open_lmdb_store(folder):
                pass
        child.communicate("\n")

    async with open_lmdb_store(folder):
        pass


async def test_a_killed_holder_leaves_no_lock(tmp_path: Path) -> None:
    folder = tmp_path / "state"
    with hold(folder, "kill") as child:
        child.communicate("\n")
    assert child.returncode == 9
    assert json.loads((folder / "minions.json").read_text())["state"] == "open"

    async with open_lmdb_store(folder):
        pass

    assert json.loads((folder / "minions.json").read_text())["state"] == "closed"


OPEN = """
import sys, trio
from minions.errors import StoreError
from minions.store import Keyspace, open_lmdb_store
async def main():
    async with open_lmdb_store(sys.argv[1]) as store:
        await store.page(Keyspace.RECORD)
try:
    trio.run(main)
except StoreError as exc:
    print("refused", exc)
"""


@pytest.mark.parametrize("pages", [0.5, 1, 2, 3, 10])
async def test_a_truncated_file_does_not_end_the_process(
    tmp_path: Path, pages: float
) -> None:
    """LMDB itself would die of SIGBUS, or abort."""
    folder = tmp_path / "state"
    await fill(folder)
    os.truncate(folder / "data.mdb", int(pages * 4096))

    child = subprocess.run(
        [sys.executable, "-c", OPEN, str(folder)],
        capture_output=True,
        text=True,
        check=False,
    )

    assert child.returncode == 0, child.stderr
    assert child.stdout.startswith("refused ")


async def test_an_unclean_end_on_this_boot_is_no_damage(tmp_path: Path) -> None:
    folder = tmp_path / "state"
    await fill(folder, "async")
    edit_mark(folder, state="open")

    async with open_lmdb_store(folder) as store:
        assert len(await store.page(RECORD)) == 20


async def test_lost_power_without_damage_is_opened(tmp_path: Path) -> None:
    folder = tmp_path / "state"
    await fill(folder, "none")
    edit_mark(folder, state="open", boot="another")

    async with open_lmdb_store(folder) as store:
        assert len(await store.page(RECORD)) == 20


async def test_a_beginning_that_was_cut_short_is_taken_up(tmp_path: Path) -> None:
    """Killed between the lock, the mark and the data."""
    folder = tmp_path / "state"
    folder.mkdir()
    (folder / "minions.lock").touch()
    (folder / "minions.json.new").write_text("{")
    async with open_lmdb_store(folder):
        pass
    (folder / "data.mdb").write_bytes(b"")
    edit_mark(folder, state="new")

    async with open_lmdb_store(folder) as store:
        assert await store.page(RECORD) == []


async def test_a_network_file_system_is_refused(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr("minions.store.machine.file_system_of", lambda _: "nfs4")

    with pytest.raises(StoreError, match=r"network file system \(nfs4\)"):
        async with open_lmdb_store(tmp_path / "state"):
            pass
    assert list(tmp_path.iterdir()) == []

    async with open_lmdb_store(tmp_path / "state", allow_network=True):
        pass


def test_the_nearest_mount_counts(tmp_path: Path) -> None:
    mounts = tmp_path / "mounts"
    mounts.write_text(
        "/dev/a / ext4 rw 0 0\nhost:/x /net/my\\040net nfs4 rw 0 0\n"
        "/dev/b /net/my\\040net/disk xfs rw 0 0\n"
    )

    assert file_system_of(Path("/home"), mounts) == "ext4"
    assert file_system_of(Path("/net/my net/x"), mounts) == "nfs4"
    assert file_system_of(Path("/net/my network"), mounts) == "ext4"
    assert file_system_of(Path("/net/my net/disk/x"), mounts) == "xfs"
    assert file_system_of(Path("/"), tmp_path / "none") == ""
    assert is_network("nfs4")
    assert not is_network("ext4")


def test_a_boot_has_a_name() -> None:
    assert boot_id() == boot_id()


async def test_a_start_that_fails_late_leaves_the_mark(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """It was closed in order, and nobody has used it since."""
    folder = tmp_path / "state"
    await fill(folder)
    before = listing(folder)

    def refuse(*_: object) -> None:
        raise lmdb.DiskError("mdb_txn_begin")

    with monkeypatch.context() as patch:
        patch.setattr("minions.store.lmdb_store._open_databases", refuse)
        with pytest.raises(StoreError, match="DiskError"):
            async with open_lmdb_store(folder):
                pass

    assert listing(folder) == before
    async with open_lmdb_store(folder) as store:
        assert not store.unclean


async def test_a_killed_first_start_is_begun_anew(tmp_path: Path) -> None:
    """Nothing was acknowledged there, so that torn data are no damage."""
    folder = tmp_path / "state"
    await fill(folder)
    edit_mark(folder, state="new")
    os.truncate(folder / "data.mdb", 4096)

    async with open_lmdb_store(folder) as store:
        assert await store.page(RECORD) == []


async def test_a_lock_file_that_was_taken_away_locks_nothing(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """A start that is refused takes its lock file away; ours must be another then."""
    folder = tmp_path / "state"
    await fill(folder)
    flock = fcntl.flock

    def late(fd: int, how: int) -> None:
        monkeypatch.undo()
        (folder / "minions.lock").unlink()
        flock(fd, how)

    monkeypatch.setattr(fcntl, "flock", late)
    async with open_lmdb_store(folder):
        with pytest.raises(StoreLockedError):
            async with open_lmdb_store(folder):
                pass


async def test_a_refused_start_takes_its_lock_file_away_while_it_is_locked(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    folder = tmp_path / "state"
    await fill(folder)
    (folder / "minions.lock").unlink()
    (folder / "data.mdb").write_bytes(b"")
    there: list[bool] = []
    close = os.close

    def watched(fd: int) -> None:
        there.append((folder / "minions.lock").exists())
        close(fd)

    monkeypatch.setattr(os, "close", watched)
    with pytest.raises(StoreError, match="it is empty"):
        async with open_lmdb_store(folder):
            pass

    assert there == [False]


async def test_what_cannot_be_taken_away_hides_no_reason(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """On a full disk deletes fail, too."""

    def refuse(*_: object, **__: object) -> None:
        raise OSError(28, os.strerror(28))

    monkeypatch.setattr(os, "fsync", refuse)
    monkeypatch.setattr(Path, "unlink", refuse)
    monkeypatch.setattr(Path, "rmdir", refuse)
    with pytest.raises(StoreFullError, match="expected room on the disk"):
        async with open_lmdb_store(tmp_path / "state"):
            pass
