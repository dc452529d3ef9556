"""The demo as a person runs it: its output, its picture, its exit code."""

from __future__ import annotations

import os
import re
import sqlite3
import subprocess
import sys
from pathlib import Path

import pytest

from chaos import COMPONENTS, dealt, schedule

DEMO = Path(__file__).parents[2] / "examples" / "market_watch" / "demo.py"


def run_demo(folder: Path, *arguments: str) -> tuple[int, str]:
    """Run the demo in *folder*, and return its exit code and all that it prints."""
    paths = os.environ.get("PYTHONPATH", "").split(os.pathsep)
    absolute = os.pathsep.join(str(Path(path).resolve()) for path in paths if path)
    result = subprocess.run(
        [sys.executable, str(DEMO), "--folder", "run", *arguments],
        cwd=folder,
        env={**os.environ, "PYTHONPATH": absolute, "PYTHONUTF8": "1"},
        stdout=subprocess.PIPE,
        stderr=subprocess.STDOUT,
        text=True,
        timeout=240,
        check=False,
    )
    return result.returncode, result.stdout


@pytest.mark.slow
def test_demo_shows_the_run_and_tells_a_ledger_that_differs(tmp_path: Path) -> None:
    code, output = run_demo(tmp_path)

    assert code == 0, output
    assert "feed:Quotes  pipeline up #1" in output
    assert "12,154 of 12,154 quotes" in output
    assert re.search(r"GOOG +│ +2,148 │ +41 │ +4 │ +100 │ +22,610\.30", output)
    assert "259 orders and 25 alarms: equal to the oracle's" in output
    assert (tmp_path / "build" / "market_watch.png").stat().st_size > 10_000

    ledger = sqlite3.connect(tmp_path / "run" / "ledger.sqlite")
    ledger.execute("UPDATE orders SET price = price + 0.01 WHERE symbol = 'FB'")
    ledger.commit()
    ledger.close()
    code, output = run_demo(tmp_path)

    assert code == 1, output
    assert output.count("missing: Order(symbol='FB'") == 4
    assert output.count("unexpected: Order(symbol='FB'") == 4
    assert "8 rows differ from the oracle's" in output


@pytest.mark.slow
def test_chaos_hits_everything_and_changes_nothing(tmp_path: Path) -> None:
    code, output = run_demo(tmp_path, "--chaos", "--seed", "7")

    assert code == 0, output
    assert sorted(dealt(tmp_path / "run" / "dealt.txt")) == sorted(
        map(str, schedule(7))
    )
    assert output.count("process is hit") == 6
    for component in COMPONENTS:
        assert re.search(rf"crashed +\w+:{component.__name__}#", output)
        assert re.search(rf"up again \w+:{component.__name__}#", output)
    assert "259 orders and 25 alarms: equal to the oracle's" in output
