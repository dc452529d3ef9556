"""Reads a state folder that another process may be writing, and changes nothing.

Rules:
1. The folder is not claimed: LMDB's table of readers is all that a reader enters
   itself in, so that a writer keeps the pages that it reads.
2. All of one answer is read in one transaction, so that it is of one moment.  The
   writer goes on meanwhile; what it frees is used again afterwards.
3. What LMDB must not map is refused before, as the process itself would.

Source:
    LMDB's caveats: http://www.lmdb.tech/doc/
"""

from __future__ import annotations

import contextlib
import errno
import os
from collections.abc import Callable, Iterator
from functools import partial
from pathlib import Path
from typing import Any

import attrs
import lmdb
import lmdb.verify

from minions.errors import StoreError
from minions.store.datafile import DATA_FILE
from minions.store.folder import (
    check_data,
    read_mark,
    state_of,
    translate_os_error,
)
from minions.store.machine import refuse_network
from minions.store.port import MAX_KEY
from minions.workflow.layout import Keyspace

__all__ = [
    "FileStatistics",
    "StoreReader",
    "StoreView",
    "look_into",
    "open_reader",
    "translated",
    "verify_file",
]

_MAX_DBS = 64
# A writer that grows again while we take over its last growth.
_TRIES = 10
_META_PAGES = 2
# A mark and the pages that it is about are not read at one moment.
_LOOKS = 5
_verify: Callable[[str], list[str]] = lmdb.verify.verify


@attrs.frozen
class FileStatistics:
    """What the data file takes, and who reads it."""

    size: int
    """The length of the file, in bytes."""

    used: int
    """What of it has ever been used, in bytes."""

    page_size: int
    free_pages: int
    """Pages that were used and will be used again."""

    oldest_reader: int | None
    """The process that has been reading for the longest, ours aside."""

    reader_lag: int
    """How many commits there have been since that one began to read."""


class StoreView:
    """A store at one moment."""

    def __init__(self, txn: Any, dbs: dict[Keyspace, Any]) -> None:
        # A transaction without buffers; LMDB's own types do not say so.
        self._txn: Any = txn
        self._dbs = dbs

    def get(self, space: Keyspace, key: bytes, /) -> bytes | None:
        """Return one value."""
        db = self._dbs.get(space)
        if db is None or not 0 < len(key) <= MAX_KEY:
            return None
        found: bytes | None = self._txn.get(key, db=db)
        return found

    def items(
        self, space: Keyspace, prefix: bytes = b"", /
    ) -> Iterator[tuple[bytes, bytes]]:
        """Iterate over a keyspace, or over the keys that begin with *prefix*."""
        db = self._dbs.get(space)
        if db is None:
            return
        with self._txn.cursor(db=db) as cursor:
            more = cursor.set_range(prefix) if prefix else cursor.first()
            while more and cursor.key().startswith(prefix):
                yield cursor.item()
                more = cursor.next()

    def count(self, space: Keyspace) -> int:
        """Return how many entries a keyspace has."""
        db = self._dbs.get(space)
        return 0 if db is None else int(self._txn.stat(db)["entries"])

    def pages(self) -> int:
        """Return how many pages all keyspaces take."""
        return sum(_pages(self._txn.stat(db)) for db in self._dbs.values())


class StoreReader:
    """A state folder that is open for reading."""

    def __init__(self, path: Path, mark: dict[str, Any], env: lmdb.Environment) -> None:
        self.path = path
        self.mark = mark
        """What the folder says of itself: format, durability, ..."""
        self._env = env

    @contextlib.contextmanager
    def view(self) -> Iterator[StoreView]:
        """Look at the store at one moment.

        Raises:
            StoreError: It cannot be read.
        """
        with translated(self.path):
            dbs = self._open_dbs()
            with self._begin() as txn:
                yield StoreView(txn, dbs)

    def _open_dbs(self) -> dict[Keyspace, Any]:
        found: dict[Keyspace, Any] = {}
        for space in Keyspace:
            name = space.value.encode()
            # One that its writer does not know is empty.
            with contextlib.suppress(lmdb.NotFoundError):
                found[space] = self._retried(
                    partial(self._env.open_db, name, create=False)
                )
        return found

    def _begin(self) -> Any:
        return self._retried(self._env.begin)

    def _retried(self, function: Callable[[], Any]) -> Any:
        """Call a function; take over what the writer has made of the map."""
        for _ in range(_TRIES):
            with contextlib.suppress(lmdb.MapResizedError):
                return function()
            self._env.set_mapsize(0)
        return function()

    def copy_to(self, folder: Path, *, compact: bool) -> None:
        """Copy the data file into *folder*, as it is at one moment.

        Raises:
            StoreError: It cannot be read, or there is no room for the copy.
        """
        with translated(folder):
            self._retried(lambda: self._env.copy(str(folder), compact=compact))

    def statistics(self, view: StoreView) -> FileStatistics:
        """Say what the data file takes."""
        with translated(self.path):
            info, top = self._env.info(), self._env.stat()
            readers = _readers(self._env.readers())
        pages = int(info["last_pgno"]) + 1
        taken = view.pages() + _pages(top) + _META_PAGES
        others = [(txn, pid) for txn, pid in readers if pid != os.getpid()]
        oldest = min(others, default=None)
        return FileStatistics(
            size=(self.path / DATA_FILE).stat().st_size,
            used=pages * int(top["psize"]),
            page_size=int(top["psize"]),
            free_pages=max(0, pages - taken),
            oldest_reader=oldest[1] if oldest is not None else None,
            reader_lag=int(info["last_txnid"]) - oldest[0] if oldest is not None else 0,
        )

    def verify(self) -> list[str]:
        """Walk all pages of the data file; return what is wrong with them.

        It is kept from changing what the newest commit holds meanwhile.
        """
        with translated(self.path), self._begin():
            return verify_file(self.path)


