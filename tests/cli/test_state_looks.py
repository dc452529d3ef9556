"""Looks at a state folder that no process uses."""

from __future__ import annotations

import io
import json
import re
import shutil
import subprocess
import sys
from collections.abc import Callable, Iterable, Iterator
from datetime import date
from pathlib import Path
from typing import Any

import lmdb
import msgspec
import pytest

from minions.cli import looking, main
from minions.cli.rows import Row, stored_rows
from minions.runtime.keys import key_bytes
from minions.store import reading
from minions.store.migrate import FORMAT
from minions.store.reading import StoreView, open_reader
from minions.workflow.layout import Keyspace, key_of, mail_key
from minions.workflow.record import (
    SignalRecord,
    decode_record,
    encode_record,
    encode_signal,
)

Say = Callable[..., Any]


@pytest.fixture
def say(desk: Path, capsys: pytest.CaptureFixture[str]) -> Say:
    """Run a command, and return the document that it writes."""

    def run(*arguments: str, code: int = 0) -> Any:
        capsys.readouterr()
        assert main([*arguments, "--folder", str(desk), "--json"]) == code
        return json.loads(capsys.readouterr().out)

    return run


def listing(folder: Path) -> dict[str, bytes]:
    return {p.name: p.read_bytes() for p in folder.iterdir() if p.name != "lock.mdb"}


def change(folder: Path, space: Keyspace, key: bytes, value: bytes | None) -> None:
    """Write past the engine, as who tampers does, and as a defect of it would."""
    mark = json.loads((folder / "minions.json").read_text())
    mark.pop("checksum", None)
    (folder / "minions.json").write_text(json.dumps(mark))
    with lmdb.open(str(folder), max_dbs=64, lib_version=0) as env:
        db = env.open_db(space.value.encode())
        with env.begin(write=True, db=db) as txn:
            txn.delete(key) if value is None else txn.put(key, value)


def test_workflows_are_listed_with_their_states(say: Say) -> None:
    found = say("ls")

    states = {row["id"]: row["state"] for row in found["workflows"]}
    assert states == {
        "w2": "quarantined",
        "w3": "quarantined",
        "w4": "sleeping",
        "w5": "waiting",
        "w6": "ready",
    }
    assert found["counts"] == {
        "quarantined": 2,
        "ready": 1,
        "sleeping": 1,
        "waiting": 1,
    }
    assert found["running"] is False
    (sleeper,) = (row for row in found["workflows"] if row["id"] == "w4")
    assert set(sleeper) == {
        "id",
        "orchestration",
        "state",
        "step",
        "attempt",
        "since",
        "until",
        "reason",
    }
    assert sleeper["step"] == "last"
    assert sleeper["until"] > sleeper["since"]


@pytest.mark.parametrize(
    ("state", "ids"),
    [
        ("done", ["w1"]),
        ("quarantined", ["w2", "w3"]),
        ("sleeping", ["w4"]),
        ("waiting", ["w5"]),
        ("ready", ["w6"]),
        ("running", []),
        ("damaged", []),
    ],
)
def test_one_state_is_listed(say: Say, state: str, ids: list[str]) -> None:
    assert [row["id"] for row in say("ls", "--in", state)["workflows"]] == ids


