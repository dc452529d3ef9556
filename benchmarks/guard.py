"""A guard that noise does not touch: the instructions of fixed work, at two commits.

``python benchmarks/guard.py BASE`` (``nox -s bench -- --guard BASE``)

Both commits are checked out beside each other, and callgrind counts the instructions
of `guarded.py`, which is the same for both, once with workflows and once without any:
the difference is the work. More than 2 % beyond that of BASE is an error.

It says nothing of waiting, of the disk and of caches. It sees what the processor has
to do for a workflow, on whichever machine, however busy.
"""

from __future__ import annotations

import argparse
import os
import re
import shutil
import subprocess
import sys
import tempfile
from collections.abc import Callable, Iterator, Sequence
from contextlib import contextmanager
from pathlib import Path

import attrs

HERE = Path(__file__).parent
LIMIT = 0.02
WORKFLOWS = 1_000
COLLECTED = re.compile(r"^==\d+== Collected : (\d+)$", re.MULTILINE)

Count = Callable[[Path, int], int]
"""Returns the instructions of a process: source folder, workflows."""


class GuardError(Exception):
    """The instructions could not be counted; the text says why."""


@attrs.frozen
class Compared:
    """The instructions for one workflow, before and now."""

    base: float
    head: float
    limit: float = LIMIT

    @property
    def growth(self) -> float:
        """How much more it is now; 0.02 for 2 %."""
        return self.head / self.base - 1

    @property
    def is_within(self) -> bool:
        return self.head <= self.base * (1 + self.limit)

    def __str__(self) -> str:
        verdict = "within" if self.is_within else "beyond"
        return (
            f"{self.base:,.0f} instructions a workflow before, {self.head:,.0f} now:"
            f" {self.growth:+.2%}, {verdict} the limit of {self.limit:+.0%}"
        )


def git(*arguments: str) -> str:
    """Run git on this repository.

    Raises:
        GuardError: It failed.
    """
    found = shutil.which("git")
    if found is None:
        raise GuardError("expected git, found none; install it")
    command = [found, "-C", str(HERE), *arguments]
    done = subprocess.run(command, capture_output=True, text=True, check=False)
    if done.returncode:
        raise GuardError(f"git {' '.join(arguments)}: {done.stderr.strip()}")
    return done.stdout.strip()


@contextmanager
def checked_out(*commits: str) -> Iterator[list[Path]]:
    """Check commits out beside each other, under names of the same length.

    Raises:
        GuardError: One is no commit.
    """
    hashes = [git("rev-parse", "--verify", f"{c}^{{commit}}") for c in commits]
    with tempfile.TemporaryDirectory() as folder:
        trees = [Path(folder) / f"tree{number}" for number in range(len(hashes))]
        made = []
        try:
            for tree, commit in zip(trees, hashes, strict=True):
                git("worktree", "add", "--detach", "--quiet", str(tree), commit)
                made.append(tree)
            yield trees
        finally:
            for tree in made:
                git("worktree", "remove", "--force", str(tree))


def count_in(printed: str) -> int:
    """Read the count that callgrind prints at its end.

    Raises:
        GuardError: There is none.
    """
    found = COLLECTED.findall(printed)
    if len(found) != 1:
        raise GuardError(f"expected one count of callgrind, found: {printed.strip()}")
    return int(found[0])


def count_instructions(source: Path, workflows: int) -> int:
    """Run the work under callgrind, with the package of a source folder.

    Raises:
        GuardError: valgrind is not there, or the work failed.
    """
    valgrind = shutil.which("valgrind")
    if valgrind is None:
        raise GuardError(
            "expected valgrind, found none; install it from your system's packages"
            " (Debian: apt-get install valgrind), or leave the guard out"
        )
    command = [
        *(valgrind, "--tool=callgrind", "--callgrind-out-file=/dev/null"),
        *(sys.executable, "-P", str(HERE / "guarded.py")),
        *("--workflows", str(workflows), "--source", str(source)),
    ]
    # Nothing of the caller's environment: its size moves the stack.
    environment = {
        "PATH": os.defpath,
        "PYTHONHASHSEED": "0",
        "PYTHONPATH": str(source),
    }
    # A run that compiles the package does more than one that finds it compiled.
    compiling = [sys.executable, "-m", "compileall", "-q", str(source)]
    subprocess.run(compiling, env=environment, check=True)
    done = subprocess.run(
        command, env=environment, capture_output=True, text=True, check=False
    )
    if done.returncode:
        raise GuardError(f"{source}: the work failed:\n{done.stderr.strip()}")
    return count_in(done.stderr)


def each(source: Path, workflows: int, count: Count) -> float:
    """Return the instructions for one workflow, without what a process takes."""
    empty = count(source, 0)
    full = count(source, workflows)
    if full <= empty:
        raise GuardError(
            f"{source}: expected more instructions for {workflows} workflows than for"
            f" none, found {full} and {empty}"
        )
    return (full - empty) / workflows


def compare(
    base: str,
    head: str = "HEAD",
    *,
    workflows: int = WORKFLOWS,
    count: Count = count_instructions,
) -> Compared:
    """Count the instructions for one workflow at both commits.

    Raises:
        GuardError: They could not be counted.
    """
    with checked_out(base, head) as trees:
        before, now = (each(tree / "src", workflows, count) for tree in trees)
    return Compared(before, now)


def main(
    arguments: Sequence[str] | None = None, *, count: Count = count_instructions
) -> int:
    """Return 0 within the limit, 1 beyond it, 2 if nothing could be counted."""
    parser = argparse.ArgumentParser(description=__doc__.partition("\n")[0])
    parser.add_argument("base", help="the commit to compare with")
    parser.add_argument("--head", default="HEAD", help="the commit that is compared")
    parser.add_argument("--workflows", type=int, default=WORKFLOWS)
    given = parser.parse_args(arguments)
    try:
        if given.head == "HEAD" and git("status", "--porcelain", "--", "../src"):
            print("note: changes that are not committed are not measured")
        found = compare(given.base, given.head, workflows=given.workflows, count=count)
    except GuardError as exc:
        print(f"guard: {exc}", file=sys.stderr)
        return 2
    print(f"{given.base} to {given.head}: {found}")
    return 0 if found.is_within else 1


if __name__ == "__main__":
    sys.exit(main())
