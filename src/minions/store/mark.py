"""The mark of a state folder: ``minions.json``, replaced whole and durably."""

from __future__ import annotations

import json
import os
from collections.abc import Mapping
from pathlib import Path
from typing import Any

__all__ = ["APPLICATION", "MARK", "NEW_MARK", "sync_folder", "write_mark"]

APPLICATION = "minions"
MARK = "minions.json"
NEW_MARK = "minions.json.new"


def write_mark(folder: Path, fields: Mapping[str, Any]) -> None:
    """Replace the mark; returns when the new one is on disk.

    It is the old or the new one, whatever is killed when.

    Raises:
        OSError: The disk refuses; the mark is the old one, unless only the flush of
            the folder has failed.
    """
    new = folder / NEW_MARK
    with new.open("w") as file:
        file.write(json.dumps(fields, indent=2) + "\n")
        file.flush()
        os.fsync(file.fileno())
    new.replace(folder / MARK)
    sync_folder(folder)


def sync_folder(path: Path) -> None:
    """Let the names in a folder be on disk."""
    folder = os.open(path, os.O_RDONLY)
    try:
        os.fsync(folder)
    finally:
        os.close(folder)
