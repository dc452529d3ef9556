"""What must come out: the same rules in one plain loop, without Minions.

Nothing but the words is shared with the components, so that they cannot be wrong
together.
"""

from __future__ import annotations

from collections import Counter, defaultdict
from collections.abc import Iterable
from statistics import fmean

from orders import Alarm, Order, Side
from quotes import Quote


def expected(quotes: Iterable[Quote]) -> tuple[list[Order], list[Alarm]]:
    """Return all orders and alarms, by day and symbol."""
    orders: list[Order] = []
    alarms: list[Alarm] = []
    prices: defaultdict[str, list[float]] = defaultdict(list)
    held: defaultdict[str, bool] = defaultdict(bool)
    peak: defaultdict[str, float] = defaultdict(float)
    deepest: defaultdict[str, int] = defaultdict(int)
    for quote in quotes:
        symbol, price = quote.symbol, quote.price
        prices[symbol].append(price)
        if len(prices[symbol]) >= 50:  # days
            fast, slow = fmean(prices[symbol][-20:]), fmean(prices[symbol][-50:])
            if (fast > slow) != held[symbol]:
                held[symbol] = fast > slow
                side = Side.BUY if held[symbol] else Side.SELL
                orders.append(Order(symbol, quote.day, side, 100, price))
        if price > peak[symbol]:
            peak[symbol], deepest[symbol] = price, 0
        level = int((peak[symbol] - price) / peak[symbol] * 5)
        alarms += [
            Alarm(symbol, quote.day, new, peak[symbol], price)
            for new in range(deepest[symbol] + 1, level + 1)
        ]
        deepest[symbol] = max(deepest[symbol], level)
    return orders, alarms


def differences(
    expected: Iterable[Order | Alarm], found: Iterable[Order | Alarm]
) -> list[str]:
    """Name each row that is missing, and each that should not be there."""
    wanted, present = Counter(expected), Counter(found)
    return [
        *(f"missing: {row}" for row in (wanted - present).elements()),
        *(f"unexpected: {row}" for row in (present - wanted).elements()),
    ]
