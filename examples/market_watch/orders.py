"""What the system brings forth: orders and alarms."""

from __future__ import annotations

import enum
from datetime import date

import attrs


class Side(enum.Enum):
    """Which way an order goes."""

    BUY = "buy"
    SELL = "sell"


@attrs.frozen
class Order:
    """A paper order, filled at the day's closing price."""

    symbol: str
    day: date
    side: Side
    quantity: int
    price: float


@attrs.frozen
class Alarm:
    """A symbol fell by another 20 % of its running maximum: the *level*-th 20 %."""

    symbol: str
    day: date
    level: int
    peak: float
    price: float
