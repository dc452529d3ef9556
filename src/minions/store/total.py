"""A checksum of all that a store holds, for commits that are not flushed.

Theory: what LMDB wrote without a flush may reach the disk in part.  Most of what a
loss of power leaves then is found by a walk through the pages.  But a page that was
used before, for an older state of the same records, may pass for the new one: its
keys are in order and its counts are right, and some records are those of an older
commit.  (13 of 1,500 images that were put together from traced writes opened like
that, and were silently wrong.)  LMDB's pages have no checksums and no transaction.

So each commit that is not flushed carries the sum of the CRC-32 of all entries,
modulo 2**64: it does not depend on their order, and a commit changes it by what it
replaces and what it puts.  After a loss of power the sum is made anew, of everything,
and compared: it fits a whole commit, or nothing.

Rejected: to refuse whatever was not flushed (a process that is killed before an
orderly reboot has lost nothing); a hash of each commit (says nothing of the pages
that it did not write).  Flushed commits need none of this and carry none.  It takes
1.2 µs a write, of 200 bytes.
"""

from __future__ import annotations

from collections.abc import Mapping
from pathlib import Path
from typing import Any
from zlib import crc32

import lmdb

from minions.store.port import Keyspace

__all__ = ["TOTAL_DB", "Total", "fits_total", "forget_total"]

TOTAL_DB = b"total"
"""The database that holds the sum."""

_KEY = b"total"
_SIZE = 8
_MASK = 2 ** (8 * _SIZE) - 1
# What a migration notes says nothing of the records.
_APART = frozenset({TOTAL_DB, b"format"})
_SEEDS = {space: crc32(space.value.encode()) for space in Keyspace}


class Total:
    """Keeps the sum in an environment whose commits are not flushed."""

    def __init__(self, env: lmdb.Environment) -> None:
        """Find the sum, or make it; returns when that is on disk."""
        self._db = env.open_db(TOTAL_DB)
        with env.begin(write=True) as txn:
            if txn.get(_KEY, db=self._db) is None:
                txn.put(_KEY, _packed(_sum_of(env, txn)), db=self._db)
        # A store without it is one that never had it.
        env.sync(True)

    def write(
        self,
        txn: lmdb.Transaction,
        dbs: Mapping[Keyspace, Any],
        writes: Mapping[Keyspace, Mapping[bytes, bytes | None]],
    ) -> None:
        """Put and delete, each key once, and carry the sum along."""
        total = int.from_bytes(txn.get(_KEY, db=self._db) or b"", "big")
        replace, pop = txn.replace, txn.pop
        for space, values in writes.items():
            db, seed = dbs[space], _SEEDS[space]
            for key, value in values.items():
                start = crc32(key, seed)
                if value is None:
                    old = pop(key, db=db)
                else:
                    old = replace(key, value, db=db)
                    total += crc32(value, start)
                if old is not None:
                    total -= crc32(old, start)
        txn.put(_KEY, _packed(total), db=self._db)


def forget_total(env: lmdb.Environment, txn: lmdb.Transaction) -> None:
    """Take the sum away, before something is written that does not carry it."""
    if txn.get(TOTAL_DB) is not None:
        txn.drop(env.open_db(TOTAL_DB, txn=txn))


def fits_total(folder: Path, *, map_size: int, max_dbs: int) -> bool:
    """Make the sum anew, and compare; a store that has none passes.

    If it fits, a commit follows, so that the two meta pages are of consecutive ones
    again.  The caller holds the folder's lock, and has had its pages walked.

    Raises:
        lmdb.Error: The data cannot be read.
    """
    with lmdb.open(
        str(folder),
        map_size=map_size,
        max_dbs=max_dbs,
        create=False,
        mode=0o600,
        lib_version=0,
    ) as env:
        with env.begin() as txn:
            if txn.get(TOTAL_DB) is None:
                total = None
            else:
                db = env.open_db(TOTAL_DB, txn=txn, create=False)
                total = txn.get(_KEY, db=db)
            if total is not None and bytes(total) != _packed(_sum_of(env, txn)):
                return False
        env.sync(True)
        with env.begin(write=True) as txn:
            db = env.open_db(TOTAL_DB, txn=txn)
            txn.put(_KEY, b"", db=db)
            txn.drop(db)
    return True


def _packed(total: int) -> bytes:
    packed: bytes = (total & _MASK).to_bytes(_SIZE, "big")
    return packed


def _sum_of(env: lmdb.Environment, txn: lmdb.Transaction) -> int:
    names: list[bytes] = [bytes(key) for key, _ in txn.cursor()]
    total = 0
    for name in names:
        if name not in _APART:
            seed = crc32(name)
            db = env.open_db(name, txn=txn, create=False)
            for key, value in txn.cursor(db):
                total += crc32(value, crc32(key, seed))
    return total
