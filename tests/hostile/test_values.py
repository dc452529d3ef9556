"""Values of user classes that misbehave when they are made, compared or shown."""

from __future__ import annotations

import contextlib
import gc
import sys
from collections.abc import Callable, Iterator
from typing import Any, ClassVar

import attrs
import pytest
import trio
from trio.testing import MockClock

from minions import (
    Backoff,
    GruOptions,
    Minion,
    Pipeline,
    Resource,
    Restart,
    StartError,
    component_id,
    minion_step,
    open_gru,
)
from minions.notices import (
    ComponentStarting,
    Notice,
    StartFailed,
    WorkflowQuarantined,
)
from minions.store import MemoryStore

OPTIONS = GruOptions(grace=1, start_timeout=2, settle=0.01)
AT_ONCE = Restart(backoff=Backoff(base=0, cap=0))


class Tantrum(BaseException):  # what a user may do
    pass


class UnspeakableError(Exception):
    def __str__(self) -> str:
        raise ValueError("no text")


def recurse() -> None:
    recurse()


def throw(kind: type[BaseException]) -> Callable[..., Any]:
    def thrown(*_: object, **__: object) -> Any:
        if kind is RecursionError:
            recurse()
        raise kind("thrown")

    return thrown


KINDS = [
    Tantrum,
    UnspeakableError,
    StopIteration,
    StopAsyncIteration,
    GeneratorExit,
    RecursionError,
    MemoryError,
    OSError,
]
EVERY_KIND = pytest.mark.parametrize("kind", KINDS, ids=lambda kind: kind.__name__)


@attrs.frozen
class Number:
    value: int


@attrs.define
class Nothing:
    pass


@component_id("values-outside")
class Outside(Pipeline[Number]):
    pass


# Instances are told apart by identity, never hashed, compared or shown.


class Sulking:
    """Raises at everything that is asked of it."""

    asked: ClassVar[list[str]] = []

    def sulk(self) -> Any:
        self.asked.append(sys._getframe(1).f_code.co_name)
        raise Tantrum

    def __eq__(self, other: object) -> bool:
        return bool(self.sulk())

    def __hash__(self) -> int:
        return int(self.sulk())

    def __bool__(self) -> bool:
        return bool(self.sulk())

    def __len__(self) -> int:
        return int(self.sulk())

    def __repr__(self) -> str:
        return str(self.sulk())

    def __str__(self) -> str:
        return str(self.sulk())

    def __lt__(self, other: object) -> bool:
        return bool(self.sulk())

    def __iter__(self) -> Iterator[Any]:
        return iter(self.sulk())

    def __contains__(self, item: object) -> bool:
        return bool(self.sulk())


class SulkingResource(Sulking, Resource):
    restart = AT_ONCE
    fail: ClassVar[trio.Event]

    async def run(self) -> None:
        await self.fail.wait()
        SulkingResource.fail = trio.Event()
        raise OSError

    async def answer(self) -> int:
        await trio.lowlevel.checkpoint()
        return 42


class SulkingUser(Sulking, Resource):
    restart = AT_ONCE
    other: SulkingResource
    wanted: SulkingResource | None


@component_id("values-sulking")
class SulkingMinion(Sulking, Minion[Number, Nothing]):
    restart = AT_ONCE
    other: SulkingUser

    @minion_step
    async def ask(self) -> None:
        assert await self.other.other.answer() == 42


@component_id("values-sulking-source")
class SulkingSource(Sulking, Pipeline[Number]):
    restart = AT_ONCE
    other: SulkingUser
    count: ClassVar[int] = 0

    async def produce_event(self) -> Number:
        await trio.lowlevel.checkpoint()
        SulkingSource.count += 1
        if self.count > 3:
            raise trio.EndOfChannel
        return Number(self.count)


async def test_instances_are_never_compared_hashed_or_shown(
    autojump_clock: MockClock,
) -> None:
    SulkingResource.fail, SulkingSource.count = trio.Event(), 0
    Sulking.asked.clear()
    async with open_gru(None, options=OPTIONS) as gru:
        await gru.start_minion(SulkingMinion, Outside)
        orchestration = await gru.start_minion(SulkingMinion, SulkingSource)
        async with gru.borrow(SulkingResource) as borrowed:
            assert await borrowed.answer() == 42
        SulkingResource.fail.set()
        await trio.sleep(1)
        (workflow_id,) = await gru.emit(Outside, Number(1))
        assert workflow_id is not None
        assert (await gru.workflows.wait(workflow_id)).state == "done"
        assert await orchestration.wait() == "ended"
        assert str(gru.snapshot())
        await gru.stop()

    assert Sulking.asked == []


