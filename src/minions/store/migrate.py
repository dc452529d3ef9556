"""Bring a state folder of an older format to the present one, when it is opened.

Rules:
1. First a copy is made beside the folder, ``<folder>.format-<n>-copy``, under
   another name until it is complete and flushed.  It stays: a backup in the old
   format, which the version that wrote it can open.
2. Then the mark says the new format and ``migrating_from``: from here on an older
   version refuses the folder, whatever it holds.
3. All migrations run in one flushed transaction, which also writes the new format
   into the data itself.  So a mark with ``migrating_from`` is no riddle: the data
   say whether the transaction was committed.
4. Then ``migrating_from`` goes.

Killed at any moment, the next open goes on from there: the data are of the old
format or of the new one, never between.  A migration that raises leaves the folder
as it was, and the copy is taken away again.

Rejected: the mark last.  Killed in between, an older version would take new data
for its own.
"""

from __future__ import annotations

import errno
import json
import os
import shutil
from collections.abc import Callable, Mapping
from contextlib import suppress
from datetime import UTC, datetime
from itertools import count
from pathlib import Path
from typing import Any

import attrs
import lmdb

from minions.errors import StoreError, StoreFullError
from minions.store.datafile import DATA_FILE
from minions.store.mark import MARK, sync_folder, write_mark
from minions.store.migrations import hold_keys
from minions.store.port import Keyspace
from minions.store.total import forget_total

__all__ = [
    "FORMAT",
    "MAX_DBS",
    "MIGRATIONS",
    "Migrated",
    "Migration",
    "format_of",
    "is_known",
    "migrate",
]

FORMAT = 2
"""The format of the folder; raised by a change that older versions cannot read."""

# Room for keyspaces of later versions.
MAX_DBS = 64

Migration = Callable[[lmdb.Transaction, Mapping[Keyspace, Any]], None]
"""Brings the data from one format to the next, within the transaction: given the
transaction and the database of each keyspace, which is there, if need be empty.
What a kill or an exception interrupts never happened; it must not commit, and it
has no effect outside.  It deletes each key before it puts it, or finds it, in case
an earlier migration has put it in the same transaction: ``lmdb.verify`` takes what
LMDB makes of a long value that is overwritten there by a shorter one for damage."""

MIGRATIONS: dict[int, Migration] = {1: hold_keys}
"""By the format that each begins with, for every format before the present one that
can still be opened."""

# The database that says of which format the data are, once they were migrated.
_NOTE_DB = b"format"
_NOTE = b"format"


@attrs.frozen
class Migrated:
    """That a state folder was brought to the present format."""

    old: int
    """The format that it had."""

    new: int
    """The format that it has."""

    copy: Path
    """The folder as it was before."""


def format_of(mark: Mapping[str, Any]) -> object:
    """Say which format the data may still have, whatever it is."""
    return mark.get("migrating_from", mark.get("format"))


def is_known(mark: Mapping[str, Any]) -> bool:
    """Say whether a folder with this mark can be opened, if need be by migrating."""
    old, now = format_of(mark), mark.get("format")
    if type(old) is not int or type(now) is not int or now > FORMAT:
        return False
    return all(n in MIGRATIONS for n in range(old, FORMAT)) and old <= FORMAT


def migrate(folder: Path, mark: Mapping[str, Any], *, map_size: int) -> Migrated:
    """Bring the data to the present format; the caller holds the folder's lock.

    Args:
        folder: Where they lie; the data file has been checked.
        mark: What the folder says of itself; :func:`is_known` of it holds.
        map_size: Address space, in bytes; it grows.

    Raises:
        StoreFullError: There is no room for the copy; the folder is as it was.
        StoreError: The copy cannot be made, or a migration raised; the folder is
            as it was.
        lmdb.Error: The disk refuses, or LMDB; the folder is as it was, or the next
            open goes on.
        OSError: As with ``lmdb.Error``.
    """
    env = _open(folder, map_size)
    try:
        # What the last user did not flush must not be torn by these flushes.
        env.sync(True)
        old = _noted(env) or _number(format_of(mark))
        if old == FORMAT:
            # Killed behind the transaction.
            old, copy = mark["migrating_from"], Path(mark["copy"])
        else:
            copy, made = _copy_beside(env, folder, {**mark, "format": old})
            try:
                between = {"format": FORMAT, "migrating_from": old, "copy": str(copy)}
                write_mark(folder, _without(mark, "checksum") | between)
                _run_all(env, old)
            except BaseException:
                env.close()
                if _still_of(folder, old, map_size):
                    with suppress(OSError):
                        write_mark(folder, mark)
                        if made:
                            shutil.rmtree(copy, ignore_errors=True)
                raise
    finally:
        env.close()
    # A migration may drop a database.
    done = _without(mark, "checksum", "migrating_from", "copy", "databases")
    write_mark(folder, done | {"format": FORMAT})
    return Migrated(old, FORMAT, copy)


