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
from datetime import UTC, datetime
from pathlib import Path
from typing import Any, Literal

import attrs

from minions.errors import (
    StoreError,
    StoreFullError,
    StoreLockedError,
    StoreVersionError,
)
from minions.store.datafile import DATA_FILE, check_data_file
from minions.store.machine import boot_id, file_system_of, is_network
from minions.store.port import Durability

__all__ = ["FORMAT", "StateFolder", "claim_folder", "translate_os_error"]

FORMAT = 1
"""The format of the folder; raised by a change that older versions cannot read."""

_MARK = "minions.json"
_NEW_MARK = "minions.json.new"
_LOCK = "minions.lock"
_LMDB_LOCK = "lock.mdb"
_APPLICATION = "minions"

_State = Literal["new", "open", "closed"]


@attrs.define(eq=False)
class StateFolder:
    """A folder that this process holds locked."""

    path: Path
    durability: Durability
    unclean: bool
    """Whether its last user did not close it."""

    _lock: int
    # What was made on the way here, newest first, to be taken away if it is refused.
    _made: contextlib.ExitStack

    def mark(self, state: _State) -> None:
        """Write down whether the store is in use; returns when that is on disk."""
        new = self.path / _NEW_MARK
        text = json.dumps(
            {
                "application": _APPLICATION,
                "format": FORMAT,
                "state": state,
                "durability": self.durability,
                "boot": boot_id(),
            },
            indent=2,
        )
        _remember(self._made, new)
        with new.open("w") as file:
            file.write(text + "\n")
            file.flush()
            os.fsync(file.fileno())
        _remember(self._made, self.path / _MARK)
        new.replace(self.path / _MARK)
        _sync_folder(self.path)

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
    kind = file_system_of(path)
    if is_network(kind) and not allow_network:
        raise StoreError(
            f"{path}: expected a local disk, found a network file system ({kind}),"
            " on which locks and memory maps cannot be relied on; use a local"
            " folder, or pass allow_network=True"
        )
    if path.exists():
        _read_mark(path)
    with contextlib.ExitStack() as made:
        try:
            if not path.exists():
                path.mkdir(mode=0o700)
                made.callback(path.rmdir)
            lock = _take_lock(path, made)
            mark = _read_mark(path)
            folder = StateFolder(
                path, durability, mark.get("state") == "open", lock, made
            )
            _check_data(path, mark)
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


def _read_mark(path: Path) -> dict[str, Any]:
    """Read what the folder says of itself; empty for a new one."""
    try:
        names = set(os.listdir(path))  # noqa: PTH208  # names are all that is asked
        if not names - {_LOCK, _NEW_MARK}:
            _check_writable(path)
            return {}
        if _MARK not in names:
            raise _foreign(path, f"{len(names)} entries and no {_MARK}")
        text = (path / _MARK).read_text()
    except OSError as exc:
        raise translate_os_error(path, exc) from exc
    try:
        mark = json.loads(text)
    except ValueError as exc:
        raise StoreError(
            f"{path / _MARK}: expected JSON, found {exc}; restore the state folder"
            " from a copy of it"
        ) from exc
    if not isinstance(mark, dict) or mark.get("application") != _APPLICATION:
        raise _foreign(path, f"a {_MARK} of another program")
    if mark.get("format") != FORMAT:
        raise StoreVersionError(
            f"{path}: expected a state folder of format {FORMAT}, found format"
            f" {mark.get('format')}; open it with the version of minions that wrote"
            " it, or a newer one"
        )
    _check_writable(path)
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
    name = path / _LOCK
    _remember(made, name)
    lock = os.open(name, os.O_RDWR | os.O_CREAT | os.O_CLOEXEC, 0o600)
    try:
        fcntl.flock(lock, fcntl.LOCK_EX | fcntl.LOCK_NB)
    except BlockingIOError as exc:
        held = os.pread(lock, 4096, 0)
        os.close(lock)
        # The file is the holder's, though it came into being only just now.
        made.pop_all()
        raise _locked(path, held) from exc
    made.callback(os.close, lock)
    made.callback(_write_lock, lock, os.pread(lock, 4096, 0))
    holder = {
        "pid": os.getpid(),
        "host": socket.gethostname(),
        "started": datetime.now(UTC).isoformat(timespec="seconds"),
    }
    _write_lock(lock, json.dumps(holder).encode() + b"\n")
    return lock


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


def _check_data(path: Path, mark: dict[str, Any]) -> None:
    state = mark.get("state", "new")
    if not (path / DATA_FILE).exists():
        if state != "new":
            raise StoreError(
                f"{path}: expected the data file {DATA_FILE}, found none; restore"
                " the state folder from a copy of it, with all its files"
            )
        return
    lost_power = mark.get("boot") != boot_id() or not mark.get("boot")
    flushed = mark.get("durability") == "fsync"
    suspect = state != "closed" and not flushed and lost_power
    check_data_file(path, suspect=suspect)


def _remember(made: contextlib.ExitStack, path: Path) -> None:
    # To be taken away if the folder is refused, unless it was there before.
    if not path.exists():
        made.callback(path.unlink, missing_ok=True)


def _sync_folder(path: Path) -> None:
    folder = os.open(path, os.O_RDONLY)
    try:
        os.fsync(folder)
    finally:
        os.close(folder)
