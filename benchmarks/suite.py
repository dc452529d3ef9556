"""All benchmarks: programs in turn, a table, JSON, a picture.

``python benchmarks/suite.py --quick --only a``

Nothing here is a gate: a goal that is missed is shown, and the exit code is 0. It is
1 if a program broke, for then its result is wrong, not slow.
"""

from __future__ import annotations

import argparse
import importlib
import json
import os
import shlex
import sys
import tempfile
import time
from collections.abc import Sequence
from fnmatch import fnmatchcase
from importlib.util import find_spec
from pathlib import Path

import guard
from harness import Figure, left_out, measure
from reporting import Report, document, load, machine, page, summary, table

ROOT = Path(__file__).parents[1]
PARTS = ("figures", "figures_parts", "figures_neighbours")
SHORT = "not part of --quick"
DOCS = ROOT / "docs" / "benchmarks"


def all_figures() -> list[Figure]:
    """Collect the figures of each part, in the order of their letters."""
    found: list[Figure] = []
    for part in PARTS:
        if find_spec(part) is not None:
            found += importlib.import_module(part).FIGURES
    names = [figure.name for figure in found]
    if twice := {name for name in names if names.count(name) > 1}:
        raise ValueError(f"figures: expected unique names, found twice: {twice}")
    return sorted(found, key=lambda figure: figure.letter)


def chosen(figures: list[Figure], only: Sequence[str]) -> list[Figure]:
    """Return those whose name or letter is asked for; all if none is."""
    for pattern in only:
        if not any(asked_for(figure, [pattern]) for figure in figures):
            known = ", ".join(figure.name for figure in figures)
            raise SystemExit(f"suite: there is no figure {pattern!r}; known: {known}")
    return [figure for figure in figures if not only or asked_for(figure, only)]


def asked_for(figure: Figure, only: Sequence[str]) -> bool:
    return any(p == figure.letter or fnmatchcase(figure.name, p) for p in only)


def run(given: argparse.Namespace, command: str) -> Report:
    """Measure what is asked for; the stores lie where TMPDIR says."""
    figures = chosen(all_figures(), given.only)
    facts = machine(Path(tempfile.gettempdir()))
    measured = [
        left_out(figure, SHORT)
        if given.quick and not figure.in_quick
        else measure(figure, quick=given.quick, runs=given.runs, told=tell)
        for figure in figures
    ]
    facts["load after"] = load()
    return Report(machine=facts, command=command, quick=given.quick, measured=measured)


def tell(text: str) -> None:
    print(text, file=sys.stderr, flush=True)


def save(report: Report, out: Path, *, docs: bool) -> None:
    """Write the files of a run; with *docs*, those that the docs show, too."""
    from plot import draw  # noqa: PLC0415 - the tests of the rest need no matplotlib

    text = json.dumps(document(report), indent=1, allow_nan=False)
    for folder in [out, *([DOCS] if docs else [])]:
        folder.mkdir(parents=True, exist_ok=True)
        (folder / "newest.json").write_text(text + "\n", "utf-8")
        (folder / "newest.inc").write_text(page(report), "utf-8")
        draw(report, folder / "newest.png")


def arguments(given: Sequence[str]) -> argparse.Namespace:
    parser = argparse.ArgumentParser(description=__doc__)
    add = parser.add_argument
    add("--quick", action="store_true", help="in two minutes: few runs, small counts")
    add("--only", nargs="+", default=[], metavar="NAME", help="figures or letters")
    add("--runs", type=int, help="of each program, instead of each figure's own")
    add("--folder", type=Path, help="where the stores lie; else a temporary folder")
    add("--out", type=Path, default=ROOT / "build" / "bench", help="for the results")
    add("--docs", action="store_true", help="show this run in the docs")
    add("--guard", metavar="BASE", help="only count instructions, against this commit")
    parsed = parser.parse_args(given)
    if parsed.docs and (parsed.quick or parsed.only):
        parser.error("--docs shows whole runs: leave --quick and --only out")
    if parsed.runs is not None and parsed.runs < 1:
        parser.error("--runs: expected 1 or more")
    return parsed


def main() -> int:
    given = arguments(sys.argv[1:])
    if given.guard is not None:
        return guard.main([given.guard])
    if given.folder is not None:
        os.environ["TMPDIR"] = str(given.folder.resolve(strict=True))
    began = time.monotonic()
    shown = shlex.join(["python", "benchmarks/suite.py", *sys.argv[1:]])
    report = run(given, shown)
    print(table(report))
    print()
    print(", ".join(f"{name} {value}" for name, value in report.machine.items()))
    print(f"{summary(report)}; {time.monotonic() - began:.0f} s")
    save(report, given.out, docs=given.docs)
    return 1 if any(measured.failed for measured in report.measured) else 0


if __name__ == "__main__":
    sys.exit(main())