# A config that cannot be made is refused, and nothing is left of the start.


@attrs.define
class Settings:
    limit: int = 3
    throws: ClassVar[type[BaseException] | None] = None

    def __attrs_post_init__(self) -> None:
        if self.throws is not None:
            throw(self.throws)()


@component_id("values-configured")
class Configured(Minion[Number, Nothing]):
    config: Settings
    other: SulkingUser

    @minion_step
    async def pass_by(self) -> None: ...


@EVERY_KIND
@pytest.mark.parametrize("source", [{"limit": 4}, None], ids=["mapping", "default"])
async def test_a_config_that_raises_leaves_nothing(
    kind: type[BaseException],
    source: object,
    monkeypatch: pytest.MonkeyPatch,
    autojump_clock: MockClock,
) -> None:
    SulkingResource.fail = trio.Event()
    async with open_gru(None, options=OPTIONS) as gru:
        await gru.start(SulkingResource)
        before = list(gru.snapshot().components)
        monkeypatch.setattr(Settings, "throws", kind)

        with pytest.raises(BaseException) as caught:  # noqa: PT011  # any may be
            await gru.start_minion(Configured, Outside, config=source)

        assert not isinstance(caught.value, trio.Cancelled | AssertionError)
        assert list(gru.snapshot().components) == before
        assert gru.snapshot().orchestrations == {}
        monkeypatch.setattr(Settings, "throws", None)
        await gru.start_minion(Configured, Outside, config=source)
        await gru.stop()


# So are an instance and a value from elsewhere that cannot be made.


class Made(Resource):
    throws: ClassVar[type[BaseException] | None] = None

    def __init__(self) -> None:
        if self.throws is not None:
            throw(self.throws)()


class Elsewhere:
    throws: ClassVar[type[BaseException] | None] = None


def make_elsewhere() -> Any:
    if Elsewhere.throws is not None:
        throw(Elsewhere.throws)()
    return contextlib.nullcontext(Elsewhere())


@component_id("values-making")
class Making(Minion[Number, Nothing]):
    made: Made
    elsewhere: Elsewhere

    @minion_step
    async def pass_by(self) -> None: ...


@EVERY_KIND
@pytest.mark.parametrize("what", [Made, Elsewhere], ids=lambda w: w.__name__)
async def test_an_instance_that_cannot_be_made_fails_its_start(
    kind: type[BaseException],
    what: Any,
    monkeypatch: pytest.MonkeyPatch,
    autojump_clock: MockClock,
) -> None:
    notices: list[Notice] = []
    monkeypatch.setattr(what, "throws", kind)
    async with open_gru(None, options=OPTIONS) as gru:
        gru._bus.listeners.append(notices.append)
        gru.provide(Elsewhere, make_elsewhere)

        with pytest.raises(StartError) as caught:
            await gru.start_minion(Making, Outside)

        # Python itself lets no StopIteration out of a coroutine.
        expected = RuntimeError if kind is StopIteration else kind
        assert type(caught.value.__cause__) is expected
        assert sum(isinstance(n, StartFailed) for n in notices) == 1
        await trio.sleep(1)
        assert gru.snapshot().components == {}
        monkeypatch.setattr(what, "throws", None)
        await gru.start_minion(Making, Outside)
        await gru.stop()


# Events and contexts that raise when they are made again, or are stored.


@attrs.frozen
class Touchy:
    value: int
    throws: ClassVar[type[BaseException] | None] = None

    def __attrs_post_init__(self) -> None:
        if self.throws is not None and self.value == 1:
            throw(self.throws)()


@attrs.define
class TouchyContext:
    done: int = 0
    throws: ClassVar[type[BaseException] | None] = None

    def __attrs_post_init__(self) -> None:
        if self.throws is not None:
            throw(self.throws)()


@component_id("values-touchy-source")
class TouchySource(Pipeline[Touchy]):
    pass


@component_id("values-touchy")
class TouchyMinion(Minion[Touchy, TouchyContext]):
    hold: ClassVar[bool] = False

    @minion_step
    async def pass_by(self) -> None:
        if self.hold:
            await trio.sleep_forever()
        self.context.done += self.event.value


