from __future__ import annotations

from collections import Counter
from datetime import date
from pathlib import Path

import pytest
import trio
import trio.testing

from chaos import COMPONENTS, PROCESS, Blow, Crash, Trouble, dealt, schedule
from orders import Alarm, Order, Side
from quotes import Quote
from report import accounts, draw


@pytest.mark.parametrize("seed", range(20))
def test_schedule_hits_the_process_and_each_component(seed: int) -> None:
    blows = schedule(seed)

    count = Counter(blow.target for blow in blows)
    assert count.pop(PROCESS) >= 5
    assert count.keys() == {component.__name__ for component in COMPONENTS}
    assert count.total() >= 20
    assert len(set(map(str, blows))) == len(blows)
    assert max(blow.at for blow in blows) < 11_000


def test_seed_reproduces_the_schedule() -> None:
    assert schedule(7) == schedule(7)
    assert schedule(7) != schedule(8)


def test_blow_falls_once_when_its_quote_has_come_across_processes(
    tmp_path: Path,
) -> None:
    path = tmp_path / "dealt.txt"
    first = next(blow for blow in schedule(1) if blow.target == "Ledger")
    trouble = Trouble(1, path)

    trouble.advance(min(first.at, 1_600) - 1)
    assert not trouble.strikes("Ledger")
    trouble = Trouble(1, path)
    trouble._quotes = first.at
    assert trouble.strikes("Ledger")
    assert not trouble.strikes("Ledger")

    trouble = Trouble(1, path)
    trouble._quotes = first.at
    assert not trouble.strikes("Ledger")
    assert dealt(path) == [str(first)]


async def test_task_in_a_nursery_crashes_when_its_quote_comes(tmp_path: Path) -> None:
    trouble = Trouble(1, tmp_path / "dealt.txt")
    trouble._blows = [Blow(500, "Quotes")]

    with pytest.RaisesGroup(Crash):
        async with trio.open_nursery() as nursery:
            nursery.start_soon(trouble.crash, "Quotes")
            trouble.advance(499)
            await trio.testing.wait_all_tasks_blocked()
            trouble.advance(500)


def test_account_follows_orders_and_prices(tmp_path: Path) -> None:
    days = [date(2020, 1, n) for n in range(1, 4)]
    quotes = [
        Quote("X", day, price) for day, price in zip(days, (1, 2, 4), strict=True)
    ]
    orders = [
        Order("X", days[0], Side.BUY, 100, 1),
        Order("X", days[2], Side.SELL, 100, 4),
    ]

    account = accounts(quotes, orders, [Alarm("X", days[1], 1, 2, 1)])["X"]

    assert account.equity == [0, 100, 300]
    assert (account.orders, account.alarms, account.shares) == (2, 1, 0)


@pytest.mark.slow
def test_picture_is_written(tmp_path: Path) -> None:
    quotes = [Quote("X", date(2020, 1, 1), 1.0)]

    draw(accounts(quotes, [], []), tmp_path / "folder" / "equity.png")

    assert (tmp_path / "folder" / "equity.png").stat().st_size > 1_000
