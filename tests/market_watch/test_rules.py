from __future__ import annotations

from datetime import date, timedelta

import pytest

from oracle import differences, expected
from orders import Alarm, Order, Side
from quotes import Quote, load_quotes
from rules import crossover, new_falls


def replayed(quotes: list[Quote]) -> tuple[list[Order], list[Alarm]]:
    """Decide as the minions do, from the whole history each time."""
    orders: list[Order] = []
    alarms: list[Alarm] = []
    prices: dict[str, list[float]] = {}
    for quote in quotes:
        known = prices.setdefault(quote.symbol, [])
        known.append(quote.price)
        if side := crossover(known):
            orders.append(Order(quote.symbol, quote.day, side, 100, quote.price))
        peak, levels = new_falls(known)
        alarms += [
            Alarm(quote.symbol, quote.day, level, peak, quote.price) for level in levels
        ]
    return orders, alarms


def series(*prices: float) -> list[Quote]:
    start = date(2020, 1, 1)
    return [Quote("X", start + timedelta(n), price) for n, price in enumerate(prices)]


def test_quotes_are_ordered_by_day_and_symbol() -> None:
    quotes = load_quotes()

    assert len(quotes) == 12_154
    assert quotes[0].day == date(2000, 3, 1)
    assert quotes[-1].day == date(2013, 3, 1)
    keys = [(quote.day, quote.symbol) for quote in quotes]
    assert keys == sorted(set(keys))


@pytest.mark.slow
def test_rules_equal_the_oracle_on_all_quotes() -> None:
    quotes = load_quotes()

    orders, alarms = expected(quotes)

    assert replayed(quotes) == (orders, alarms)
    assert orders
    assert alarms


def test_no_order_before_fifty_days() -> None:
    orders, _ = expected(series(*map(float, range(1, 50))))

    assert orders == []
    assert replayed(series(*map(float, range(1, 50))))[0] == []


def test_order_goes_long_at_day_fifty_of_a_rising_price() -> None:
    quotes = series(*map(float, range(1, 61)))

    orders, _ = replayed(quotes)

    assert [(order.day, order.side) for order in orders] == [(quotes[49].day, Side.BUY)]


def test_a_fall_past_two_levels_in_one_day_is_two_alarms() -> None:
    quotes = series(100, 90, 55, 50, 58, 39, 101, 80)

    _, alarms = replayed(quotes)

    assert [(alarm.day.day, alarm.level) for alarm in alarms] == [
        (3, 1),
        (3, 2),
        (6, 3),
        (8, 1),
    ]
    assert alarms == expected(quotes)[1]


def test_differences_name_missing_and_unexpected_rows() -> None:
    order = Order("X", date(2020, 1, 1), Side.BUY, 100, 1.0)
    other = Order("X", date(2020, 1, 1), Side.BUY, 100, 2.0)

    assert differences([order], [order]) == []
    missing, unexpected = differences([order], [other])
    assert missing == f"missing: {order}"
    assert unexpected == f"unexpected: {other}"
    assert differences([order], [order, order]) == [f"unexpected: {order}"]
