"""Disks as they are: full, read-only; and a process without address space."""

from __future__ import annotations

from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest

pytestmark = pytest.mark.slow

Run = Callable[..., list[str]]


@pytest.fixture
def on_small_disk(children: Any, mounting: tuple[str, ...], tmp_path: Path) -> Run:
    """Run a child with a disk of half a MiB of its own; returns what it says."""

    def run(way: str) -> list[str]:
        script = 'mount -t tmpfs -o size=512k none "$0" && exec "$@"'
        child = children.run(
            "disk.py",
            way,
            tmp_path / "state",
            under=[*mounting, "sh", "-c", script, str(tmp_path)],
        )
        assert child.returncode == 0, child.stderr
        lines: list[str] = child.stdout.splitlines()
        return lines

    return run


def test_a_disk_fills_and_is_freed(on_small_disk: Run) -> None:
    """Nothing is acknowledged meanwhile, not even a delete, and nothing is lost."""
    assert on_small_disk("tmpfs") == [
        "on a full disk: False False",
        "state: backoff ['StoreFullError']",
        "deleted: True None",
        "state: ok ['StoreFullError', 'NoneType']",
        "saved: 30 False",
    ]


def test_a_start_and_an_end_on_a_full_disk(on_small_disk: Run) -> None:
    """The start leaves nothing behind; the end says that all is saved."""
    refused, left, at_the_end, saved = on_small_disk("full_at_the_start")

    assert refused.startswith("refused: StoreFullError")
    assert left == "left: ['ballast']"
    assert at_the_end.startswith("at the end: StoreFullError")
    assert "All writes are saved" in at_the_end
    assert saved == "saved: 2 True"


def test_writes_are_given_up_on_a_full_disk(on_small_disk: Run) -> None:
    refused, saved = on_small_disk("full_at_the_end")

    assert "30 writes are not saved" in refused
    assert saved == "saved: 1 True"


def test_a_map_that_may_not_grow(children: Any, tmp_path: Path) -> None:
    """Refused address space is trouble like a full disk, and ends like it."""
    child = children.run("disk.py", "space", tmp_path / "state")

    assert child.returncode == 0, child.stderr
    assert child.stdout.splitlines() == [
        "state: backoff ['StoreFullError']",
        "grown: True",
        "state: ok ['StoreFullError', 'NoneType']",
        "saved all: True",
    ]


@pytest.mark.parametrize("made", [True, False])
def test_a_read_only_disk_is_refused(
    children: Any, mounting: tuple[str, ...], tmp_path: Path, *, made: bool
) -> None:
    """Also to root, whom modes do not bind."""
    disk = tmp_path / "disk"
    disk.mkdir()
    folder = disk / "state"
    if made:
        filled = children.run("killed.py", folder, "fsync", 0, 2, "")
        assert filled.returncode == 0, filled.stderr
    script = 'mount --bind "$0" "$0" && mount -o remount,ro,bind "$0" && exec "$@"'
    before = sorted(path.name for path in disk.rglob("*"))

    child = children.run(
        "disk.py", "read_only", folder, under=[*mounting, "sh", "-c", script, str(disk)]
    )

    assert child.returncode == 0, child.stderr
    assert child.stdout.startswith("refused: StoreError")
    assert "Read-only file system" in child.stdout
    assert sorted(path.name for path in disk.rglob("*")) == before
