"""The soak runs, finds, and writes down what it has found."""

from __future__ import annotations

import runpy
import subprocess
import sys
from collections import Counter
from pathlib import Path
from typing import Any

import pytest

import lives
from forge import open_forge

pytestmark = pytest.mark.slow

PROGRAM = Path(__file__).parent / "soak.py"


def test_it_counts_what_has_happened() -> None:
    command = [sys.executable, str(PROGRAM), "--minutes", "0.1", "--seed", "7"]

    done = subprocess.run(
        command, capture_output=True, text=True, timeout=120, check=False
    )

    assert done.returncode == 0, done.stderr
    counts = {
        name: int(number.replace(",", ""))
        for number, name in (
            line.split(maxsplit=1) for line in done.stdout.splitlines()[:-1]
        )
    }
    assert counts["rounds"] >= 2
    assert counts["kills"] >= 1
    assert counts["steps ended"] >= 10
    assert done.stdout.splitlines()[-1].startswith("seeds 7 to ")
    assert done.stdout.endswith("ok\n")


def test_a_failure_becomes_a_test(
    tmp_path: Path,
    monkeypatch: pytest.MonkeyPatch,
    capsys: pytest.CaptureFixture[str],
) -> None:
    """It fails as long as what is wrong is wrong, and passes then."""
    soak: dict[str, Any] = runpy.run_path(str(PROGRAM))
    play = soak["play"]
    play.__globals__["HERE"] = tmp_path
    counts: Counter[str] = Counter()

    def refuse(self: object, folder: Path) -> None:
        raise AssertionError("something is wrong")

    with monkeypatch.context() as wrong, open_forge() as forge:
        wrong.setattr("lives.Checker.finish", refuse)
        assert not play(7, tmp_path, forge, counts)
        (path,) = tmp_path.glob("test_soak_7.py")
        with pytest.raises(lives.BrokenError, match="something is wrong"):
            runpy.run_path(str(path))["test_soak_7"](tmp_path / "first")
    runpy.run_path(str(path))["test_soak_7"](tmp_path / "second")

    shown = capsys.readouterr().err
    assert "seed 7 has failed" in shown
    assert "schedule: [" in shown
    assert str(path) in shown
