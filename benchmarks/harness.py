"""What a figure is, and how it is measured: programs in turn, every result kept.

A *program* measures one thing once, in a fresh process, and prints one line of JSON,
a flat object of numbers with units in their names. A *figure* is a few programs that
are run in turn (A B A B ...), and the *rows* that compare their numbers: pair by
pair, so that what the machine did meanwhile concerns both sides of a pair.

Nothing is left out: a row whose program could not be run says why.
"""

from __future__ import annotations

import json
import math
import os
import statistics
import subprocess
import sys
from collections.abc import Callable, Iterator, Mapping, Sequence
from pathlib import Path
from typing import Literal

import attrs

HERE = Path(__file__).parent
TIMEOUT = 900.0

Numbers = Mapping[str, float]
Verdict = Literal["aim", "goal", "missed", "", "not measured"]


class NotMeasuredError(Exception):
    """A program cannot be run here, and that is no failure; the text says why."""


class ProgramError(Exception):
    """A program failed, or printed something else than its numbers."""


def own_python() -> str:
    """Return the interpreter that runs the suite."""
    return sys.executable


@attrs.frozen(kw_only=True)
class Program:
    """One side of a figure: a command, which is run once a turn."""

    label: str
    """What the rows of its figure call it, such as ``bare``."""

    command: tuple[str, ...]
    """The file below ``benchmarks/``, and its arguments."""

    quick: tuple[str, ...] = ()
    """Arguments behind the others with ``--quick``: argparse takes the last."""

    python: Callable[[], str] = own_python
    """Returns the interpreter; called once a figure. Raises `NotMeasuredError`."""

    def arguments(self, *, quick: bool) -> list[str]:
        """Return the whole command behind the interpreter."""
        file, *given = self.command
        return [str(HERE / file), *given, *(self.quick if quick else ())]


@attrs.frozen(kw_only=True)
class Row:
    """One line of the table: a number of a program, against another's or alone."""

    title: str
    of: tuple[str, str]
    """A program's label and the key of its JSON."""

    against: tuple[str, str] | None = None
    """The same for the other side; ``None``: the number stands alone."""

    compare: Literal["ratio", "difference", "value"] = "ratio"
    """``of / against``, ``of - against``, or ``of``."""

    better: Literal["more", "less"] = "more"
    goal: float | None = None
    """What must be reached, *at least* or *at most*; ``None``: it is shown only."""

    aim: float | None = None
    unit: str = ""
    """Of a difference or of a value; a ratio has none."""

    def __attrs_post_init__(self) -> None:
        if (self.against is None) != (self.compare == "value"):
            raise ValueError(
                f"row {self.title!r}: a ratio or a difference is against something,"
                " a value is against nothing"
            )
        if self.goal is None and self.aim is not None:
            raise ValueError(f"row {self.title!r}: an aim lies beyond a goal; give one")

    def reaches(self, value: float, limit: float) -> bool:
        """Say whether *value* is at least as good as *limit*."""
        return value >= limit if self.better == "more" else value <= limit


@attrs.frozen(kw_only=True)
class Figure:
    """Programs that are run in turn, and what is read from them."""

    name: str
    """Short, unique, without blanks: what ``--only`` takes."""

    letter: str
    """Which work it is, ``a`` to ``k``."""

    title: str
    programs: tuple[Program, ...]
    rows: tuple[Row, ...]
    runs: int = 5
    quick_runs: int = 1
    in_quick: bool = True
    """Whether ``--quick`` runs it; if not, its rows say so."""

    def __attrs_post_init__(self) -> None:
        labels = [program.label for program in self.programs]
        asked = {n[0] for row in self.rows for n in (row.of, row.against) if n}
        if len(set(labels)) != len(labels) or not asked <= set(labels):
            raise ValueError(
                f"figure {self.name}: the labels of programs differ, and rows name"
                f" no others; found {labels} and {sorted(asked)}"
            )


@attrs.frozen(kw_only=True)
class Measured:
    """All that a figure's programs printed."""

    figure: Figure
    commands: dict[str, list[str]]
    results: dict[str, list[Numbers]]
    """By label, one for each turn; of a program that was not run, none."""

    missing: dict[str, str]
    """By label, why it has no numbers."""

    failed: frozenset[str] = frozenset()
    """Labels whose program broke: that is a failure of the suite, too."""


@attrs.frozen(kw_only=True)
class Result:
    """A row with its numbers."""

    row: Row
    values: list[float]
    """One for each turn."""

    of: list[float]
    against: list[float]
    why: str = ""
    """Why there are none."""

    @property
    def median(self) -> float:
        return statistics.median(self.values)

    @property
    def verdict(self) -> Verdict:
        """Say what the median reaches; nothing if nothing is asked."""
        row = self.row
        if not self.values:
            return "not measured"
        if row.goal is None:
            return ""
        if row.aim is not None and row.reaches(self.median, row.aim):
            return "aim"
        return "goal" if row.reaches(self.median, row.goal) else "missed"


