"""State folders of every format so far: each later version opens them all."""

from __future__ import annotations

import shutil
from pathlib import Path

import pytest
import trio
from tests.corpus import stored_system
from tests.corpus.stored_system import Approval, Clerk, Desk, Orders, Waiter
from trio.testing import MockClock, wait_all_tasks_blocked

from minions import GruOptions, open_gru
from minions.store.migrate import FORMAT

HERE = Path(__file__).parent


@pytest.fixture(params=range(1, FORMAT + 1))
def stored(request: pytest.FixtureRequest, tmp_path: Path) -> tuple[int, Path]:
    """Return a format, and a copy of the folder that was stored in it."""
    folder = tmp_path / "state"
    shutil.copytree(HERE / f"format_{request.param}", folder)
    return request.param, folder


async def test_a_stored_folder_goes_on(
    autojump_clock: MockClock, stored: tuple[int, Path]
) -> None:
    number, folder = stored
    stored_system.holding[0] = False
    stored_system.ran.clear()
    Orders.numbers = range(0)
    async with open_gru(folder, options=GruOptions(keep=100_000)) as gru:
        failed = [w async for w in gru.workflows.list(state="quarantined")]
        assert [w.id for w in failed] == ["w1"]
        assert "order 0 is refused" in failed[0].reason
        assert "ValueError" in failed[0].traceback
        states = sorted([w.state async for w in gru.workflows.list()])
        old = ["quarantined", *["ready"] * 5]
        new = ["retrying", "sleeping", "waiting", "waiting"]
        assert states == sorted(old + (new if number > 1 else []))

        await gru.start_minion(Clerk, Orders)
        await gru.workflows.redrive("w1")
        await gru.start_minion(Waiter, Desk)
        waiting = [w async for w in gru.workflows.list(state="waiting")]
        for workflow in waiting:
            await gru.workflows.signal(workflow.id, Approval("Eve"))
        await trio.sleep(1000)
        await wait_all_tasks_blocked()

        ended = {w.id: w async for w in gru.workflows.list(state="done")}
        orders = [w for w in ended.values() if w.event.customer in {"Ann", "Bob"}]
        assert [w.event.number for w in orders] == [0, 1, 2, 3, 4, 5]
        assert all(w.context.steps == ["check", "ship"] for w in orders)
        others = [w.context.steps for w in ended.values() if w not in orders]
        if number == 1:
            assert others == []
        else:
            assert sorted(others) == [
                ["begin", "end Approval(by='Eve')"],
                ["begin", "end Approval(by='Eve')"],
                ["begin", "end None"],
                ["begin", "work", "end None"],
            ]
            # Its id is remembered; a day has not passed.
            assert await gru.emit(Desk, stored_system.Order(9, "x"), id="order 1")
        await gru.stop()

    assert "cursor 5" in stored_system.ran
    bobs = [entry for entry in stored_system.ran if entry[-1] in "24"]
    # Order 2 was half way, and holds the key of order 4.
    assert bobs == ["ship 2", "check 4", "ship 4"]
