"""What the tests of several folders share."""

from __future__ import annotations

import os
import signal
import subprocess
import sys
from collections.abc import Callable
from pathlib import Path

import pytest

RunPython = Callable[[Path], "subprocess.CompletedProcess[str]"]


@pytest.fixture(scope="session", autouse=True)
def ctrl_c_is_heard() -> None:
    """A shell that starts a job in the background lets it ignore SIGINT."""
    if signal.getsignal(signal.SIGINT) is signal.SIG_IGN:
        signal.signal(signal.SIGINT, signal.default_int_handler)


@pytest.fixture
def run_python(tmp_path: Path) -> RunPython:
    """Run a program in a process and a folder of its own, warnings as errors."""
    # The child has another working folder, so that relative entries must not stay.
    paths = os.environ.get("PYTHONPATH", "").split(os.pathsep)
    environment = {
        **os.environ,
        "PYTHONPATH": os.pathsep.join(str(Path(p).resolve()) for p in paths if p),
        "PYTHONUTF8": "1",
        "NO_COLOR": "1",
    }

    def run(program: Path) -> subprocess.CompletedProcess[str]:
        return subprocess.run(
            [sys.executable, "-W", "error", str(program)],
            cwd=tmp_path,
            env=environment,
            capture_output=True,
            text=True,
            timeout=50,
            check=False,
        )

    return run


def pytest_addoption(parser: pytest.Parser) -> None:
    """Add the option of the property suite of supervision."""
    parser.addoption(
        "--tally",
        type=int,
        metavar="N",
        help="play N random systems in each placement, and show in how many of them"
        " each misfortune happened",
    )


def pytest_terminal_summary(terminalreporter: pytest.TerminalReporter) -> None:
    """Show how often each misfortune happened, in each placement."""
    tallies: dict[str, dict[str, int]] = {}
    reports = [r for k in ("passed", "failed") for r in terminalreporter.getreports(k)]
    for report in reports:
        for name, value in report.user_properties:
            if name.startswith("tally "):
                tallies[name.removeprefix("tally ")] = value
    asked = terminalreporter.config.getoption("--tally")
    if not tallies or not (asked or terminalreporter.verbosity > 0):
        return
    terminalreporter.section("examples in which it happened")
    placements = sorted(tallies)
    columns = "".join(f"{name:>12}" for name in placements)
    terminalreporter.write_line(f"{'misfortune':<32}{columns}")
    for what in sorted({what for tally in tallies.values() for what in tally}):
        counts = "".join(f"{tallies[name].get(what, 0):>12}" for name in placements)
        terminalreporter.write_line(f"{what:<32}{counts}")
