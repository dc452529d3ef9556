"""How a process that uses a state folder is asked: the socket's place and its words.

The socket stands in the folder, as ``minions.sock``, and only its owner may connect.
A socket's path may have at most 107 bytes and a folder's may have more, so it is
reached through ``/proc/self/fd``.  Where there is no such thing (macOS) it stands in
a folder of its own under the temporary one, and the lock file names it.

One connection carries one request.  Who listens says first who he is; then comes one
line of JSON each way::

    {"minions": 1, "pid": 4711, "host": "box", "started": "2026-01-31T12:00:00+00:00"}
    {"version": 1, "do": "redrive", "id": "w17"}
    {"version": 1, "ok": true, "result": null}
    {"version": 1, "ok": false, "kind": "KeyError", "message": "w17"}

Source:
    The limit of 108 bytes with the final zero: unix(7).
"""

from __future__ import annotations

import contextlib
import json
import os
import shutil
import socket
import stat
import tempfile
from collections.abc import Iterator
from pathlib import Path
from typing import Any

from minions.store.folder import LOCK, SOCKET

__all__ = [
    "MAX_REPLY",
    "MAX_REQUEST",
    "VERSION",
    "address_of",
    "listening_socket",
    "read_holder",
    "read_line",
    "written",
]

VERSION = 1
"""Of the words; a request of another version is refused."""

MAX_REQUEST = 64 * 1024
"""The longest request, in bytes."""

MAX_REPLY = 16 * 2**20
"""The longest reply, in bytes."""

_FDS = Path("/proc/self/fd")
_BACKLOG = 64


def written(message: dict[str, Any]) -> bytes:
    """Make the line of a message."""
    return json.dumps(message).encode() + b"\n"


def read_line(line: bytes) -> dict[str, Any]:
    """Read the message of a line.

    Raises:
        ValueError: It is none.
    """
    try:
        message = json.loads(line)
    except (ValueError, RecursionError) as exc:
        raise ValueError(f"expected one line of JSON, found {exc}") from exc
    if not isinstance(message, dict):
        # Whoever wrote the line is at fault, not whoever called.
        raise ValueError(f"expected a JSON object, found {line[:80]!r}")  # noqa: TRY004
    return message


@contextlib.contextmanager
def address_of(folder: Path) -> Iterator[str]:
    """Return the address of the socket of a state folder, for the length of the block.

    Raises:
        OSError: The folder cannot be opened.
    """
    named = read_holder(folder).get("socket")
    if isinstance(named, str):
        yield named
        return
    with _through_proc(folder) as address:
        yield address


@contextlib.contextmanager
def _through_proc(folder: Path) -> Iterator[str]:
    handle = os.open(folder, os.O_RDONLY | os.O_DIRECTORY | os.O_CLOEXEC)
    try:
        yield f"{_FDS}/{handle}/{SOCKET}"
    finally:
        os.close(handle)


@contextlib.contextmanager
def listening_socket(folder: Path) -> Iterator[socket.socket]:
    """Listen in a state folder that is held locked; the socket goes with the block.

    One that a dead process has left is replaced: whoever holds the lock is the only
    one who may listen.

    Raises:
        OSError: The file system has no sockets, or there is no room.
    """
    place = _place_in_proc if _FDS.is_dir() else _place_elsewhere
    with place(folder) as address, contextlib.ExitStack() as opened:
        listener = socket.socket(socket.AF_UNIX, socket.SOCK_STREAM)
        opened.callback(listener.close)
        _unlink_socket(Path(address))
        listener.bind(address)
        opened.callback(_remove, Path(address))
        # Nobody can connect before we listen: the mode is right by then.
        Path(address).chmod(0o600)
        listener.listen(_BACKLOG)
        yield listener


_place_in_proc = _through_proc


@contextlib.contextmanager
def _place_elsewhere(folder: Path) -> Iterator[str]:
    """Make a folder with a short name, and name it in the lock file."""
    made = Path(tempfile.mkdtemp(prefix="minions-"))  # mode 0700
    address = str(made / SOCKET)
    held = read_holder(folder)
    try:
        _write_lock(folder, {**held, "socket": address})
        yield address
    finally:
        _write_lock(folder, held)
        shutil.rmtree(made, ignore_errors=True)


def _unlink_socket(path: Path) -> None:
    # Whatever else somebody has put there is not ours to delete.
    with contextlib.suppress(FileNotFoundError):
        if stat.S_ISSOCK(path.lstat().st_mode):
            path.unlink()


def _remove(path: Path) -> None:
    # The next owner of the lock replaces what cannot be taken away now.
    with contextlib.suppress(OSError):
        _unlink_socket(path)


def read_holder(folder: Path) -> dict[str, Any]:
    """Return what the holder of a folder says of itself; empty if that is nothing.

    One that has gone says it still.
    """
    try:
        said = json.loads((folder / LOCK).read_text())
    except (OSError, ValueError):
        return {}
    return said if isinstance(said, dict) else {}


def _write_lock(folder: Path, said: dict[str, Any]) -> None:
    # In place: it is this file that is locked.
    with (folder / LOCK).open("r+") as file:
        file.truncate()
        file.write(json.dumps(said) + "\n")
