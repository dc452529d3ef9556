from __future__ import annotations

import sqlite3
from collections.abc import AsyncGenerator
from contextlib import asynccontextmanager
from datetime import date
from pathlib import Path

import pytest
import trio

from books import HistorySettings, Ledger, LedgerSettings, PriceHistory
from database import Database
from orders import Alarm, Order, Side

DAYS = [date(2020, 1, n) for n in range(1, 5)]


@asynccontextmanager
async def open_history(path: Path) -> AsyncGenerator[PriceHistory]:
    history = PriceHistory()
    history.config = HistorySettings(path)
    await history.startup()
    yield history
    await history.shutdown()


@asynccontextmanager
async def open_ledger(path: Path) -> AsyncGenerator[Ledger]:
    ledger = Ledger()
    ledger.config = LedgerSettings(path)
    await ledger.startup()
    yield ledger
    await ledger.shutdown()


async def test_history_ends_at_the_day_asked_for(tmp_path: Path) -> None:
    """A step that runs again sees what it saw, whatever was recorded since."""
    async with open_history(tmp_path / "prices.sqlite") as history:
        for day, price in zip(DAYS, (1.0, 2.0, 3.0, 4.0), strict=True):
            await history.record("X", day, price)

        assert history.until("X", DAYS[1]) == [1.0, 2.0]
        assert history.until("Y", DAYS[1]) == []


async def test_recording_twice_and_at_once_is_recording_once(tmp_path: Path) -> None:
    async with open_history(tmp_path / "prices.sqlite") as history:
        async with trio.open_nursery() as nursery:
            for _ in range(4):
                nursery.start_soon(history.record, "X", DAYS[0], 1.5)
        await history.record("X", DAYS[0], 1.5)

        assert history.until("X", DAYS[3]) == [1.5]
        assert len(history) == 1


async def test_history_of_an_earlier_life_is_loaded(tmp_path: Path) -> None:
    path = tmp_path / "folder" / "prices.sqlite"
    async with open_history(path) as history:
        await history.record("X", DAYS[1], 0.1 + 0.2)
        await history.record("X", DAYS[0], 1e-300)

    async with open_history(path) as history:
        assert history.until("X", DAYS[3]) == [1e-300, 0.1 + 0.2]


async def test_record_that_is_cancelled_is_whole_or_absent(tmp_path: Path) -> None:
    async with open_history(tmp_path / "prices.sqlite") as history:
        with trio.CancelScope() as scope:
            scope.cancel()
            await history.record("X", DAYS[0], 1.0)

        assert scope.cancelled_caught
        assert len(history) == 0


async def test_order_is_placed_once(tmp_path: Path) -> None:
    order = Order("X", DAYS[0], Side.BUY, 100, 12.25)
    async with open_ledger(tmp_path / "ledger.sqlite") as ledger:
        await ledger.place(order)
        await ledger.place(order)

        assert await ledger.orders() == [order]


async def test_alarm_is_noted_once(tmp_path: Path) -> None:
    alarm = Alarm("X", DAYS[0], 2, 100.0, 60.0)
    async with open_ledger(tmp_path / "ledger.sqlite") as ledger:
        await ledger.note(alarm)
        await ledger.note(alarm)

        assert await ledger.alarms() == [alarm]


async def test_ledger_survives_its_process(tmp_path: Path) -> None:
    order = Order("X", DAYS[0], Side.SELL, 100, 12.25)
    async with open_ledger(tmp_path / "ledger.sqlite") as ledger:
        await ledger.place(order)

    async with open_ledger(tmp_path / "ledger.sqlite") as ledger:
        assert await ledger.orders() == [order]


async def test_file_that_is_no_database_is_refused_and_closed(tmp_path: Path) -> None:
    path = tmp_path / "prices.sqlite"
    path.write_bytes(b"no database" * 100)

    with pytest.raises(sqlite3.DatabaseError):
        await Database.open(path)
