"""The checker finds what is wrong: it is told of things that must never happen."""

from __future__ import annotations

import shutil
from collections.abc import Callable
from pathlib import Path
from typing import Any

import lmdb
import msgspec
import pytest

from checker import Checker, read_ledger
from folder import read_store
from forge import open_forge
from minions.workflow.layout import Keyspace
from planned import Fate
from plans import write_plan
from scenes import SCENE

pytestmark = pytest.mark.slow

Line = dict[str, Any]
Lines = list[Line]


@pytest.fixture(scope="module")
def done(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """Run the scene undisturbed."""
    folder = tmp_path_factory.mktemp("done")
    plan = msgspec.structs.replace(SCENE, durability="async")
    write_plan(folder / "plan.json", plan)
    with open_forge() as forge:
        assert forge.run(folder / "plan.json", folder, Fate()) == 0
    return folder


def check(lines: Lines, state: Path) -> None:
    checker = Checker(SCENE, 1.0)
    checker.hear(lines)
    checker.finish(state)


def find(lines: Lines, **wanted: object) -> int:
    return next(i for i, line in enumerate(lines) if wanted.items() <= line.items())


def test_a_run_as_it_is_to_be_is_passed(done: Path) -> None:
    check(read_ledger(done / "ledger"), done / "state")


def runs_again(lines: Lines) -> None:
    """A step that was followed by another one."""
    first = lines[find(lines, k="begin", m="trader", s="book", a=1)]
    lines.insert(find(lines, k="begin", w=first["w"], s="tell") + 1, first)


def runs_twice(lines: Lines) -> None:
    at = find(lines, k="begin", m="clerk", s="ask")
    lines.insert(at, lines[at])


def loses_an_attempt(lines: Lines) -> None:
    del lines[find(lines, k="fail", why="Crash")]


def does_not_fail(lines: Lines) -> None:
    line = lines[find(lines, k="fail", why="Crash")]
    line.update(k="end", taken=[])


def keeps_changes(lines: Lines) -> None:
    line = lines[find(lines, k="begin", m="trader", s="book", a=2)]
    line["trail"] = [*line["trail"], "book"]


def wakes_early(lines: Lines) -> None:
    line = lines[find(lines, k="begin", m="trader", s="book", a=2)]
    line["t"] -= 50


def skips_a_step(lines: Lines) -> None:
    line = lines[find(lines, k="begin", m="clerk", s="act")]
    line["s"] = "talk"


def starts_twice(lines: Lines) -> None:
    line = lines[find(lines, k="begin", m="trader", s="check")]
    lines.append({**line, "w": "w999"})
    lines.append({"k": "end", "w": "w999", "s": "check", "a": 1, "t": 0.0, "taken": []})


def takes_twice(lines: Lines) -> None:
    line = next(line for line in lines if line["k"] == "end" and line["taken"])
    line["taken"] = line["taken"] * 2


def breaks_a_key(lines: Lines) -> None:
    """The second workflow of a key begins before the first has ended."""
    begins = [
        line
        for line in lines
        if line["k"] == "begin" and line["m"] == "trader" and line["n"] % 2 == 0
    ]
    second = next(line for line in begins if line["n"] == 2)
    lines.remove(second)
    lines.insert(lines.index(begins[0]) + 1, second)


def loses_a_cursor(lines: Lines) -> None:
    lines[find(lines, k="emitted", p="lines")]["upto"] = 99


def loses_an_event(lines: Lines) -> None:
    line = lines[find(lines, k="did", what="emit")]
    lines.append({**line, "e": "posts/7/id"})
    lines.insert(0, {**line, "k": "try", "e": "posts/7/id"})


@pytest.mark.parametrize(
    "spoil",
    [
        runs_again,
        runs_twice,
        loses_an_attempt,
        does_not_fail,
        keeps_changes,
        wakes_early,
        skips_a_step,
        starts_twice,
        takes_twice,
        breaks_a_key,
        loses_a_cursor,
        loses_an_event,
    ],
    ids=lambda spoil: spoil.__name__,
)
def test_a_line_that_must_not_be_is_found(
    done: Path, spoil: Callable[[Lines], None]
) -> None:
    lines = read_ledger(done / "ledger")
    spoil(lines)

    with pytest.raises((AssertionError, KeyError, ValueError)):
        check(lines, done / "state")


@pytest.mark.parametrize(
    ("space", "what"),
    [
        (Keyspace.ENDED, "gone"),
        (Keyspace.ENDED_AGE, "gone"),
        (Keyspace.ENDED, "spoilt"),
        (Keyspace.DEDUP, "gone"),
        (Keyspace.CURSOR, "gone"),
        (Keyspace.META, "gone"),
        (Keyspace.TIMER, "too much"),
        (Keyspace.KEY, "too much"),
        (Keyspace.MAIL, "too much"),
    ],
)
def test_a_folder_that_must_not_be_is_found(
    done: Path, tmp_path: Path, space: Keyspace, what: str
) -> None:
    shutil.copytree(done / "state", tmp_path / "state")
    key = next(iter(read_store(tmp_path / "state")[space]), b"12345678" * 3)
    env = lmdb.open(str(tmp_path / "state"), max_dbs=64, lib_version=0)
    with env, env.begin(write=True, db=env.open_db(space.value.encode())) as txn:
        if what == "gone":
            txn.delete(key)
        elif what == "spoilt":
            txn.put(key, bytes([*txn.get(key, b"")[:-1], 7]))
        else:
            txn.put(key, read_store_value(done, space))

    with pytest.raises(Exception, match=r"."):
        check(read_ledger(done / "ledger"), tmp_path / "state")


def read_store_value(done: Path, space: Keyspace) -> bytes:
    """Return a sealed value: what stands in another place, under another key."""
    return next(iter(read_store(done / "state")[Keyspace.ENDED_AGE].values()))
