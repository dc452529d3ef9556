"""One workflow ends the process each time: it is found, and alone."""

from __future__ import annotations

import subprocess
import sys
from collections import Counter
from pathlib import Path

import pytest

PROGRAM = Path(__file__).parent / "children" / "poison.py"


@pytest.mark.slow
@pytest.mark.parametrize(
    ("how", "where", "guilty"),
    [("kill", "first", 500), ("exit", "second", 999), ("kill", "second", 0)],
)
def test_one_poison_among_a_thousand_is_found(
    tmp_path: Path, how: str, where: str, guilty: int
) -> None:
    command = [sys.executable, str(PROGRAM), str(tmp_path), how, where, str(guilty)]

    codes: list[int] = []
    while not codes or codes[-1] != 0:
        assert len(codes) < 6, "it is not found"
        done = subprocess.run(command, capture_output=True, timeout=120, check=False)
        codes.append(done.returncode)

    lines = [line.split() for line in (tmp_path / "ledger").read_text().splitlines()]
    assert codes == [-9 if how == "kill" else 1] * 4 + [0]
    assert [line[1:] for line in lines if line[0] == "left"] == [
        ["quarantined", str(guilty), "crashed"]
    ]
    for step in ("first", "second"):
        ended = Counter(line[2] for line in lines if line[:2] == ["end", step])
        innocent = {str(n) for n in range(1000) if n != guilty or step != where}
        if (where, step) == ("first", "second"):
            innocent.discard(str(guilty))
        assert ended.keys() == innocent
        begun = Counter(line[2] for line in lines if line[:2] == ["begin", step])
        assert begun[str(guilty)] in ({4} if step == where else {0, 1})
