"""Changes of a state folder that no process uses."""

from __future__ import annotations

import json
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest
import trio

from minions.cli import main
from minions.store.folder import claim_folder

Say = Callable[..., Any]


@pytest.fixture
def say(desk: Path, capsys: pytest.CaptureFixture[str]) -> Say:
    """Run a command, and return the document that it writes."""

    def run(*arguments: str, code: int = 0, where: str = "--folder") -> Any:
        capsys.readouterr()
        place = desk if where == "--folder" else desk / "state"
        assert main([*arguments, where, str(place), "--json"]) == code
        return json.loads(capsys.readouterr().out)

    return run


@pytest.fixture
def states(say: Say) -> Callable[[], dict[str, str]]:
    """Return the states of all workflows, after a check of the store."""

    def look() -> dict[str, str]:
        assert say("fsck")["ok"] is True
        rows = say("ls")["workflows"] + say("ls", "--in", "done")["workflows"]
        return {row["id"]: row["state"] for row in rows}

    return look


BEFORE = {
    "w1": "done",
    "w2": "quarantined",
    "w3": "quarantined",
    "w4": "sleeping",
    "w5": "waiting",
    "w6": "ready",
}
States = Callable[[], dict[str, str]]


@pytest.mark.parametrize("where", ["--folder", "--store"])
def test_a_workflow_is_redriven(say: Say, states: States, where: str) -> None:
    done = say("redrive", "w2", where=where)

    assert done == {
        "dry_run": False,
        "left": [],
        "done": ["w2"],
        "failed": {},
        "unsure": [],
        "quarantined_again": [],
    }
    expected = {**BEFORE, "w2": "ready"}
    if where == "--folder":  # its options keep no ends
        del expected["w1"]
    found = states()
    assert expected.items() <= found.items()


def test_a_workflow_is_discarded(say: Say, states: States) -> None:
    say("discard", "w3", where="--store")

    found = states()
    assert "w3" not in found
    assert found["w2"] == "quarantined"


@pytest.mark.parametrize("workflow", ["w4", "w5", "w6"])
def test_a_workflow_is_cancelled(say: Say, states: States, workflow: str) -> None:
    assert say("cancel", workflow, where="--store")["done"] == [workflow]

    assert workflow not in states()


def test_ends_that_are_kept_outlive_a_change_without_options(
    say: Say, states: States
) -> None:
    """Without minions.toml nobody knows for how long, so none goes."""
    say("cancel", "w6", where="--store")

    assert states()["w1"] == "done"


def test_all_are_redriven_or_those_that_are_meant(say: Say, states: States) -> None:
    identity = say("ls")["workflows"][0]["orchestration"]

    assert say("redrive", "--all", "--reason", "corrupt")["done"] == []
    dry = say("redrive", "--all", "--reason", "failed", "--dry-run")
    assert (dry["left"], dry["done"]) == (["w2", "w3"], [])
    assert states()["w2"] == "quarantined"
    assert say("redrive", "--all", "--orchestration", identity)["done"] == ["w2", "w3"]
    assert states()["w2"] == states()["w3"] == "ready"


@pytest.mark.parametrize("given", ["redrive", "discard", "redrive --dry-run"])
def test_an_unknown_orchestration_is_refused(
    say: Say,
    states: States,
    desk: Path,
    capsys: pytest.CaptureFixture[str],
    given: str,
) -> None:
    identity = say("ls")["workflows"][0]["orchestration"]
    command = [*given.split(), "--all", "--folder", str(desk), "--orchestration"]

    assert main([*command, "nope"]) == 2

    said = capsys.readouterr().err
    assert f"{command[0]} --orchestration nope: expected the id" in said
    assert said.endswith(f"there are: {identity}\n")
    assert states() == BEFORE


