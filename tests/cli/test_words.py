"""What the command line says, and what it makes of what nobody reads."""

from __future__ import annotations

import importlib.metadata
import io
import signal
import sys
from collections.abc import Callable
from pathlib import Path

import pytest
import trio

from minions import open_gru, run
from minions.cli import main

Refusal = Callable[..., str]


def replace(folder: Path, text: str) -> None:
    path = folder / "minions.toml"
    path.write_text(text + path.read_text())


@pytest.mark.parametrize("state", ["", ".", "sub/..", "./", "a\\u0000b"])
@pytest.mark.parametrize("check", [["--check"], []])
def test_a_state_that_is_no_folder_of_its_own(
    folder: Path, refusal: Refusal, state: str, check: list[str]
) -> None:
    replace(folder, f'state = "{state}"\n')

    said = refusal("run", *check, str(folder))

    assert said.startswith(f"minions: {folder / 'minions.toml'}: field 'state':")
    assert "for the state alone" in said


@pytest.mark.parametrize("text", ["stat = 1\n", "state = 1\n", "nothing of TOML\n"])
def test_a_message_names_the_program_once(
    folder: Path, refusal: Refusal, text: str
) -> None:
    replace(folder, text)

    said = refusal("run", "--check", str(folder))

    assert said.startswith(f"minions: the system: config file {folder}")
    assert said.count("minions: ") == 1


def test_the_version_is_that_of_what_is_installed(
    capsys: pytest.CaptureFixture[str], monkeypatch: pytest.MonkeyPatch
) -> None:
    with pytest.raises(SystemExit) as ended:
        main(["--version"])

    assert ended.value.code == 0
    version = importlib.metadata.version("trio-minions")
    assert capsys.readouterr().out == f"minions {version}\n"

    def missing(name: str) -> str:
        raise importlib.metadata.PackageNotFoundError(name)

    monkeypatch.setattr(importlib.metadata, "version", missing)
    with pytest.raises(SystemExit) as ended:
        main(["--version"])

    assert ended.value.code == 0
    assert "not installed" in capsys.readouterr().out


class Unread(io.StringIO):
    def write(self, text: str, /) -> int:
        raise BrokenPipeError


def closed() -> io.StringIO:
    stream = io.StringIO()
    stream.close()
    return stream


@pytest.mark.parametrize("make", [closed, Unread, lambda: None])
def test_a_stop_in_order_needs_no_reader(
    monkeypatch: pytest.MonkeyPatch, make: Callable[[], io.StringIO | None]
) -> None:
    """The signals are obeyed although what is said of it cannot be written."""
    monkeypatch.setattr(sys, "stderr", make())

    async def program() -> str:
        async with open_gru(None):
            signal.raise_signal(signal.SIGTERM)
            await trio.sleep_forever()
        return "behind"

    assert run(program) == "behind"


def test_a_refusal_needs_no_reader(
    folder: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    replace(folder, "stat = 1\n")
    monkeypatch.setattr(sys, "stderr", closed())

    assert main(["run", str(folder)]) == 2
