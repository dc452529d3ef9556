"""The guard compares what two commits have to do, and says so by its exit code."""

from __future__ import annotations

import shutil
import subprocess
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path

import pytest

import guard
from guard import Compared, GuardError

EMPTY = 5_000_000


@contextmanager
def no_trees(*commits: str) -> Iterator[list[Path]]:
    """Stand in for the trees of commits."""
    yield [Path(commit) for commit in commits]


@pytest.fixture
def without_git(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(guard, "checked_out", no_trees)
    monkeypatch.setattr(guard, "git", lambda *_: "")


def counting(**costs: int) -> guard.Count:
    """Return counts of a process that does so much for each workflow."""

    def count(source: Path, workflows: int) -> int:
        assert source.name == "src"
        return EMPTY + costs[source.parent.name] * workflows

    return count


@pytest.mark.parametrize(
    ("head", "code", "said"),
    [
        (100_000, 0, "+0.00%, within"),
        (102_000, 0, "+2.00%, within"),
        (102_001, 1, "+2.00%, beyond"),
        (150_000, 1, "+50.00%, beyond"),
        (50_000, 0, "-50.00%, within"),
    ],
)
@pytest.mark.usefixtures("without_git")
def test_more_than_the_limit_is_an_error(
    head: int, code: int, said: str, capsys: pytest.CaptureFixture[str]
) -> None:
    """What a process takes without any workflow counts on neither side."""
    assert guard.main(["old"], count=counting(old=100_000, HEAD=head)) == code

    assert said in capsys.readouterr().out


@pytest.mark.usefixtures("without_git")
def test_work_that_takes_nothing_was_not_counted(
    capsys: pytest.CaptureFixture[str],
) -> None:
    assert guard.main(["old"], count=counting(old=0, HEAD=1)) == 2

    assert "expected more instructions" in capsys.readouterr().err


def test_growth_is_of_the_base() -> None:
    assert Compared(200.0, 250.0).growth == pytest.approx(0.25)
    assert not Compared(200.0, 250.0).is_within
    assert Compared(200.0, 250.0, limit=0.25).is_within


def test_the_count_is_read_from_what_callgrind_prints() -> None:
    printed = "==12== Events    : Ir\n==12== Collected : 2202752824\n==12==\n"

    assert guard.count_in(printed) == 2_202_752_824
    for wrong in ("", "==12== Collected : \n", printed * 2):
        with pytest.raises(GuardError, match="expected one count"):
            guard.count_in(wrong)


@pytest.mark.usefixtures("without_git")
def test_without_valgrind_it_says_what_to_install(
    monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    monkeypatch.setattr(shutil, "which", lambda _: None)

    assert guard.main(["old"]) == 2

    assert "apt-get install valgrind" in capsys.readouterr().err


@pytest.fixture
def repository(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    """Make a repository whose one file names its commit."""
    if shutil.which("git") is None:
        pytest.skip("no git")
    folder = tmp_path / "repository"
    (folder / "src").mkdir(parents=True)
    (folder / "benchmarks").mkdir()
    monkeypatch.setattr(guard, "HERE", folder / "benchmarks")
    guard.git("init", "-q", str(folder))
    for name in ("user.name", "user.email"):
        guard.git("config", name, "tests")
    for tag in ("one", "two"):
        (folder / "src" / "text").write_text(tag, "utf-8")
        guard.git("add", str(folder))
        guard.git("commit", "-qm", tag)
        guard.git("tag", tag)
    return folder


def worktrees() -> int:
    return len(guard.git("worktree", "list").splitlines())


def test_both_commits_are_measured_and_leave_no_trace(
    repository: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    seen: list[tuple[str, int]] = []

    def count(source: Path, workflows: int) -> int:
        text = (source / "text").read_text("utf-8")
        seen.append((text, workflows))
        return EMPTY + workflows * len(text)

    assert guard.main(["one", "--workflows", "7"], count=count) == 0

    assert seen == [("one", 0), ("one", 7), ("two", 0), ("two", 7)]
    assert worktrees() == 1
    assert "note" not in capsys.readouterr().out


def test_changes_that_are_not_committed_are_told(
    repository: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    (repository / "src" / "text").write_text("changed", "utf-8")

    guard.main(["two"], count=lambda _, workflows: EMPTY + workflows)

    assert "not committed" in capsys.readouterr().out


def test_the_trees_go_when_counting_fails(repository: Path) -> None:
    def count(source: Path, workflows: int) -> int:
        raise GuardError(f"{source.name} {workflows}")

    assert guard.main(["one"], count=count) == 2
    assert worktrees() == 1


def test_what_is_no_commit_is_refused(
    repository: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    assert guard.main(["three"], count=lambda *_: 1) == 2
    assert "three" in capsys.readouterr().err


def test_work_that_fails_is_no_count(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    def failing(command: list[str], **_: object) -> subprocess.CompletedProcess[str]:
        return subprocess.CompletedProcess(command, 0 if "compileall" in command else 3)

    monkeypatch.setattr(shutil, "which", lambda name: name)
    monkeypatch.setattr(
        subprocess,
        "run",
        lambda command, **given: attach(failing(command, **given), "no such module"),
    )

    with pytest.raises(GuardError, match="no such module"):
        guard.count_instructions(tmp_path, 1)


def attach(
    done: subprocess.CompletedProcess[str], text: str
) -> subprocess.CompletedProcess[str]:
    done.stderr = text
    return done
