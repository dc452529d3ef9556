"""What the suite collects, shows and writes."""

from __future__ import annotations

import json
import sys
from pathlib import Path

import pytest

import guard
import suite
from harness import (
    Figure,
    Measured,
    NotMeasuredError,
    Program,
    ProgramError,
    Result,
    Row,
    measure,
)
from reporting import Report, document, file_system, machine, number, page, sides, table

FACTS = {"CPU": "one", "cores": "2", "Python": "x", "date": "today"}


def found() -> Measured:
    """Measure a figure whose third program cannot be had."""
    figure = Figure(
        name="fsync-256",
        letter="a",
        title="in turn",
        programs=tuple(
            Program(label=name, command=(f"{name}.py", "--n", "1"))
            for name in ("ours", "limit", "other")
        ),
        rows=(
            Row(
                title="rate against the limit",
                of=("ours", "rate"),
                against=("limit", "rate"),
                goal=0.4,
                aim=0.6,
            ),
            Row(
                title="rate against the *other*",
                of=("ours", "rate"),
                against=("other", "rate"),
                goal=15,
            ),
        ),
    )
    rates = {"ours": iter([10, 12, 11]), "limit": iter([20, 20, 20])}

    def run(command: object) -> dict[str, float]:
        assert isinstance(command, list)
        name = Path(command[1]).stem
        if name not in rates:
            raise NotMeasuredError("no *network*")
        return {"rate": next(rates[name])}

    return measure(figure, runs=3, run=run)


def report_of(*measured: Measured) -> Report:
    return Report(
        machine=FACTS, command="python suite.py", quick=False, measured=[*measured]
    )


def test_the_table_shows_every_row_with_its_spread_and_what_it_reaches() -> None:
    lines = table(report_of(found())).splitlines()

    (rate,) = [line for line in lines if line.startswith("rate against the limit")]
    (other,) = [line for line in lines if line.startswith("rate against the *other*")]
    assert rate.split()[4:] == [
        "0.55",
        "(0.5",
        "to",
        "0.6)",
        "≥",
        "0.4",
        "≥",
        "0.6",
        "goal",
    ]
    assert other.split()[4:] == ["not", "measured", "≥", "15", "not", "measured"]
    assert "    11 against 20, 3 runs" in lines
    assert "    other: no *network*" in lines


def test_the_document_holds_every_number() -> None:
    text = json.dumps(document(report_of(found())), allow_nan=False)
    (figure,) = json.loads(text)["figures"]

    assert figure["results"]["ours"] == [{"rate": 10}, {"rate": 12}, {"rate": 11}]
    assert figure["results"]["other"] == []
    assert figure["not_measured"] == {"other": "no *network*"}
    assert figure["commands"]["ours"] == "benchmarks/ours.py --n 1"
    first, second = figure["rows"]
    assert (first["median"], first["least"], first["most"]) == (0.55, 0.5, 0.6)
    assert (first["verdict"], second["verdict"]) == ("goal", "not measured")
    assert second["why"] == "other: no *network*"


def test_the_page_shows_the_same_and_keeps_markup_out() -> None:
    text = page(report_of(found()))

    assert "``python suite.py``" in text
    assert ":CPU: one" in text
    assert "   * - rate against the limit\n     - 0.55 (0.5 to 0.6)\n" in text
    assert "   * - rate against the \\*other\\*\n     - not measured\n" in text
    assert "     - other: no \\*network\\*\n" in text
    assert "2 goals: 0 with their aim, 1 reached, 0 missed, 1 not measured" in text


def test_times_on_both_sides_have_their_unit() -> None:
    row = Row(title="x", of=("ours", "p50_s"), against=("limit", "a_per_s"))
    result = Result(row=row, values=[2.0], of=[0.002], against=[2000])

    assert sides(result) == "2 ms against 2,000, 1 run"


