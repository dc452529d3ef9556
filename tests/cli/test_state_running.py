"""Commands on the state folder of a process that runs."""

from __future__ import annotations

import json
import shutil
import signal
import subprocess
import sys
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest
import trio

from minions import open_gru
from minions.cli import main, place
from minions.control import Owner, find_owner
from minions.store.codec import to_printable
from minions.store.reading import open_reader
from minions.workflow.check import check_store
from minions.workflow.layout import Keyspace
from minions.workflow.record import decode_record, unseal

Start = Callable[[Path], Any]
Say = Callable[..., Any]


@pytest.fixture
def say(desk: Path, capsys: pytest.CaptureFixture[str]) -> Say:
    """Run a command, and return the document that it writes."""

    def run(*arguments: str, code: int = 0) -> Any:
        capsys.readouterr()
        assert main([*arguments, "--folder", str(desk), "--json"]) == code
        return json.loads(capsys.readouterr().out)

    return run


def states(say: Say) -> dict[str, str]:
    return {row["id"]: row["state"] for row in say("ls")["workflows"]}


def test_a_running_system_is_looked_at_and_changed(
    desk: Path, program: Start, say: Say
) -> None:
    running = program(desk)
    running.wait_line("works on hang")

    found = say("ls")
    assert found["running"] is True
    assert {r["id"]: r["state"] for r in found["workflows"]} == {
        "w2": "quarantined",
        "w3": "quarantined",
        "w4": "sleeping",
        "w5": "waiting",
        "w6": "running",
    }
    assert [r["id"] for r in say("ls", "--in", "running")["workflows"]] == ["w6"]
    assert say("ls", "--in", "ready")["workflows"] == []
    assert "runs step 'work'" in say("why", "w6")["why"]
    assert say("show", "w6")["state"] == "running"
    assert say("stats")["holder"]["pid"] == running.process.pid
    assert say("fsck")["ok"] is True
    assert say("check")["ok"] is True

    # Quarantined again, so the canary keeps the other one back.
    again = say("redrive", "--all", "--canary", "1", code=1)
    assert again["quarantined_again"] == ["w2"]
    assert again["left"] == ["w3"]

    (desk / "mended").touch()
    well = say("redrive", "--all", "--canary", "1", "--rate", "1000")
    assert (well["done"], well["left"]) == (["w2", "w3"], [])
    running.wait_line("ends fail2")

    assert say("cancel", "w6")["done"] == ["w6"]
    assert say("cancel", "w4")["done"] == ["w4"]
    assert states(say) == {"w5": "waiting"}
    identity = say("ls")["workflows"][0]["orchestration"]
    assert main(["forget", identity, "--folder", str(desk)]) == 2
    assert main(["redrive", "w5", "--folder", str(desk)]) == 2

    assert say("fsck")["ok"] is True
    running.process.send_signal(signal.SIGTERM)
    assert running.end()[0] == 0
    assert say("fsck")["ok"] is True
    assert states(say) == {"w5": "waiting"}


def command(desk: Path, *arguments: str) -> subprocess.Popen[str]:
    return subprocess.Popen(
        [sys.executable, "-m", "minions", *arguments, "--folder", str(desk), "--json"],
        stdout=subprocess.PIPE,
        stderr=subprocess.PIPE,
        text=True,
    )


@pytest.mark.slow
def test_two_commands_at_once_share_the_work(
    desk: Path, program: Start, say: Say
) -> None:
    running = program(desk)
    running.wait_line("works on hang")
    (desk / "mended").touch()

    both = [command(desk, "redrive", "--all") for _ in range(2)]
    outs = [json.loads(one.communicate()[0]) for one in both]

    done = sorted(name for out in outs for name in out["done"])
    assert done == ["w2", "w3"]
    assert all(out["left"] == [] for out in outs)
    assert states(say)["w6"] == "running"


@pytest.mark.slow
def test_ctrl_c_ends_a_command_that_waits(desk: Path, program: Start, say: Say) -> None:
    """The system goes on, and so does what was sent on."""
    text = (desk / "clerks.py").read_text().replace('== "hang"', '!= "sleep"')
    (desk / "clerks.py").write_text(text)
    (desk / "mended").touch()
    running = program(desk)
    running.wait_line("works on hang")

    waiting = command(desk, "redrive", "--all", "--canary", "1")
    running.wait_line("works on fail1")
    waiting.send_signal(signal.SIGINT)
    out, err = waiting.communicate()

    assert waiting.returncode == 130
    assert "Traceback" not in err
    found = json.loads(out)
    # The reply may have been on its way.
    assert found["done"] + found["unsure"] == ["w2"]
    assert found["left"] == ["w3"]
    assert states(say)["w2"] == "running"
    assert states(say)["w3"] == "quarantined"


@pytest.mark.slow
def test_a_process_that_is_killed_in_the_middle_is_told(
    desk: Path, program: Start, say: Say
) -> None:
    text = (desk / "clerks.py").read_text().replace('== "hang"', '!= "sleep"')
    (desk / "clerks.py").write_text(text)
    (desk / "mended").touch()
    running = program(desk)
    running.wait_line("works on hang")

    waiting = command(desk, "redrive", "--all", "--canary", "1")
    running.wait_line("works on fail1")
    running.process.kill()
    out, err = waiting.communicate()

    assert waiting.returncode == 1
    assert "has ended before: whether it did what it was asked for" in err
    found = json.loads(out)
    # The reply may have been on its way.
    assert found["done"] + found["unsure"] == ["w2"]
    assert found["left"] == ["w3"]
    # The socket of the dead is there, and keeps nobody from anything.
    assert (desk / "state" / "minions.sock").exists()
    assert say("ls")["running"] is False
    assert say("discard", "w3")["done"] == ["w3"]
    assert not (desk / "state" / "minions.sock").exists()


