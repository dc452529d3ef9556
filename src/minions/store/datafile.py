"""Look at an LMDB data file before LMDB maps it.

LMDB trusts its file.  On some damage it aborts the process, and on a file that is
shorter than its pages say the kernel raises SIGBUS: neither can be caught.  So the
two meta pages are read here, as bytes, and compared with what is known; a file that
may be damaged is walked by ``lmdb.verify``, which cannot crash.

Rules:
1. What is always compared costs nothing: the length with the newest meta page's
   last page, and the two meta pages with each other.  Transaction N writes the meta
   page N mod 2, so that the two are of consecutive transactions, unless a loss of
   power took one that was not flushed.
2. A folder that was closed in order names the CRC-32 of its meta pages: so a meta
   page that lost a bit, and a data file of another time, are refused.  Without it a
   damaged transaction number opens what was there one commit before; after an
   unclean end a single bit of it, of 64, can still do that.
3. The walk takes 7 ms per MiB.  A file is walked after a loss of power, whatever
   its durability (disks lie), and whenever rule 1 finds anything odd; besides, a
   small one always, and one of moderate size after any unclean end: the process may
   have ended because LMDB aborted it.

Source:
    struct MDB_meta in mdb.c of LMDB 0.9 (data format 1, 64 bit): a page header of
    16 bytes, then magic, version, address, map size, two MDB_db of 48 bytes (the
    first begins with the page size), the last page and the transaction.
"""

from __future__ import annotations

import os
import struct
import sys
import zlib
from collections.abc import Callable
from pathlib import Path

import lmdb.verify
import msgspec

from minions.errors import StoreError, StoreVersionError
from minions.store.backups import remedy_for

__all__ = ["DATA_FILE", "Suspicion", "check_data_file", "checksum_of"]

DATA_FILE = "data.mdb"

_MAGIC = 0xBEEFC0DE
_DATA_VERSION = 1
_HEADER = 16
_META = struct.Struct("=IIQQ48s48sQQ")
_PAGE_SIZES = frozenset(2**n for n in range(8, 16))
_SHOWN = 3
_SMALL = 8 * 2**20
_MODERATE = 64 * 2**20
# What a walk through arbitrary bytes may raise besides its own error.
_STUMBLES = (struct.error, LookupError, ValueError, RecursionError, MemoryError)
_verify: Callable[[str], list[str]] = lmdb.verify.verify


class Suspicion(msgspec.Struct, frozen=True, kw_only=True):
    """What is known of a data file before it is looked at."""

    unclean: bool = False
    """Its last user did not close it."""

    lost_power: bool = False
    """And the machine was started anew since, or may have been."""

    torn: bool = False
    """And the last user did not flush: its pages may be of several commits."""

    checksum: str | None = None
    """What :func:`checksum_of` gave when it was closed."""

    def of_size(self, size: int) -> bool:
        """Say whether a file of this size is walked even if it looks well."""
        if self.unclean:
            return self.lost_power or size <= _MODERATE
        return size <= _SMALL


class _Meta(msgspec.Struct, frozen=True):
    raw: bytes
    page_size: int
    last_page: int
    transaction: int


def check_data_file(
    folder: Path, suspicion: Suspicion, *, mend: bool = True, walk: bool = True
) -> None:
    """Refuse a data file that LMDB must not map; lengthen one that may be sound.

    Args:
        folder: Where it lies.
        suspicion: What is known of it.
        mend: Whether it may be lengthened; else it is refused.
        walk: Whether it may be walked although it looks well: nobody writes it.

    Raises:
        StoreVersionError: The file is of another format of LMDB's.
        StoreError: The file is damaged.
    """
    path = folder / DATA_FILE
    if path.stat().st_size == 0:
        raise _damaged(path, "it is empty")
    metas = _read_metas(path)
    # Afterwards: the file of a running system grows meanwhile.
    size = path.stat().st_size
    if suspicion.checksum not in {None, _checksum(metas)}:
        raise _damaged(
            path, "its first two pages are not those with which it was closed"
        )
    newest = max(metas, key=lambda meta: meta.transaction)
    needed = (newest.last_page + 1) * newest.page_size
    short = size < needed
    if not _fit(*metas) and not suspicion.torn:
        raise _damaged(path, "its first two pages are not of consecutive commits")
    if not short and _fit(*metas) and not (walk and suspicion.of_size(size)):
        return
    if short and not mend:
        raise StoreError(
            f"{path}: expected {needed} bytes, as its pages say, found {size}: a crash"
            " may leave it so; start the system once, which mends or refuses it"
        )
    try:
        problems = _verify(str(folder))
    except (lmdb.verify.VerifyError, *_STUMBLES) as exc:
        raise _damaged(path, str(exc)) from exc
    if problems:
        shown = "; ".join(problems[:_SHOWN])
        more = len(problems) - _SHOWN
        raise _damaged(path, f"{shown} and {more} more" if more > 0 else shown)
    if short:
        # A page that was taken and given back in one transaction is never written: so
        # a short file may be sound.  But the walk does not see either whether the end
        # of a long value is missing.  It is zeros now, which a checksum finds, where
        # LMDB would have read past the end of the file.
        os.truncate(path, needed)


def checksum_of(folder: Path) -> str:
    """Compute the CRC-32 of what the meta pages say, for who closes the file.

    Raises:
        StoreError: They are damaged.
    """
    return _checksum(_read_metas(folder / DATA_FILE))


def _checksum(metas: tuple[_Meta, _Meta]) -> str:
    return f"{zlib.crc32(metas[0].raw + metas[1].raw):08x}"


def _fit(first: _Meta, second: _Meta) -> bool:
    """Say whether these may be the meta pages of consecutive transactions."""
    if first.transaction == second.transaction == 0:
        return True
    return (
        abs(first.transaction - second.transaction) == 1 and first.transaction % 2 == 0
    )


def _read_metas(path: Path) -> tuple[_Meta, _Meta]:
    with path.open("rb") as file:
        first = _read_meta(path, file.read(_HEADER + _META.size))
        if first.page_size not in _PAGE_SIZES:
            raise _damaged(path, f"it has pages of {first.page_size} bytes")
        file.seek(first.page_size)
        second = _read_meta(path, file.read(_HEADER + _META.size))
    return first, second


def _read_meta(path: Path, data: bytes) -> _Meta:
    if len(data) < _HEADER + _META.size:
        raise _damaged(path, "it ends within its first two pages")
    magic, version, _, _, free, _, last_page, transaction = _META.unpack_from(
        data, _HEADER
    )
    if magic != _MAGIC:
        raise _unknown(path)
    if version != _DATA_VERSION:
        raise StoreVersionError(
            f"{path}: expected LMDB's data format {_DATA_VERSION}, found {version};"
            " open it with the version of minions that wrote it"
        )
    page_size = int.from_bytes(free[:4], sys.byteorder)
    return _Meta(data, page_size, last_page, transaction)


def _unknown(path: Path) -> StoreError:
    with path.open("rb") as file:
        head = file.read(64)
    found = head.find(struct.pack("=I", _MAGIC))
    if found == _HEADER:
        return _damaged(path, "its second page is no meta page")
    if found > 0:
        return StoreVersionError(
            f"{path}: expected LMDB's data format {_DATA_VERSION}, found another;"
            " open it with the version of minions that wrote it"
        )
    return _damaged(path, "it does not begin as an LMDB file does")


def _damaged(path: Path, finding: str) -> StoreError:
    return StoreError(
        f"{path}: expected a sound data file, found a damaged one: {finding};"
        f" {remedy_for(path.parent)}"
    )
