from __future__ import annotations

import dataclasses
import math
import threading
from collections.abc import Iterable, Iterator
from contextvars import copy_context
from datetime import UTC, datetime
from types import SimpleNamespace
from typing import Any, Generic, TypeVar

import attrs
import msgspec
import pytest

from minions.declare.bases import (
    STEP_MARK,
    Minion,
    Pipeline,
    Resource,
    StepMark,
    minion_step,
    resource,
)
from minions.declare.binding import (
    WorkflowCell,
    WorkflowInfo,
    bind,
    binding_of,
    current_workflow,
    unbind,
)
from minions.declare.outcomes import After, Done, GoTo, Wait
from minions.errors import DefinitionError, NotRunningError
from minions.options import TEN_YEARS, Backoff, Retry


@attrs.frozen
class Quote:
    price: float = 0.0


@attrs.define
class Memory:
    last: float = 0.0


@attrs.frozen
class Frozen(Resource):
    x: int = 0


class Lines(Pipeline[Quote, int]):
    pass


class Trader(Minion[Quote, Memory]):
    @minion_step
    async def decide(self) -> None:
        self.context.last = self.event.price


class FakeBinding:
    nursery: Any = object()
    cursor: Any = 7

    def __init__(self) -> None:
        self.calls: list[tuple[Any, Any, Any]] = []

    async def emit(
        self, event: Any, *, cursor: Any = None, event_id: str | None = None
    ) -> tuple[str | None, ...]:
        self.calls.append((event, cursor, event_id))
        return ("id",)

    async def emit_many(
        self,
        events: Iterable[Any],
        *,
        cursor: Any = None,
        event_ids: Iterable[str | None] | None = None,
    ) -> tuple[tuple[str | None, ...], ...]:
        self.calls.append((list(events), cursor, event_ids))
        return (("id",),)


@pytest.fixture
def binding() -> FakeBinding:
    return FakeBinding()


@attrs.define(eq=False)
class FakeCell:
    minion: object
    event: Any
    context: Any
    workflow: WorkflowInfo
    ended: bool = False


@pytest.fixture
def cell() -> Iterator[WorkflowCell]:
    info = WorkflowInfo("w", "o", "decide", 1, datetime.now(UTC))
    made = FakeCell(Trader(), Quote(3.0), Memory(), info)
    token = current_workflow.set(made)
    yield made
    current_workflow.reset(token)


@pytest.mark.parametrize("cls", [Frozen, Lines, Trader])
def test_the_nursery_is_that_of_the_binding(
    cls: type[Any], binding: FakeBinding
) -> None:
    one, other = cls(), cls()

    bind(one, binding)
    assert one.nursery is binding.nursery
    with pytest.raises(NotRunningError, match=cls.__name__):
        _ = other.nursery

    unbind(one)
    unbind(one)
    with pytest.raises(NotRunningError, match="expected an instance that Gru runs"):
        binding_of(one)


async def test_a_pipeline_emits_through_its_binding(binding: FakeBinding) -> None:
    lines = Lines()
    bind(lines, binding)

    assert await lines.emit(Quote(), cursor=3, id="a") == ("id",)
    assert await lines.emit_many([Quote()], cursor=4, ids=["b"]) == (("id",),)
    assert lines.cursor == 7
    assert binding.calls == [(Quote(), 3, "a"), ([Quote()], 4, ["b"])]
    unbind(lines)


async def test_a_step_has_its_event_and_context(cell: WorkflowCell) -> None:
    trader = cell.minion
    assert isinstance(trader, Trader)

    await trader.decide()

    assert trader.context == Memory(3.0)
    assert trader.workflow.step == "decide"


def test_an_assignment_in_another_context_counts(cell: WorkflowCell) -> None:
    """A child task has a copy of the variables, and the same cell."""
    trader = cell.minion
    assert isinstance(trader, Trader)

    copy_context().run(setattr, trader, "context", Memory(9.0))

    assert trader.context.last == 9.0


def test_outside_of_a_step_there_is_nothing() -> None:
    with pytest.raises(NotRunningError, match=r"self\.event.*found no step"):
        _ = Trader().event
    with pytest.raises(NotRunningError, match=r"self\.context"):
        Trader().context = Memory()
    with pytest.raises(NotRunningError, match=r"self\.workflow"):
        _ = Trader().workflow


def test_in_the_step_of_another_minion_there_is_nothing(cell: WorkflowCell) -> None:
    with pytest.raises(NotRunningError, match=r"found a step of .*Trader"):
        _ = Trader().event


def test_after_the_step_there_is_nothing(cell: WorkflowCell) -> None:
    cell.ended = True
    assert isinstance(cell.minion, Trader)

    with pytest.raises(NotRunningError, match="left over from step 'decide'"):
        _ = cell.minion.context


