"""Children that are killed, traced, or given a disk of their own."""

from __future__ import annotations

import functools
import os
import shutil
import subprocess
import sys
from collections.abc import Sequence
from pathlib import Path

import pytest

CHILDREN = Path(__file__).parent / "children"


@functools.cache
def _fails(*command: str) -> str:
    """Try a command; returns what is wrong with it, or nothing."""
    if shutil.which(command[0]) is None:
        return f"{command[0]} is not installed"
    tried = subprocess.run(command, capture_output=True, text=True, check=False)
    return tried.stderr.strip() if tried.returncode else ""


class Children:
    """Starts the programs in ``children/``."""

    def run(
        self,
        name: str,
        *arguments: object,
        under: Sequence[str] = (),
        text: str | None = None,
    ) -> subprocess.CompletedProcess[str]:
        paths = os.environ.get("PYTHONPATH", "").split(os.pathsep)
        environment = {
            **os.environ,
            "PYTHONPATH": os.pathsep.join(str(Path(p).resolve()) for p in paths if p),
            # What is traced is what the store writes.
            "PYTHONDONTWRITEBYTECODE": "1",
        }
        program = [sys.executable, str(CHILDREN / name), *map(str, arguments)]
        return subprocess.run(
            [*under, *program],
            input=text,
            env=environment,
            capture_output=True,
            text=True,
            check=False,
        )


@pytest.fixture(scope="session")
def children() -> Children:
    return Children()


@pytest.fixture(scope="session")
def strace() -> str:
    """Find strace, or skip: without it nobody sees the order of the writes."""
    if why := _fails("strace", "-f", "-qq", "-o", os.devnull, "true"):
        pytest.skip(f"strace does not work here: {why}")
    return "strace"


@pytest.fixture(scope="session")
def mounting() -> tuple[str, ...]:
    """Say how to run a program that may mount disks, or skip."""
    prefix = ("unshare", "--mount", "--propagation", "private")
    script = "mount -t tmpfs none /mnt"
    if why := _fails(*prefix, "sh", "-c", script):
        pytest.skip(f"mounting is not permitted here: {why}")
    return prefix
