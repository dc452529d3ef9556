"""The quotes: five symbols, one price a day, ordered by day and symbol."""

from __future__ import annotations

from datetime import date

import attrs


@attrs.frozen
class Quote:
    """What one share cost at the end of one day, splits and dividends adjusted."""

    symbol: str
    day: date
    price: float


def load_quotes() -> list[Quote]:
    """Read the public-domain daily quotes of 2000-03-01 to 2013-03-01."""
    # The system itself does without: only its feed and the oracle read the file.
    from bokeh_sampledata import stocks  # noqa: PLC0415

    quotes = [
        Quote(symbol, date.fromisoformat(day), price)
        for symbol in ("AAPL", "FB", "GOOG", "IBM", "MSFT")
        for data in [getattr(stocks, symbol)]
        for day, price in zip(data["date"], data["adj_close"], strict=True)
    ]
    return sorted(quotes, key=lambda quote: (quote.day, quote.symbol))
