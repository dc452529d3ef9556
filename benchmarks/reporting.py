"""What a run of the suite has found: for the terminal, as JSON, for the docs."""

from __future__ import annotations

import datetime as dt
import importlib.metadata
import os
import platform
import statistics
import textwrap
from collections.abc import Iterator
from pathlib import Path

import attrs

from harness import Measured, Program, Result, results_of

PACKAGES = ("trio-minions", "trio", "lmdb", "msgspec", "attrs")
REACHED = {
    "aim": "aim",
    "goal": "goal",
    "missed": "MISSED",
    "": "",
    "not measured": "not measured",
}
WIDTH = 58
THOUSAND = 1_000
MILLI = 0.001


@attrs.frozen(kw_only=True)
class Report:
    """A run of the suite."""

    machine: dict[str, str]
    command: str
    quick: bool
    measured: list[Measured]

    def results(self) -> Iterator[tuple[Measured, Result]]:
        for measured in self.measured:
            for result in results_of(measured):
                yield measured, result


def machine(folder: Path) -> dict[str, str]:
    """Say where the numbers come from; *folder* is where the stores lie."""
    facts = {
        "date": dt.datetime.now(dt.UTC).strftime("%Y-%m-%d %H:%M UTC"),
        "CPU": _cpu(),
        "cores": str(_cores()),
        "memory": _memory(),
        "system": f"{platform.system()} {platform.release()} {platform.machine()}",
        "file system": file_system(folder),
        "Python": f"{platform.python_implementation()} {platform.python_version()}",
    }
    for package in PACKAGES:
        facts[package] = importlib.metadata.version(package)
    facts["load before"] = load()
    return facts


def load() -> str:
    """Return how many processes wanted a core in the last minute, about."""
    return f"{os.getloadavg()[0]:.2f}"


def _cores() -> int:
    if hasattr(os, "sched_getaffinity"):
        return len(os.sched_getaffinity(0))
    return os.cpu_count() or 0


def _cpu() -> str:
    facts = Path("/proc/cpuinfo")
    if facts.exists():
        for line in facts.read_text("utf-8").splitlines():
            if line.startswith("model name"):
                return line.partition(":")[2].strip()
    return platform.processor() or "unknown"


def _memory() -> str:
    size = os.sysconf("SC_PAGE_SIZE") * os.sysconf("SC_PHYS_PAGES")
    return f"{size / 2**30:.0f} GiB"


def file_system(folder: Path) -> str:
    """Return the kind of file system that holds *folder*."""
    mounts = Path("/proc/self/mounts")
    if not mounts.exists():
        return "unknown"
    place, found = folder.resolve(), (0, "unknown")
    for line in mounts.read_text("utf-8").splitlines():
        _, where, kind, *_ = line.split()
        # Of two on the same place, the later one is seen.
        if place.is_relative_to(where) and len(where) >= found[0]:
            found = (len(where), kind)
    return found[1]


def number(value: float, unit: str = "") -> str:
    """Write a number with three figures that say something."""
    if unit == "s" and 0 < abs(value) < 1:
        small = abs(value) < MILLI
        return number(value * (MILLI**-2 if small else 1 / MILLI)) + (
            " µs" if small else " ms"
        )
    digits = f"{value:,.0f}" if abs(value) >= THOUSAND else f"{value:.3g}"
    return f"{digits} {unit}".rstrip()


def found(result: Result) -> str:
    """Write the median, with the least and the most."""
    if not result.values:
        return "not measured"
    least, most = min(result.values), max(result.values)
    unit = result.row.unit
    spread = f"{number(least, unit)} to {number(most, unit)}"
    return f"{number(result.median, unit)} ({spread})"


def asked(result: Result) -> tuple[str, str]:
    """Write what is asked: goal and aim."""
    row = result.row
    sign = "≥" if row.better == "more" else "≤"
    goal, aim = (
        "" if limit is None else f"{sign} {number(limit, row.unit)}"
        for limit in (row.goal, row.aim)
    )
    return goal, aim


def sides(result: Result) -> str:
    """Write the medians of both sides, the by-product, and of how many runs."""
    if not result.values:
        return result.why
    turns = len(result.values)
    runs = f"{turns} run" if turns == 1 else f"{turns} runs"
    row = result.row
    if row.against is None:
        return runs
    of = number(statistics.median(result.of), unit_of(row.of[1]))
    against = number(statistics.median(result.against), unit_of(row.against[1]))
    return f"{of} against {against}, {runs}"


