"""A bench for user code that behaves as badly as it can.

A *misdeed* is what a hook or a step does.  The bench lets one happen in a small
system, ends the system in one of several ways while it happens, and then checks
what must hold whatever it was: the block ends, or a stuck report names the culprit
and shows where it is; nobody else was disturbed; each exception was told once; the
order held; no workflow is lost.
"""

from __future__ import annotations

import dataclasses
import functools
import signal
import threading
import time
from collections import Counter
from collections.abc import Awaitable, Callable, Iterator, Sequence
from typing import Any, ClassVar

import attrs
import pytest
import trio
from trio.testing import MockClock

import minions
from minions import (
    Backoff,
    DependencyLost,
    Gru,
    GruOptions,
    Minion,
    NotRunningError,
    Pipeline,
    Resource,
    Restart,
    RestartLimitError,
    StartError,
    component_id,
    minion_step,
    open_gru,
)
from minions.identity import component_identity
from minions.notices import (
    ComponentCrashed,
    ComponentDraining,
    ComponentReleased,
    ComponentStarting,
    ComponentStuck,
    CrashReport,
    Notice,
    ShutdownFailed,
    SourceFailed,
    StartFailed,
    WorkflowDiscarded,
    WorkflowInterrupted,
    WorkflowQuarantined,
)
from minions.store import MemoryStore
from minions.testing.leftovers import Leftovers

OPTIONS = GruOptions(grace=1, start_timeout=2, settle=0.01)
"""Short graces: all time is virtual."""

ONCE = Restart(max_restarts=1, backoff=Backoff(base=0.1, cap=0.1))
REPORTS = (
    ComponentCrashed,
    StartFailed,
    ShutdownFailed,
    SourceFailed,
    WorkflowDiscarded,
    WorkflowInterrupted,
    WorkflowQuarantined,
)
# By trio's clock: far more than all graces together.
_MUCH_TOO_LONG = 300
# Of the combinations, one is played in the fast suite.
_EACH = 10


class Tantrum(BaseException):  # what a user may do
    """No ``Exception``, and none of ours."""


class UnspeakableError(Exception):
    """It cannot be told."""

    def __str__(self) -> str:
        raise ValueError("no text")

    def __repr__(self) -> str:
        return "trio shows it as the reason of a cancellation"


class UnspeakableTantrumError(Exception):
    """It cannot be told, and throws a tantrum when asked."""

    def __str__(self) -> str:
        raise Tantrum("no text")

    __repr__ = UnspeakableError.__repr__


class TextlessError(Exception):
    """Its text is none."""

    def __str__(self) -> str:
        return 3  # type: ignore[return-value]  # noqa: PLE0307  # the misdeed


class FalseError(Exception):
    """It counts as false, as one with a length of 0 does."""

    def __len__(self) -> int:
        return 0


class UndecidedError(Exception):
    """It can neither be compared, nor hashed, nor asked whether it is true."""

    def __bool__(self) -> bool:
        raise ValueError("undecided")

    def __eq__(self, other: object) -> bool:
        raise ValueError("undecided")

    def __hash__(self) -> int:
        raise ValueError("undecided")


@dataclasses.dataclass(frozen=True)
class FrozenError(Exception):
    """Nothing can be set on it, not even a traceback."""

    text: str


