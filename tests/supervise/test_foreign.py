"""A ``trio.Cancelled`` that nobody has delivered is a failure like any other."""

from __future__ import annotations

import attrs
import pytest
import trio
from trio.testing import MockClock

from minions.notices import (
    ComponentBackoff,
    ComponentCrashed,
    ComponentNotice,
    ComponentStuck,
    ComponentUp,
    ShutdownFailed,
    StartFailed,
)
from minions.options import Backoff, Restart
from minions.supervise import Incarnation, Life, Plan, RunEnd, open_group

TWICE = Restart(max_restarts=2, backoff=Backoff(base=0.1))


async def kept_cancellation() -> trio.Cancelled:
    """Catch one, which trio forbids, and let it go on to its scope as well."""
    kept: list[trio.Cancelled] = []
    with trio.CancelScope() as scope:
        scope.cancel()
        try:
            await trio.lowlevel.checkpoint()
        except trio.Cancelled as exc:
            kept.append(exc)
            raise
    return kept[0]


@attrs.define(eq=False)
class Raising(Life):
    """Raises in one of its hooks."""

    incarnation: Incarnation
    where: str
    exc: BaseException
    epoch: int = 0

    def _raise(self, where: str) -> None:
        if self.where == where and self.epoch in {0, self.incarnation.epoch}:
            raise self.exc

    async def _in_background(self) -> None:
        await trio.sleep(1)
        self._raise("background")

    async def acquire(self) -> None:
        assert self.incarnation.nursery is not None
        self.incarnation.nursery.start_soon(self._in_background)
        self._raise("startup")

    async def run(self) -> RunEnd:
        await trio.sleep(1)
        self._raise("run")
        await trio.sleep_forever()
        raise AssertionError

    async def release(self, problem: BaseException | None) -> None:
        self._raise("shutdown")


@pytest.mark.parametrize("grouped", [False, True])
@pytest.mark.parametrize(
    ("where", "expected"),
    [
        ("startup", StartFailed),
        ("run", ComponentCrashed),
        ("background", ComponentCrashed),
        ("shutdown", ShutdownFailed),
    ],
)
async def test_a_kept_cancellation_fails_the_hook_that_raises_it(
    autojump_clock: MockClock,
    where: str,
    expected: type[ComponentNotice],
    *,
    grouped: bool,
) -> None:
    """It is told once, with a text that says what happened, and nothing gets stuck."""
    exc: BaseException = await kept_cancellation()
    if grouped:
        exc = BaseExceptionGroup("", [exc])
    notices: list[object] = []
    async with open_group(notify=notices.append) as group:

        def make(incarnation: Incarnation) -> Life:
            return Raising(incarnation, where, exc, epoch=1)

        group.add(Plan(name="below", make=lambda _: Life()))
        group.add(Plan(name="bad", make=make, needs=("below",), restart=TWICE))
        group.add(Plan(name="above", make=lambda _: Life(), needs=("bad",)))

        await trio.sleep(5)

        await group.wait_up("above")
        below = group.members["below"]
        assert below.epoch == 1
    told = [n for n in notices if isinstance(n, expected)]
    assert [n.component for n in told] == ["bad"]
    (report,) = (n.report for n in told if hasattr(n, "report"))
    assert "raised a trio.Cancelled" in str(report)
    assert "Cancelled" in report.traceback
    charged = [n.charged for n in notices if isinstance(n, ComponentBackoff)]
    again = {"startup": [False], "shutdown": []}
    assert charged == again.get(where, [True])
    assert not [n for n in notices if isinstance(n, ComponentStuck)]
    ups = [n for n in notices if isinstance(n, ComponentUp) and n.component == "below"]
    assert len(ups) == 1


async def test_a_kept_cancellation_in_a_start_that_is_too_late_is_a_late_start(
    autojump_clock: MockClock,
) -> None:
    """Its scope is cancelled, so that whose it is cannot be told."""
    exc = await kept_cancellation()
    notices: list[object] = []

    class Late(Life):
        async def acquire(self) -> None:
            with trio.CancelScope(shield=True):
                await trio.sleep(31)
            raise exc

    async with open_group(notify=notices.append) as group:
        group.add(Plan(name="late", make=lambda _: Late()))

        await trio.sleep(32)

    told = [str(n.report) for n in notices if isinstance(n, StartFailed)]
    assert len(told) == 1
    assert "start_timeout" in told[0]
