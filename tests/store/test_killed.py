"""The process is killed at each call to the kernel that changes the folder."""

from __future__ import annotations

import re
import shutil
from collections import Counter
from collections.abc import Callable, Iterator, Sequence
from pathlib import Path
from typing import TYPE_CHECKING, Any

import pytest
import trio
import trio.testing

from minions.errors import StoreError
from minions.store import Keyspace, migrate, open_lmdb_store

if TYPE_CHECKING:
    from subprocess import CompletedProcess

RECORD = Keyspace.RECORD
COUNT = 3
# What the kernel is asked for to change files; `write` is also how the child speaks.
CALLS = {
    "data": ("write", "pwrite64", "writev", "fdatasync", "msync", "ftruncate"),
    "names": ("mkdir", "flock", "fsync", "rename", "unlink", "unlinkat", "rmdir"),
}
pytestmark = pytest.mark.slow

Killed = tuple[str, "CompletedProcess[str]"]


class Killer:
    def __init__(self, children: Any, strace: str) -> None:
        self._children, self._strace = children, strace

    def kill_everywhere(
        self, calls: Sequence[str], prepare: Callable[[], None], *arguments: object
    ) -> Iterator[Killed]:
        """Run the child again and again, killed at one call later each time."""
        prepare()
        trace = self._run(f"trace={','.join(calls)}", *arguments)
        assert trace.returncode == 0, trace.stderr
        made = Counter(re.findall(r"^(\w+)\(", trace.stderr, re.MULTILINE))
        for call in calls:
            for number in range(1, made[call] + 1):
                prepare()
                child = self._run(
                    f"inject={call}:signal=KILL:when={number}", *arguments
                )
                # strace ends as its child did.
                assert child.returncode in {-9, 137}, child
                yield f"{call} {number}", child

    def _run(self, expression: str, *arguments: object) -> CompletedProcess[str]:
        under = [self._strace, "-qq", "-e", expression]
        done: CompletedProcess[str] = self._children.run(
            "killed.py", *arguments, under=under
        )
        return done


@pytest.fixture
def killer(children: Any, strace: str) -> Killer:
    return Killer(children, strace)


def value_of(number: int) -> bytes:
    return b"%d" % number * (5000 if number % 3 == 0 else 1)


def look(folder: Path) -> tuple[dict[int, bytes], bool]:
    async def main() -> tuple[dict[int, bytes], bool]:
        async with open_lmdb_store(folder) as store:
            content = await store.page(RECORD)
            unclean: bool = store.unclean
            return {int(key): value for key, value in content}, unclean

    return trio.run(main, clock=trio.testing.MockClock(autojump_threshold=0))


def said_by(child: CompletedProcess[str]) -> list[str]:
    return child.stdout.splitlines()


@pytest.mark.parametrize("calls", CALLS)
@pytest.mark.parametrize(
    "how",
    [("new", "fsync"), ("new", "async"), ("closed", "fsync"), ("open", "async")],
)
def test_a_kill_loses_nothing_and_is_known(
    tmp_path: Path,
    killer: Killer,
    children: Any,
    how: tuple[str, str],
    calls: str,
) -> None:
    """What was acknowledged is there, whole, and an end in between is unclean."""
    begin, durability = how
    start, folder = tmp_path / "start", tmp_path / "state"
    first = 0
    if begin != "new":
        first = COUNT
        under: tuple[str, ...] = (
            () if begin == "closed" else ("strace", "-qq", "-o", "/dev/null")
        )
        if begin == "open":
            under += ("-e", "inject=rename:signal=KILL:when=3")
        ended = children.run("killed.py", start, durability, 0, first, "", under=under)
        assert ("closed" in said_by(ended)) == (begin == "closed"), ended

    def prepare() -> None:
        shutil.rmtree(folder, ignore_errors=True)
        if begin != "new":
            shutil.copytree(start, folder)

    kills = 0
    for where, child in killer.kill_everywhere(
        CALLS[calls], prepare, folder, durability, first, first + COUNT, ""
    ):
        kills += 1
        said = said_by(child)
        saved = [int(line.split()[1]) for line in said if line.startswith("saved")]
        content, unclean = look(folder)

        known = list(range(first)) + saved
        assert list(content)[: len(known)] == known, where
        assert len(content) <= len(known) + 1, where
        assert content == {n: value_of(n) for n in content}, where
        if saved:
            # Only the very last call, by which the mark is there, leaves it open.
            assert unclean or len(saved) == COUNT, where
        if "open True" in said:
            assert begin == "open", where
        assert look(folder) == (content, False), where
    print(f"{kills} kills at calls for {calls}, begun {begin}, {durability}")
    assert kills > 5


@pytest.mark.parametrize("calls", CALLS)
def test_a_kill_in_a_migration_is_made_good(
    tmp_path: Path,
    killer: Killer,
    children: Any,
    monkeypatch: pytest.MonkeyPatch,
    calls: str,
) -> None:
    """It is the old format or the new one; the copy beside it is whole or not there."""
    start, folder = tmp_path / "start", tmp_path / "parent" / "state"
    copy = folder.with_name(f"state.format-{migrate.FORMAT}-copy")
    assert children.run("killed.py", start, "fsync", 0, COUNT, "").returncode == 0
    old = {n: value_of(n) for n in range(COUNT)}
    new = {n: value + value for n, value in old.items()}

    def prepare() -> None:
        shutil.rmtree(folder.parent, ignore_errors=True)
        shutil.copytree(start, folder)

    kills, seen = 0, {"old": 0, "new": 0}
    for where, _ in killer.kill_everywhere(
        CALLS[calls], prepare, folder, "fsync", COUNT, COUNT, "later"
    ):
        kills += 1
        try:
            content, _unclean = look(folder)
        except StoreError as exc:
            assert "format" in str(exc), where  # noqa: PT017  # it may also open
            seen["new"] += 1
        else:
            # An older version opened it: what it sees is what it knows.
            assert content == old, where
            seen["old"] += 1
        again = children.run("killed.py", folder, "fsync", COUNT, COUNT, "later")
        assert again.returncode == 0, (where, again.stderr)
        names = sorted(path.name for path in folder.parent.iterdir())
        # Behind an older version that has written, another copy is made.
        assert names in (
            [folder.name, copy.name],
            [folder.name, copy.name, f"{copy.name}-2"],
        ), where
        assert look(copy)[0] == old, where
        with monkeypatch.context() as patch:
            patch.setattr(migrate, "FORMAT", migrate.FORMAT + 1)
            assert look(folder)[0] == new, where
    print(f"{kills} kills at calls for {calls} in a migration: {seen}")
    assert kills > 5
    assert min(seen.values()) > 1
