"""How programs are run in turn, and what is made of their numbers."""

from __future__ import annotations

import sys
from collections.abc import Callable, Sequence
from pathlib import Path

import pytest

from harness import (
    Figure,
    NotMeasuredError,
    Numbers,
    Program,
    ProgramError,
    Row,
    left_out,
    measure,
    numbers_in,
    results_of,
    run_program,
)

Run = Callable[[Sequence[str]], Numbers]
RATIO = Row(title="rate", of=("ours", "rate"), against=("limit", "rate"))
ALONE = Row(title="alone", of=("limit", "rate"), compare="value")


def pair(*rows: Row, runs: int = 3) -> Figure:
    return Figure(
        name="pair",
        letter="a",
        title="two in turn",
        programs=(
            Program(label="ours", command=("ours.py", "--n", "9"), quick=("--n", "1")),
            Program(label="limit", command=("limit.py",)),
        ),
        rows=rows or (RATIO,),
        runs=runs,
    )


def played(**numbers: Sequence[float | Exception]) -> Run:
    """Make a run that gives each program, by its file, the next of its numbers."""
    left = {name: iter(values) for name, values in numbers.items()}

    def run(command: Sequence[str]) -> Numbers:
        value = next(left[Path(command[1]).stem])
        if isinstance(value, Exception):
            raise value
        return {"rate": value}

    return run


def test_programs_run_in_turn_and_every_result_is_kept() -> None:
    order = []
    play = played(ours=[1, 2, 6], limit=[2, 8, 3])

    def run(command: Sequence[str]) -> Numbers:
        order.append(Path(command[1]).name)
        return play(command)

    measured = measure(pair(), run=run)

    assert order == ["ours.py", "limit.py"] * 3
    assert measured.results["ours"] == [{"rate": 1}, {"rate": 2}, {"rate": 6}]
    assert measured.results["limit"] == [{"rate": 2}, {"rate": 8}, {"rate": 3}]


def test_a_ratio_is_made_within_each_pair() -> None:
    """The ratio of the medians would be 2 / 3."""
    play = played(ours=[1, 2, 6], limit=[2, 8, 3])

    (result,) = results_of(measure(pair(), run=play))

    assert result.values == [0.5, 0.25, 2.0]
    assert result.median == 0.5
    assert (result.of, result.against) == ([1, 2, 6], [2, 8, 3])


def test_differences_and_values_are_made_too() -> None:
    beyond = Row(
        title="beyond",
        of=("ours", "rate"),
        against=("limit", "rate"),
        compare="difference",
    )
    play = played(ours=[5, 6, 9], limit=[2, 2, 1])

    first, second = results_of(measure(pair(beyond, ALONE), run=play))

    assert first.values == [3, 4, 8]
    assert (second.values, second.against) == ([2, 2, 1], [])


@pytest.mark.parametrize(
    ("better", "goal", "aim", "value", "verdict"),
    [
        ("more", 0.4, 0.6, 0.6, "aim"),
        ("more", 0.4, 0.6, 0.59, "goal"),
        ("more", 0.4, 0.6, 0.4, "goal"),
        ("more", 0.4, 0.6, 0.39, "missed"),
        ("less", 1.5, 1.1, 1.1, "aim"),
        ("less", 1.5, 1.1, 1.2, "goal"),
        ("less", 1.5, 1.1, 1.5, "goal"),
        ("less", 1.5, 1.1, 1.6, "missed"),
        ("less", 1.5, None, 1.0, "goal"),
        ("more", None, None, 1.0, ""),
        ("less", 0.2, 0, 0.0, "aim"),
    ],
)
def test_the_median_is_held_against_goal_and_aim(
    better: str, goal: float | None, aim: float | None, value: float, verdict: str
) -> None:
    row = Row(
        title="one",
        of=("limit", "rate"),
        compare="value",
        better="more" if better == "more" else "less",
        goal=goal,
        aim=aim,
    )
    play = played(ours=[1, 1, 1], limit=[-99, value, 99])

    (result,) = results_of(measure(pair(row), run=play))

    assert result.verdict == verdict


@pytest.mark.parametrize(
    ("trouble", "failed"),
    [(NotMeasuredError("no such thing"), set()), (ProgramError("it broke"), {"ours"})],
)
def test_a_row_that_cannot_be_measured_stays_and_says_why(
    trouble: Exception, failed: set[str]
) -> None:
    """What its program printed before is not used, and the others go on."""
    play = played(ours=[1, trouble], limit=[2, 4, 6])

    measured = measure(pair(RATIO, ALONE), run=play)
    first, second = results_of(measured)

    assert (first.verdict, first.why) == ("not measured", f"ours: {trouble}")
    assert first.values == []
    assert measured.results["ours"] == []
    assert second.values == [2, 4, 6]
    assert measured.failed == failed


