"""A child process ends with its parent: it watches the pipe of its standard input."""

from __future__ import annotations

import os
import sys

import trio


async def until_stdin_closes() -> None:
    """Wait until the other end of standard input is closed, by whatever cause."""
    stdin = sys.stdin.fileno()
    while True:
        # No thread that reads: it could not be cancelled, and would hold up the exit.
        await trio.lowlevel.wait_readable(stdin)
        if not os.read(stdin, 4096):
            return
