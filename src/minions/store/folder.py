"""Claim a state folder: whose is it, who uses it, was it left in order.

A folder holds ``minions.json`` (format, durability, and whether it was closed),
``minions.lock`` (locked while in use; names the holder) and LMDB's two files.

Rules:
1. A folder that is refused is left as it was found: whatever was made on the way is
   taken away again.
2. The lock is ``flock``: it belongs to the open file, so that the same folder twice
   in one process is refused too, under whatever path, and it goes with the process.
   (POSIX record locks are granted twice in one process; rejected.)
3. The mark ``open`` is on disk before the first write, and ``closed`` only after
   the last one is.
"""

from __future__ import annotations

import contextlib
import errno
import fcntl
import json
import os
import socket
from collections.abc import Callable, Sequence
from datetime import UTC, datetime
from pathlib import Path
from typing import Any, Literal

import msgspec

from minions.errors import (
    StoreError,
    StoreFullError,
    StoreLockedError,
    StoreVersionError,
)
from minions.store import migrate
from minions.store.backups import remedy_for
from minions.store.datafile import (
    DATA_FILE,
    Suspicion,
    check_data_file,
    checksum_of,
)
from minions.store.machine import boot_id, refuse_network
from minions.store.mark import APPLICATION, MARK, NEW_MARK, write_mark
from minions.store.port import Durability
from minions.store.total import fits_total

__all__ = [
    "LOCK",
    "SOCKET",
    "StateFolder",
    "check_data",
    "claim_folder",
    "read_mark",
    "state_of",
    "translate_os_error",
]

LOCK = "minions.lock"
"""The file that is locked while the folder is in use, and names the holder."""

SOCKET = "minions.sock"
"""Where the process that uses the folder can be asked; a dead one may leave it."""

_LMDB_LOCK = "lock.mdb"

_State = Literal["new", "open", "closed"]


class StateFolder(msgspec.Struct, eq=False):
    """A folder that this process holds locked."""

    path: Path
    durability: Durability
    found: dict[str, Any]
    """What it said of itself; empty if it is new."""

    _lock: int
    # What was made on the way here, newest first, to be taken away if it is refused.
    _made: contextlib.ExitStack

    @property
    def unclean(self) -> bool:
        """Whether its last user did not close it."""
        return state_of(self.found) == "open"

    def check_total(self, map_size: int) -> None:
        """Refuse data that a loss of power has left as of no commit.

        Raises:
            StoreError: They are.
            lmdb.Error: They cannot be read.
        """
        if _is_torn(self.found) and not fits_total(
            self.path, map_size=map_size, max_dbs=migrate.MAX_DBS
        ):
            raise StoreError(
                f"{self.path}: expected the data of one commit, found those of several:"
                " power was lost before they were flushed (the durability was"
                f" {self.found.get('durability')!r}); {remedy_for(self.path)}"
            )

    def migrate(self, map_size: int) -> migrate.Migrated | None:
        """Bring the data to the present format, if they are of an older one.

        Raises:
            StoreError: See :func:`minions.store.migrate.migrate`, as for the others.
        """
        found = self.found
        if not found or (
            found["format"] == migrate.FORMAT and "migrating_from" not in found
        ):
            return None
        done = migrate.migrate(self.path, found, map_size=map_size)
        self.found = read_mark(self.path)
        return done

    def check_names(self, names: Sequence[str]) -> None:
        """Refuse data without a database that the folder knows to be there.

        One whose name has lost a bit would be made anew, and be empty.

        Raises:
            StoreError: One is missing.
        """
        missing = sorted({*self.found.get("databases", ())} - {*names})
        if missing:
            raise StoreError(
                f"{self.path}: expected the databases {', '.join(missing)}, found"
                f" {', '.join(sorted(names)) or 'none'}; {remedy_for(self.path)}"
            )

    def mark(self, state: _State, names: Sequence[str] = ()) -> None:
        """Write down whether the store is in use; returns when that is on disk.

        Args:
            state: What the next one who comes should know.
            names: The databases that are there.
        """
        fields = {
            "application": APPLICATION,
            "format": migrate.FORMAT,
            "state": state,
            "durability": self.durability,
            "boot": boot_id(),
            "databases": sorted(names),
        }
        if state == "closed":
            fields["checksum"] = checksum_of(self.path)
        for name in (NEW_MARK, MARK):
            _remember(self._made, self.path / name)
        if self.found:
            _undo_by(self._made, write_mark, self.path, self.found)
        write_mark(self.path, fields)

    def expect_data(self) -> None:
        """Say that LMDB makes its files now."""
        for name in (DATA_FILE, _LMDB_LOCK):
            _remember(self._made, self.path / name)

    def keep(self) -> None:
        """Accept the folder: what was made stays."""
        self._made.pop_all()

    def undo(self) -> None:
        """Take away what was made, and give the lock back."""
        self._made.close()

    def release(self) -> None:
        """Give the lock back."""
        os.close(self._lock)


