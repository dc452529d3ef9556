"""The whole system in one block, and the process that feeds it."""

from __future__ import annotations

import subprocess
import sys
from collections.abc import AsyncGenerator
from contextlib import aclosing, asynccontextmanager
from functools import partial
from pathlib import Path

import trio

from books import HistorySettings, Ledger, LedgerSettings, PriceHistory
from feed import FeedClient, FeedSettings, Quotes
from minions import Gru, GruOptions, Orchestration, open_gru
from workers import CrossoverTrader, DrawdownAlarm

FOLDER = Path(__file__).parent
LEDGER = "ledger.sqlite"


@asynccontextmanager
async def open_system(
    folder: Path, url: str, options: GruOptions | None = None
) -> AsyncGenerator[tuple[Gru, list[Orchestration]]]:
    """Run the market watch; the block ends when the feed has, and all is done."""
    options = options or GruOptions()
    async with open_gru(folder / "state", options=options) as gru:
        gru.configure(FeedClient, FeedSettings(url))
        gru.configure(PriceHistory, HistorySettings(folder / "prices.sqlite"))
        gru.configure(Ledger, LedgerSettings(folder / LEDGER))
        async with gru.starting():  # both see every quote
            orchestrations = [
                await gru.start_minion(CrossoverTrader, Quotes),
                await gru.start_minion(DrawdownAlarm, Quotes),
            ]
        yield gru, orchestrations


@asynccontextmanager
async def open_process(*arguments: str) -> AsyncGenerator[trio.Process]:
    """Run a program of this folder; the end of the block closes its standard input."""
    command = [sys.executable, str(FOLDER / arguments[0]), *arguments[1:]]
    async with trio.open_nursery() as nursery:
        process = await nursery.start(
            partial(
                trio.run_process,
                command,
                stdin=subprocess.PIPE,
                stdout=subprocess.PIPE,
                check=False,
                start_new_session=True,  # Ctrl-C is for the parent alone
            )
        )
        yield process
        await process.stdin.aclose()


async def lines(process: trio.Process) -> AsyncGenerator[str]:
    """Yield what a process prints, line by line, until it closes its output."""
    assert process.stdout is not None
    buffer = b""
    async for chunk in process.stdout:
        *whole, buffer = (buffer + chunk).split(b"\n")
        for line in whole:
            yield line.decode()


@asynccontextmanager
async def open_feed() -> AsyncGenerator[str]:
    """Run the feed server; give its URL."""
    async with open_process("feed_server.py") as server:
        async with aclosing(lines(server)) as output:
            port = await anext(output)
        yield f"ws://127.0.0.1:{port}"
