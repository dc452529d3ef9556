"""The decisions: plain functions of a symbol's prices, the latest of them last.

They look at nothing else, so a step that runs again decides the same again.
"""

from __future__ import annotations

from collections.abc import Sequence
from statistics import fmean

from orders import Side

QUANTITY = 100
FAST, SLOW = 20, 50
FALL = 5
"""An alarm for each fifth of the running maximum that the price falls by."""


def is_long(prices: Sequence[float]) -> bool:
    """Say whether the rule holds shares after the last of the prices."""
    return len(prices) >= SLOW and fmean(prices[-FAST:]) > fmean(prices[-SLOW:])


def crossover(prices: Sequence[float]) -> Side | None:
    """Say what to do at the last of the prices, if anything."""
    before, now = is_long(prices[-SLOW - 1 : -1]), is_long(prices[-SLOW:])
    if before == now:
        return None
    return Side.BUY if now else Side.SELL


def depth(peak: float, price: float) -> int:
    """Count the whole fifths of *peak* that *price* lies below it."""
    return int((peak - price) / peak * FALL)


def new_falls(prices: Sequence[float]) -> tuple[float, range]:
    """Return the running maximum, and the depths first reached at the last price."""
    peak = max(prices)
    since = prices[prices.index(peak) : -1]
    deepest = depth(peak, min(since, default=peak))
    return peak, range(deepest + 1, depth(peak, prices[-1]) + 1)
