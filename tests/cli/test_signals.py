"""Real signals to real processes; nothing waits for a time, all wait for lines."""

from __future__ import annotations

import json
import signal
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest

Start = Callable[[Path], Any]

# A source that has one event and then waits; a step that says when it runs.
WORK = """
import time
import attrs
import trio
from minions import Minion, Pipeline, Resource, minion_step


@attrs.frozen
class Line:
    text: str


@attrs.define
class Seen:
    text: str = ""


class Lines(Pipeline[Line]):
    async def run(self) -> None:
        await self.emit(Line("one"))
        await trio.sleep_forever()


class Quick(Minion[Line, Seen]):
    @minion_step
    async def look(self) -> None:
        print("looked", flush=True)

    async def shutdown(self) -> None:
        print("shut down", flush=True)


class Hangs(Minion[Line, Seen]):
    @minion_step
    async def hang(self) -> None:
        print("hangs", flush=True)
        await trio.sleep_forever()

    async def shutdown(self) -> None:
        print("shut down", flush=True)


class Deaf(Hangs):
    async def shutdown(self) -> None:
        print("in shutdown", flush=True)
        await trio.sleep_forever()


class NeverUp(Minion[Line, Seen]):
    async def startup(self) -> None:
        print("tries", flush=True)
        raise OSError("not yet")

    @minion_step
    async def look(self) -> None:
        pass
"""


@pytest.fixture
def system(tmp_path: Path) -> Callable[..., Path]:
    (tmp_path / "work.py").write_text(WORK)

    def make(minion: str, log: str = "console", grace: float = 300) -> Path:
        (tmp_path / "minions.toml").write_text(
            f'[options]\ngrace = {grace}\n[log]\nformat = "{log}"\n[[orchestration]]\n'
            f'minion = "work:{minion}"\npipeline = "work:Lines"\n'
        )
        return tmp_path

    return make


@pytest.mark.parametrize("number", [signal.SIGINT, signal.SIGTERM])
def test_the_first_signal_stops_in_order(
    system: Callable[..., Path], program: Start, number: signal.Signals
) -> None:
    running = program(system("Quick"))
    running.wait_line("looked")

    running.process.send_signal(number)

    code, out, err = running.end()
    assert (code, out) == (0, "shut down\n")
    assert f"{number.name}: stopping in order" in err
    assert "Traceback" not in err


def test_the_end_says_what_it_waits_for(
    system: Callable[..., Path], program: Start
) -> None:
    running = program(system("Hangs"))
    running.wait_line("hangs")

    running.process.send_signal(signal.SIGTERM)

    said = running.wait_line("still waits for", error=True)
    assert "hangs-" in said
    assert "(1 workflow)" in said


@pytest.mark.parametrize(
    ("number", "expected"), [(signal.SIGINT, 130), (signal.SIGTERM, 143)]
)
def test_the_second_signal_cuts_over(
    system: Callable[..., Path], program: Start, number: signal.Signals, expected: int
) -> None:
    """The step is interrupted, the order holds, and the workflow is saved."""
    folder = system("Hangs")
    running = program(folder)
    running.wait_line("hangs")
    running.process.send_signal(number)
    running.wait_line("stopping in order", error=True)

    running.process.send_signal(number)

    code, out, err = running.end()
    assert (code, out) == (expected, "shut down\n")
    assert "Traceback" not in err
    again = program(folder)
    assert again.wait_line("hangs")


def test_the_third_signal_gives_up(system: Callable[..., Path], program: Start) -> None:
    """Hooks have what is left of their grace; the code tells what happened."""
    running = program(system("Deaf", grace=0.5))
    running.wait_line("hangs")
    running.process.send_signal(signal.SIGTERM)
    running.wait_line("stopping in order", error=True)
    running.process.send_signal(signal.SIGTERM)
    running.wait_line("in shutdown")

    running.process.send_signal(signal.SIGTERM)

    code, _, err = running.end()
    assert code == 143
    assert "Traceback" not in err


def test_a_signal_while_a_start_is_tried_again(
    system: Callable[..., Path], program: Start
) -> None:
    running = program(system("NeverUp"))
    running.wait_line("tries")
    running.wait_line("start failed", error=True)

    running.process.send_signal(signal.SIGINT)

    code, _, err = running.end()
    assert code == 0
    assert "Traceback" not in err


def test_json_has_a_record_on_every_line(
    system: Callable[..., Path], program: Start
) -> None:
    running = program(system("Quick", log="json"))
    running.wait_line("looked")

    running.process.send_signal(signal.SIGTERM)

    code, _, err = running.end()
    records = [json.loads(line) for line in err.splitlines() if line[:1] == "{"]
    assert code == 0
    assert {"timestamp", "level", "event", "logger"} <= records[0].keys()
    ended = [r["component"] for r in records if r["event"] == "component ended"]
    assert set(ended) == {"work:Quick", "work:Lines"}


def test_a_failed_system_waits_for_somebody(
    system: Callable[..., Path], program: Start
) -> None:
    """By default a run stays for an operator; a stop is in order then, too."""
    folder = system("Quick")
    (folder / "work.py").write_text(WORK + FAILS)
    (folder / "minions.toml").write_text(
        '[[orchestration]]\nminion = "work:Quick"\npipeline = "work:Fails"\n'
    )
    running = program(folder)
    running.wait_line("component failed", error=True)

    running.process.send_signal(signal.SIGTERM)

    code, _, err = running.end()
    assert code == 0
    assert "Traceback" not in err


FAILS = """

class Fails(Pipeline[Line]):
    restart = __import__("minions").Restart(max_restarts=0)

    async def run(self) -> None:
        raise ValueError("no more lines")
"""
