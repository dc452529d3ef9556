"""Tries that nothing bounds take time, whatever the policy says."""

from __future__ import annotations

from typing import ClassVar

import attrs
import pytest
import trio
from trio.testing import MockClock

from minions import (
    Backoff,
    DependencyLost,
    GruOptions,
    Minion,
    Pipeline,
    Resource,
    Restart,
    StartError,
    minion_step,
    open_gru,
)
from minions.restart import LEAST_DELAY

AT_ONCE = Backoff(base=0, cap=0)
# More tries than there is room for in a second.
TOO_MANY = 500


@attrs.frozen
class Number:
    value: int


@attrs.define
class Nothing:
    done: int = 0


class NeverUp(Resource):
    restart = Restart(backoff=AT_ONCE)
    tries: ClassVar[int] = 0

    async def startup(self) -> None:
        NeverUp.tries += 1
        assert self.tries < TOO_MANY
        raise ValueError("not yet")


async def test_a_start_that_always_fails_lets_time_pass(
    autojump_clock: MockClock,
) -> None:
    NeverUp.tries = 0
    async with open_gru(None, options=GruOptions(start_patience=1)) as gru:
        with pytest.raises(StartError):
            await gru.start(NeverUp)

    assert trio.current_time() == pytest.approx(1, abs=2 * LEAST_DELAY)
    assert NeverUp.tries == pytest.approx(1 / LEAST_DELAY, abs=3)


class Slow(Resource):
    async def startup(self) -> None:
        await trio.sleep(3)


async def test_a_start_that_outlasts_the_patience_lets_time_pass(
    autojump_clock: MockClock,
) -> None:
    """It has not failed: there is nothing to raise, and nothing to do but wait."""
    async with open_gru(None, options=GruOptions(start_patience=1)) as gru:
        await gru.start(Slow)

        assert trio.current_time() == pytest.approx(3)
        await gru.stop()


class Losing(Pipeline[Number]):
    error_backoff = AT_ONCE
    tries: ClassVar[int] = 0

    async def produce_event(self) -> Number:
        Losing.tries += 1
        assert self.tries < TOO_MANY
        raise DependencyLost("of another Gru")


class Worker(Minion[Number, Nothing]):
    @minion_step
    async def work(self) -> None:
        pass


async def test_a_source_that_loses_what_never_comes_back_lets_time_pass(
    autojump_clock: MockClock,
) -> None:
    """These errors are not counted, so that max_errors does not end them."""
    Losing.tries = 0
    async with open_gru(None) as gru:
        await gru.start_minion(Worker, Losing)

        await trio.sleep(1)

        assert Losing.tries == pytest.approx(1 / LEAST_DELAY, abs=3)
        await gru.stop()
