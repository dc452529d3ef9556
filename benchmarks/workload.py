"""What the programs that run two-step workflows share: arguments, computing, output.

So the same words mean the same work on both sides of a comparison.
"""

from __future__ import annotations

import argparse
import json
import sys
import time
from collections.abc import Callable

TEXT = "x" * 100
"""What every event carries."""


def parser_of(description: str | None) -> argparse.ArgumentParser:
    """Make a parser of the arguments that every such program takes."""
    parser = argparse.ArgumentParser(description=description)
    add = parser.add_argument
    add("--in-flight", type=int, default=256, help="accepted and not ended at once")
    choices = ["fsync", "async", "none"]
    add("--durability", choices=choices, default="fsync")
    add("--workflows", type=int, default=20_000, help="how many are run")
    add("--context-bytes", type=int, default=100, help="the text in each context")
    add("--compute-every", type=int, default=0, help="every so many steps, compute")
    add("--compute-ms", type=float, default=2.0, help="for so long")
    return parser


def computing(given: argparse.Namespace) -> Callable[[], None]:
    """Return what each step calls: every so many calls, it keeps the loop busy."""
    every, seconds = given.compute_every, given.compute_ms / 1000
    calls = 0

    def compute() -> None:
        nonlocal calls
        calls += 1
        if every and not calls % every:
            end = time.perf_counter() + seconds
            while time.perf_counter() < end:
                pass

    return compute


def percentiles(name: str, seconds: list[float]) -> dict[str, float]:
    """Return the middle and the worst hundredth of some times."""
    found = sorted(seconds)
    last = len(found) - 1
    return {f"{name}p50_s": found[last // 2], f"{name}p99_s": found[last * 99 // 100]}


def report(numbers: dict[str, float]) -> None:
    """Print the one line of a program."""
    sys.stdout.write(json.dumps(numbers) + "\n")
