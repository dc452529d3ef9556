"""The product against the bare loop: both in turn in one run, medians and spread.

``python benchmarks/ratio.py --in-flight 256 --workflows 20000``
"""

from __future__ import annotations

import argparse
import re
import statistics
import subprocess
import sys
from pathlib import Path

HERE = Path(__file__).parent
PROGRAMS = ("two_steps", "bare")


def rate_of(program: str, arguments: list[str]) -> float:
    """Run a program; return the workflows per second that it prints."""
    command = [sys.executable, str(HERE / f"{program}.py"), *arguments]
    printed = subprocess.run(command, check=True, capture_output=True, text=True).stdout
    found = re.match(r"(\d+) workflows/s", printed)
    assert found is not None, printed
    return float(found[1])


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__.partition("\n")[0])
    parser.add_argument("--runs", type=int, default=5)
    given, arguments = parser.parse_known_args()
    rates: dict[str, list[float]] = {program: [] for program in PROGRAMS}
    for _ in range(given.runs):
        for program in PROGRAMS:
            rates[program].append(rate_of(program, arguments))
    for program, found in rates.items():
        print(
            f"{program:10} {statistics.median(found):8.0f} workflows/s"
            f"  ({min(found):.0f} to {max(found):.0f})"
        )
    ratios = [a / b for a, b in zip(*rates.values(), strict=True)]
    print(
        f"{'ratio':10} {statistics.median(ratios):8.2f}"
        f"  ({min(ratios):.2f} to {max(ratios):.2f}), {given.runs} runs of each in turn"
    )


if __name__ == "__main__":
    main()