def test_in_a_bare_thread_there_is_nothing(cell: WorkflowCell) -> None:
    seen: list[BaseException] = []

    def work() -> None:
        try:
            _ = cell.minion.event  # type: ignore[attr-defined]
        except NotRunningError as exc:
            seen.append(exc)

    # Only newer interpreters can hand variables over to a thread; here none do.
    thread = threading.Thread(target=work)
    thread.start()
    thread.join()

    assert len(seen) == 1


def test_a_pipeline_takes_one_type_or_two() -> None:
    EventT = TypeVar("EventT")

    class Between(Pipeline[EventT], Generic[EventT]):
        pass

    class One(Between[Quote]):
        pass

    assert issubclass(One, Pipeline)
    assert Pipeline[(Quote,)] == Pipeline[Quote]
    with pytest.raises(TypeError):
        Pipeline[Quote, int, str]  # type: ignore[misc]


def test_bases_have_no_state_and_no_hooks() -> None:
    for base in (Resource, Pipeline, Minion):
        assert base.__slots__ == ()
        for hook in ("startup", "run", "shutdown", "produce_event", "key"):
            assert not hasattr(base, hook)


def test_only_a_class_is_a_resource() -> None:
    with pytest.raises(DefinitionError, match="expected a class"):
        resource(SimpleNamespace())  # type: ignore[type-var]


def test_a_step_must_be_able_to_carry_its_mark() -> None:
    with pytest.raises(DefinitionError, match="async method"):
        minion_step(3)  # type: ignore[call-overload]


@pytest.mark.parametrize("old", ["", "a b", 3])
def test_a_former_name_is_a_name(old: Any) -> None:
    with pytest.raises(DefinitionError, match="former name"):
        minion_step(renamed_from=old)


def test_a_step_carries_what_its_decorator_says() -> None:
    async def step(self: object) -> None: ...

    minion_step(retry=Retry(2), timeout=1.5, renamed_from="old")(step)

    assert getattr(step, STEP_MARK) == StepMark("old", Retry(2), 1.5)
    minion_step(step)
    assert getattr(step, STEP_MARK) == StepMark()


@pytest.mark.parametrize("retry", [3, Retry, Backoff(), (), False])
def test_a_retry_is_a_retry(retry: Any) -> None:
    with pytest.raises(DefinitionError, match=r"expected a Retry as retry, found.*wri"):
        minion_step(retry=retry)


NO_TIMES = [-1, math.inf, -math.inf, math.nan, TEN_YEARS + 1, 10**400, True, "1", b""]


@pytest.mark.parametrize("timeout", [0, 0.0, *NO_TIMES])
def test_a_timeout_is_a_time_above_zero(timeout: Any) -> None:
    with pytest.raises(DefinitionError, match=r"timeout.*above 0 and at most.*found"):
        minion_step(timeout=timeout)


@pytest.mark.parametrize("timeout", [1e-9, 1, TEN_YEARS])
def test_the_edges_of_a_timeout(timeout: float) -> None:
    minion_step(timeout=timeout)


class Struct(msgspec.Struct):
    pass


@dataclasses.dataclass
class Classic:
    pass


def test_outcomes_are_values() -> None:
    assert GoTo("there") == GoTo("there")
    assert Done() == Done()
    assert After(3) == After(seconds=3.0, step=None)
    assert After(0, "there") == After(step="there", seconds=0)
    assert After(TEN_YEARS).seconds == TEN_YEARS
    assert Wait(Quote) == Wait(type=Quote, timeout=None, step=None)
    assert Wait(Struct, 5, "there") == Wait(step="there", timeout=5.0, type=Struct)
    assert hash(Wait(Classic, timeout=0)) == hash(Wait(Classic, 0))


@pytest.mark.parametrize("wrong", ["", "a b", 3, None, b"a", GoTo])
@pytest.mark.parametrize(
    "make",
    [GoTo, lambda s: After(1, step=s), lambda s: Wait(Quote, step=s)],
    ids=["GoTo", "After", "Wait"],
)
def test_an_outcome_names_a_step(make: Any, wrong: Any) -> None:
    if wrong is None and make is not GoTo:
        assert make(wrong).step is None
        return
    with pytest.raises(DefinitionError, match=r"name of a step, found .*; write"):
        make(wrong)


@pytest.mark.parametrize("wrong", [None, *NO_TIMES])
def test_an_outcome_waits_for_a_time(wrong: Any) -> None:
    with pytest.raises(
        DefinitionError, match=r"After: expected as seconds.*found.*set"
    ):
        After(wrong)
    if wrong is not None:
        with pytest.raises(DefinitionError, match="Wait: expected as timeout a number"):
            Wait(Quote, timeout=wrong)


@pytest.mark.parametrize("wrong", [None, int, "Quote", Quote(), list[Quote], Lines])
def test_a_signal_is_data(wrong: Any) -> None:
    with pytest.raises(DefinitionError, match=r"Wait: expected the class of.*; write"):
        Wait(wrong)
