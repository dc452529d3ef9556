"""How commands answer: text for people, one JSON document for programs."""

from __future__ import annotations

import json
import os
import sys
from collections.abc import Iterable, Iterator, Sequence
from datetime import UTC, datetime

__all__ = ["answer", "iso", "moment", "size", "table", "write"]

_TO_SECONDS = len("2026-01-01 00:00:00")


def answer(document: object, text: str | Iterable[str], *, as_json: bool) -> None:
    """Write an answer to standard output.

    Args:
        document: For programs.
        text: For people; or the lines of it.
        as_json: For whom it is.
    """
    if as_json:
        text = json.dumps(document, indent=2)
    write([text] if isinstance(text, str) else text)


def write(lines: Iterable[str]) -> None:
    """Write lines to standard output, as they come; empty ones are left out."""
    try:
        sys.stdout.writelines(line + "\n" for line in lines if line)
        sys.stdout.flush()
    except BrokenPipeError:
        # Whoever reads has seen enough; Python would complain again at its end.
        os.dup2(os.open(os.devnull, os.O_WRONLY), sys.stdout.fileno())


def iso(seconds: float | None) -> str | None:
    """Return a time as ISO 8601 text, in UTC."""
    return None if seconds is None else _time(seconds).isoformat()


def moment(seconds: float | None) -> str:
    """Return a time for people, in UTC; empty if there is none."""
    # Ten times as fast as a format of one's own, and there may be a million.
    return "" if seconds is None else _time(seconds).isoformat(" ")[:_TO_SECONDS]


def _time(seconds: float) -> datetime:
    return datetime.fromtimestamp(seconds, UTC)


def size(count: float) -> str:
    """Return a number of bytes for people."""
    for unit in ("bytes", "KiB", "MiB"):
        if count < 1024:  # noqa: PLR2004
            return f"{count:.0f} {unit}" if unit == "bytes" else f"{count:.1f} {unit}"
        count /= 1024
    return f"{count:.1f} GiB"


def table(heads: Sequence[str], rows: Iterable[Sequence[str]]) -> Iterator[str]:
    """Lay out rows in columns under their heads, line by line.

    *rows* is gone through twice, so that none of it needs to be kept.
    """
    widths = [len(head) for head in heads]
    for row in rows:
        widths = [
            max(width, len(cell)) for width, cell in zip(widths, row, strict=True)
        ]
    yield _line(widths, heads)
    for row in rows:
        yield _line(widths, row)


def _line(widths: Sequence[int], row: Sequence[str]) -> str:
    cells = (cell.ljust(width) for cell, width in zip(row, widths, strict=True))
    return "  ".join(cells).rstrip()
