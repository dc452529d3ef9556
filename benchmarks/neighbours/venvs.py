"""The virtual environments of the neighbours, and the one place of their versions.

Each is made once under ``build/neighbours/``, with ``venv`` and ``pip``, and again when
its versions or Python's change. One that cannot be made leaves its rows in the table,
with the reason.
"""

from __future__ import annotations

import hashlib
import shutil
import subprocess
import sys
from pathlib import Path
from types import MappingProxyType

from harness import NotMeasuredError

BUILD = Path(__file__).parents[2] / "build" / "neighbours"
TIMEOUT = 300.0

# What a program imports, and what decides its speed below that.
VERSIONS = MappingProxyType(
    {
        # asyncio and sqlite3 are Python's own.
        "by_hand": (),
        "dbos_sqlite": ("dbos==3.4.0", "SQLAlchemy==2.1.9"),
        # It declares aiosqlite alone, and imports the three below, too.
        "predecessor": (
            "minions==0.0.2",
            "aiosqlite==0.22.1",
            "msgspec==0.22.0",
            "prometheus-client==0.26.0",
            "psutil==7.2.2",
        ),
    }
)


def python_of(name: str, *, build: Path = BUILD) -> str:
    """Return the interpreter of a neighbour's environment, made if it is not there.

    Raises:
        NotMeasuredError: It cannot be made, with what pip or venv said.
    """
    folder = build / f"{name}-{_digest(VERSIONS[name])}"
    python = folder / "bin" / "python"
    # Written last: an environment that was left half made is made anew.
    made = folder / "made"
    if not made.exists():
        shutil.rmtree(folder, ignore_errors=True)
        _run(name, sys.executable, "-m", "venv", str(folder))
        if VERSIONS[name]:
            # A path that points to our sources must not hide the predecessor.
            pip = ("-I", "-m", "pip", "install", "--disable-pip-version-check")
            _run(name, str(python), *pip, *VERSIONS[name])
        made.touch()
    return str(python)


def _digest(versions: tuple[str, ...]) -> str:
    text = "\n".join((sys.version, sys.base_prefix, *versions))
    return hashlib.sha256(text.encode()).hexdigest()[:12]


def _run(name: str, *command: str) -> None:
    try:
        done = subprocess.run(
            command, capture_output=True, text=True, timeout=TIMEOUT, check=False
        )
    except (OSError, subprocess.TimeoutExpired) as exc:
        raise NotMeasuredError(f"no environment for {name}: {exc}") from exc
    if done.returncode:
        said = (done.stderr.strip() or done.stdout.strip()).splitlines()
        why = next((line for line in said if "ERROR" in line), "".join(said[-1:]))
        raise NotMeasuredError(f"no environment for {name}: {why}")
