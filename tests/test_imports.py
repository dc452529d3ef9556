"""What ``import minions`` loads, and what it leaves to those who need it."""

from __future__ import annotations

import subprocess
import sys

# Each costs a program more than most of our modules, and few programs need it.
HEAVY = [
    "asyncio",
    "hypothesis",
    "importlib.metadata",
    "minions.cli",
    "minions.testing",
    "prometheus_client",
    "rich",
    "structlog",
    "tomllib",
]
PROGRAM = f"""
import sys
before = set(sys.modules)  # what measures coverage may be there
import minions
print([name for name in {HEAVY} if name in sys.modules and name not in before])
"""


def test_a_plain_import_loads_nothing_heavy() -> None:
    done = subprocess.run(
        [sys.executable, "-c", PROGRAM], capture_output=True, text=True, check=True
    )

    assert done.stdout == "[]\n"