def look_into(path: Path, *, data: bool = True) -> dict[str, Any]:
    """Check a folder that is only to be read; return what it says of itself.

    The lock is not taken, and nothing is made or changed.

    Args:
        path: The folder.
        data: Whether to look at the data file, too.

    Raises:
        StoreError: There is no state folder, or one that :func:`claim_folder`
            would refuse, for the same reasons.
    """
    path = Path(os.path.realpath(path))
    refuse_network(path)
    for look in range(_LOOKS):
        mark = read_mark(path) if path.exists() else {}
        if not mark:
            raise StoreError(
                f"{path}: expected a state folder, found"
                f" {'an empty one' if path.exists() else 'none'}; name the right one"
            )
        if not data:
            break
        if state_of(mark) == "new":
            raise StoreError(
                f"{path}: expected a state folder with data in it, found one that"
                " was only just made; ask again when it has been opened"
            )
        try:
            check_data(path, mark, reading=True)
        except OSError as exc:
            raise translate_os_error(path, exc) from exc
        except StoreError:
            # Somebody may have opened, closed or written it in between.
            if look == _LOOKS - 1:
                raise
            continue
        break
    return mark


@contextlib.contextmanager
def open_reader(path: str | os.PathLike[str]) -> Iterator[StoreReader]:
    """Open a state folder for reading, whether a process uses it or not.

    Raises:
        StoreVersionError: It is of a newer format.
        StoreError: There is none; it is another program's, damaged, or cannot be
            read.
    """
    path = Path(os.path.realpath(path))
    mark = look_into(path)
    with translated(path):
        env = lmdb.open(
            str(path),
            # As the file says; a writer may have made it larger than its option.
            map_size=0,
            max_dbs=_MAX_DBS,
            readonly=True,
            create=False,
            # Of the table of readers, which a copy may lack.
            mode=0o600,
            # On a read-only disk there is no table of readers, and no writer.
            lock=not _is_read_only(path),
            max_spare_txns=1,
            lib_version=0,
        )
    try:
        yield StoreReader(path, mark, env)
    finally:
        env.close()


def verify_file(path: Path) -> list[str]:
    """Walk all pages of the data file in a folder, as bytes: nothing is mapped."""
    try:
        return _verify(str(path))
    except lmdb.verify.VerifyError as exc:
        return [str(exc)]


@contextlib.contextmanager
def translated(path: Path) -> Iterator[None]:
    """Say in the store's words what LMDB or the system could not do."""
    try:
        yield
    except OSError as exc:
        raise translate_os_error(path, exc) from exc
    except lmdb.Error as exc:
        code = getattr(exc, "code", None)
        if code in {errno.ENOSPC, errno.EDQUOT}:
            raise translate_os_error(path, OSError(code, str(exc))) from exc
        raise StoreError(
            f"{path}: expected a state folder that can be read, found"
            f" {type(exc).__name__}: {exc}; see whether the disk is well, and whether"
            " you may read and lock the files in it"
        ) from exc


def _is_read_only(path: Path) -> bool:
    return bool(os.statvfs(path).f_flag & os.ST_RDONLY)


def _pages(stat: Any) -> int:
    return int(stat["branch_pages"] + stat["leaf_pages"] + stat["overflow_pages"])


def _readers(table: str) -> list[tuple[int, int]]:
    """Read LMDB's table of readers: the commit that each reads, and its process."""
    found = []
    for line in table.splitlines():
        words = line.split()
        if len(words) >= 3 and words[0].isdigit() and words[2].isdigit():  # noqa: PLR2004
            found.append((int(words[2]), int(words[0])))
    return found