class World:
    """One system while something bad happens in it, and what was seen."""

    def __init__(self, misdeed: Misdeed) -> None:
        self.misdeed = misdeed
        self.notices: list[Notice] = []
        self.log: list[str] = []
        self.raised: list[str] = []
        self.left: list[BaseException] = []
        """What came out of the block."""
        self.acting = trio.Event()
        self.go = trio.Event()
        self.needs: dict[str, list[str]] = {}
        self.innocent: list[str] = []
        self.disturbed: list[str] = []
        self.culprit = ""
        self.untold = False
        self.stop_asked = False
        self.hung = ""
        self.times = 1
        self.done = 0
        # What is stuck is let go when it has been reported.
        self.thread = threading.Event()
        self.freed = False
        # Whether it goes on when cancelled, until it is let go.
        self.overstays = False
        self._scopes: list[trio.CancelScope] = []

    async def act(self) -> None:
        """Do the misdeed, the first few times."""
        if self.done < self.times:
            self.done += 1
            self.acting.set()
            await self.misdeed.function(self)

    def text(self) -> str:
        """Return a text that no other exception has, and remember it."""
        self.raised.append(f"misdeed {len(self.raised)}.")
        return self.raised[-1]

    async def wait_free(self) -> None:
        """Hear of nothing until what is stuck is let go."""
        with trio.CancelScope(shield=True) as scope:
            self.overstays = True
            self._scopes.append(scope)
            await trio.sleep_forever()

    def block(self) -> None:
        """Block the thread until what is stuck is let go."""
        self.overstays = True
        self.thread.wait()

    def free(self) -> None:
        """Let go what is stuck."""
        self.freed = True
        self.thread.set()
        for scope in self._scopes:
            scope.cancel()

    def heed(self, notice: Notice) -> None:
        """Listen to the Gru."""
        self.notices.append(notice)
        if isinstance(notice, ComponentDraining) and not self.stop_asked:
            self.disturbed.append(notice.component)
        if isinstance(notice, ComponentStuck):
            self.free()

    def of(self, kind: type, component: str | None = None) -> list[Any]:
        """Return the notices of a kind (of one component)."""
        return [
            n
            for n in self.notices
            if isinstance(n, kind)
            and component in (None, getattr(n, "component", None))
        ]


@attrs.frozen
class Misdeed:
    """Something that user code does."""

    function: Callable[[World], Awaitable[None]]
    raises: bool = False
    """Whether it raises something that can be found by its text."""

    tells: bool = True
    """Whether what it raises has a text."""

    @property
    def is_cancellation(self) -> bool:
        """Whether it raises what the next cancelled scope takes for its own."""
        return self.function is raise_an_old_cancellation

    @property
    def name(self) -> str:
        """Return what it does."""
        return self.function.__name__


async def hang(world: World) -> None:
    await trio.sleep_forever()


async def be_deaf(world: World) -> None:
    await world.wait_free()


async def be_deaf_then_raise(world: World) -> None:
    await world.wait_free()
    raise OSError(world.text())


async def swallow_and_return(world: World) -> None:
    try:
        await trio.sleep_forever()
    except trio.Cancelled:
        await trio.lowlevel.cancel_shielded_checkpoint()


async def swallow_and_go_on(world: World) -> None:
    for _ in range(5):
        try:
            await trio.sleep_forever()
        except trio.Cancelled:
            with trio.CancelScope(shield=True):
                await trio.sleep(0.01)


async def throw_a_tantrum(world: World) -> None:
    raise Tantrum(world.text())


async def raise_while_cancelled(world: World) -> None:
    try:
        await trio.sleep_forever()
    finally:
        raise OSError(world.text())


async def throw_while_cancelled(world: World) -> None:
    try:
        await trio.sleep_forever()
    finally:
        raise Tantrum(world.text())


async def raise_beside_cancelled(world: World) -> None:
    """A nursery of its own makes a group of the cancellation and the error."""
    async with trio.open_nursery() as nursery:
        nursery.start_soon(raise_while_cancelled, world)
        await trio.sleep_forever()


async def raise_the_unspeakable(world: World) -> None:
    raise UnspeakableError(world.text())


async def raise_an_unspeakable_tantrum(world: World) -> None:
    raise UnspeakableTantrumError(world.text())


async def raise_the_textless(world: World) -> None:
    raise TextlessError(world.text())


async def raise_the_false(world: World) -> None:
    raise FalseError(world.text())


async def raise_the_undecided(world: World) -> None:
    raise UndecidedError(world.text())


async def raise_the_frozen(world: World) -> None:
    raise FrozenError(world.text())


async def raise_stop_iteration(world: World) -> None:
    # Python makes a RuntimeError of it.
    world.raised.append("coroutine raised StopIteration")
    raise StopIteration


async def raise_stop_async_iteration(world: World) -> None:
    raise StopAsyncIteration(world.text())


async def raise_generator_exit(world: World) -> None:
    raise GeneratorExit(world.text())


async def stale_cancelled() -> trio.Cancelled:
    with trio.CancelScope() as scope:
        scope.cancel()
        try:
            await trio.sleep_forever()
        except trio.Cancelled as exc:
            stale = exc
    return stale


async def raise_an_old_cancellation(world: World) -> None:
    stale = await stale_cancelled()
    world.text()
    raise stale


async def raise_a_group_with_cancelled(world: World) -> None:
    stale = await stale_cancelled()
    raise BaseExceptionGroup("", [stale, OSError(world.text())])