def test_an_orchestration_without_quarantined_workflows_is_known(
    say: Say, desk: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    """By its subscription, or by its other workflows when that was ended."""
    identity = say("ls")["workflows"][0]["orchestration"]
    meant = ["redrive", "--all", "--orchestration", identity]
    say("discard", "--all")

    assert say(*meant)["done"] == []
    say("forget", identity)
    assert say(*meant)["done"] == []
    for workflow in ("w4", "w5", "w6"):
        say("cancel", workflow)
    assert main([*meant, "--folder", str(desk)]) == 2
    assert capsys.readouterr().err.endswith("there are: none\n")


def test_all_are_discarded(say: Say, states: States) -> None:
    assert say("discard", "--all")["done"] == ["w2", "w3"]
    assert {"w2", "w3"}.isdisjoint(states())


def test_a_rate_spreads_them(say: Say, monkeypatch: pytest.MonkeyPatch) -> None:
    slept: list[float] = []

    async def sleep(seconds: float) -> None:
        slept.append(seconds)

    monkeypatch.setattr(trio, "sleep", sleep)

    say("redrive", "--all", "--rate", "4")

    assert slept.count(0.25) == 1


@pytest.mark.parametrize(
    ("command", "words"),
    [
        (["redrive", "w4"], "expected a quarantined one to redrive"),
        (["redrive", "w99"], "found none of this id"),
        (["redrive", "4"], "found none of this id"),
        (["redrive", "w1"], "found that it is done"),
        (["discard", "w4"], "found that it is sleeping"),
        (["discard", "w6"], "w6 is ready, not quarantined"),
        (["cancel", "w2"], "discard it instead"),
        (["cancel", "w1"], "expected a workflow that goes on"),
        (["redrive", "w4", "--dry-run"], "found that it is sleeping"),
        (["discard", "w99", "--dry-run"], "found that it is not there"),
        (["cancel", "w2", "--dry-run"], "found that it is quarantined"),
        (["cancel", "w1", "--dry-run"], "found that it is done"),
        (["redrive", "--all", "--canary", "1"], "expected a process that runs"),
        (["redrive", "w2", "--reason", "failed"], "with --all only"),
        (["forget", "other"], "there are: clerk-"),
        (["forget", "other", "--dry-run"], "there are: clerk-"),
    ],
)
def test_what_cannot_be_done_is_refused(
    desk: Path,
    capsys: pytest.CaptureFixture[str],
    states: States,
    command: list[str],
    words: str,
) -> None:
    assert main([*command, "--store", str(desk / "state")]) == 2

    said = capsys.readouterr().err
    assert words in said
    assert "Traceback" not in said
    assert states() == BEFORE


@pytest.mark.parametrize(
    "arguments",
    [
        ["redrive"],
        ["redrive", "w1", "--all"],
        ["redrive", "--all", "--rate", "0"],
        ["redrive", "--all", "--rate", "nan"],
        ["redrive", "--all", "--rate", "fast"],
        ["redrive", "--all", "--canary", "1.5"],
        ["redrive", "--all", "--canary", "0"],
        ["ls", "--in", "limbo"],
        ["backup"],
        ["cancel", "--all"],
    ],
)
def test_wrong_usage_is_refused(
    arguments: list[str], capsys: pytest.CaptureFixture[str]
) -> None:
    with pytest.raises(SystemExit) as refused:
        main(arguments)
    assert refused.value.code == 2
    assert "invalid _" not in capsys.readouterr().err


def test_a_folder_in_use_without_a_socket_is_refused(
    desk: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    claimed = claim_folder(desk / "state", durability="none")
    claimed.keep()
    try:
        assert main(["redrive", "w2", "--folder", str(desk)]) == 2
        assert "found it locked by process" in capsys.readouterr().err
        assert main(["ls", "--folder", str(desk)]) == 0
    finally:
        claimed.release()


def test_a_subscription_is_forgotten(say: Say) -> None:
    identity = say("ls")["workflows"][0]["orchestration"]

    dry = say("forget", identity, "--dry-run")
    assert dry == {"id": identity, "dry_run": True, "unfinished": 3}
    assert say("stats")["entries"]["subscription"] == 1

    assert say("forget", identity)["unfinished"] == 3
    assert say("stats")["entries"]["subscription"] == 0


def test_ctrl_c_says_what_was_done(
    say: Say, states: States, monkeypatch: pytest.MonkeyPatch
) -> None:
    async def interrupt(seconds: float) -> None:
        if seconds == 2:
            raise KeyboardInterrupt

    monkeypatch.setattr(trio, "sleep", interrupt)

    done = say("redrive", "--all", "--rate", "0.5", code=130)

    assert (done["done"], done["left"]) == (["w2"], ["w3"])
    assert states()["w2"] == "ready"
    assert states()["w3"] == "quarantined"


def test_text_is_for_people(desk: Path, capsys: pytest.CaptureFixture[str]) -> None:
    state = str(desk / "state")
    main(["redrive", "--all", "--dry-run", "--store", state])
    main(["redrive", "w2", "--store", state])
    main(["discard", "--all", "--store", state])
    main(["discard", "--all", "--store", state])

    assert capsys.readouterr().out.splitlines() == [
        "w2: would be redriven",
        "w3: would be redriven",
        "w2: redriven",
        "w3: discarded",
        "no quarantined workflow fits",
    ]
