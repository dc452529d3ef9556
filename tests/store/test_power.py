"""A loss of power at any moment: the store opens as of one commit, or refuses."""

from __future__ import annotations

import shutil
import tempfile
from collections import Counter
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pytest

TRACED = (
    "openat,write,pwrite64,pwritev,pwritev2,writev,lseek,fdatasync,fsync,msync,"
    "ftruncate,rename"
)
MEMORY = Path("/dev/shm")  # noqa: S108  # nothing secret; what is built is thrown away
pytestmark = pytest.mark.slow


@pytest.fixture
def scratch(tmp_path: Path) -> Iterator[Path]:
    """Find a place for the images: in memory, a flush costs nothing."""
    if not MEMORY.is_dir():
        yield tmp_path / "image"
        return
    with tempfile.TemporaryDirectory(dir=MEMORY) as name:
        yield Path(name) / "image"


class Losses:
    def __init__(self, children: Any, strace: str, folder: Path, scratch: Path) -> None:
        self._children, self._strace = children, strace
        self._folder, self._scratch = folder, scratch

    def record(self, durability: str, seed: int, commits: int, *, new: bool) -> None:
        """Trace some commits on a folder; it is kept as it was before."""
        before, folder = self._folder.with_name("before"), self._folder
        before.mkdir()
        if not new:
            begun = self._children.run(
                "power.py", "record", folder, durability, "base", 20
            )
            assert begun.returncode == 0, begun.stderr
            shutil.copytree(folder, before, dirs_exist_ok=True)
        traced = self._children.run(
            "power.py",
            *("record", folder, durability, seed, commits),
            under=[
                *(self._strace, "-qq", "-y", "-xx", "-s", "1000000"),
                *("-o", folder.with_name("trace"), "-e", f"trace={TRACED}"),
            ],
        )
        assert traced.returncode == 0, traced.stderr
        shutil.copy(f"{folder}.open.json", f"{before}.open.json")

    def outcomes(self) -> dict[int, tuple[str, str]]:
        """Open every image; each process goes on behind the one that ended it."""
        trace, before = (self._folder.with_name(n) for n in ("trace", "before"))
        found: dict[int, tuple[str, str]] = {}
        while True:
            child = self._children.run(
                "power.py", "open", trace, before, self._scratch, len(found)
            )
            for line in child.stdout.splitlines():
                number, what, *text = line.split(" ", 2)
                found[int(number)] = (what, " ".join(text))
            if child.returncode == 0:
                return found
            assert child.stdout, child.stderr
            last = max(found)
            found[last] = ("died", f"{child.returncode} {child.stderr[-500:]}")


@pytest.fixture
def losses(children: Any, strace: str, tmp_path: Path, scratch: Path) -> Losses:
    return Losses(children, strace, tmp_path / "state", scratch)


@pytest.mark.parametrize(
    ("durability", "new", "seed", "commits"),
    [
        ("fsync", False, 1, 2),
        ("async", False, 1, 2),
        ("fsync", True, 2, 2),
        ("async", True, 2, 2),
        ("fsync", False, 3, 16),
        ("async", False, 4, 8),
        ("async", False, 5, 8),
    ],
)
def test_a_loss_of_power_leaves_one_commit_or_a_refusal(
    losses: Losses, durability: str, seed: int, commits: int, *, new: bool
) -> None:
    """What was acknowledged with a flush is always there."""
    losses.record(durability, seed, commits, new=new)

    outcomes = losses.outcomes()

    counts = Counter(what for what, _ in outcomes.values())
    print(f"{durability}, new={new}, {commits} commits: {dict(counts)}")
    bad = {n: o for n, o in outcomes.items() if o[0] not in {"opened", "refused"}}
    assert bad == {}
    assert counts["opened"] > commits
    if durability == "fsync":
        assert counts["refused"] == 0, outcomes
    else:
        texts = [text for what, text in outcomes.values() if what == "refused"]
        assert all("restore the state folder from a copy" in text for text in texts)
        assert new or texts
