"""The neighbours do the work that they are measured by, or say why they do not."""

from __future__ import annotations

import asyncio
import json
import re
import sqlite3
import subprocess
import tomllib
from collections.abc import Awaitable, Callable
from contextlib import closing
from functools import partial
from pathlib import Path
from typing import Any

import pytest

import figures_neighbours
from harness import NotMeasuredError, measure, results_of
from neighbours import by_hand, venvs

Step = Callable[[Any, Any], Awaitable[None]]
ROOT = Path(__file__).parents[2]


def rows_of(path: Path) -> list[Any]:
    with closing(sqlite3.connect(path)) as db:
        return db.execute("SELECT * FROM workflows").fetchall()


def test_each_step_by_hand_is_committed_with_its_context(tmp_path: Path) -> None:
    """What a second connection sees between the steps is what goes on after a crash."""
    path = tmp_path / "workflows.db"
    seen = []

    async def look(real: Step, event: by_hand.Event, context: by_hand.Context) -> None:
        rows = rows_of(path)
        seen.append([(n, json.loads(e), s, json.loads(c)) for n, e, s, c in rows])
        await real(event, context)

    for name, real in list(by_hand.STEPS.items()):
        with pytest.MonkeyPatch.context() as patch:
            patch.setitem(by_hand.STEPS, name, partial(look, real))
            by_hand.measure(by_hand.Store(path), count=1, in_flight=1)

    event = {"number": 1, "text": by_hand.TEXT}
    assert seen == [
        [(1, event, "first", {"total": 0, "text": ""})],
        [(1, event, "second", {"total": 1, "text": by_hand.TEXT})],
    ]
    assert rows_of(path) == []


@pytest.mark.parametrize("synchronous", ["FULL", "NORMAL"])
@pytest.mark.parametrize("group", [False, True])
def test_by_hand_runs_what_is_asked(
    tmp_path: Path, synchronous: str, *, group: bool
) -> None:
    store = by_hand.Store(tmp_path / "workflows.db", synchronous, group=group)

    by_hand.measure(store, count=8, in_flight=4)

    assert store.commits < 24 if group else store.commits == 24


def test_by_hand_goes_on_at_the_step_that_was_saved(tmp_path: Path) -> None:
    path = tmp_path / "workflows.db"
    with closing(sqlite3.connect(path)) as db, db:
        db.execute(by_hand.TABLE)
        event, context = ('{"number": 7, "text": "t"}', '{"total": 40, "text": "t"}')
        db.execute(by_hand.START, (7, event, "second", context))
    runner = by_hand.Runner(by_hand.Store(path), 1)

    asyncio.run(runner.run(0))

    assert (runner.ended, runner.total) == (1, 41)
    assert rows_of(path) == []


def test_every_version_is_pinned() -> None:
    """The speed of a neighbour is that of a version."""
    pinned = [version for given in venvs.VERSIONS.values() for version in given]

    assert all(re.fullmatch(r"[A-Za-z][\w-]*==\d[\d.]*", v) for v in pinned), pinned
    programs = {path.stem for path in Path(venvs.__file__).parent.glob("*.py")}
    assert programs == {*venvs.VERSIONS, "venvs"}


def test_no_neighbour_is_a_dependency_of_ours() -> None:
    project = tomllib.loads((ROOT / "pyproject.toml").read_text(encoding="utf-8"))
    groups = [d for g in project["dependency-groups"].values() for d in g]
    ours = str([*project["project"]["dependencies"], *groups])

    assert not re.search(r"\bdbos\b|'minions|SQLAlchemy", ours)


def test_an_environment_that_cannot_be_made_leaves_a_row(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """The row stays, reads *not measured*, and the next start tries again."""
    commands: list[tuple[str, ...]] = []

    def fail(command: tuple[str, ...], **_: object) -> object:
        commands.append(command)
        said = "WARNING: slow\nERROR: no matching distribution\nnotice: a new pip\n"
        code = 1 if "pip" in command else 0
        return subprocess.CompletedProcess(command, code, "", said)

    monkeypatch.setattr(subprocess, "run", fail)
    monkeypatch.setattr(venvs.python_of, "__kwdefaults__", {"build": tmp_path})
    (figure,) = [f for f in figures_neighbours.FIGURES if f.name == "dbos"]

    measured = measure(figure, runs=2, run=lambda _: {"workflows_per_s": 1.0})

    (result,) = results_of(measured)
    assert result.verdict == "not measured"
    assert "no environment for dbos_sqlite: ERROR: no matching" in result.why
    assert measured.failed == frozenset()
    with pytest.raises(NotMeasuredError):
        venvs.python_of("dbos_sqlite")
    assert sum("venv" in command for command in commands) == 2


def test_an_environment_is_made_once(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    commands: list[tuple[str, ...]] = []

    def note(command: tuple[str, ...], **_: object) -> object:
        commands.append(command)
        if "venv" in command:
            Path(command[-1]).mkdir(parents=True)
        return subprocess.CompletedProcess(command, 0, "", "")

    monkeypatch.setattr(subprocess, "run", note)

    first = venvs.python_of("predecessor", build=tmp_path)
    again = venvs.python_of("predecessor", build=tmp_path)

    assert first == again
    assert len(commands) == 2
    assert commands[1][-5:] == venvs.VERSIONS["predecessor"]
