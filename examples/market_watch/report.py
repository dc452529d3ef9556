"""What a person sees in the end: a table, a picture, the comparison."""

from __future__ import annotations

from collections import defaultdict
from collections.abc import Iterable
from datetime import date
from pathlib import Path

import attrs
from matplotlib.backends.backend_agg import FigureCanvasAgg
from matplotlib.figure import Figure
from numpy import asarray
from rich.console import Console
from rich.table import Table

from books import Ledger, LedgerSettings
from oracle import differences, expected
from orders import Alarm, Order, Side
from quotes import Quote, load_quotes


@attrs.define
class Account:
    """What trading one symbol has come to."""

    orders: int = 0
    alarms: int = 0
    shares: int = 0
    cash: float = 0.0
    days: list[date] = attrs.Factory(list)
    equity: list[float] = attrs.Factory(list)
    """Cash and shares at each day's price, having begun with nothing."""


def accounts(
    quotes: Iterable[Quote], orders: Iterable[Order], alarms: Iterable[Alarm]
) -> dict[str, Account]:
    """Follow each symbol's account through the days."""
    placed = {(order.symbol, order.day): order for order in orders}
    result: defaultdict[str, Account] = defaultdict(Account)
    for quote in quotes:
        account = result[quote.symbol]
        if order := placed.get((quote.symbol, quote.day)):
            sign = 1 if order.side is Side.BUY else -1
            account.orders += 1
            account.shares += sign * order.quantity
            account.cash -= sign * order.quantity * order.price
        account.days.append(quote.day)
        account.equity.append(account.cash + account.shares * quote.price)
    for alarm in alarms:
        result[alarm.symbol].alarms += 1
    return dict(result)


def table(accounts: dict[str, Account]) -> Table:
    """Lay the accounts out."""
    result = Table(title="Paper trading, 2000-03-01 to 2013-03-01")
    result.add_column("Symbol")
    for heading in ("Quotes", "Orders", "Alarms", "Position", "Result, USD"):
        result.add_column(heading, justify="right")
    for symbol, account in accounts.items():
        result.add_row(
            symbol,
            f"{len(account.days):,}",
            str(account.orders),
            str(account.alarms),
            str(account.shares),
            f"{account.equity[-1]:,.2f}",
        )
    return result


def draw(accounts: dict[str, Account], path: Path) -> None:
    """Write a picture of the equity of each symbol over time."""
    figure = Figure(figsize=(10, 6), layout="constrained")
    FigureCanvasAgg(figure)
    axes = figure.subplots()
    for symbol, account in accounts.items():
        days = asarray(account.days, "datetime64[D]")
        axes.plot(days, account.equity, label=symbol, linewidth=1)
    axes.set_title("Crossover of the 20- and 50-day means, 100 shares")
    axes.set_xlabel("Day")
    axes.set_ylabel("Equity (USD)")
    axes.grid(alpha=0.3)
    axes.legend()
    path.parent.mkdir(parents=True, exist_ok=True)
    figure.savefig(path, dpi=120)


async def read_ledger(path: Path) -> tuple[list[Order], list[Alarm]]:
    """Read the ledger after the run: a component is a plain class, too."""
    ledger = Ledger()
    ledger.config = LedgerSettings(path)
    await ledger.startup()
    try:
        return await ledger.orders(), await ledger.alarms()
    finally:
        await ledger.shutdown()


async def report(console: Console, ledger: Path, picture: Path) -> bool:
    """Show what the ledger holds; say whether it is what the oracle expects."""
    quotes = load_quotes()
    orders, alarms = await read_ledger(ledger)
    result = accounts(quotes, orders, alarms)
    console.print(table(result))
    draw(result, picture)
    console.print(f"Equity over time: {picture}")

    right_orders, right_alarms = expected(quotes)
    wrong = differences([*right_orders, *right_alarms], [*orders, *alarms])
    for line in wrong[:10]:
        console.print(line, style="red")
    verdict = f"{len(wrong)} rows differ from" if wrong else "equal to"
    console.print(
        f"{len(orders)} orders and {len(alarms)} alarms: {verdict} the oracle's",
        style="bold red" if wrong else "bold green",
    )
    return not wrong
