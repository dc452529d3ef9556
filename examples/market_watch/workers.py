"""The two minions.  Each takes every quote, one symbol's quotes in their order."""

from __future__ import annotations

import attrs

from books import Ledger, PriceHistory
from minions import Done, Minion, minion_step
from orders import Alarm, Order
from quotes import Quote
from rules import QUANTITY, crossover, new_falls


@attrs.define
class Decision:
    """What the trader has decided about one quote."""

    order: Order | None = None


class CrossoverTrader(Minion[Quote, Decision]):
    """Be long while the 20-day mean is above the 50-day mean, else flat."""

    history: PriceHistory
    ledger: Ledger

    def key(self, event: Quote) -> str:
        """Take the quotes of one symbol one after the other."""
        return event.symbol

    @minion_step
    async def record(self) -> None:
        """Make the quote part of the history."""
        quote = self.event
        await self.history.record(quote.symbol, quote.day, quote.price)

    @minion_step
    async def decide(self) -> Done | None:
        """Decide from the prices up to this quote's day, whatever came since."""
        quote = self.event
        side = crossover(self.history.until(quote.symbol, quote.day))
        if side is None:
            return Done()
        self.context.order = Order(quote.symbol, quote.day, side, QUANTITY, quote.price)
        return None

    @minion_step
    async def place(self) -> None:
        """Place the order; doing it twice is doing it once."""
        assert self.context.order is not None
        await self.ledger.place(self.context.order)


@attrs.define
class Falls:
    """The alarms that one quote gives rise to."""

    alarms: tuple[Alarm, ...] = ()


class DrawdownAlarm(Minion[Quote, Falls]):
    """Note each fall of a symbol by another 20 % of its running maximum."""

    history: PriceHistory
    ledger: Ledger

    def key(self, event: Quote) -> str:
        """Take the quotes of one symbol one after the other."""
        return event.symbol

    @minion_step
    async def record(self) -> None:
        """Make the quote part of the history; the trader may be behind."""
        quote = self.event
        await self.history.record(quote.symbol, quote.day, quote.price)

    @minion_step
    async def measure(self) -> Done | None:
        """Compare the price with the maximum up to this quote's day."""
        quote = self.event
        peak, levels = new_falls(self.history.until(quote.symbol, quote.day))
        if not levels:
            return Done()
        self.context.alarms = tuple(
            Alarm(quote.symbol, quote.day, level, peak, quote.price) for level in levels
        )
        return None

    @minion_step
    async def alert(self) -> None:
        """Note the alarms; doing it twice is doing it once."""
        for alarm in self.context.alarms:
            await self.ledger.note(alarm)