def _open(folder: Path, map_size: int, *, readonly: bool = False) -> lmdb.Environment:
    return lmdb.open(
        str(folder),
        map_size=map_size,
        max_dbs=MAX_DBS,
        create=False,
        readonly=readonly,
        mode=0o600,
        lib_version=0,
    )


def _without(mark: Mapping[str, Any], *names: str) -> dict[str, Any]:
    return {key: value for key, value in mark.items() if key not in names}


def _number(value: object) -> int:
    assert isinstance(value, int), "is_known() holds"
    return value


def _noted(env: lmdb.Environment) -> int | None:
    """Read of which format the data are; None if they were never migrated."""
    with env.begin() as txn:
        # The list of databases is one itself: a name that is not there is no error.
        if txn.get(_NOTE_DB) is None:
            return None
    db = env.open_db(_NOTE_DB, create=False)
    with env.begin() as txn:
        noted = txn.get(_NOTE, db=db)
    return None if noted is None else int(noted)


def _still_of(folder: Path, old: int, map_size: int) -> bool:
    """Say whether the transaction is known to have failed."""
    try:
        with _open(folder, map_size, readonly=True) as env:
            return (_noted(env) or old) == old
    except (lmdb.Error, OSError):
        return False  # the next open will see


def _run_all(env: lmdb.Environment, old: int) -> None:
    """Run the migrations in one transaction, in a map that has room for it."""
    while True:
        try:
            with env.begin(write=True) as txn:
                # Migrations do not carry it.
                forget_total(env, txn)
                dbs = {
                    space: env.open_db(space.value.encode(), txn=txn)
                    for space in Keyspace
                }
                for number in range(old, FORMAT):
                    _run(number, txn, dbs)
                note = env.open_db(_NOTE_DB, txn=txn)
                txn.put(_NOTE, b"%d" % FORMAT, db=note)
        except lmdb.MapFullError:
            env.set_mapsize(2 * env.info()["map_size"])
        else:
            return


def _run(number: int, txn: lmdb.Transaction, dbs: Mapping[Keyspace, Any]) -> None:
    try:
        MIGRATIONS[number](txn, dbs)
    except lmdb.Error:
        raise
    except Exception as exc:
        raise StoreError(
            f"the migration of a state folder from format {number} to"
            f" {number + 1} failed: expected to read all of it, found"
            f" {type(exc).__name__}: {exc}; nothing was changed: open the folder with"
            " the version of minions that wrote it, and report this with its traceback"
        ) from exc


def _copy_beside(
    env: lmdb.Environment, folder: Path, mark: Mapping[str, Any]
) -> tuple[Path, bool]:
    """Copy the folder, or find the copy of an attempt that was killed."""
    transaction = env.info()["last_txnid"]
    plain = folder.with_name(f"{folder.name}.format-{mark['format']}-copy")
    new = plain.with_name(f"{plain.name}.new")
    fields = _without(mark, "checksum", "migrating_from", "copy") | {
        "backup_of": str(folder),
        "made_at": datetime.now(UTC).isoformat(timespec="seconds"),
        "transaction": transaction,
    }
    try:
        for number in count(1):
            copy = plain if number == 1 else Path(f"{plain}-{number}")
            if not copy.exists():
                break
            if _is_copy(copy, fields):
                return copy, False
        if new.exists():
            shutil.rmtree(new)
        _make_copy(env, new, fields)
        new.rename(copy)
        sync_folder(copy.parent)
    except (OSError, lmdb.Error) as exc:
        shutil.rmtree(new, ignore_errors=True)
        raise _no_copy(plain, exc) from exc
    return copy, True


def _is_copy(copy: Path, fields: Mapping[str, Any]) -> bool:
    """Say whether this one holds the same data: no other had its last transaction."""
    try:
        mark = json.loads((copy / MARK).read_text())
        names = ("backup_of", "transaction", "format")
        return all(mark[name] == fields[name] for name in names)
    except (OSError, ValueError, LookupError, TypeError):
        return False  # somebody else's


def _make_copy(env: lmdb.Environment, new: Path, fields: Mapping[str, Any]) -> None:
    new.mkdir(mode=0o700)
    env.copy(str(new))
    data = new / DATA_FILE
    data.chmod(0o600)
    with data.open("rb") as file:
        os.fsync(file.fileno())
    write_mark(new, fields)


def _no_copy(copy: Path, exc: OSError | lmdb.Error) -> StoreError:
    code = exc.errno if isinstance(exc, OSError) else getattr(exc, "code", None)
    full = code in {errno.ENOSPC, errno.EDQUOT}
    return (StoreFullError if full else StoreError)(
        f"{copy}: expected to copy the state folder to here before it is brought to"
        f" format {FORMAT}, found: {exc}; nothing was changed:"
        f" {'free some room' if full else 'let this process write here'}, or go on"
        " with the version of minions that wrote it"
    )