def run_program(command: Sequence[str], *, timeout: float = TIMEOUT) -> Numbers:
    """Run a command in a fresh process; return the numbers that it prints.

    A program that finds that it cannot be run here prints ``{"not_measured": why}``.

    Raises:
        NotMeasuredError: The program said so.
        ProgramError: It failed, took too long, or printed something else.
    """
    environment = dict(os.environ)
    if command[0] != sys.executable:
        # Another interpreter has packages of its own, and one of the same import name.
        environment.pop("PYTHONPATH", None)
    try:
        done = subprocess.run(
            command,
            env=environment,
            capture_output=True,
            text=True,
            timeout=timeout,
            check=False,
        )
    except subprocess.TimeoutExpired:
        raise ProgramError(f"no result after {timeout:g} s") from None
    except OSError as exc:
        raise ProgramError(f"cannot be started: {exc}") from exc
    if done.returncode:
        last = (done.stderr.strip() or "no message").splitlines()[-1]
        raise ProgramError(f"exit code {done.returncode}: {last}")
    return numbers_in(done.stdout)


def numbers_in(printed: str) -> Numbers:
    """Read the one line of JSON of a program."""
    lines = printed.strip().splitlines()
    try:
        (line,) = lines
        found = json.loads(line)
    except ValueError:
        raise ProgramError(f"expected one line of JSON, found {printed!r}") from None
    if isinstance(found, dict) and found.keys() == {"not_measured"}:
        raise NotMeasuredError(str(found["not_measured"]))
    if not isinstance(found, dict) or not found or not all(map(_real, found.values())):
        raise ProgramError(f"expected an object of finite numbers, found {line}")
    return found


def _real(value: object) -> bool:
    number = isinstance(value, int | float) and not isinstance(value, bool)
    return number and math.isfinite(value)  # type: ignore[arg-type]


def measure(
    figure: Figure,
    *,
    quick: bool = False,
    runs: int | None = None,
    run: Callable[[Sequence[str]], Numbers] = run_program,
    told: Callable[[str], None] = lambda _: None,
) -> Measured:
    """Run the programs of a figure in turn.

    A program that breaks is not run again, and what it printed before is not used;
    the others go on.
    """
    commands: dict[str, list[str]] = {}
    results: dict[str, list[Numbers]] = {p.label: [] for p in figure.programs}
    missing: dict[str, str] = {}
    failed = set()
    turns = runs or (figure.quick_runs if quick else figure.runs)
    for turn in range(turns):
        for program in figure.programs:
            label = program.label
            if label in missing:
                continue
            told(f"{figure.name}: {label}, {turn + 1} of {turns}")
            try:
                if label not in commands:
                    arguments = program.arguments(quick=quick)
                    commands[label] = [program.python(), *arguments]
                results[label].append(run(commands[label]))
                _check(figure, label, results[label][-1])
            except NotMeasuredError as exc:
                missing[label] = str(exc)
            except ProgramError as exc:
                missing[label] = str(exc)
                failed.add(label)
            if label in missing:
                results[label].clear()
    return Measured(
        figure=figure,
        commands=commands,
        results=results,
        missing=missing,
        failed=frozenset(failed),
    )


def left_out(figure: Figure, why: str) -> Measured:
    """Make what stands for a figure that is not run."""
    labels = [program.label for program in figure.programs]
    return Measured(
        figure=figure,
        commands={},
        results={label: [] for label in labels},
        missing=dict.fromkeys(labels, why),
    )


def _check(figure: Figure, label: str, numbers: Numbers) -> None:
    """Raise if the numbers of a program are not those that its rows compare."""
    for row in figure.rows:
        for name in (row.of, row.against):
            if name is not None and name[0] == label and name[1] not in numbers:
                raise ProgramError(f"expected the key {name[1]!r}, found {[*numbers]}")
        if row.compare == "ratio" and row.against is not None:
            other, key = row.against
            if other == label and not numbers[key]:
                raise ProgramError(f"{key} is 0, and a ratio to it is no number")


def results_of(measured: Measured) -> Iterator[Result]:
    """Make each row of a figure; one that has no numbers says why."""
    for row in measured.figure.rows:
        labels = [name[0] for name in (row.of, row.against) if name is not None]
        why = [
            f"{la}: {measured.missing[la]}" for la in labels if la in measured.missing
        ]
        if why:
            yield Result(row=row, values=[], of=[], against=[], why=why[0])
            continue
        of, against = (_numbers(measured, name) for name in (row.of, row.against))
        values = list(of)
        if row.compare == "ratio":
            values = [a / b for a, b in zip(of, against, strict=True)]
        elif row.compare == "difference":
            values = [a - b for a, b in zip(of, against, strict=True)]
        yield Result(row=row, values=values, of=of, against=against)


def _numbers(measured: Measured, name: tuple[str, str] | None) -> list[float]:
    """Return a program's numbers of one key, one a turn."""
    if name is None:
        return []
    label, key = name
    return [numbers[key] for numbers in measured.results[label]]