def claim_folder(
    path: Path, *, durability: Durability, allow_network: bool = False
) -> StateFolder:
    """Check and lock the folder, which is made if it is not there.

    Raises:
        StoreLockedError: Somebody else uses it.
        StoreVersionError: It is of a newer format.
        StoreFullError: There is no room on the disk.
        StoreError: It is another program's, damaged, not writable, or on another
            machine.
    """
    path = Path(os.path.realpath(path))
    if not allow_network:
        refuse_network(path)
    if path.exists():
        read_mark(path)
        _check_writable(path)
    with contextlib.ExitStack() as made:
        try:
            if not path.exists():
                path.mkdir(mode=0o700)
                _undo_by(made, path.rmdir)
            lock = _take_lock(path, made)
            mark = read_mark(path)
            _check_writable(path)
            if state_of(mark) == "new":
                # Nothing was ever acknowledged here, and what there is may be torn.
                (path / DATA_FILE).unlink(missing_ok=True)
                mark = {}
            else:
                check_data(path, mark)
            folder = StateFolder(path, durability, mark, lock, made)
            if not mark:
                folder.mark("new")
        except OSError as exc:
            raise translate_os_error(path, exc) from exc
        folder._made = made.pop_all()  # noqa: SLF001  # hands over what was made
    return folder


def translate_os_error(path: Path, exc: OSError) -> StoreError:
    """Say in the store's words what the operating system refused."""
    why = os.strerror(exc.errno) if exc.errno else str(exc)
    if exc.errno in {errno.ENOSPC, errno.EDQUOT}:
        return StoreFullError(
            f"{path}: expected room on the disk, found none ({why}); free some"
        )
    return StoreError(
        f"{path}: expected a folder that can be written, found: {why};"
        " name another folder, or make this one writable"
    )


def read_mark(path: Path) -> dict[str, Any]:
    """Read what the folder says of itself; empty for a new one."""
    try:
        names = set(os.listdir(path))  # noqa: PTH208  # names are all that is asked
        if not names - {LOCK, SOCKET, NEW_MARK}:
            return {}
        if MARK not in names:
            raise _foreign(path, f"{len(names)} entries and no {MARK}")
        text = (path / MARK).read_text()
    except OSError as exc:
        raise translate_os_error(path, exc) from exc
    try:
        mark = json.loads(text)
    except ValueError as exc:
        raise StoreError(
            f"{path / MARK}: expected JSON, found {exc}; {remedy_for(path)}"
        ) from exc
    if not isinstance(mark, dict) or mark.get("application") != APPLICATION:
        raise _foreign(path, f"a {MARK} of another program")
    if not migrate.is_known(mark):
        raise StoreVersionError(
            f"{path}: expected a state folder of format {migrate.FORMAT}, found format"
            f" {mark.get('format')}; open it with the version of minions that wrote"
            " it, or a newer one"
        )
    return mark


def _foreign(path: Path, found: str) -> StoreError:
    return StoreError(
        f"{path}: expected an empty folder or a state folder of minions, found"
        f" {found}: it belongs to another program; name another folder"
    )


def _check_writable(path: Path) -> None:
    if not os.access(path, os.W_OK | os.X_OK):
        read_only = os.statvfs(path).f_flag & os.ST_RDONLY
        code = errno.EROFS if read_only else errno.EACCES
        raise translate_os_error(path, OSError(code, "not writable"))


