"""What to do when a state folder is damaged: which copy of it to go back to.

A backup is a state folder whose mark says ``"backup_of"``, the absolute path of the
folder that it was made of, and ``"made_at"``, the time in ISO 8601.  Backups are
looked for beside the folder; what lies elsewhere, only its owner knows.
"""

from __future__ import annotations

import json
import os
from datetime import UTC, datetime
from pathlib import Path

from minions.store.mark import APPLICATION, MARK

__all__ = ["newest_backup", "remedy_for"]


def remedy_for(folder: Path) -> str:
    """Say how to replace a folder that is damaged; never raises."""
    found = newest_backup(folder)
    if found is None:
        return (
            "restore the state folder from a copy of it, with all its files"
            " (`minions backup DEST` makes one; none lies beside it)"
        )
    made_at, backup = found
    when = made_at.isoformat(timespec="seconds")
    return (
        f"its newest backup is {backup}, made at {when}: move the damaged folder"
        " away, and put a copy of the backup in its place"
    )


def newest_backup(folder: Path) -> tuple[datetime, Path] | None:
    """Find the newest backup of a folder beside it, with the time it was made."""
    path = os.path.realpath(folder)
    try:
        beside = sorted(Path(path).parent.iterdir())
    except OSError:
        return None
    found = [
        (made_at, backup)
        for backup in beside
        if os.fspath(backup) != path
        and (made_at := _backup_time(backup, path)) is not None
    ]
    return max(found, default=None)


def _backup_time(backup: Path, of: str) -> datetime | None:
    try:
        mark = json.loads((backup / MARK).read_text())
        if mark["application"] != APPLICATION or mark["backup_of"] != of:
            return None
        made_at = datetime.fromisoformat(mark["made_at"])
    except (OSError, ValueError, LookupError, TypeError, RecursionError):
        return None  # no state folder, or none that says of what
    return made_at if made_at.tzinfo is not None else made_at.replace(tzinfo=UTC)
