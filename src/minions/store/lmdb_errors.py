"""LMDB's errors in the words of the store, each translated once."""

from __future__ import annotations

import errno
from pathlib import Path

import lmdb

from minions.errors import StoreError, StoreFullError, StoreVersionError
from minions.store.folder import StateFolder, translate_os_error

__all__ = ["translate_error", "unreadable"]


def translate_error(error: Exception, path: Path | None, map_size: int) -> StoreError:
    """Say what went wrong in the words of the store."""
    if isinstance(error, StoreError):
        return error
    if isinstance(error, lmdb.MapFullError):
        return StoreFullError(
            f"{path}: the map of {map_size} bytes is full and cannot grow;"
            " expected address space for twice as much; delete old records or"
            " raise the limit of the process (ulimit -v)"
        )
    if isinstance(error, lmdb.InvalidError | lmdb.VersionMismatchError):
        return StoreVersionError(
            f"{path}: expected a data file of LMDB 0.9, found another: {error};"
            " open it with the version of minions that wrote it"
        )
    code = getattr(error, "code", None)
    if isinstance(error, OSError):
        code = error.errno
    if path is not None and code in {errno.ENOSPC, errno.EDQUOT}:
        return translate_os_error(path, OSError(code, str(error)))
    return StoreError(
        f"{path}: expected the disk to take a write, found"
        f" {type(error).__name__}: {error}; see whether the disk is well"
    )


def unreadable(folder: StateFolder | None, exc: lmdb.Error) -> StoreError:
    """Say that a record cannot be read."""
    return StoreError(
        f"{folder and folder.path}: expected to read a record, found"
        f" {type(exc).__name__}: {exc}; see whether the disk is well"
    )
