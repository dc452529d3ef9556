"""Tests of components, for pytest and pytest-trio."""

import contextlib
from collections.abc import AsyncIterator

import attrs
import pytest
import trio
from hypothesis import given, settings
from trio.testing import MockClock

from minions import (
    Gru,
    Minion,
    NotRunningError,
    Pipeline,
    Resource,
    minion_step,
    open_gru,
)
from minions.testing import Trial, run_step, run_trial, trials


@attrs.frozen
class Greeting:
    text: str


@attrs.define
class Memory:
    last: str = ""


class Journal(Resource):
    def __init__(self) -> None:
        self.lines: list[str] = []

    async def write(self, text: str) -> None:
        await trio.sleep(60)  # a slow printer
        self.lines.append(text)


class Greetings(Pipeline[Greeting]):
    """Its events come from outside."""


class Greeter(Minion[Greeting, Memory]):
    journal: Journal

    def polite(self, text: str) -> str:
        return f"{text}, please"

    @minion_step
    async def remember(self) -> None:
        self.context.last = self.polite(self.event.text)

    @minion_step
    async def say(self) -> None:
        await self.journal.write(self.context.last)


# By hand: components are plain objects.


def test_a_method_is_called_like_any_other() -> None:
    assert Greeter().polite("hello") == "hello, please"


async def test_a_resource_works_without_gru(
    autojump_clock: MockClock,
) -> None:
    journal = Journal()

    await journal.write("hello")

    assert journal.lines == ["hello"]


async def test_a_step_has_no_event_of_its_own() -> None:
    with pytest.raises(NotRunningError):
        await Greeter().remember()


# One step, with an event.


async def test_a_greeting_is_remembered() -> None:
    outcome, context = await run_step(Greeter(), "remember", Greeting("hello"))

    assert outcome is None  # the next step follows
    assert context == Memory("hello, please")


async def test_what_is_remembered_is_written(autojump_clock: MockClock) -> None:
    greeter = Greeter()
    greeter.journal = Journal()

    await run_step(greeter, "say", Greeting("hello"), Memory("good evening"))

    assert greeter.journal.lines == ["good evening"]


# In a Gru that keeps everything in memory, on a clock that jumps.


async def test_a_greeting_is_written(autojump_clock: MockClock) -> None:
    async with open_gru(None) as gru:
        await gru.start_minion(Greeter, Greetings)
        (workflow_id,) = await gru.emit(Greetings, Greeting("hello"))
        assert workflow_id is not None

        workflow = await gru.workflows.wait(workflow_id)

        assert workflow.state == "done"
        assert workflow.context == Memory("hello, please")
        async with gru.borrow(Journal) as journal:
            assert journal.lines == ["hello, please"]
        await gru.stop()


async def test_a_fake_takes_the_place_of_a_resource(
    autojump_clock: MockClock,
) -> None:
    class FakeJournal(Journal):
        async def write(self, text: str) -> None:
            self.lines.append(text.upper())

    fake = FakeJournal()

    @contextlib.asynccontextmanager
    async def give() -> AsyncIterator[Journal]:
        yield fake

    async with open_gru(None) as gru:
        gru.provide(Journal, give)
        await gru.start_minion(Greeter, Greetings)
        (workflow_id,) = await gru.emit(Greetings, Greeting("hello"))
        assert workflow_id is not None
        await gru.workflows.wait(workflow_id)
        await gru.stop()

    assert fake.lines == ["HELLO, PLEASE"]


# Whatever happens.


async def start_greeter(gru: Gru) -> None:
    await gru.start_minion(Greeter, Greetings)


@settings(max_examples=30, deadline=None)
@given(trial=trials(Journal))
def test_the_journal_survives_what_may_happen(trial: Trial) -> None:
    run_trial(trial, start_greeter)


# What failed.


async def test_a_failed_step_leaves_its_workflow_in_quarantine(
    autojump_clock: MockClock,
) -> None:
    class Broken(Greeter):
        @minion_step
        async def say(self) -> None:
            raise ValueError("no voice")

    async with open_gru(None) as gru:
        await gru.start_minion(Broken, Greetings)
        (workflow_id,) = await gru.emit(Greetings, Greeting("hello"))
        assert workflow_id is not None

        workflow = await gru.workflows.wait(workflow_id)

        assert workflow.state == "quarantined"
        assert workflow.reason == "failed: ValueError: no voice"
        await gru.stop()
