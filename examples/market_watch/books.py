"""What is known and what was done: two resources over SQLite files of their own.

Steps run again after a crash, so every write here can be repeated without a trace.
"""

from __future__ import annotations

from bisect import bisect_left, bisect_right
from collections import defaultdict
from datetime import date
from pathlib import Path

import attrs

from database import Database
from minions import Resource
from orders import Alarm, Order, Side


@attrs.frozen
class HistorySettings:
    """Where the prices are kept."""

    path: Path = Path("prices.sqlite")


@attrs.frozen
class LedgerSettings:
    """Where the orders and alarms are kept."""

    path: Path = Path("ledger.sqlite")


class PriceHistory(Resource):
    """The prices of each symbol by day: a cache over a file."""

    config: HistorySettings

    async def startup(self) -> None:
        """Open the file and load what it holds."""
        self._days: defaultdict[str, list[date]] = defaultdict(list)
        self._prices: defaultdict[str, list[float]] = defaultdict(list)
        self._file = await Database.open(
            self.config.path,
            "CREATE TABLE IF NOT EXISTS prices"
            " (symbol TEXT, day TEXT, price REAL, PRIMARY KEY (symbol, day))",
        )
        for symbol, day, price in await self._file.execute("SELECT * FROM prices"):
            self._remember(symbol, date.fromisoformat(day), price)

    async def shutdown(self) -> None:
        """Close the file."""
        await self._file.aclose()

    async def record(self, symbol: str, day: date, price: float) -> None:
        """Keep the price of one day; a day that is known stays as it is."""
        if self._knows(symbol, day):
            return
        await self._file.execute(
            "INSERT OR IGNORE INTO prices VALUES (?, ?, ?)",
            *(symbol, day.isoformat(), price),
        )
        self._remember(symbol, day, price)

    def until(self, symbol: str, day: date) -> list[float]:
        """Return the prices up to and including *day*, oldest first."""
        return self._prices[symbol][: bisect_right(self._days[symbol], day)]

    def __len__(self) -> int:
        return sum(map(len, self._days.values()))

    def _knows(self, symbol: str, day: date) -> bool:
        days = self._days[symbol]
        place = bisect_left(days, day)
        return place < len(days) and days[place] == day

    def _remember(self, symbol: str, day: date, price: float) -> None:
        # Two minions may have recorded the same quote at once.
        if self._knows(symbol, day):
            return
        place = bisect_left(self._days[symbol], day)
        self._days[symbol].insert(place, day)
        self._prices[symbol].insert(place, price)


class Ledger(Resource):
    """The orders and alarms, each of them once."""

    config: LedgerSettings

    async def startup(self) -> None:
        """Open the file."""
        self._file = await Database.open(
            self.config.path,
            "CREATE TABLE IF NOT EXISTS orders (symbol TEXT, day TEXT, side TEXT,"
            " quantity INTEGER, price REAL, PRIMARY KEY (symbol, day, side))",
            "CREATE TABLE IF NOT EXISTS alarms (symbol TEXT, day TEXT, level INTEGER,"
            " peak REAL, price REAL, PRIMARY KEY (symbol, day, level))",
        )

    async def shutdown(self) -> None:
        """Close the file."""
        await self._file.aclose()

    async def place(self, order: Order) -> None:
        """Place an order, unless it is placed already."""
        await self._file.execute(
            "INSERT OR IGNORE INTO orders VALUES (?, ?, ?, ?, ?)",
            *(order.symbol, order.day.isoformat(), order.side.value),
            *(order.quantity, order.price),
        )

    async def note(self, alarm: Alarm) -> None:
        """Keep an alarm, unless it is kept already."""
        await self._file.execute(
            "INSERT OR IGNORE INTO alarms VALUES (?, ?, ?, ?, ?)",
            *(alarm.symbol, alarm.day.isoformat(), alarm.level),
            *(alarm.peak, alarm.price),
        )

    async def orders(self) -> list[Order]:
        """Return all orders by day and symbol."""
        rows = await self._file.execute("SELECT * FROM orders ORDER BY day, symbol")
        return [
            Order(symbol, date.fromisoformat(day), Side(side), quantity, price)
            for symbol, day, side, quantity, price in rows
        ]

    async def alarms(self) -> list[Alarm]:
        """Return all alarms by day, symbol and level."""
        rows = await self._file.execute(
            "SELECT * FROM alarms ORDER BY day, symbol, level"
        )
        return [
            Alarm(symbol, date.fromisoformat(day), level, peak, price)
            for symbol, day, level, peak, price in rows
        ]