def test_a_list_is_written_as_it_is_read(
    desk: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """It may be of a million workflows."""
    read: list[Row] = []
    ahead: list[int] = []

    class Out(io.StringIO):
        def write(self, text: str, /) -> int:
            ahead.append(len(read) - self.getvalue().count('"id"'))
            return super().write(text)

        def writelines(self, lines: Iterable[Any], /) -> None:
            for line in lines:
                self.write(line)

    def counted(view: StoreView, state: str | None = None) -> Iterator[Row]:
        for row in stored_rows(view, state):
            read.append(row)
            yield row

    monkeypatch.setattr(looking, "stored_rows", counted)
    monkeypatch.setattr(sys, "stdout", out := Out())
    assert main(["ls", "--folder", str(desk), "--json"]) == 0

    found = json.loads(out.getvalue())
    assert [row["id"] for row in found["workflows"]] == ["w2", "w3", "w4", "w5", "w6"]
    assert (len(read), max(ahead)) == (5, 2)


def test_one_orchestration_is_listed(say: Say) -> None:
    identity = say("ls")["workflows"][0]["orchestration"]

    assert len(say("ls", "--orchestration", identity)["workflows"]) == 5
    assert say("ls", "--orchestration", "other")["workflows"] == []


def test_a_workflow_is_shown_without_its_classes(say: Say, desk: Path) -> None:
    (desk / "clerks.py").unlink()

    found = say("show", "w2")

    assert found["event_type"] == "clerks:Job"
    assert found["event"] == {"name": "fail1", "price": 1.5}
    assert found["context_type"] == "clerks:Notes"
    assert found["context"] == {"seen": "fail1"}
    assert (found["state"], found["reason"]) == ("quarantined", "failed")
    assert "no luck with fail1" in found["message"]
    assert found["traceback"].startswith("Traceback")
    assert say("show", "w1")["state"] == "done"
    assert say("show", "w5")["waits_for"] == "clerks:Go"


def test_text_is_for_people(desk: Path, capsys: pytest.CaptureFixture[str]) -> None:
    assert main(["ls", "--folder", str(desk)]) == 0
    assert main(["show", "w2", "--folder", str(desk)]) == 0
    assert main(["stats", "--folder", str(desk)]) == 0
    assert main(["fsck", "--folder", str(desk)]) == 0

    out = capsys.readouterr().out
    assert "2 quarantined, 1 ready, 1 sleeping, 1 waiting\n" in out
    assert 'event: {\n  "name": "fail1",\n  "price": 1.5\n}\n' in out
    assert "\nholder                   none\n" in out
    assert "is well; 14 entries checked" in out


@pytest.mark.parametrize(
    ("workflow", "words"),
    [
        ("w1", "done since"),
        ("w2", "waits for a person"),
        ("w4", "sleeps before step 'last'"),
        ("w5", "waits for a signal of clerks:Go"),
        ("w6", "its orchestration is not started"),
    ],
)
def test_why_is_one_sentence(say: Say, workflow: str, words: str) -> None:
    assert words in say("why", workflow)["why"]


def test_numbers_are_told(say: Say) -> None:
    found = say("stats")

    assert found["entries"] == {
        **{space.value: 0 for space in Keyspace},
        "record": 1,
        "cold": 2,
        "timer": 2,
        "key": 3,
        "quarantine": 2,
        "ended": 1,
        "ended_age": 1,
        "subscription": 1,
        "meta": 1,
    }
    assert found["states"]["quarantined"]["count"] == 2
    assert found["states"]["sleeping"]["oldest"] <= found["states"]["done"]["oldest"]
    assert (found["format"], found["durability"]) == (FORMAT, "none")
    assert found["holder"] is None
    assert 0 <= found["free_pages"] * found["page_size"] < found["used"]
    assert found["used"] <= found["size"]


def test_looks_change_nothing(say: Say, desk: Path) -> None:
    before = listing(desk / "state")

    for command in (["ls"], ["show", "w2"], ["why", "w2"], ["stats"], ["fsck"]):
        say(*command)
    say("check")
    for command in (["redrive"], ["discard"]):
        say(*command, "w2", "--dry-run")
        say(*command, "--all", "--dry-run")
    say("cancel", "w4", "--dry-run")
    say("backup", str(desk / "copy"), "--dry-run")

    assert listing(desk / "state") == before
    assert not (desk / "copy").exists()


@pytest.mark.parametrize("command", [["ls"], ["fsck"], ["stats"], ["redrive", "w1"]])
@pytest.mark.parametrize(
    ("spoil", "words"),
    [
        (shutil.rmtree, "expected a state folder, found none"),
        (lambda p: [f.unlink() for f in p.iterdir()], "found an empty one"),
        (lambda p: (p / "minions.json").unlink(), "belongs to another program"),
        (
            lambda p: (p / "minions.json").write_text(
                '{"application": "minions", "format": 99}'
            ),
            f"expected a state folder of format {FORMAT}, found format 99",
        ),
        (lambda p: (p / "minions.json").write_text("{"), "expected JSON"),
    ],
)
def test_no_state_folder_is_refused(
    desk: Path,
    capsys: pytest.CaptureFixture[str],
    command: list[str],
    spoil: Callable[[Path], object],
    words: str,
) -> None:
    spoil(desk / "state")
    before = sorted(desk.rglob("*"))

    assert main([*command, "--store", str(desk / "state")]) == 2

    assert words in capsys.readouterr().err
    assert sorted(desk.rglob("*")) == before


@pytest.mark.parametrize("workflow", ["w99", "17", "w-1", ""])
def test_an_unknown_id_is_refused(
    desk: Path, capsys: pytest.CaptureFixture[str], workflow: str
) -> None:
    assert main(["show", workflow, "--folder", str(desk)]) == 2
    assert "minions ls" in capsys.readouterr().err


KEYS = [
    ("c", "c"),
    (7, 7),
    (("a", b"b", None), ["a", "0x62", None]),
    (date(2024, 2, 29), "2024-02-29"),
    ("long" * 100, re.compile("0x[0-9a-f]{32}")),
]


@pytest.mark.parametrize(("key", "shown"), KEYS, ids=[str(k)[:9] for k, _ in KEYS])
def test_a_key_is_shown_as_the_minion_returned_it(
    say: Say, desk: Path, key: object, shown: object
) -> None:
    with open_reader(desk / "state") as reader, reader.view() as view:
        record = decode_record(key_of(4), view.get(Keyspace.COLD, key_of(4)) or b"")
    record = msgspec.structs.replace(record, key=key_bytes(key))
    _, value = encode_record(4, record)
    change(desk / "state", Keyspace.COLD, key_of(4), value)

    found = say("show", "w4")["key"]

    if isinstance(shown, re.Pattern):
        assert shown.fullmatch(found)
    else:
        assert found == shown


def test_a_damaged_record_is_shown_as_such(say: Say, desk: Path) -> None:
    change(desk / "state", Keyspace.COLD, key_of(4), b"\x01\x93oops")

    assert [r["id"] for r in say("ls", "--in", "damaged")["workflows"]] == ["w4"]
    assert say("ls")["counts"]["damaged"] == 1
    shown = say("show", "w4")
    assert (shown["state"], shown["stands_in"]) == ("damaged", "cold")
    assert shown["event"] == "0x01936f6f7073"
    assert "CRC-32" in say("why", "w4")["why"]


def test_a_breach_is_printed_and_fails(say: Say, desk: Path) -> None:
    change(desk / "state", Keyspace.COLD, key_of(4), None)

    found = say("fsck", code=1)

    assert found["ok"] is False
    spaces = {violation["keyspace"] for violation in found["violations"]}
    assert spaces == {"timer", "key"}
    assert all(v["key"] and v["remedy"] for v in found["violations"])


@pytest.mark.parametrize("left", [0, 100, 4096 * 4])
def test_damaged_pages_are_found_without_mapping_them(
    say: Say, desk: Path, left: int
) -> None:
    """A file cut short would end the process with SIGBUS."""
    path = desk / "state" / "data.mdb"
    path.write_bytes(path.read_bytes()[:left])

    found = say("fsck", code=1)

    assert found["pages"]
    assert found["violations"] == []


def test_the_pages_of_an_idle_store_are_walked_once(
    say: Say, monkeypatch: pytest.MonkeyPatch
) -> None:
    walks: list[str] = []
    real = reading._verify

    def verify(path: str) -> list[str]:
        walks.append(path)
        return real(path)

    monkeypatch.setattr(reading, "_verify", verify)

    assert say("fsck")["ok"] is True

    assert len(walks) == 1


CHANGED = [
    ("    price: float = 1.5", "    price: bytes", {"w4", "w5", "w6"}, {"w2", "w3"}),
    ("async def work", "async def toil", {"w6"}, {"w2", "w3"}),
    (
        "    price: float = 1.5",
        "    price: float = 1.5\n    size: int = 0",
        set(),
        set(),
    ),
]


@pytest.mark.parametrize("case", CHANGED, ids=lambda case: str(case[1]).strip()[:20])
def test_what_would_not_fit_changed_code_is_found(
    say: Say, desk: Path, case: tuple[str, str, set[str], set[str]]
) -> None:
    old, new, unfit, stuck = case
    path = desk / "clerks.py"
    path.write_text(path.read_text().replace(old, new))
    reload(desk)

    (fit,) = say("check", code=1 if unfit else 0)["orchestrations"].values()

    assert set(fit["would_be_quarantined"]) == unfit
    assert set(fit["stay_quarantined"]) == stuck
    assert fit["fits"] == 3 - len(unfit)
    assert fit["quarantined"] == 2 - len(stuck)


def test_a_migration_is_told(say: Say, desk: Path) -> None:
    path = desk / "clerks.py"
    text = path.read_text().replace(
        "@attrs.frozen\nclass Job:",
        "from minions import migrates, schema\n@schema(version=2)\n@attrs.frozen\n"
        "class Job:\n    @migrates(from_=1)\n    def older(form): return form\n",
    )
    path.write_text(text)
    reload(desk)

    (fit,) = say("check")["orchestrations"].values()

    assert (fit["fits"], fit["migrates"]) == (0, 3)


def keep_signals(desk: Path) -> None:
    """Leave a signal for a quarantined workflow and for one that sleeps."""
    for seq in (2, 4):
        key = mail_key(seq, 1)
        signal = SignalRecord("clerks:Go", msgspec.msgpack.encode({"note": "go"}), 1e9)
        change(desk / "state", Keyspace.MAIL, key, encode_signal(key, signal))


SIGNALS = [
    ("    note: str\n", "    note: bytes\n", "note"),
    (r"\bGo\b", "Went", "clerks:Go"),
]


@pytest.mark.parametrize("case", SIGNALS, ids=["field", "class"])
def test_signals_that_were_not_received_are_read(
    say: Say, desk: Path, case: tuple[str, str, str]
) -> None:
    old, new, words = case
    keep_signals(desk)
    path = desk / "clerks.py"
    path.write_text(re.sub(old, new, path.read_text()))
    reload(desk)

    (fit,) = say("check", code=1)["orchestrations"].values()

    (said,) = fit["would_be_quarantined"].values()
    assert set(fit["would_be_quarantined"]) == {"w4"}
    assert set(fit["stay_quarantined"]) == {"w2"}
    assert "a signal of clerks:Go waits for it since" in said
    assert words in said.partition("UTC: ")[2]
    assert fit["fits"] + len(fit["wait_in_vain"]) == 2
    assert fit["quarantined"] == 1


WAITING = [
    (r"\bGo\b", "Went", "for ever for a signal of clerks:Go"),
    (r"Wait\(Go,", "Wait(Job,", "names clerks:Job, so"),
]


@pytest.mark.parametrize("case", WAITING, ids=["renamed", "another"])
def test_who_waits_for_a_signal_that_nobody_can_send_is_found(
    say: Say,
    desk: Path,
    capsys: pytest.CaptureFixture[str],
    case: tuple[str, str, str],
) -> None:
    old, new, words = case
    path = desk / "clerks.py"
    path.write_text(re.sub(old, new, path.read_text()))
    reload(desk)

    found = say("check", code=1)

    (fit,) = found["orchestrations"].values()
    assert found["ok"] is False
    assert set(fit["wait_in_vain"]) == {"w5"}
    assert words in fit["wait_in_vain"]["w5"]
    assert (fit["fits"], fit["would_be_quarantined"]) == (2, {})
    assert main(["check", "--folder", str(desk)]) == 1
    said = capsys.readouterr().out
    assert "1 wait in vain" in said
    assert f"w5: {fit['wait_in_vain']['w5']}" in said


def test_a_signal_that_the_attribute_names_can_be_sent(say: Say, desk: Path) -> None:
    path = desk / "clerks.py"
    text = path.read_text().replace("Wait(Go,", "Wait(Job,")
    path.write_text(text.replace("def key(", "signals = (Go,)\n\n    def key(", 1))
    reload(desk)

    (fit,) = say("check")["orchestrations"].values()

    assert (fit["fits"], fit["wait_in_vain"]) == (3, {})


def test_a_migration_of_a_signal_is_told(say: Say, desk: Path) -> None:
    keep_signals(desk)
    path = desk / "clerks.py"
    text = path.read_text().replace(
        "@attrs.frozen\nclass Go:",
        "from minions import migrates, schema\n@schema(version=2)\n@attrs.frozen\n"
        "class Go:\n    @migrates(from_=1)\n    def older(form): return form\n",
    )
    path.write_text(text)
    reload(desk)

    (fit,) = say("check")["orchestrations"].values()

    assert (fit["fits"], fit["migrates"], fit["quarantined"]) == (2, 1, 2)


def test_a_subscription_that_nothing_starts_is_named(say: Say, desk: Path) -> None:
    path = desk / "minions.toml"
    path.write_text(path.read_text() + 'name = "other"\n')

    found = say("check")

    (idle,) = found["not_started"]
    assert found["orchestrations"][idle]["unknown"] == 5
    assert found["orchestrations"][idle]["started"] is False


def test_a_backup_is_checked_with_the_code_that_is_to_read_it(
    say: Say,
    desk: Path,
    capsys: pytest.CaptureFixture[str],
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    say("backup", str(desk / "copy"))
    shutil.rmtree(desk / "state")
    monkeypatch.chdir(desk)

    assert main(["check", "--store", "copy"]) == 0

    assert "3 fit, 0 migrate" in capsys.readouterr().out


def test_check_needs_the_classes(
    desk: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    (desk / "clerks.py").unlink()

    assert main(["check", "--folder", str(desk)]) == 2

    assert "clerks:Clerk: expected a module" in capsys.readouterr().err


def reload(desk: Path) -> None:
    """Import the module anew."""
    sys.modules.pop("clerks", None)
    shutil.rmtree(desk / "__pycache__", ignore_errors=True)


@pytest.mark.slow
def test_a_reader_that_has_seen_enough_is_no_error(desk: Path) -> None:
    """As in ``minions ls | head -1``."""
    program = subprocess.Popen(
        [sys.executable, "-m", "minions", "ls", "--folder", str(desk)],
        stdout=subprocess.PIPE,
        stderr=subprocess.PIPE,
        text=True,
    )
    assert program.stdout is not None
    assert program.stderr is not None
    program.stdout.close()

    assert program.wait() == 0
    assert program.stderr.read() == ""
    program.stderr.close()