def test_an_interpreter_that_cannot_be_had_is_no_failure() -> None:
    def none() -> str:
        raise NotMeasuredError("no network")

    program = Program(label="other", command=("other.py",), python=none)
    row = Row(title="rate", of=("other", "rate"), compare="value")
    figure = Figure(name="x", letter="a", title="", programs=(program,), rows=(row,))

    measured = measure(figure, run=played())
    (result,) = results_of(measured)

    assert result.why == "other: no network"
    assert not measured.failed


def test_a_figure_that_is_left_out_keeps_its_rows() -> None:
    results = list(results_of(left_out(pair(RATIO, ALONE), "too long")))

    assert [r.why for r in results] == ["ours: too long", "limit: too long"]
    assert {r.verdict for r in results} == {"not measured"}


def test_numbers_that_the_rows_do_not_find_are_a_failure() -> None:
    measured = measure(pair(), run=lambda _: {"other": 1.0})

    assert measured.failed == {"ours", "limit"}
    assert measured.missing["ours"] == "expected the key 'rate', found ['other']"


def test_a_ratio_to_nothing_is_a_failure() -> None:
    measured = measure(pair(), run=played(ours=[0, 0, 0], limit=[0]))

    assert measured.failed == {"limit"}
    assert "rate is 0" in measured.missing["limit"]


def test_quick_runs_fewer_and_smaller_ones() -> None:
    commands = []

    def run(command: Sequence[str]) -> Numbers:
        commands.append(list(command[2:]))
        return {"rate": 1.0}

    measure(pair(), quick=True, run=run)
    measure(pair(), runs=2, run=run)

    assert commands[:2] == [["--n", "9", "--n", "1"], []]
    assert commands[2:] == [["--n", "9"], []] * 2


@pytest.mark.parametrize(
    "printed",
    [
        *("", "{}", "[1]", "1", "text", '{"a": NaN}', '{"a": Infinity}'),
        *('{"a": true}', '{"a": "1"}', '{"a": null}', '{"a": {"b": 1}}'),
        '{"a": 1}\n{"a": 2}',
    ],
)
def test_what_is_not_one_object_of_numbers_is_no_result(printed: str) -> None:
    with pytest.raises(ProgramError, match="expected"):
        numbers_in(printed)


def test_a_program_runs_in_a_process_of_its_own() -> None:
    command = [sys.executable, "-S", "-c"]

    assert run_program([*command, 'print(\'{"a_s": 1.5, "n": 2}\')']) == {
        "a_s": 1.5,
        "n": 2,
    }
    with pytest.raises(ProgramError, match=r"^exit code 1: AssertionError: 3 of 4$"):
        run_program([*command, "assert False, '3 of 4'"])
    with pytest.raises(NotMeasuredError, match=r"^no disk$"):
        run_program([*command, 'print(\'{"not_measured": "no disk"}\')'])
    with pytest.raises(ProgramError, match=r"no result after 0\.05 s"):
        run_program([*command, "import time; time.sleep(60)"], timeout=0.05)
    with pytest.raises(ProgramError, match="cannot be started"):
        run_program(["/nowhere/python"])


def test_another_interpreter_keeps_to_its_own_packages(
    monkeypatch: pytest.MonkeyPatch, tmp_path: Path
) -> None:
    """A neighbour has our import name: what leads to ours must not reach it."""
    monkeypatch.setenv("PYTHONPATH", str(tmp_path))
    other = tmp_path / "python"
    other.symlink_to(sys.executable)
    show = [
        "-S",
        "-c",
        "import os; print('{\"n\": %d}' % ('PYTHONPATH' in os.environ))",
    ]

    assert run_program([sys.executable, *show]) == {"n": 1}
    assert run_program([str(other), *show]) == {"n": 0}


def test_what_a_figure_says_must_fit() -> None:
    with pytest.raises(ValueError, match="labels"):
        pair(Row(title="x", of=("neighbour", "rate"), compare="value"))
    with pytest.raises(ValueError, match="against nothing"):
        Row(title="x", of=("ours", "rate"))
    with pytest.raises(ValueError, match="against nothing"):
        Row(title="x", of=("a", "b"), against=("c", "b"), compare="value")
    with pytest.raises(ValueError, match="goal"):
        Row(title="x", of=("a", "b"), compare="value", aim=1)