async def raise_a_deep_group(world: World) -> None:
    error: Exception = OSError(world.text())
    for _ in range(200):
        error = ExceptionGroup("", [error])
    raise error


async def block_in_a_thread(world: World) -> None:
    await trio.to_thread.run_sync(world.block)


async def never_suspend(world: World) -> None:
    until = time.perf_counter() + 0.002
    while time.perf_counter() < until:
        pass


async def recurse(world: World) -> None:
    def fall() -> None:
        fall()

    world.text()
    fall()


async def run_out_of_memory(world: World) -> None:
    raise MemoryError(world.text())


MISDEEDS = [
    Misdeed(hang),
    Misdeed(be_deaf),
    Misdeed(be_deaf_then_raise, raises=True),
    Misdeed(swallow_and_return),
    Misdeed(swallow_and_go_on),
    Misdeed(throw_a_tantrum, raises=True),
    Misdeed(raise_while_cancelled, raises=True),
    Misdeed(throw_while_cancelled, raises=True),
    Misdeed(raise_beside_cancelled, raises=True),
    Misdeed(raise_the_unspeakable, raises=True, tells=False),
    Misdeed(raise_an_unspeakable_tantrum, raises=True, tells=False),
    Misdeed(raise_the_textless, raises=True, tells=False),
    Misdeed(raise_the_false, raises=True),
    Misdeed(raise_the_undecided, raises=True),
    Misdeed(raise_the_frozen, raises=True),
    Misdeed(raise_stop_iteration, raises=True),
    Misdeed(raise_stop_async_iteration, raises=True),
    Misdeed(raise_generator_exit, raises=True),
    Misdeed(raise_an_old_cancellation, raises=True, tells=False),
    Misdeed(raise_a_group_with_cancelled, raises=True),
    Misdeed(raise_a_deep_group, raises=True),
    Misdeed(block_in_a_thread),
    Misdeed(never_suspend),
    Misdeed(recurse, raises=True, tells=False),
    Misdeed(run_out_of_memory, raises=True),
]


@attrs.frozen
class Number:
    value: int


@attrs.define
class Passed:
    steps: int = 0


@component_id("hostile-outside")
class Outside(Pipeline[Number]):
    pass


@component_id("hostile-honest")
class Honest(Minion[Number, Passed]):
    """Minds its own business beside what happens."""

    world: ClassVar[World]

    @minion_step
    async def first(self) -> None:
        await trio.sleep(0.1)
        self.context.steps += 1
        self.world.log.append(f"first {self.event.value}")

    @minion_step
    async def second(self) -> None:
        await trio.sleep(0.1)
        self.world.log.append(f"second {self.event.value}")


class Bystander(Resource):
    """Has nothing to do with it."""

    async def startup(self) -> None:
        await trio.lowlevel.checkpoint()


async def stop(world: World, gru: Gru) -> None:
    await gru.stop()


async def cancel(world: World, gru: Gru) -> None:
    outer.cancel()
    await trio.lowlevel.checkpoint()


async def interrupt(world: World, gru: Gru) -> None:
    """Ctrl-C: under trio alone it ends the body, under ``minions.run`` it stops."""
    signal.raise_signal(signal.SIGINT)
    await trio.sleep_forever()


async def interrupt_thrice(world: World, gru: Gru) -> None:
    for _ in range(2):
        signal.raise_signal(signal.SIGINT)
        with trio.CancelScope(shield=True):
            await trio.sleep(0.2)
    signal.raise_signal(signal.SIGINT)
    await trio.sleep_forever()


outer = trio.CancelScope()


@attrs.frozen
class Ending:
    """How the system ends, and under whom it runs."""

    name: str
    function: Callable[[World, Gru], Awaitable[None]]
    run: Callable[..., Any]
    leaves: list[type[BaseException]] = attrs.field(factory=list)


ENDINGS = [
    Ending("stop", stop, trio.run),
    Ending("cancel", cancel, trio.run),
    Ending("ctrl-c", interrupt, trio.run, [KeyboardInterrupt]),
    Ending("signal", interrupt, minions.run),
    Ending("three-signals", interrupt_thrice, minions.run, [KeyboardInterrupt]),
]


