"""A step by itself, with an instance built by hand."""

from __future__ import annotations

import subprocess
import sys
from typing import Any, cast

import attrs
import pytest
import trio
from trio.testing import MockClock, assert_checkpoints

from minions import (
    AbortWorkflow,
    DefinitionError,
    Done,
    GoTo,
    Minion,
    NotRunningError,
    Pipeline,
    Resource,
    SnapshotError,
    Wait,
    WorkflowInfo,
    minion_step,
)
from minions.testing import run_step


@attrs.frozen
class Order:
    amount: int


@attrs.define
class Basket:
    amounts: list[int] = attrs.field(factory=list)


class Prices(Resource):
    async def price(self) -> int:
        raise NotImplementedError


class FakePrices(Prices):
    async def price(self) -> int:
        return 3


@attrs.define
class Buyer(Minion[Order, Basket]):
    prices: Prices = attrs.field(factory=FakePrices)
    seen: list[WorkflowInfo] = attrs.field(factory=list)

    @minion_step
    async def add(self) -> None:
        self.context.amounts.append(self.event.amount)

    @minion_step
    async def pay(self) -> GoTo:
        self.context.amounts.append(await self.prices.price() * self.event.amount)
        return GoTo("add")

    @minion_step
    async def empty(self) -> Done:
        self.context = Basket([0])
        return Done()

    @minion_step
    async def look(self) -> None:
        self.seen.append(self.workflow)

    @minion_step
    async def give_up(self) -> None:
        raise AbortWorkflow("too dear")

    @minion_step
    async def fail_twice(self) -> None:
        async with trio.open_nursery() as nursery:
            nursery.start_soon(self.fail)
            nursery.start_soon(self.fail)

    async def fail(self) -> None:
        raise OSError("no connection")

    @minion_step
    async def add_in_tasks(self) -> None:
        async with trio.open_nursery() as nursery:
            nursery.start_soon(self.add)
            await trio.to_thread.run_sync(self.replace)

    def replace(self) -> None:
        self.context = attrs.evolve(self.context)

    @minion_step
    async def wait(self) -> None:
        await trio.sleep(self.event.amount)
        self.context.amounts.append(self.event.amount)

    @minion_step
    async def stray(self) -> GoTo:
        return GoTo("nowhere")


async def test_a_step_returns_its_outcome_and_context() -> None:
    outcome, context = await run_step(Buyer(), "add", Order(2), Basket([1]))

    assert outcome is None
    assert context == Basket([1, 2])


async def test_dependencies_are_those_of_the_instance() -> None:
    buyer = Buyer(prices=FakePrices())

    outcome, context = await run_step(buyer, "pay", Order(2))

    assert outcome == GoTo("add")
    assert context == Basket([6])


async def test_each_call_without_a_context_has_a_fresh_one() -> None:
    buyer = Buyer()
    await run_step(buyer, "add", Order(1))

    _, context = await run_step(buyer, "add", Order(2))

    assert context == Basket([2])


async def test_the_context_that_is_given_is_the_one_that_the_step_changes() -> None:
    basket = Basket()

    _, context = await run_step(Buyer(), "add", Order(1), basket)

    assert context is basket


async def test_a_context_that_the_step_replaces_is_returned() -> None:
    outcome, context = await run_step(Buyer(), "empty", Order(1), Basket([1]))

    assert outcome == Done()
    assert context == Basket([0])


async def test_the_workflow_is_in_its_first_attempt() -> None:
    buyer = Buyer()

    await run_step(buyer, "look", Order(1))
    await run_step(buyer, "look", Order(1))

    first, second = buyer.seen
    assert (first.step, first.attempt) == ("look", 1)
    assert first.started_at.tzinfo is not None
    assert first.id != second.id
    assert first.orchestration_id == second.orchestration_id


async def test_an_abort_comes_out_as_it_is() -> None:
    with pytest.raises(AbortWorkflow, match="too dear"):
        await run_step(Buyer(), "give_up", Order(1))


async def test_a_group_comes_out_as_it_is() -> None:
    with pytest.raises(ExceptionGroup) as caught:
        await run_step(Buyer(), "fail_twice", Order(1))

    assert [str(exc) for exc in caught.value.exceptions] == ["no connection"] * 2


async def test_tasks_and_threads_of_the_step_share_its_workflow() -> None:
    _, context = await run_step(Buyer(), "add_in_tasks", Order(1))

    assert context == Basket([1])