@pytest.mark.parametrize(
    ("value", "unit", "text"),
    [
        (16735.2, "", "16,735"),
        (0.4012, "", "0.401"),
        (0.00211, "s", "2.11 ms"),
        (0.0000743, "s", "74.3 µs"),
        (1.25, "s", "1.25 s"),
        (0.0, "s", "0 s"),
        (4.2, "MiB", "4.2 MiB"),
        (-0.02, "s", "-20 ms"),
    ],
)
def test_numbers_are_short(value: float, unit: str, text: str) -> None:
    assert number(value, unit) == text


def test_the_machine_is_named(tmp_path: Path) -> None:
    facts = machine(tmp_path)

    assert all(facts.values())
    assert {"CPU", "cores", "system", "file system", "Python", "trio", "lmdb"} <= {
        *facts
    }
    if Path("/proc/self/mounts").exists():
        assert file_system(Path("/proc")) == "proc"


def test_figures_are_chosen_by_name_pattern_and_letter() -> None:
    figures = suite.all_figures()

    def names(*only: str) -> list[str]:
        return [figure.name for figure in suite.chosen(figures, only)]

    assert names() == [figure.name for figure in figures]
    assert names("fsync-256", "single") == ["fsync-256", "single"]
    assert names("fsync-*") == ["fsync-1", "fsync-64", "fsync-256", "fsync-1024"]
    assert names("b") == [f.name for f in figures if f.letter == "b"] != []
    with pytest.raises(SystemExit, match="no figure 'fsync-2'; known: fsync-1,"):
        names("fsync-2")


def test_the_docs_show_whole_runs_only() -> None:
    assert suite.arguments(["--docs"]).docs
    for more in (["--quick"], ["--only", "a"]):
        with pytest.raises(SystemExit):
            suite.arguments(["--docs", *more])
    with pytest.raises(SystemExit):
        suite.arguments(["--runs", "0"])


@pytest.mark.parametrize(
    ("rate", "code"), [(1.0, 0), (ProgramError("it broke"), 1), (None, 0)]
)
def test_a_missed_goal_is_no_failure_and_a_broken_program_is(
    monkeypatch: pytest.MonkeyPatch,
    tmp_path: Path,
    rate: float | Exception | None,
    code: int,
) -> None:
    """Nor is a figure that ``--quick`` leaves out."""
    row = Row(title="x", of=("ours", "rate"), compare="value", goal=2)
    figure = Figure(
        name="x",
        letter="a",
        title="x",
        programs=(Program(label="ours", command=("ours.py",)),),
        rows=(row,),
        in_quick=rate is not None,
    )

    def run(_: object) -> dict[str, float]:
        if isinstance(rate, float):
            return {"rate": rate}
        assert rate is not None, "it was left out"
        raise rate

    monkeypatch.setattr(suite, "all_figures", lambda: [figure])
    monkeypatch.setattr(
        suite, "measure", lambda f, **options: measure(f, **options, run=run)
    )
    given = ["suite.py", "--quick", "--out", str(tmp_path)]
    monkeypatch.setattr("sys.argv", given)
    monkeypatch.setattr(suite, "save", lambda *_, **__: None)

    assert suite.main() == code


@pytest.mark.slow  # the picture takes a second and more
def test_a_run_leaves_its_files(tmp_path: Path) -> None:
    pytest.importorskip("matplotlib")

    suite.save(report_of(found()), tmp_path / "out", docs=False)

    assert (tmp_path / "out" / "newest.png").read_bytes()[:4] == b"\x89PNG"
    assert json.loads((tmp_path / "out" / "newest.json").read_text("utf-8"))
    assert "not measured" in (tmp_path / "out" / "newest.inc").read_text("utf-8")


def test_the_guard_is_all_that_is_run(monkeypatch: pytest.MonkeyPatch) -> None:
    asked: list[list[str]] = []

    def count(given: list[str]) -> int:
        asked.append(given)
        return 1

    monkeypatch.setattr(guard, "main", count)
    monkeypatch.setattr(sys, "argv", ["suite.py", "--guard", "HEAD~3"])

    assert suite.main() == 1
    assert asked == [["HEAD~3"]]