def unit_of(key: str) -> str:
    """Return the unit of a number of a program, if it is seconds."""
    return "s" if key.endswith("_s") and not key.endswith("_per_s") else ""


def table(report: Report) -> str:
    """Write the table for a terminal."""
    lines = []
    letter = ""
    for measured, result in report.results():
        if measured.figure.letter != letter:
            letter = measured.figure.letter
            lines.append(f"\n({letter})")
        title, *rest = textwrap.wrap(result.row.title, WIDTH)
        goal, aim = asked(result)
        lines.append(
            f"{title:{WIDTH}}  {found(result):26}  {goal:9}  {aim:9}"
            f"  {REACHED[result.verdict]}".rstrip()
        )
        lines += rest
        lines += [f"    {line}" for line in textwrap.wrap(sides(result), 100)]
    head = f"{'':{WIDTH}}  {'median (least to most)':26}  {'goal':9}  {'aim':9}"
    return "\n".join([head, *lines])


def summary(report: Report) -> str:
    """Count the rows that something is asked of, by what they reach."""
    verdicts = [result.verdict for _, result in report.results()]
    of_goals = [
        result.verdict for _, result in report.results() if result.row.goal is not None
    ]
    missing = verdicts.count("not measured")
    return (
        f"{len(of_goals)} goals: {of_goals.count('aim')} with their aim,"
        f" {of_goals.count('goal')} reached, {of_goals.count('missed')} missed,"
        f" {of_goals.count('not measured')} not measured; {missing} of"
        f" {len(verdicts)} rows not measured"
    )


def shown_command(program: Program, *, quick: bool) -> str:
    """Write a program's command as a reader would type it."""
    file, *given = program.command
    return " ".join([f"benchmarks/{file}", *given, *(program.quick if quick else ())])


def document(report: Report) -> dict[str, object]:
    """Return all that was found, every single number, as JSON knows it."""
    return {
        "machine": report.machine,
        "command": report.command,
        "quick": report.quick,
        "figures": [_figure(measured, report.quick) for measured in report.measured],
    }


def _figure(measured: Measured, quick: bool) -> dict[str, object]:  # noqa: FBT001
    figure = measured.figure
    return {
        "name": figure.name,
        "letter": figure.letter,
        "title": figure.title,
        "commands": {p.label: shown_command(p, quick=quick) for p in figure.programs},
        "results": measured.results,
        "not_measured": measured.missing,
        "failed": sorted(measured.failed),
        "rows": [_row(result) for result in results_of(measured)],
    }


def _row(result: Result) -> dict[str, object]:
    row = attrs.asdict(result.row)
    if not result.values:
        return {**row, "verdict": result.verdict, "why": result.why}
    return {
        **row,
        "values": result.values,
        "median": result.median,
        "least": min(result.values),
        "most": max(result.values),
        "verdict": result.verdict,
    }


def page(report: Report) -> str:
    """Write the part of the docs that shows a run, in reStructuredText."""
    lines = [
        f"Measured with ``{report.command}``"
        + (", which is short and says little." if report.quick else "."),
        "",
        *(f":{name}: {value}" for name, value in report.machine.items()),
        "",
        f"{summary(report)}.",
        "",
        ".. image:: newest.png",
        "   :alt: A panel for each figure: its runs, their median, goal and aim",
        "",
        "All numbers: :download:`newest.json`.",
        "",
    ]
    letter = ""
    for measured, result in report.results():
        if measured.figure.letter != letter:
            letter = measured.figure.letter
            lines += ["", f".. list-table:: ({letter})", "   :header-rows: 1"]
            lines += ["   :widths: 40 20 10 10 10 20", ""]
            lines += _cells(
                "what", "median (least to most)", "goal", "aim", "reached", "medians"
            )
        lines += _cells(
            _plain(result.row.title),
            found(result),
            *asked(result),
            REACHED[result.verdict],
            _plain(sides(result)),
        )
    return "\n".join(lines) + "\n"


def _cells(first: str, *others: str) -> list[str]:
    return [f"   * - {first}", *(f"     - {text}".rstrip() for text in others)]


def _plain(text: str) -> str:
    """Keep what somebody's message holds from being read as markup."""
    return "".join(f"\\{char}" if char in "*`_|\\" else char for char in text)