def _take_lock(path: Path, made: contextlib.ExitStack) -> int:
    name = path / LOCK
    while True:
        fresh = not name.exists()
        lock = os.open(name, os.O_RDWR | os.O_CREAT | os.O_CLOEXEC, 0o600)
        try:
            fcntl.flock(lock, fcntl.LOCK_EX | fcntl.LOCK_NB)
        except BlockingIOError as exc:
            held = os.pread(lock, 4096, 0)
            os.close(lock)
            # The file is the holder's, though it came into being only just now.
            made.pop_all()
            raise _locked(path, held) from exc
        except BaseException:
            os.close(lock)
            raise
        if _is_at(lock, name):
            break
        # Its maker was refused and took it away in between: a lock on it is none.
        os.close(lock)
    made.callback(os.close, lock)
    # Taken away while it is locked, or it could be another's by then.
    if fresh:
        _undo_by(made, name.unlink)
    else:
        _undo_by(made, _write_lock, lock, os.pread(lock, 4096, 0))
    holder = {
        "pid": os.getpid(),
        "host": socket.gethostname(),
        "started": datetime.now(UTC).isoformat(timespec="seconds"),
    }
    _write_lock(lock, json.dumps(holder).encode() + b"\n")
    return lock


def _is_at(file: int, name: Path) -> bool:
    try:
        return os.path.samestat(os.fstat(file), name.stat())
    except FileNotFoundError:
        return False


def _write_lock(lock: int, text: bytes) -> None:
    os.pwrite(lock, text, 0)
    os.ftruncate(lock, len(text))


def _locked(path: Path, held: bytes) -> StoreLockedError:
    try:
        holder = json.loads(held)
        who = (
            f"process {holder['pid']} on {holder['host']} since {holder['started']}"
            f"{' (this process)' if holder['pid'] == os.getpid() else ''}"
        )
    except (ValueError, KeyError, TypeError):
        who = "a process that has only just begun"
    return StoreLockedError(
        f"{path}: expected a state folder that nobody uses, found it locked by"
        f" {who}; end that one first, or name another folder"
    )


def check_data(path: Path, mark: dict[str, Any], *, reading: bool = False) -> None:
    """Refuse a data file that is missing, or that LMDB must not map.

    Args:
        path: The folder.
        mark: What it says of itself.
        reading: Nothing may be mended, and somebody else may be writing.

    Raises:
        StoreError: It is damaged.
    """
    if not (path / DATA_FILE).exists():
        raise StoreError(
            f"{path}: expected the data file {DATA_FILE}, found none;"
            f" {remedy_for(path)}"
        )
    unclean, torn = state_of(mark) == "open", _is_torn(mark)
    if reading and torn:
        raise StoreError(
            f"{path}: expected data that were flushed, found that power was lost"
            " before; start the system once, which checks them"
        )
    # A backup may be a compact copy, beside the mark of what it is a copy of.
    known = None if "backup_of" in mark else mark.get("checksum")
    lost_power = unclean and _rebooted(mark)
    suspicion = Suspicion(
        unclean=unclean, lost_power=lost_power, torn=torn, checksum=known
    )
    walk = not (reading and unclean) or lost_power
    check_data_file(path, suspicion, mend=not reading, walk=walk)


def _is_torn(mark: dict[str, Any]) -> bool:
    """Say whether power was lost, or may have been, before all was flushed."""
    unclean = state_of(mark) == "open"
    return unclean and mark.get("durability") != "fsync" and _rebooted(mark)


def _rebooted(mark: dict[str, Any]) -> bool:
    """Say whether the machine was started anew since, or may have been."""
    return mark.get("boot") != boot_id() or not mark.get("boot")


def state_of(mark: dict[str, Any]) -> _State:
    """Say how the folder was left; what says nothing was not closed."""
    if not mark:
        return "new"
    state: _State = mark["state"] if mark.get("state") in {"new", "closed"} else "open"
    return state


def _remember(made: contextlib.ExitStack, path: Path) -> None:
    # To be taken away if the folder is refused, unless it was there before.
    if not path.exists():
        _undo_by(made, path.unlink)


def _undo_by(
    made: contextlib.ExitStack, undo: Callable[..., object], *args: object
) -> None:
    def quietly() -> None:
        # On a full disk deletes fail, too; what is told is why it was refused.
        with contextlib.suppress(OSError):
            undo(*args)

    made.callback(quietly)
