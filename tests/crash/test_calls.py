"""The process is killed during commits: at each write and flush of the data file."""

from __future__ import annotations

import re
import shutil
import subprocess
import sys
from collections import Counter
from collections.abc import Iterator
from pathlib import Path

import msgspec
import pytest

import planned
from lives import spread
from planned import Fate
from plans import write_plan
from scenes import SCENE

CALLS = ("pwrite64", "pwritev", "writev", "fdatasync", "msync")


@pytest.fixture(scope="module")
def strace() -> str:
    path = shutil.which("strace")
    if path is None:
        pytest.skip("there is no strace")
    tried = subprocess.run(
        [path, "-f", "-o", "/dev/null", sys.executable, "-c", ""],
        capture_output=True,
        text=True,
        check=False,
    )
    if tried.returncode:
        pytest.skip(f"strace may not trace here: {tried.stderr}")
    return path


@pytest.fixture(scope="module")
def calls(strace: str, tmp_path_factory: pytest.TempPathFactory) -> list[str]:
    """Run the scene undisturbed; return calls on the data file, and marks."""
    folder = tmp_path_factory.mktemp("traced")
    write_plan(folder / "plan.json", SCENE)
    trace = folder / "trace"
    command = [strace, "-f", "-qq", "-o", str(trace), "-s", "100"]
    command += ["-e", f"trace=write,{','.join(CALLS)}"]
    command += ["-P", str(folder / "state" / "data.mdb"), "-P", str(folder / "ledger")]
    command += [sys.executable, planned.__file__, str(folder / "plan.json")]
    fate = msgspec.json.encode(Fate(marks=True)).decode()
    subprocess.run([*command, str(folder), fate], check=True, capture_output=True)
    return list(read_trace(trace.read_text()))


def read_trace(text: str) -> Iterator[str]:
    for line in text.splitlines():
        found = re.match(r"\d+ +(\w+)\(", line)
        if found is None:
            continue
        mark = re.search(r'\\"k\\":\\"(committing|committed)\\"', line)
        if found[1] != "write":
            yield found[1]
        elif mark is not None:
            yield mark[1]


@pytest.mark.slow
def test_each_commit_shows_its_calls(calls: list[str]) -> None:
    """What the test below kills at is what commits are made of."""
    commits: list[Counter[str]] = []
    for call in calls:
        if call == "committing":
            commits.append(Counter())
        elif call != "committed" and commits:
            commits[-1][call] += 1

    assert len(commits) == calls.count("committed") > 50
    for shown in commits:
        assert shown["fdatasync"] + shown["msync"] >= 1
        assert shown["pwrite64"] + shown["pwritev"] + shown["writev"] >= 2


def points(calls: list[str]) -> list[tuple[str, list[Fate]]]:
    return [
        (f"{call} {number}", [Fate(call=(call, number))])
        for call in CALLS
        for number in range(1, calls.count(call) + 1)
    ]


@pytest.mark.slow
def test_a_kill_at_every_call_loses_nothing(calls: list[str], tmp_path: Path) -> None:
    cases = points(calls)

    counts = spread(SCENE, tmp_path, cases, tries=4)

    print(Counter(call for call in calls if call in CALLS), counts)
    assert counts["runs"] == len(cases) > 300
    # How records fill pages depends on the times in them: the last may not come.
    assert counts["not reached"] <= 2
