"""What an operator asks for, in the middle of a misfortune."""

from __future__ import annotations

from collections.abc import Callable

import pytest
import trio
from trio.testing import MockClock

from minions.errors import StartError
from minions.notices import ComponentBackoff, ComponentFailed, Notice
from minions.options import Backoff, GruOptions, Restart
from minions.supervise import Group, Incarnation, Life, Plan, State, open_group

SETTLE = 0.05
ONCE = Restart(max_restarts=0, backoff=Backoff(base=8, cap=8))


class Leaving(Life):
    """Takes a second to release."""

    async def release(self, problem: BaseException | None) -> None:
        await trio.sleep(1)


def add(
    group: Group,
    make: Callable[[Incarnation], Life] = lambda _: Leaving(),
    restart: Restart = ONCE,
) -> None:
    group.add(Plan(name="below", make=lambda _: Life()))
    group.add(Plan(name="a", make=make, needs=("below",), restart=restart))


@pytest.mark.parametrize("restart", [ONCE, Restart(type="temporary")])
@pytest.mark.parametrize("after", [0.5, 1 + SETTLE / 2])
async def test_a_restart_by_an_operator_is_not_charged_for_a_crash_before(
    autojump_clock: MockClock, after: float, restart: Restart
) -> None:
    """While it releases after the crash, or while the origin is looked for."""
    notices: list[Notice] = []
    options = GruOptions(settle=1 + SETTLE)
    async with open_group(options=options, notify=notices.append) as group:
        add(group, restart=restart)
        group.crash(await group.wait_up("a"), ValueError("broken"))
        began = trio.current_time()
        await trio.sleep(after)

        group.restart("a")
        await group.members["a"].changed.wait()
        again = await group.wait_up("a")

        assert again.epoch == 2
        assert trio.current_time() - began == pytest.approx(max(after, 1))
        assert group.members["a"].restarts == 0
        assert group.window.has_room(trio.current_time())
        charged = [n for n in notices if isinstance(n, ComponentBackoff)]
        assert not charged
        # The order is spent: the next crash is charged.
        group.crash(again, ValueError("broken"))
        await trio.sleep(3)
        failed = [n.component for n in notices if isinstance(n, ComponentFailed)]
        assert failed == ["a"]


async def test_a_restart_by_an_operator_does_not_wait_for_a_failed_start(
    autojump_clock: MockClock,
) -> None:
    """Asked for while the failed start is looked into, it comes at once."""

    class Second(Life):
        def __init__(self, epoch: int) -> None:
            self.epoch = epoch

        async def acquire(self) -> None:
            if self.epoch == 1:
                raise ValueError("not yet")

    async with open_group() as group:
        add(group, lambda incarnation: Second(incarnation.epoch))
        began = trio.current_time()
        await trio.sleep(SETTLE / 2)

        group.restart("a")
        await group.wait_up("a")

        assert trio.current_time() - began == pytest.approx(SETTLE / 2)


async def test_a_stop_after_a_restart_holds(autojump_clock: MockClock) -> None:
    async with open_group() as group:
        add(group)
        group.crash(await group.wait_up("a"), ValueError("broken"))
        group.restart("a")

        group.stop("a")
        await trio.sleep(5)

        assert group.members["a"].state is State.STOPPED
        assert group.members["a"].epoch == 1


async def test_what_was_forgotten_will_not_come_up(autojump_clock: MockClock) -> None:
    """Whoever waits for a restart may find that its last user has left meanwhile."""
    async with open_group() as group:
        add(group)
        await group.wait_up("a")
        group.stop("a")
        await trio.sleep(5)
        group.discard("a")

        with pytest.raises(StartError, match="a: expected to come up, found that it"):
            await group.wait_up("a")