@EVERY_KIND
@pytest.mark.parametrize("what", [Touchy, TouchyContext], ids=lambda w: w.__name__)
async def test_data_that_cannot_be_made_again_is_quarantined(
    kind: type[BaseException],
    what: Any,
    monkeypatch: pytest.MonkeyPatch,
    autojump_clock: MockClock,
) -> None:
    """Alone: the others go on, and it can be listed and sent on again."""
    store = MemoryStore()
    monkeypatch.setattr(TouchyMinion, "hold", True)
    async with open_gru(store, options=OPTIONS) as gru:
        await gru.start_minion(TouchyMinion, TouchySource)
        for value in range(2):
            await gru.emit(TouchySource, Touchy(value))
        await gru.stop()
    monkeypatch.setattr(TouchyMinion, "hold", False)
    monkeypatch.setattr(what, "throws", kind)

    notices: list[Notice] = []
    async with open_gru(store, options=OPTIONS) as gru:
        gru._bus.listeners.append(notices.append)
        await gru.start_minion(TouchyMinion, TouchySource)
        await trio.sleep(5)
        quarantined = [n for n in notices if isinstance(n, WorkflowQuarantined)]
        assert len(quarantined) == (1 if what is Touchy else 2)
        assert {n.reason for n in quarantined} == {"incompatible"}
        if what is Touchy:
            listed = [w.id async for w in gru.workflows.list(state="quarantined")]
            assert listed == [n.workflow for n in quarantined]

        monkeypatch.setattr(what, "throws", None)
        for notice in quarantined:
            await gru.workflows.redrive(notice.workflow)
            assert (await gru.workflows.wait(notice.workflow)).state == "done"
        epochs = [n.epoch for n in notices if isinstance(n, ComponentStarting)]
        assert epochs == [1, 1], "no component crashed"
        await gru.stop()


# What a step leaves behind, or a key returns.


class Bristling:
    """Raises when somebody asks what it is."""

    def __init__(self, kind: type[BaseException]) -> None:
        self.kind = kind

    @property  # type: ignore[misc]
    def __class__(self) -> type:
        return throw(self.kind)()  # type: ignore[no-any-return]

    def __repr__(self) -> str:
        return str(throw(self.kind)())


class BristlingList(list[int]):
    """Raises when it is looked into."""

    kind: ClassVar[type[BaseException]]

    def __iter__(self) -> Iterator[int]:
        return iter(throw(self.kind)())

    def __len__(self) -> int:
        return int(throw(self.kind)())


@attrs.define
class Numbers:
    found: list[int] = attrs.field(factory=list)


class Leaving(Minion[Number, Numbers]):
    kind: ClassVar[type[BaseException]]


@component_id("values-returns")
class Returns(Leaving):
    @minion_step
    async def leave(self) -> Any:
        return Bristling(self.kind) if self.event.value else None


@component_id("values-stores")
class Stores(Leaving):
    @minion_step
    async def leave(self) -> None:
        if self.event.value:
            BristlingList.kind = self.kind
            self.context.found = BristlingList([1])

    @minion_step
    async def go_on(self) -> None: ...


@component_id("values-keys")
class Keys(Leaving):
    def key(self, event: Number) -> Any:
        return Bristling(self.kind) if event.value else 0

    @minion_step
    async def leave(self) -> None: ...


@EVERY_KIND
@pytest.mark.parametrize("minion", [Returns, Stores, Keys], ids=lambda m: m.__name__)
async def test_what_a_step_leaves_concerns_its_own_workflow_only(
    kind: type[BaseException], minion: type[Leaving], autojump_clock: MockClock
) -> None:
    minion.kind = kind
    notices: list[Notice] = []
    async with open_gru(None, options=OPTIONS) as gru:
        gru._bus.listeners.append(notices.append)
        await gru.start_minion(minion, Outside)
        (bad,) = await gru.emit(Outside, Number(1))
        (good,) = await gru.emit(Outside, Number(0))
        assert good is not None

        assert (await gru.workflows.wait(good)).state == "done"
        await trio.sleep(1)
        await gru.stop()

    assert [n.workflow for n in notices if isinstance(n, WorkflowQuarantined)] == [bad]
    assert [n.epoch for n in notices if isinstance(n, ComponentStarting)] == [1, 1]


# The end of an instance.


class Haunting(Resource):
    haunted: ClassVar[int] = 0

    def __del__(self) -> None:
        Haunting.haunted += 1
        raise Tantrum


async def test_a_finaliser_that_raises_ends_nothing(
    monkeypatch: pytest.MonkeyPatch, autojump_clock: MockClock
) -> None:
    seen: list[object] = []
    monkeypatch.setattr(sys, "unraisablehook", lambda what: seen.append(what.exc_type))
    async with open_gru(None, options=OPTIONS) as gru:
        await gru.start(Haunting)
        await gru.restart(Haunting)
        await gru.stop()
    gc.collect()

    assert Haunting.haunted == 2, "no instance is kept"
    assert seen == [Tantrum, Tantrum]
