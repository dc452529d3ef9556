"""The system whose state folders are kept in the corpus, one for each format.

``python tests/corpus/stored_system.py FOLDER`` makes a folder in the format of the
code that runs it.  It uses nothing that the first format did not have, unless the
code has it.
"""

from __future__ import annotations

import signal
import sys
from datetime import UTC, datetime
from pathlib import Path
from typing import Any, ClassVar

import attrs
import trio
from trio.testing import wait_all_tasks_blocked

import minions
from minions import Minion, Pipeline, component_id, minion_step, open_gru


@component_id("corpus-order")
@attrs.frozen
class Order:
    number: int
    customer: str
    at: datetime = datetime(2026, 1, 2, tzinfo=UTC)


@component_id("corpus-approval")
@attrs.frozen
class Approval:
    by: str


@component_id("corpus-progress")
@attrs.define
class Progress:
    steps: list[str] = attrs.field(factory=list)


# What the workflows of this process do: hold still while a folder is made.
holding: list[bool] = [False]
ran: list[str] = []


@component_id("corpus-orders")
class Orders(Pipeline[Order], cursor=int):
    numbers: ClassVar[range] = range(0)

    async def run(self) -> None:
        for number in self.numbers:
            customer = "Ann" if number % 2 else "Bob"
            await self.emit(Order(number, customer), cursor=number)
        ran.append(f"cursor {self.cursor}")
        await trio.sleep_forever()


@component_id("corpus-clerk")
class Clerk(Minion[Order, Progress]):
    """Ready ones, one half way that holds its key, one behind it, quarantined ones."""

    def key(self, event: Order) -> str:
        return event.customer

    @minion_step
    async def check(self) -> None:
        ran.append(f"check {self.event.number}")
        self.context.steps.append("check")
        if self.event.number == 0 and holding[0]:
            raise ValueError("order 0 is refused")

    @minion_step
    async def ship(self) -> None:
        if holding[0]:
            await trio.sleep_forever()
        ran.append(f"ship {self.event.number}")
        self.context.steps.append("ship")


@component_id("corpus-desk")
class Desk(Pipeline[Order]):
    pass


@component_id("corpus-waiter")
class Waiter(Minion[Order, Progress]):
    """One that sleeps, one that waits, one that is to be tried again."""

    @minion_step
    async def begin(self) -> Any:
        self.context.steps.append("begin")
        if self.event.number == 1:
            return minions.After(100, "end")
        if self.event.number == 2:
            return minions.Wait(Approval, step="end")
        return None

    async def work(self) -> None:
        if holding[0]:
            raise ConnectionError("no answer")
        self.context.steps.append("work")

    @minion_step
    async def end(self) -> None:
        received = getattr(self.workflow, "received", None)
        self.context.steps.append(f"end {received}")


if hasattr(minions, "Retry"):
    # As a decorator would, if the first format had known one.
    retry = minions.Retry(max_attempts=3, base=50, jitter="none")
    Waiter.work = minion_step(retry=retry)(Waiter.work)  # type: ignore[method-assign]


async def make(folder: Path) -> None:
    """Make a folder, and end without closing it."""
    holding[0] = True
    Orders.numbers = range(6)
    async with open_gru(folder) as gru:
        await gru.start_minion(Clerk, Orders)
        if hasattr(minions, "After"):
            await gru.start_minion(Waiter, Desk)
            for number in (1, 2, 3):
                await gru.emit(Desk, Order(number, "Cid"), id=f"order {number}")
            (last, *_) = await gru.emit(Desk, Order(2, "Dan"))
            assert last is not None
        await wait_all_tasks_blocked(0.2)
        await gru.stop()


if __name__ == "__main__":
    signal.alarm(60)
    trio.run(make, Path(sys.argv[1]))