class Bench:
    """Plays one misdeed to one end."""

    def __init__(self, misdeed: Misdeed, ending: Ending) -> None:
        self.ending = ending
        self.world = World(misdeed)
        self.store = MemoryStore()

    def play(
        self,
        begin: Callable[[Gru, World], Awaitable[None]],
        *,
        culprit: type,
        needs: Sequence[tuple[type, type]] = (),
        when: Callable[[Gru, World], Awaitable[None]] | None = None,
        untold: bool = False,
    ) -> World:
        """Start the system with *begin*, and end it once the misdeed is under way.

        *untold*: a cancelled scope takes what it raises, as it should.
        """
        world = Honest.world = self.world
        name = component_identity
        world.culprit = name(culprit)
        world.untold = untold
        world.innocent = [name(cls) for cls in (Bystander, Honest, Outside)]
        for user, needed in needs:
            world.needs.setdefault(name(user), []).append(name(needed))
        clock = MockClock(autojump_threshold=0)
        main = functools.partial(self._main, begin, when)
        try:
            if self.ending.run is trio.run:
                trio.run(main, clock=clock)
            else:
                with pytest.MonkeyPatch.context() as patch:
                    timed = functools.partial(trio.run, clock=clock)
                    patch.setattr("minions.runtime.process.trio.run", timed)
                    minions.run(main, say=world.log.append)
        except BaseExceptionGroup as exc:  # of the bench's own nursery
            _, rest = exc.split(KeyboardInterrupt)
            if rest is not None:
                raise
            world.left.append(KeyboardInterrupt())
        except KeyboardInterrupt as exc:
            world.left.append(exc)
        assert [type(exc) for exc in world.left] == self.ending.leaves
        self.check()
        return world

    async def _main(
        self,
        begin: Callable[[Gru, World], Awaitable[None]],
        when: Callable[[Gru, World], Awaitable[None]] | None,
    ) -> None:
        global outer  # noqa: PLW0603  # one run at a time
        world = self.world
        outer = trio.CancelScope()
        world.acting, world.go = trio.Event(), trio.Event()
        before = Leftovers()
        guard = trio.lowlevel.spawn_system_task(self._guard)
        try:
            with outer:
                async with open_gru(self.store, options=OPTIONS) as gru:
                    gru._bus.listeners.append(world.heed)
                    await gru.start(Bystander)
                    await gru.start_minion(Honest, Outside)
                    for number in range(3):
                        await gru.emit(Outside, Number(number))
                    await self._body(gru, begin, when)
        except (StartError, RestartLimitError, SystemExit) as exc:
            world.left.append(exc)
        finally:
            world.hung = ""
            self._guard_scope.cancel()
            with trio.CancelScope(shield=True):
                await trio.testing.wait_all_tasks_blocked()
            del guard
            before.check()

    async def _body(
        self,
        gru: Gru,
        begin: Callable[[Gru, World], Awaitable[None]],
        when: Callable[[Gru, World], Awaitable[None]] | None,
    ) -> None:
        world = self.world

        async def start() -> None:
            try:
                await begin(gru, world)
            except (StartError, NotRunningError, DependencyLost):
                world.log.append("did not start")

        async with trio.open_nursery() as nursery:
            nursery.start_soon(start)
            with trio.move_on_after(20):
                await (when(gru, world) if when else world.acting.wait())
            await trio.testing.wait_all_tasks_blocked()
            world.stop_asked = True
            world.log.append("end")
            await self.ending.function(world, gru)
            if not self.ending.leaves:
                nursery.cancel_scope.cancel()

    async def _guard(self) -> None:
        with trio.CancelScope() as self._guard_scope:
            await trio.sleep(_MUCH_TOO_LONG)
            self.world.free()
            # The clock jumps while a thread ends.
            until = time.monotonic() + 2
            while time.monotonic() < until:  # noqa: ASYNC110  # of another clock
                await trio.sleep(1)
            raise AssertionError("the block does not end")  # ends the whole run

    # What must hold, whatever it was.

    def check(self) -> None:
        """Check what must hold in any case."""
        self._check_stuck()
        self._check_innocent()
        self._check_reports()
        self._check_order()
        self._check_honest()

    def _check_stuck(self) -> None:
        world = self.world
        stuck = world.of(ComponentStuck)
        if not world.overstays:
            assert stuck == []
            assert not world.freed, "it did not end by itself"
        else:
            assert [n.component for n in stuck] == [world.culprit]
            assert world.misdeed.name in stuck[0].stacks

    def _check_innocent(self) -> None:
        world = self.world
        for name in world.innocent:
            assert [n.epoch for n in world.of(ComponentStarting, name)] == [1]
            (draining,) = world.of(ComponentDraining, name)
            assert world.culprit not in draining.cause
        assert not set(world.disturbed) & set(world.innocent)

    def _check_reports(self) -> None:
        world = self.world
        told: Counter[str] = Counter()
        reports: list[str] = []
        for notice in world.notices:
            if isinstance(notice, REPORTS) and notice.report is not None:
                told.update(_texts(notice.report))
                reports.append(f"{type(notice).__name__}: {notice.report}")
        if not world.misdeed.raises or world.untold:
            return
        assert len(reports) == len(world.raised), reports
        for text in world.raised if world.misdeed.tells else ():
            found = sum(count for words, count in told.items() if text in words)
            assert found == 1, f"{text!r} was told {found} times: {dict(told)}"

    def _check_order(self) -> None:
        world = self.world
        lives: dict[tuple[str, int], list[int]] = {}
        for at, notice in enumerate(world.notices):
            if isinstance(notice, ComponentStarting | ComponentReleased):
                key = (notice.component, notice.epoch)
                lives.setdefault(key, []).append(at)
        for (name, epoch), life in lives.items():
            assert len(life) == 2, f"{name}#{epoch} was not released once"
            for needed in world.needs.get(name, ()):
                around = [
                    other
                    for (of, _), other in lives.items()
                    if of == needed and other[0] < life[0] and life[1] < other[1]
                ]
                assert around, f"{name}#{epoch} did not lie inside {needed}"

    def _check_honest(self) -> None:
        """Nothing that was accepted is lost, and no finished step runs again."""
        log = self.world.log
        with pytest.MonkeyPatch.context() as patch:
            patch.setattr(Honest, "world", self.world)
            trio.run(self._reopen, clock=MockClock(autojump_threshold=0))
        for number in range(3):
            assert log.count(f"second {number}") == 1, log
            assert log.count(f"first {number}") <= 2
            begun = [i for i, line in enumerate(log) if line == f"first {number}"]
            assert begun[-1] < log.index(f"second {number}")

    def check_kept(self, minion: type, pipeline: type) -> None:
        """Check what became of the workflow that misbehaved.

        It has ended, once; or a person is told why it has not; or it goes on when
        the system is opened again, and ends then, since the misdeed is over.
        """
        world = self.world

        async def reopen() -> list[str]:
            async with open_gru(self.store) as gru:
                held = [w.id async for w in gru.workflows.list(state="quarantined")]
                await gru.start_minion(minion, pipeline)
                await trio.sleep(5)
                await gru.stop()
                return held

        world.times = 0
        held = trio.run(reopen, clock=MockClock(autojump_threshold=0))
        told = [n.workflow for n in world.of(WorkflowQuarantined)]
        assert sorted(held) == sorted(told)
        assert world.log.count("read bad") == 1 - len(held)

    async def _reopen(self) -> None:
        async with open_gru(self.store) as gru:
            await gru.start_minion(Honest, Outside)
            await trio.sleep(5)
            await gru.stop()


def _texts(report: CrashReport) -> Iterator[str]:
    for leaf in report.leaves:
        yield leaf.message


@pytest.fixture(params=MISDEEDS, ids=lambda misdeed: misdeed.name)
def misdeed(request: pytest.FixtureRequest) -> Misdeed:
    """Return something that user code does."""
    found: Misdeed = request.param
    return found


@pytest.fixture(params=ENDINGS, ids=lambda ending: ending.name)
def ending(request: pytest.FixtureRequest) -> Ending:
    """Return how the system ends."""
    found: Ending = request.param
    return found


@pytest.fixture
def bench(misdeed: Misdeed, ending: Ending) -> Bench:
    """Return a bench for one misdeed and one ending."""
    return Bench(misdeed, ending)


def pytest_collection_modifyitems(items: list[pytest.Item]) -> None:
    """Play each tenth combination of misdeed, place and ending in the fast suite."""
    for item in items:
        indices = getattr(getattr(item, "callspec", None), "indices", {})
        if "ending" in indices and sum(indices.values()) % _EACH:
            item.add_marker(pytest.mark.slow)
