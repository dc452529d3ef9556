"""Each program of the parts does what it says, and finds out if it did not."""

from __future__ import annotations

import importlib
import sys
import time
from collections.abc import Callable
from pathlib import Path
from types import ModuleType

import pytest
import trio
from trio.testing import MockClock

from figures_parts import FIGURES
from harness import Numbers, measure, numbers_in, results_of

Load = Callable[[str], ModuleType]
Run = Callable[..., Numbers]


@pytest.fixture
def load(monkeypatch: pytest.MonkeyPatch) -> Load:
    """Import a program anew, whose stores are filled in this process."""

    def load_it(name: str) -> ModuleType:
        for module in (name, "filling"):
            monkeypatch.delitem(sys.modules, module, raising=False)
        program = importlib.import_module(name)
        if hasattr(program, "fill_apart"):
            filling = sys.modules["filling"]

            def fill_here(folder: Path, kind: str, count: int) -> None:
                trio.run(filling.fill, folder, filling.FILLINGS[kind], count)

            monkeypatch.setattr(program, "fill_apart", fill_here)
        return program

    return load_it


@pytest.fixture
def run(
    load: Load, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> Run:
    """Run a program with arguments; return its numbers."""

    def run_it(program: str | ModuleType, *arguments: str) -> Numbers:
        module = load(program) if isinstance(program, str) else program
        monkeypatch.setattr(sys, "argv", [module.__name__, *arguments])
        module.main()
        return numbers_in(capsys.readouterr().out)

    return run_it


def test_fan_out_counts_what_all_minions_did(run: Run) -> None:
    found = run("fanout", "--minions", "3", "--workflows", "30")

    assert found["workflows_per_s"] == pytest.approx(3 * found["events_per_s"])


def test_a_workflow_that_ran_twice_is_found(load: Load, run: Run) -> None:
    fanout = load("fanout")
    fanout.totals.append(2)

    with pytest.raises(AssertionError, match="twice"):
        run(fanout, "--minions", "1", "--workflows", "2")


def test_a_guarded_call_is_compared_with_a_plain_one(run: Run) -> None:
    found = run("calls", "--rounds", "3")

    assert 0 < found["plain_ns"] < found["guarded_ns"]
    assert found["beyond_us"] == pytest.approx(found["beyond_ns"] / 1000)


@pytest.mark.parametrize(
    "state", ["cold", "in-flight", pytest.param("due", marks=pytest.mark.slow)]
)
def test_reopening_ends_with_all_that_was_saved(run: Run, state: str) -> None:
    found = run("reopen", "--state", state, "--saved", "20", "--durability", "none")

    assert 0 < found["opened_s"] < found["live_s"]
    if state != "cold":
        assert found["live_s"] < found["resumed_s"]
        # The live one is one more.
        assert found["workflows_per_s"] * found["resumed_s"] == pytest.approx(21)


def test_what_data_take_is_no_cost_of_a_workflow(
    load: Load, run: Run, monkeypatch: pytest.MonkeyPatch
) -> None:
    memory, count = load("memory"), 40
    # Empty; with events and contexts of 1 kB; with workflows of 7 kB, data included.
    readings = iter([0, 1000 * count, 8000 * count])
    monkeypatch.setattr(memory, "rss_anon", lambda: next(readings))

    found = run(memory, "--running", str(count))

    assert found == {"each_kb": 7.0, "data_kb": 1.0, "beyond_kb": 6.0}


def test_memory_of_a_process_is_what_it_has_written_to(load: Load) -> None:
    memory = load("memory")
    if not memory.STATUS.exists():
        pytest.skip("no /proc")
    before = memory.rss_anon()

    kept = b"\1" * 2**26  # more than malloc would take from what was freed before

    assert len(kept) * 0.9 < memory.rss_anon() - before < len(kept) * 1.5


def test_memory_is_not_measured_where_nothing_tells_it(
    load: Load,
    monkeypatch: pytest.MonkeyPatch,
    capsys: pytest.CaptureFixture[str],
    tmp_path: Path,
) -> None:
    memory = load("memory")
    monkeypatch.setattr(memory, "STATUS", tmp_path / "absent")
    monkeypatch.setattr(sys, "argv", ["memory", "--cold", "0"])

    memory.main()

    assert "not_measured" in capsys.readouterr().out


def test_cold_workflows_are_all_there_when_memory_is_read(
    load: Load, run: Run, monkeypatch: pytest.MonkeyPatch
) -> None:
    memory = load("memory")
    monkeypatch.setattr(memory, "rss_anon", lambda: 3 * 2**20)

    assert run(memory, "--cold", "20") == {"rss_anon_mib": 3.0}


@pytest.mark.parametrize("shape", ["chain", "star"])
def test_every_part_restarts_once(run: Run, shape: str) -> None:
    found = run("restarts", "--components", "6", "--shape", shape)

    assert 0 < found["bring_up_s"] < found["start_s"]
    assert found["restart_s"] > 0
    assert found["stop_s"] > 0


@pytest.mark.parametrize(
    ("shape", "numbers"),
    [
        ("chain", [0, 2, 1]),
        ("star", [1, 0, 2]),
        ("star", [0, 1, 1]),
        ("chain", [0, 1]),
        ("star", [0, 1, 2, 2]),
    ],
)
def test_a_wrong_order_of_parts_is_found(
    load: Load, shape: str, numbers: list[int]
) -> None:
    restarts = load("restarts")
    restarts.check_order([0, 1, 2], shape, 3)

    with pytest.raises(AssertionError):
        restarts.check_order(numbers, shape, 3)


def test_each_signal_reaches_its_own_workflow(load: Load, run: Run) -> None:
    signals = load("signals")
    given = ("--waiting", "20", "--signals", "5", "--durability", "none")

    found = run(signals, *given)

    assert 0 < found["p50_s"] <= found["p99_s"]
    numbers = [signal.number for signal in signals.seen.received]
    assert numbers == [1, 5, 9, 13, 17]


def test_a_sleeper_is_no_task(load: Load, tmp_path: Path) -> None:
    tasks = []
    for count in (10, 30):
        idle = load("idle")
        folder = tmp_path / str(count)
        idle.fill_apart(folder, "cold", count)
        clock = MockClock(autojump_threshold=0)
        found = trio.run(idle.measure, folder, count, 30.0, clock=clock)
        tasks.append(found["tasks"])

    assert tasks[0] == tasks[1]


def test_an_import_is_timed_in_a_process_of_its_own(run: Run) -> None:
    small, large = (run("imports", "--module", m) for m in ("time", "email.mime.text"))

    assert small["import_s"] < large["import_s"]
    assert small["modules"] + 20 < large["modules"]


def test_what_is_imported_was_compiled_before(
    run: Run, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """Also where the environment keeps Python from writing compiled files."""
    long = "\n".join(f"def f{number}(): return {number}" for number in range(3000))
    (tmp_path / "long.py").write_text(long, "utf-8")
    monkeypatch.setenv("PYTHONPATH", str(tmp_path))
    monkeypatch.setenv("PYTHONDONTWRITEBYTECODE", "1")
    began = time.process_time()
    compile(long, "long", "exec")
    compiling = time.process_time() - began

    assert run("imports", "--module", "long")["cpu_s"] < compiling / 3
    assert [path.name for path in tmp_path.iterdir()] == ["long.py"]


@pytest.mark.slow  # a process that imports everything
def test_the_store_is_filled_in_another_process(tmp_path: Path) -> None:
    filling = importlib.import_module("filling")

    with pytest.raises(AssertionError, match="filling ended"):
        filling.fill_apart(tmp_path / "state", "unknown", 1)


@pytest.mark.slow
@pytest.mark.parametrize("name", [f.name for f in FIGURES if f.in_quick])
def test_each_figure_can_be_measured(name: str) -> None:
    (figure,) = (f for f in FIGURES if f.name == name)

    measured = measure(figure, quick=True, runs=1)

    assert measured.missing == {}
    assert all(result.values for result in results_of(measured))