async def test_steps_of_one_instance_run_side_by_side(
    autojump_clock: MockClock,
) -> None:
    """Each call is a workflow of its own."""
    buyer = Buyer()
    found: list[Basket] = []

    async def run(amount: int) -> None:
        found.append((await run_step(buyer, "wait", Order(amount)))[1])

    async with trio.open_nursery() as nursery:
        for amount in (3, 2, 1):
            nursery.start_soon(run, amount)

    assert found == [Basket([1]), Basket([2]), Basket([3])]


async def test_the_workflow_is_gone_behind_the_call() -> None:
    buyer = Buyer()
    await run_step(buyer, "add", Order(1))

    with pytest.raises(NotRunningError, match="found no step"):
        _ = buyer.context


async def test_the_workflow_is_gone_behind_a_call_that_failed() -> None:
    buyer = Buyer()
    with pytest.raises(AbortWorkflow):
        await run_step(buyer, "give_up", Order(1))

    with pytest.raises(NotRunningError, match="found no step"):
        _ = buyer.event


async def test_a_task_left_over_from_the_step_sees_no_workflow(
    autojump_clock: MockClock,
) -> None:
    left: list[str] = []

    class Leaver(Buyer):
        @minion_step
        async def leave(self) -> None:
            nursery.start_soon(self.linger)

        async def linger(self) -> None:
            await trio.sleep(1)
            try:
                _ = self.event
            except NotRunningError as exc:
                left.append(str(exc))

    async with trio.open_nursery() as nursery:
        await run_step(Leaver(), "leave", Order(1))

    (message,) = left
    assert "a task left over from step 'leave', which has ended" in message


async def test_it_is_a_checkpoint() -> None:
    with assert_checkpoints():
        await run_step(Buyer(), "add", Order(1))


async def test_a_call_that_is_cancelled_does_not_run_the_step() -> None:
    basket = Basket()

    with trio.CancelScope() as scope:
        scope.cancel()
        await run_step(Buyer(), "add", Order(1), basket)

    assert basket == Basket()


async def test_an_unknown_step_is_refused_with_the_names_of_the_others() -> None:
    with pytest.raises(DefinitionError, match=r"steps add, pay.*found 'fail'"):
        await run_step(Buyer(), "fail", Order(1))


async def test_an_outcome_that_gru_refuses_is_refused() -> None:
    with pytest.raises(
        DefinitionError, match=r"GoTo to name one of add, .*found 'nowhere'"
    ):
        await run_step(Buyer(), "stray", Order(1))


async def test_an_event_of_another_class_is_refused() -> None:
    wrong = cast("Any", Basket())

    with pytest.raises(TypeError, match="expected an event of class Order, found B"):
        await run_step(Buyer(), "add", wrong)


async def test_a_context_of_another_class_is_refused() -> None:
    wrong = cast("Any", Order(1))

    with pytest.raises(TypeError, match="expected a context of class Basket, found O"):
        await run_step(Buyer(), "add", Order(1), wrong)


async def test_what_is_no_minion_is_refused() -> None:
    wrong = cast("Any", Buyer)

    with pytest.raises(TypeError, match="expected an instance of a minion, found"):
        await run_step(wrong, "add", Order(1))


def test_importing_it_needs_no_hypothesis() -> None:
    program = "import sys, minions.testing; print('hypothesis' in sys.modules)"

    done = subprocess.run(
        [sys.executable, "-c", program], capture_output=True, text=True, check=True
    )

    assert done.stdout == "False\n"


# Signals and emitted events.


@attrs.frozen
class Approval:
    by: str


@attrs.frozen
class Refusal:
    by: str


class Orders(Pipeline[Order]):
    """Where steps emit to."""


class Remote(Pipeline[Order]):
    """What it needs is not asked for."""

    prices: int


@attrs.define
class Clerk(Minion[Order, Basket]):
    calls: list[Any] = attrs.field(factory=list)

    @minion_step
    async def ask(self) -> Wait:
        return Wait(Approval)

    @minion_step
    async def act(self) -> None:
        self.calls.append(self.workflow.received)

    @minion_step
    async def talk(self) -> None:
        for kind in (Refusal, Approval, Approval):
            self.calls.append(await self.workflow.receive(kind, timeout=3600))

    @minion_step
    async def insist(self) -> None:
        self.calls.append(await self.workflow.receive(Approval))

    @minion_step
    async def poll_badly(self) -> None:
        await self.workflow.receive(Approval, timeout=-1)

    @minion_step
    async def receive_badly(self) -> None:
        await self.workflow.receive(int)

    @minion_step
    async def tell(self) -> None:
        await self.workflow.emit(Order(self.event.amount + 1), to=Orders)
        await self.workflow.emit(Order(self.event.amount + 2), to=Remote)
        if self.event.amount < 0:
            raise OSError("no connection")

    @minion_step
    async def tell_badly(self) -> None:
        wrong: tuple[Any, Any] = self.calls[0]
        await self.workflow.emit(wrong[0], to=wrong[1])

    @minion_step
    async def leave(self) -> None:
        self.calls += [self.workflow.receive, self.workflow.emit]


