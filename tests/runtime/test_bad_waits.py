"""What bad input to waiting, retries and signals gets: a clear error, nothing lost."""

from __future__ import annotations

import math
from pathlib import Path
from typing import Any, ClassVar

import attrs
import pytest
import trio
from trio.testing import MockClock, wait_all_tasks_blocked

from minions import (
    After,
    DefinitionError,
    GoTo,
    GruOptions,
    Minion,
    Pipeline,
    Retry,
    Wait,
    minion_step,
    open_gru,
)
from minions.runtime.gru import Gru

TEN_YEARS = 315_576_000.0


@attrs.frozen
class Number:
    value: int


@attrs.frozen
class Note:
    text: str = ""


@attrs.frozen
class Stranger:
    text: str = ""


@attrs.define
class Memory:
    steps: list[str] = attrs.field(factory=list)


class Source(Pipeline[Number]):
    pass


class Says(Minion[Number, Memory]):
    """Returns, or raises, what the test has prepared."""

    prepared: ClassVar[Any] = None

    @minion_step
    async def first(self) -> Any:
        self.context.steps.append("first")
        return type(self).prepared()

    @minion_step
    async def second(self) -> None:
        self.context.steps.append("second")
        if isinstance(self.workflow.received, Note):
            self.context.steps.append(self.workflow.received.text)


async def emit(gru: Gru, value: int = 1) -> str:
    (workflow,) = await gru.emit(Source, Number(value))
    assert workflow is not None
    return workflow


@pytest.mark.parametrize(
    ("prepared", "said"),
    [
        (lambda: GoTo("nowhere"), "expected GoTo to name one of first, second"),
        (lambda: After(1, "nowhere"), "expected After to name one of first, second"),
        (lambda: Wait(Note, step="x"), "expected Wait to name one of first, second"),
        (lambda: After(-1), "found -1"),
        (lambda: After(math.nan), "found nan"),
        (lambda: After(math.inf), "found inf"),
        (lambda: After(TEN_YEARS + 1), "found 315576001.0"),
        (lambda: After("soon"), "found 'soon'"),  # type: ignore[arg-type]
        (lambda: Wait(int), "expected the class of a signal"),
        (lambda: Wait(Note, timeout=-2), "found -2"),
        (lambda: 7, "expected None, GoTo, After, Wait or Done"),
    ],
)
async def test_what_a_step_may_not_return_is_quarantined(
    autojump_clock: MockClock, prepared: Any, said: str
) -> None:
    Says.prepared = staticmethod(prepared)
    async with open_gru(None) as gru:
        await gru.start_minion(Says, Source)
        ended = await gru.workflows.wait(await emit(gru))
        assert ended.state == "quarantined"
        assert said in ended.reason
        # Nothing is lost: mended, it goes on.
        Says.prepared = staticmethod(lambda: None)
        await gru.workflows.redrive(ended.id)
        ended = await gru.workflows.wait(ended.id)
        assert ended.context.steps == ["first", "second"]
        await gru.stop()


@pytest.mark.parametrize("seconds", [0, TEN_YEARS])
async def test_the_longest_and_the_shortest_sleep(
    autojump_clock: MockClock, seconds: float
) -> None:
    Says.prepared = staticmethod(lambda: After(seconds))
    async with open_gru(None) as gru:
        await gru.start_minion(Says, Source)
        began = trio.current_time()
        ended = await gru.workflows.wait(await emit(gru))
        assert ended.context.steps == ["first", "second"]
        assert trio.current_time() - began >= seconds
        await gru.stop()


async def test_whom_a_signal_cannot_reach(autojump_clock: MockClock) -> None:
    Says.prepared = staticmethod(lambda: Wait(Note))
    async with open_gru(None) as gru:
        await gru.start_minion(Says, Source)
        workflow = await emit(gru)
        await wait_all_tasks_blocked()
        for unknown in ("w999", "", "7", "w-1", "wx", "w1.0", "w¹"):
            with pytest.raises(KeyError):
                await gru.workflows.signal(unknown, Note())
            with pytest.raises(KeyError):
                await gru.workflows.cancel(unknown)
        for payload in (Stranger(), Number, 7, None, Note):
            with pytest.raises(TypeError, match="expected a signal of a class that"):
                await gru.workflows.signal(workflow, payload)
        with pytest.raises(KeyError):
            await gru.workflows.redrive(workflow)
        with pytest.raises(KeyError):
            await gru.workflows.discard(workflow)
        assert (await gru.workflows.get(workflow)).state == "waiting"

        await gru.workflows.signal(workflow, Note("now"))

        ended = await gru.workflows.wait(workflow)
        assert ended.context.steps == ["first", "second", "now"]
        await gru.stop()


