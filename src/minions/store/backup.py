"""Copies a state folder, of a running system too, into one that can be opened."""

from __future__ import annotations

import contextlib
import os
import shutil
from datetime import UTC, datetime
from pathlib import Path

import attrs

from minions.errors import StoreError
from minions.store.datafile import DATA_FILE
from minions.store.mark import write_mark
from minions.store.reading import StoreReader, open_reader, translated

__all__ = ["BackupPlan", "make_backup", "plan_backup"]


@attrs.frozen
class BackupPlan:
    """What a backup will make."""

    source: Path
    target: Path
    size: int
    """What the copy takes at most, in bytes."""

    room: int
    """What is free on its disk, in bytes."""


def plan_backup(reader: StoreReader, target: Path, *, compact: bool) -> BackupPlan:
    """Check where a backup is to go.

    Raises:
        StoreError: It exists, or lies in the folder itself; or its parent does not
            exist.
    """
    target = Path(os.path.realpath(target))
    if target.exists() or target.is_symlink():
        raise StoreError(
            f"{target}: expected a folder that does not exist yet, found that it"
            " does; name another one: a backup never replaces anything"
        )
    if not target.parent.is_dir():
        raise StoreError(
            f"{target}: expected that its parent exists, found no folder"
            f" {target.parent}; make it first"
        )
    if target.is_relative_to(reader.path):
        raise StoreError(
            f"{target}: expected a folder outside the state folder {reader.path},"
            " found one in it; name another one"
        )
    with reader.view() as view:
        file = reader.statistics(view)
    size = file.used - compact * file.free_pages * file.page_size
    with translated(target.parent):
        room = shutil.disk_usage(target.parent).free
    return BackupPlan(reader.path, target, size, room)


def make_backup(source: Path, target: Path, *, compact: bool = False) -> BackupPlan:
    """Copy the state folder *source* to *target*; return when that is on disk.

    The copy holds what was committed at one moment, and is marked as closed.  It is
    made beside *target*, under the name with ``.part`` added, and renamed when it is
    complete; if the copying fails or is interrupted, it goes again.

    Args:
        source: The folder; a process may be using it.
        target: Must not exist; its parent must.
        compact: Leave free pages out.  It takes longer.

    Raises:
        StoreFullError: There is no room for it.
        StoreError: The source cannot be read, or the target not be made.
    """
    with open_reader(source) as reader:
        plan = plan_backup(reader, target, compact=compact)
        part = plan.target.with_name(plan.target.name + ".part")
        try:
            with translated(plan.target.parent):
                part.mkdir(mode=0o700)
        except StoreError as exc:
            if not isinstance(exc.__cause__, FileExistsError):
                raise
            raise StoreError(
                f"{part}: expected that no other backup goes there, found one that is"
                " being made or was left unfinished; if none is being made, delete it"
            ) from exc
        with contextlib.ExitStack() as unfinished:
            unfinished.callback(shutil.rmtree, part, ignore_errors=True)
            _fill(reader, part, compact=compact)
            with translated(plan.target):
                part.rename(plan.target)
                unfinished.pop_all()
                _sync(plan.target.parent)
    return plan


def _fill(reader: StoreReader, part: Path, *, compact: bool) -> None:
    reader.copy_to(part, compact=compact)
    with translated(part):
        data = part / DATA_FILE
        data.chmod(0o600)
        _sync(data)
        # What is checked at the end of an ordered use is not known of the copy.
        known = {k: v for k, v in reader.mark.items() if k != "checksum"}
        write_mark(
            part,
            {
                **known,
                "state": "closed",
                "backup_of": str(reader.path),
                "made_at": datetime.now(UTC).isoformat(timespec="seconds"),
            },
        )


def _sync(path: Path) -> None:
    file = os.open(path, os.O_RDONLY)
    try:
        os.fsync(file)
    finally:
        os.close(file)
