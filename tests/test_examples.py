"""Each one-page example runs and prints what stands beside it."""

from __future__ import annotations

import subprocess
from collections.abc import Callable
from pathlib import Path

import pytest

FOLDER = Path(__file__).parents[1] / "examples"
PROGRAMS = sorted(set(FOLDER.glob("*.py")) - set(FOLDER.glob("test_*.py")))
# Runs the tests that an example consists of, as its reader would.
RUN_TESTS = """\
import sys
import pytest
sys.exit(pytest.main([{path!r}, "-q", "-o", "trio_mode=true", "--rootdir", "."]))
"""


@pytest.mark.slow  # a process each; `nox -s docs` runs them
@pytest.mark.parametrize("example", PROGRAMS, ids=lambda path: path.name)
def test_an_example_prints_what_its_page_shows(
    example: Path, run_python: Callable[[Path], subprocess.CompletedProcess[str]]
) -> None:
    expected = example.with_suffix(".out")

    result = run_python(example)

    assert result.stderr == ""
    assert result.returncode == 0
    assert result.stdout == expected.read_text(encoding="utf-8")


@pytest.mark.slow  # likewise
@pytest.mark.parametrize(
    "example", sorted(FOLDER.glob("test_*.py")), ids=lambda path: path.name
)
def test_the_tests_of_an_example_pass(
    example: Path,
    run_python: Callable[[Path], subprocess.CompletedProcess[str]],
    tmp_path: Path,
) -> None:
    program = tmp_path / "run_tests.py"
    program.write_text(RUN_TESTS.format(path=str(example)), encoding="utf-8")

    result = run_python(program)

    assert result.returncode == 0, result.stdout
    assert " passed" in result.stdout
