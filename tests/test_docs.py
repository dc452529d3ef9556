"""Each Python block of the documentation runs and prints what stands below it.

A block is a program: it runs in a process and a folder of its own. If the next
block of the page is marked ``text``, that is its output, to the letter;
otherwise it prints nothing. A block below a comment that says ``continued``
(``.. continued`` in reStructuredText, ``<!-- continued -->`` in Markdown) is run
after the program that stands before it, and shows only what it adds to the
output. Blocks in other languages, and ``pycon``, are checked by nobody.
``literalinclude`` shows a file of ``examples/``, which another test runs.
"""

from __future__ import annotations

import re
import subprocess
import textwrap
from collections.abc import Callable, Iterator
from pathlib import Path

import attrs
import pytest

ROOT = Path(__file__).parents[1]
PAGES = [
    ROOT / "README.md",
    ROOT / "CONTRIBUTING.md",
    *sorted(ROOT.glob("docs/**/*.*")),
]
MARKDOWN = re.compile(
    r"(?P<continued><!-- continued -->\s+)?"
    r"^(?P<fence>```+)(?P<language>\w*)\n(?P<text>.*?)^(?P=fence)$",
    re.MULTILINE | re.DOTALL,
)
RESTRUCTURED = re.compile(
    r"(?P<continued>^\.\. continued\s+)?"
    r"^(?P<indent> *)\.\. code(?:-block)?:: (?P<language>\w+)\n"
    r"(?:(?P=indent) +:.*\n)*"
    r"(?P<text>(?:\n|(?P=indent) +.*\n?)+)",
    re.MULTILINE,
)


@attrs.frozen
class Block:
    """One marked piece of a page."""

    line: int
    language: str
    text: str
    continued: bool


@attrs.frozen
class Program:
    """What one block runs, and what it shall print."""

    page: str
    line: int
    source: str
    output: str

    def __str__(self) -> str:
        return f"{self.page}:{self.line}"


def blocks_of(text: str, pattern: re.Pattern[str]) -> Iterator[Block]:
    for found in pattern.finditer(text):
        body = textwrap.dedent(found["text"]).strip("\n") + "\n"
        line = text.count("\n", 0, found.start("language")) + 1
        yield Block(line, found["language"], body, found["continued"] is not None)


def programs_of(page: str, text: str) -> Iterator[Program]:
    pattern = MARKDOWN if page.endswith(".md") else RESTRUCTURED
    blocks = list(blocks_of(text, pattern))
    source = output = ""
    for block, following in zip(blocks, [*blocks[1:], None], strict=False):
        if block.language not in {"python", "python3", "py"}:
            continue
        shown = following.text if following and following.language == "text" else ""
        source = source * block.continued + block.text
        output = output * block.continued + shown
        yield Program(page, block.line, source, output)


PROGRAMS = [
    program
    for path in PAGES
    if path.suffix in {".md", ".rst"}
    for program in programs_of(
        path.relative_to(ROOT).as_posix(), path.read_text(encoding="utf-8")
    )
]


@pytest.mark.slow  # a process each; `nox -s docs` runs them
@pytest.mark.parametrize("program", PROGRAMS, ids=str)
def test_a_block_prints_what_stands_below_it(
    program: Program,
    run_python: Callable[[Path], subprocess.CompletedProcess[str]],
    tmp_path: Path,
) -> None:
    file = tmp_path / "main.py"
    file.write_text(program.source, encoding="utf-8")

    result = run_python(file)

    assert result.stderr == ""
    assert result.returncode == 0
    assert result.stdout == program.output


def test_blocks_are_found_in_both_kinds_of_pages() -> None:
    """What is not found is not checked, so the finding is checked as well."""
    markdown = (
        "```python\nx = 1\n\nprint(x)\n```\nIt prints:\n```text\n1\n```\n"
        "<!-- continued -->\n```python\nprint(x + 1)\n```\n```text\n2\n```\n"
        "```console\n$ python x.py\n```\n"
    )
    restructured = (
        ".. code-block:: python\n   :caption: x.py\n\n   x = 1\n\n   print(x)\n\n"
        "It prints:\n\n.. code-block:: text\n\n   1\n\n"
        ".. continued\n\n.. code-block:: python\n\n   print(x + 1)\n\n"
        ".. code-block:: text\n\n   2\n\n.. code-block:: console\n\n   $ python x.py\n"
    )

    for page, text in (("a.md", markdown), ("a.rst", restructured)):
        first, second = programs_of(page, text)
        assert (first.source, first.output) == ("x = 1\n\nprint(x)\n", "1\n")
        assert second.source == first.source + "print(x + 1)\n"
        assert second.output == "1\n2\n"