@pytest.mark.slow
async def test_canaries_that_nothing_runs_are_not_sent(desk: Path) -> None:
    """They would be waited for without end."""
    command = ["redrive", "--all", "--canary", "1", "--folder", str(desk)]
    async with open_gru(desk / "state") as gru:
        with trio.fail_after(20):
            done = await trio.run_process(
                [sys.executable, "-m", "minions", *command],
                capture_stdout=True,
                capture_stderr=True,
                check=False,
            )
        held = [w.id async for w in gru.workflows.list(state="quarantined")]

    assert done.returncode == 2
    assert done.stdout.decode() == "not redriven: 2 more\n"
    assert "w2: expected that its orchestration clerk-" in done.stderr.decode()
    assert held == ["w2", "w3"]


def _hasty(folder: Path, *, patience: float = 0.5) -> Owner | None:
    return find_owner(folder, patience=min(patience, 0.5))


@pytest.mark.slow
def test_a_process_with_a_blocked_loop_is_told(
    desk: Path,
    program: Start,
    capsys: pytest.CaptureFixture[str],
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    """A stopped process is as deaf as one whose step computes."""
    monkeypatch.setattr(place, "find_owner", _hasty)
    running = program(desk)
    running.wait_line("works on hang")
    running.process.send_signal(signal.SIGSTOP)
    try:
        assert main(["redrive", "w2", "--folder", str(desk)]) == 1
        assert "its event loop may be blocked" in capsys.readouterr().err
        assert main(["fsck", "--folder", str(desk)]) == 0
    finally:
        running.process.send_signal(signal.SIGCONT)


COUNTING = """
import pathlib
import attrs
from minions import Minion, Pipeline, minion_step

LEDGER = pathlib.Path(__file__).parent / "ledger"


@attrs.frozen
class Number:
    n: int


@attrs.define
class Trail:
    steps: tuple[str, ...] = ()


class Numbers(Pipeline[Number], cursor=int):
    async def run(self) -> None:
        for n in range((self.cursor or 0) + 1, LAST + 1):
            await self.emit(Number(n), cursor=n)
            if n == 1:
                print("counts", flush=True)


class Walker(Minion[Number, Trail]):
    @minion_step
    async def one(self) -> None:
        self.context.steps += ("one",)

    @minion_step
    async def two(self) -> None:
        self.context.steps += ("two",)

    @minion_step
    async def three(self) -> None:
        with LEDGER.open("a") as ledger:
            print(self.event.n, file=ledger)
"""
DONE_BEFORE = {"": (), "one": (), "two": ("one",), "three": ("one", "two")}


def check_copy(copy: Path) -> tuple[int, set[int]]:
    """Check all rules; return the cursor, and the events of unfinished workflows."""
    with open_reader(copy) as reader, reader.view() as view:
        assert [*check_store(view)] == []
        ((key, cursor),) = view.items(Keyspace.CURSOR)
        events = []
        for record_key, value in view.items(Keyspace.RECORD):
            record = decode_record(record_key, value)
            event: Any = to_printable(record.event)
            context: Any = to_printable(record.context or b"\x80")
            assert tuple(context.get("steps", ())) == DONE_BEFORE[record.step]
            events.append(event["n"])
        position = to_printable(unseal(key, cursor))
    assert isinstance(position, int)
    assert len(events) == len(set(events))
    assert all(1 <= n <= position for n in events)
    return position, set(events)


@pytest.mark.slow
def test_backups_of_a_busy_system_go_on(
    tmp_path: Path, program: Start, capsys: pytest.CaptureFixture[str]
) -> None:
    """Each is of one moment: what had ended has, what had not goes on, once."""
    home = tmp_path / "home"
    home.mkdir()
    (home / "counts.py").write_text(f"LAST = 10**9\n{COUNTING}")
    (home / "minions.toml").write_text(
        '[[orchestration]]\nminion = "counts:Walker"\npipeline = "counts:Numbers"\n'
        '[options]\ndurability = "none"\n'
    )
    running = program(home)
    running.wait_line("counts")
    positions = []
    for n in range(4):
        copy = tmp_path / f"copy{n}"
        more = ["--compact"] if n % 2 else []
        assert main(["backup", str(copy), *more, "--folder", str(home)]) == 0
        positions.append(check_copy(copy)[0])
        assert main(["fsck", "--store", str(copy)]) == 0
        assert main(["fsck", "--folder", str(home)]) == 0
        capsys.readouterr()
        assert main(["ls", "--folder", str(home), "--json"]) == 0
        counts = json.loads(capsys.readouterr().out)["counts"]
        assert counts.keys() <= {"ready", "running"}
        assert sum(counts.values()) <= 1000
    running.process.kill()

    assert positions == sorted(set(positions))
    position, unfinished = check_copy(copy)
    (home / "counts.py").write_text(f"LAST = {position + 50}\n{COUNTING}")
    shutil.move(copy, home / "copy")
    toml = (home / "minions.toml").read_text()
    (home / "minions.toml").write_text('state = "copy"\n' + toml)
    (home / "ledger").unlink()
    assert program(home).end()[0] == 0
    ended = [int(line) for line in (home / "ledger").read_text().splitlines()]
    assert sorted(ended) == sorted([*unfinished, *range(position + 1, position + 51)])
