"""Look at an LMDB data file before LMDB maps it.

LMDB trusts its file.  On some damage it aborts the process, and on a file that is
shorter than its pages say the kernel raises SIGBUS: neither can be caught.  So the
two meta pages are read here, as bytes, and the length is compared with what they
say; a file that may be damaged is walked by ``lmdb.verify``, which cannot crash.

Source:
    struct MDB_meta in mdb.c of LMDB 0.9 (data format 1, 64 bit): a page header of
    16 bytes, then magic, version, address, map size, two MDB_db of 48 bytes (the
    first begins with the page size), the last page and the transaction.
"""

from __future__ import annotations

import struct
import sys
from collections.abc import Callable
from pathlib import Path

import lmdb.verify

from minions.errors import StoreError, StoreVersionError

__all__ = ["DATA_FILE", "check_data_file"]

DATA_FILE = "data.mdb"

_MAGIC = 0xBEEFC0DE
_DATA_VERSION = 1
_HEADER = 16
_META = struct.Struct("=IIQQ48s48sQQ")
_SHOWN = 3
_verify: Callable[[str], list[str]] = lmdb.verify.verify
_REMEDY = "restore the state folder from a copy of it"


def check_data_file(folder: Path, *, suspect: bool) -> None:
    """Refuse a data file that LMDB must not map.

    Args:
        folder: Where it lies.  A file of length 0 is a new one.
        suspect: Walk the whole file even if its length is right: power was lost
            while it was written without flushes.

    Raises:
        StoreVersionError: The file is of another format of LMDB's.
        StoreError: The file is damaged.
    """
    path = folder / DATA_FILE
    size = path.stat().st_size
    if size == 0:
        return
    needed = _expected_size(path)
    if size >= needed and not suspect:
        return
    try:
        problems = _verify(str(folder))
    except lmdb.verify.VerifyError as exc:
        raise _damaged(path, str(exc)) from exc
    if problems:
        shown = "; ".join(problems[:_SHOWN])
        more = len(problems) - _SHOWN
        raise _damaged(path, f"{shown} and {more} more" if more > 0 else shown)


def _expected_size(path: Path) -> int:
    """Read the length that the newer of the two meta pages asks for."""
    best, needed, offset = -1, 0, _HEADER
    with path.open("rb") as file:
        for _ in range(2):
            file.seek(offset)
            data = file.read(_META.size)
            if len(data) < _META.size:
                raise _damaged(path, "it ends within its first two pages")
            magic, version, _, _, free, _, last_page, transaction = _META.unpack(data)
            page_size = int.from_bytes(free[:4], sys.byteorder)
            if magic != _MAGIC:
                raise _unknown(path)
            if version != _DATA_VERSION:
                raise StoreVersionError(
                    f"{path}: expected LMDB's data format {_DATA_VERSION}, found"
                    f" {version}; open it with the version of minions that wrote it"
                )
            if transaction > best:
                best, needed = transaction, (last_page + 1) * page_size
            offset = page_size + _HEADER
    return needed


def _unknown(path: Path) -> StoreError:
    with path.open("rb") as file:
        head = file.read(64)
    if struct.pack("=I", _MAGIC) in head:
        return StoreVersionError(
            f"{path}: expected LMDB's data format {_DATA_VERSION}, found another;"
            " open it with the version of minions that wrote it"
        )
    return _damaged(path, "it does not begin as an LMDB file does")


def _damaged(path: Path, finding: str) -> StoreError:
    return StoreError(
        f"{path}: expected a sound data file, found a damaged one: {finding}; {_REMEDY}"
    )