async def test_a_step_sees_the_signal_that_it_waited_for() -> None:
    clerk = Clerk()

    await run_step(clerk, "act", Order(1), received=Approval("Ann"))
    await run_step(clerk, "act", Order(1))

    assert clerk.calls == [Approval("Ann"), None]


async def test_signals_are_handed_out_by_class_in_their_order() -> None:
    clerk = Clerk()
    signals = [Approval("Ann"), Refusal("Bob"), Approval("Cid")]

    await run_step(clerk, "talk", Order(1), signals=signals)

    assert clerk.calls == [Refusal("Bob"), Approval("Ann"), Approval("Cid")]
    assert len(signals) == 3


async def test_a_timeout_is_over_at_once() -> None:
    """Under the real clock: an hour would not be."""
    clerk = Clerk()

    await run_step(clerk, "talk", Order(1))

    assert clerk.calls == [None, None, None]


async def test_a_step_that_would_wait_for_ever_is_told() -> None:
    with pytest.raises(NotRunningError, match=r"Approval, found none left.*signals"):
        await run_step(Clerk(), "insist", Order(1), signals=[Refusal("Bob")])


async def test_what_gru_would_refuse_to_receive_is_refused() -> None:
    wrong = "text"
    with pytest.raises(TypeError, match=r"it names .*Approval, "):
        await run_step(Clerk(), "talk", Order(1), signals=[wrong])
    with pytest.raises(TypeError, match="found Memo"):
        await run_step(Clerk(), "act", Order(1), received=Memo())
    with pytest.raises(TypeError, match="found Approval"):
        await run_step(Buyer(), "add", Order(1), received=Approval("Ann"))
    with pytest.raises(DefinitionError, match=r"timeout a number.* found -1"):
        await run_step(Clerk(), "poll_badly", Order(1), signals=[Approval("Ann")])
    with pytest.raises(DefinitionError, match="class of a signal, found int"):
        await run_step(Clerk(), "receive_badly", Order(1))


@attrs.frozen
class Memo:
    """No signal of any minion here."""


async def test_emitted_events_are_collected_with_their_targets() -> None:
    emitted: list[tuple[Any, type]] = [(Order(0), Orders)]

    await run_step(Clerk(), "tell", Order(1), emitted=emitted)
    await run_step(Clerk(), "tell", Order(1))

    assert emitted == [(Order(0), Orders), (Order(2), Orders), (Order(3), Remote)]


async def test_a_step_that_fails_has_emitted_nothing() -> None:
    emitted: list[tuple[Any, type]] = []

    with pytest.raises(OSError, match="no connection"):
        await run_step(Clerk(), "tell", Order(-1), emitted=emitted)

    assert emitted == []


@pytest.mark.parametrize(
    ("event", "to", "error", "message"),
    [
        (Order(1), int, DefinitionError, "expected a pipeline as to, found int"),
        (Order(1), Buyer, DefinitionError, "expected a pipeline as to, found Buyer"),
        (Order(1), "Orders", DefinitionError, "expected a pipeline as to"),
        (Basket(), Orders, TypeError, "expected an event of class Order"),
        (Order(2**64), Orders, SnapshotError, "64 bit"),
    ],
)
async def test_what_gru_would_refuse_to_emit_is_refused(
    event: Any, to: Any, error: type[Exception], message: str
) -> None:
    with pytest.raises(error, match=message):
        await run_step(Clerk([(event, to)]), "tell_badly", Order(1))


async def test_nothing_is_received_or_emitted_behind_the_step() -> None:
    clerk = Clerk()
    await run_step(clerk, "leave", Order(1), signals=[Approval("Ann")])
    receive, emit = clerk.calls

    with pytest.raises(NotRunningError, match="has ended"):
        await receive(Approval)
    with pytest.raises(NotRunningError, match="has ended"):
        await emit(Order(1), to=Orders)
