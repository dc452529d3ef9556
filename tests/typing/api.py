"""How users' code looks to a type checker; checked, never run."""

from __future__ import annotations

from datetime import datetime
from typing import Any, ClassVar, assert_type

import attrs
import trio

from minions import (
    After,
    Done,
    GoTo,
    Gru,
    GruOptions,
    Minion,
    Orchestration,
    Pipeline,
    Resource,
    Retry,
    StopResult,
    Wait,
    Workflow,
    WorkflowInfo,
    migrates,
    minion_step,
    open_gru,
    schema,
)
from minions.notices import Notice
from minions.testing import Trial, check_notices, run_step, run_trial


@attrs.frozen
class Greeting:
    """An event."""

    text: str


@attrs.frozen
class Approval:
    """A signal."""

    by: str


@attrs.define
class Memory:
    """A context."""

    last: str = ""


@schema(version=3)
@attrs.define
class Ledger:
    """A context of a version of its own."""

    cents: int = 0

    @migrates(from_=1)
    @staticmethod
    def count_cents(old: dict[str, Any]) -> dict[str, Any]:
        """Come from whole euros."""
        return {"cents": 100 * old["euros"]}


@migrates(from_=2, of=Ledger)
def change_nothing(old: dict[str, Any]) -> dict[str, Any]:
    """Stay as it is."""
    return old


assert_type(Ledger(5).cents, int)
assert_type(Ledger.count_cents({}), dict[str, Any])
assert_type(change_nothing({}), dict[str, Any])


class Greetings(Pipeline[Greeting]):
    """A source of three events."""

    count = 0

    async def produce_event(self) -> Greeting:
        """Greet, three times."""
        self.count += 1
        if self.count > 3:
            raise trio.EndOfChannel
        return Greeting(f"hello world {self.count}")


class Greeter(Minion[Greeting, Memory]):
    """Sees its own event and context types."""

    @minion_step
    async def remember(self) -> None:
        """Read the event, write the context."""
        assert_type(self.event, Greeting)
        assert_type(self.context, Memory)
        assert_type(self.nursery, trio.Nursery)
        self.context.last = self.event.text

    @minion_step
    async def say(self) -> None:
        """Read the context."""
        print(self.context.last)


class Numbered(Pipeline[Greeting, int]):
    """A source with a cursor."""

    async def run(self) -> None:
        """Go on behind the cursor."""
        assert_type(self.cursor, int | None)
        ids = await self.emit(Greeting("hello"), cursor=1)
        assert_type(ids, tuple[str | None, ...])
        many = await self.emit_many([Greeting("hello")], cursor=2)
        assert_type(many, tuple[tuple[str | None, ...], ...])
        assert_type(await self.emit(Greeting(""), id="a"), tuple[str | None, ...])
        many = await self.emit_many([Greeting(""), Greeting("")], ids=["a", None])
        assert_type(many, tuple[tuple[str | None, ...], ...])


class Outside(Pipeline[Greeting]):
    """Its events come from outside, each with an id."""

    dedup_window: ClassVar[float] = 3600.0
    max_dedup: ClassVar[int] = 1000


class Journal(Resource):
    """A dependency."""

    async def write(self, text: str) -> int:
        """Return how long it is."""
        return len(text)


class Writer(Minion[Greeting, Memory]):
    """Needs a resource, and branches."""

    journal: Journal

    @minion_step(renamed_from="put")
    async def write(self) -> GoTo | Done:
        """Return what follows."""
        assert_type(self.workflow, WorkflowInfo)
        length = await self.journal.write(self.event.text)
        return GoTo("end") if length else Done()

    @minion_step(retry=Retry(on=OSError, give_up=(ValueError,)), timeout=1.5)
    async def rest(self) -> After | Wait | None:
        """Return what is waited for."""
        later = Wait(Memory, timeout=3, step="end")
        assert_type(later.timeout, float | None)
        return After(0.5) if self.event.text else later

    @minion_step
    async def end(self) -> None:
        """Replace the context."""
        self.context = Memory("done")


class Asker(Minion[Greeting, Ledger]):
    """Waits, receives and emits."""

    signals: ClassVar[tuple[type, ...]] = (Approval,)

    def key(self, event: Greeting) -> str:
        """Order by the text."""
        return event.text

    @minion_step
    async def ask(self) -> Wait:
        """Wait for a signal."""
        return Wait(Approval)

    @minion_step
    async def look(self) -> After:
        """Look at the signal; its class is the user's to know."""
        approval: Approval | None = self.workflow.received
        print(approval and approval.by)
        return After(3600.0, step="talk")

    @minion_step
    async def talk(self) -> None:
        """Receive signals of a class."""
        found = await self.workflow.receive(Approval)
        assert_type(found, Approval | None)
        found = await self.workflow.receive(Approval, timeout=0)
        assert_type(found, Approval | None)
        await self.workflow.emit(self.event, to=Outside)
        assert_type(self.workflow.attempt, int)


async def main() -> None:
    """Run the system."""
    options = GruOptions(keep=3600, max_kept=10, max_crashes=2, resume_rate=50)
    async with open_gru("state", options=options) as gru:
        orchestration = await gru.start_minion(Greeter, Greetings)
        assert_type(orchestration.id, str)
        assert_type(orchestration, Orchestration)
        assert_type(gru.snapshot().healthy, bool)
        await operate(gru, orchestration)


async def operate(gru: Gru, orchestration: Orchestration) -> None:
    """Look at what runs, and stop it."""
    assert_type(await gru.emit(Numbered, Greeting("")), tuple[str | None, ...])
    assert_type(await gru.emit(Outside, Greeting(""), id="a"), tuple[str | None, ...])
    await gru.workflows.signal("w1", Approval("Ann"))
    await gru.workflows.cancel("w1")
    await gru.workflows.redrive("w1", step="talk", context=Ledger())
    await gru.workflows.discard("w1")
    workflow = await gru.workflows.get("w1")
    assert_type(workflow.why, str)
    assert_type(workflow.until, datetime | None)
    assert_type(await gru.workflows.wait("w1"), Workflow)
    async for workflow in gru.workflows.list(state="quarantined"):
        assert_type(workflow, Workflow)
    async for notice in gru.notices():
        assert_type(notice, Notice)
    assert_type(await orchestration.stop("cutover", grace=1), StopResult | None)
    async with gru.starting():
        await gru.start_minion("traders:Crossover", Numbered, config={"days": 20})


async def call_a_step_by_hand(greeter: Greeter) -> None:
    """A decorated step stays a method."""
    assert_type(await greeter.say(), None)


async def run_a_step(writer: Writer) -> None:
    """A test sees the context's own type."""
    outcome, context = await run_step(writer, "end", Greeting("hello"), Memory())
    assert_type(outcome, GoTo | After | Wait | Done | None)
    assert_type(context, Memory)
    emitted: list[tuple[Any, type]] = []
    _, ledger = await run_step(
        Asker(),
        "talk",
        Greeting("hello"),
        received=Approval("Ann"),
        signals=[Approval("Bob")],
        emitted=emitted,
    )
    assert_type(ledger, Ledger)


def run_a_trial(trial: Trial) -> None:
    """What is started may be anything that takes a Gru."""

    async def start(gru: Gru) -> Orchestration:
        return await gru.start_minion(Writer, Numbered)

    notices = run_trial(trial, start)
    assert_type(notices, list[Notice])
    check_notices(notices, {"b": ["a"]}, wants={"b": {"c"}})