async def test_a_redrive_of_what_runs_is_refused(autojump_clock: MockClock) -> None:
    class Runs(Minion[Number, Memory]):
        @minion_step
        async def work(self) -> None:
            await trio.sleep(10)

    async with open_gru(None) as gru:
        await gru.start_minion(Runs, Source)
        workflow = await emit(gru)
        await wait_all_tasks_blocked()
        with pytest.raises(KeyError, match="is running, not quarantined"):
            await gru.workflows.redrive(workflow)
        assert (await gru.workflows.wait(workflow)).state == "done"
        await gru.stop()


@pytest.mark.parametrize(
    "options",
    [
        {"max_attempts": 0},
        {"max_attempts": 1.5},
        {"base": -1},
        {"factor": 0.5},
        {"cap": math.inf},
        {"jitter": "some"},
        {"on": (int,)},
        {"give_up": "ValueError"},
    ],
)
def test_a_retry_that_makes_no_sense_is_refused(options: dict[str, Any]) -> None:
    with pytest.raises(DefinitionError, match=r"Retry\."):
        Retry(**options)


class Ring(Minion[Number, Memory]):
    max_unfinished: ClassVar[int] = 8
    max_in_flight: ClassVar[int] = 1

    @minion_step
    async def tell(self) -> None:
        for _ in range(3 if self.event.value < 5 else 0):
            await self.workflow.emit(Number(self.event.value + 1), to=Source)


async def test_a_ring_at_its_bound_fails_and_loses_nothing(
    autojump_clock: MockClock, state: Path | None
) -> None:
    """It never waits for room: it would wait for itself."""
    async with open_gru(state, options=GruOptions(keep=60)) as gru:
        await gru.start_minion(Ring, Source)
        await emit(gru)
        with trio.fail_after(60):
            await trio.sleep(5)
        failed = [w async for w in gru.workflows.list(state="quarantined")]
        assert failed
        assert all("StoreFullError" in w.reason for w in failed)
        assert all("max_unfinished = 8" in w.reason for w in failed)
        ended = [w async for w in gru.workflows.list(state="done")]
        # Each that has ended well has told three, but for the last ones.
        told = [w for w in ended if w.event.value < 5]
        assert 1 + 3 * len(told) == len(failed) + len(ended)
        await gru.stop()


class Held(Minion[Number, Memory]):
    started: ClassVar[list[str]] = []
    is_mended: ClassVar[bool] = False

    def key(self, event: Number) -> str:
        return "one"

    @minion_step
    async def first(self) -> None:
        self.started.append(f"first {self.event.value}")
        if self.event.value == 1 and not self.is_mended:
            raise ValueError("not yet")

    @minion_step
    async def second(self) -> After:
        self.started.append(f"second {self.event.value}")
        return After(50)

    @minion_step
    async def third(self) -> None:
        self.started.append(f"third {self.event.value}")


@pytest.mark.parametrize("how", ["stays", "restart", "reopen"])
async def test_who_is_half_way_keeps_its_key_from_an_older_one(
    autojump_clock: MockClock, folder: Path, how: str
) -> None:
    Held.started, Held.is_mended = [], False
    async with open_gru(folder) as gru:
        await gru.start_minion(Held, Source)
        older = await emit(gru, 1)
        assert (await gru.workflows.wait(older)).state == "quarantined"
        younger = await emit(gru, 2)
        await wait_all_tasks_blocked()
        assert (await gru.workflows.get(younger)).state == "sleeping"
        Held.is_mended = True

        await gru.workflows.redrive(older)

        if how == "restart":
            await gru.restart(Held)
        if how != "reopen":
            await trio.sleep(300)
        await gru.stop()
    if how == "reopen":
        async with open_gru(folder) as gru:
            await gru.start_minion(Held, Source)
            await trio.sleep(300)
            await gru.stop()
    assert Held.started[1:] == [
        f"{step} {number}" for number in (2, 1) for step in ("first", "second", "third")
    ]
