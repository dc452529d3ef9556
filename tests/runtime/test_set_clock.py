"""A wall clock that is set forth and back while workflows wait."""

from __future__ import annotations

import contextlib
from collections.abc import AsyncIterator
from contextlib import asynccontextmanager
from math import inf
from pathlib import Path

import attrs
import pytest
import trio
from trio.testing import MockClock

from minions import (
    After,
    Gru,
    GruOptions,
    Minion,
    Pipeline,
    Retry,
    Wait,
    minion_step,
    open_gru,
)
from minions.runtime.wall import WallClock

HOUR = 3600.0
TIME = 2 * HOUR
# How far apart are two looks at a clock that may be set, and a little more.
LATE = 61.0


@attrs.frozen
class Task:
    how: str


@attrs.define
class Notes:
    pass


@attrs.frozen
class Go:
    pass


HOW = ("after", "wait", "retry")


class Tasks(Pipeline[Task]):
    pass


began: list[tuple[str, float]] = []


class Sleeper(Minion[Task, Notes]):
    @minion_step(retry=Retry(max_attempts=3, base=TIME, cap=TIME, jitter="none"))
    async def begin(self) -> After | Wait | None:
        if self.event.how == "after":
            return After(TIME)
        if self.event.how == "wait":
            return Wait(Go, timeout=TIME)
        if self.workflow.attempt == 1:
            raise ValueError("once")
        return None

    @minion_step
    async def end(self) -> None:
        began.append((self.event.how, trio.current_time()))


@attrs.define
class SetClock:
    """A wall clock that a test sets; remembers when, and by how much in all."""

    _settings: list[tuple[float, float]] = attrs.field(factory=list)

    def set_ahead(self, ahead: float) -> None:
        self._settings.append((trio.current_time(), ahead))

    def now(self) -> float:
        return trio.current_time() + self._settings[-1][1]

    def first_time(self, wall: float) -> float:
        """Return the trio time at which it has first shown this time, or will."""
        ends = [at for at, _ in self._settings[1:]] + [inf]
        for (at, ahead), end in zip(self._settings, ends, strict=True):
            if max(at, wall - ahead) < end:
                return max(at, wall - ahead)
        raise AssertionError("the last one is for ever")


@pytest.fixture
def wall(monkeypatch: pytest.MonkeyPatch) -> SetClock:
    began.clear()
    clock = SetClock()

    def real(self: WallClock) -> None:
        self.now, self.is_real = clock.now, True

    monkeypatch.setattr(WallClock, "__attrs_post_init__", real)
    return clock


# By how many hours the clock is ahead, from one 10 minutes to the next.
SETTINGS = [
    (-1, 3, -3, -1),
    pytest.param((3,), marks=pytest.mark.slow),
    pytest.param((-3,), marks=pytest.mark.slow),
    pytest.param((-5, 0, 1, 0), marks=pytest.mark.slow),
]


@pytest.mark.parametrize("hours", SETTINGS, ids=str)
@pytest.mark.parametrize("reopens", [False, True], ids=["runs", "reopens"])
async def test_each_fires_once_and_in_time(
    tmp_path: Path,
    autojump_clock: MockClock,
    wall: SetClock,
    hours: tuple[float, ...],
    *,
    reopens: bool,
) -> None:
    wall.set_ahead(1.8e9)
    due = wall.now() + TIME
    async with contextlib.AsyncExitStack() as running:
        gru = await running.enter_async_context(opened(tmp_path))
        for how in HOW:
            await gru.emit(Tasks, Task(how))
        for hour in hours:
            await trio.sleep(600)
            wall.set_ahead(1.8e9 + hour * HOUR)
        if reopens:
            await running.aclose()
            await running.enter_async_context(opened(tmp_path))

        first = wall.first_time(due)
        await trio.sleep_until(max(trio.current_time(), first - 1))
        assert [how for how, at in began if at < first] == []
        await trio.sleep_until(max(trio.current_time(), first) + LATE)
        assert sorted(how for how, _ in began) == sorted(HOW)
        assert max(at for _, at in began) <= first + LATE

        # It shows the time at which they fired once more, and then again.
        for ahead in (-12, 12):
            wall.set_ahead(1.8e9 + ahead * HOUR)
            await trio.sleep(12 * HOUR)
        assert sorted(how for how, _ in began) == sorted(HOW)


@asynccontextmanager
async def opened(folder: Path) -> AsyncIterator[Gru]:
    async with open_gru(folder / "s", options=GruOptions(durability="none")) as gru:
        await gru.start_minion(Sleeper, Tasks)
        yield gru
        gru.cut_over()
        await gru.stop()
