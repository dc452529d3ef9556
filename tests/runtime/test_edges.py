"""What happens at the edges: guarded calls, stuck hooks, OS signals."""

from __future__ import annotations

import signal
import subprocess
import sys
import threading
from pathlib import Path
from typing import Any, ClassVar

import attrs
import pytest
import trio
import trio.lowlevel
from trio.testing import MockClock

from minions import (
    Backoff,
    ComponentBroken,
    ConfigError,
    DefinitionError,
    DependencyLost,
    GruOptions,
    Minion,
    NotRunningError,
    Pipeline,
    Resource,
    Restart,
    StartError,
    minion_step,
    open_gru,
    resource,
    run,
)
from minions.notices import (
    ComponentCrashed,
    ComponentStuck,
    ComponentUp,
    Notice,
    ShutdownFailed,
    StartFailed,
    WorkflowInterrupted,
)
from minions.runtime.process import SignalCount

log: list[str] = []
AT_ONCE = Restart(backoff=Backoff(base=0, cap=0))


@pytest.fixture(autouse=True)
def forget() -> None:
    log.clear()


@attrs.frozen
class Number:
    value: int


@attrs.define
class Nothing:
    done: int = 0


class Outside(Pipeline[Number]):
    pass


class Service(Resource):
    restart = AT_ONCE

    async def fail(self) -> None:
        raise ComponentBroken("on purpose")

    async def answer(self) -> int:
        await trio.lowlevel.checkpoint()
        return 42

    async def via(self) -> int:
        return await self.answer()


class Middle(Resource):
    service: Service

    async def fail(self) -> None:
        await self.service.fail()

    async def shutdown(self) -> None:
        log.append(f"shutdown got {await self.service.answer()}")


async def test_who_breaks_what(autojump_clock: MockClock) -> None:
    """The component breaks whose method raises; others see a lost dependency."""
    notices: list[Notice] = []
    async with open_gru(None) as gru:
        gru._bus.listeners.append(notices.append)
        await gru.start(Middle)
        async with gru.borrow(Service) as service:
            with pytest.raises(DependencyLost, match="on purpose"):
                await service.fail()
            with pytest.raises(DependencyLost):
                await service.answer()
            began = trio.current_time()
            with pytest.raises(DependencyLost):
                await service.via()
            assert trio.current_time() == began, "an error, not a hang"
        await gru.wait_up(Middle)
        assert log == ["shutdown got 42"], "a shutdown gets through"
        await gru.stop()

    crashed = [n for n in notices if isinstance(n, ComponentCrashed)]
    assert len(crashed) == 1
    assert crashed[0].component.endswith("Service")


async def test_it_breaks_through_another_component(autojump_clock: MockClock) -> None:
    async with open_gru(None) as gru:
        await gru.start(Middle)
        with pytest.raises(DependencyLost):
            async with gru.borrow(Middle) as middle:
                with pytest.raises(DependencyLost):
                    await middle.fail()
                await trio.sleep_forever()
        await gru.wait_up(Middle)
        epochs = {c.identity: c.epoch for c in gru.snapshot().components.values()}
        assert set(epochs.values()) == {2}
        await gru.stop()


class Grouped(Resource):
    restart = AT_ONCE
    broken: ClassVar[bool] = True

    async def answer(self) -> int:
        async with trio.open_nursery() as nursery:
            nursery.start_soon(self._look)
        return 42

    async def _look(self) -> None:
        if self.broken:
            Grouped.broken = False
            raise ComponentBroken("in a task of a method")


class Asks(Minion[Number, Nothing]):
    grouped: Grouped

    @minion_step
    async def ask(self) -> None:
        self.context.done = await self.grouped.answer()


async def test_it_breaks_from_a_nursery_of_the_method(
    autojump_clock: MockClock,
) -> None:
    """trio wraps it in a group; the step is interrupted and runs again."""
    Grouped.broken = True
    notices: list[Notice] = []
    async with open_gru(None) as gru:
        gru._bus.listeners.append(notices.append)
        await gru.start_minion(Asks, Outside)
        (workflow,) = await gru.emit(Outside, Number(1))
        assert workflow is not None

        ended = await gru.workflows.wait(workflow)
        await gru.stop()

    assert (ended.state, ended.context) == ("done", Nothing(42))
    assert sum(isinstance(n, ComponentCrashed) for n in notices) == 1


class Fragile(Resource):
    """Breaks once, a second after it was asked."""

    restart = AT_ONCE
    how: ClassVar[str] = ""

    async def answer(self) -> int:
        how, Fragile.how = self.how, ""
        if how == "raises":
            await trio.sleep(1)
            raise ComponentBroken("raises")
        if how == "task":
            self.nursery.start_soon(self._fail)
            await trio.sleep(2)
            return await self.again()
        return 42

    async def again(self) -> int:
        await trio.sleep_forever()
        raise AssertionError

    async def _fail(self) -> None:
        await trio.sleep(1)
        raise OSError("task")


class Between(Resource):
    fragile: Fragile

    async def answer(self) -> int:
        return await self.fragile.answer()


class AsksBetween(Minion[Number, Nothing]):
    between: Between

    @minion_step
    async def ask(self) -> None:
        self.context.done = await self.between.answer()


@pytest.mark.parametrize("how", ["raises", "task"])
async def test_a_step_is_interrupted_when_what_it_needs_breaks_during_a_restart(
    how: str, autojump_clock: MockClock
) -> None:
    """The restart lets the step finish, the crash takes that from it."""
    Fragile.how = how
    notices: list[Notice] = []
    async with open_gru(None, options=GruOptions(grace=60)) as gru:
        gru._bus.listeners.append(notices.append)
        await gru.start_minion(AsksBetween, Outside)
        (workflow,) = await gru.emit(Outside, Number(1))
        assert workflow is not None
        await trio.sleep(0.5)
        began = trio.current_time()
        await gru.restart(Fragile)

        assert trio.current_time() - began < 3, "an error, not a hang"
        ended = await gru.workflows.wait(workflow)
        await gru.stop()

    assert (ended.state, ended.context) == ("done", Nothing(42))
    crashed = [n for n in notices if isinstance(n, ComponentCrashed)]
    assert [(n.during_drain, how in str(n.report)) for n in crashed] == [(True, True)]
    (told,) = [str(n.report) for n in notices if isinstance(n, WorkflowInterrupted)]
    # What waits is cancelled by the crash, what has just raised is judged by it.
    assert told == "None" or f"crashed ({crashed[0].report})" in told
    assert (told == "None") == (how == "task")


class SelfMade(Resource):
    restart = AT_ONCE
    where: ClassVar[str] = ""

    async def startup(self) -> None:
        await self.look("startup")
        if self.where == "nursery":
            self.nursery.start_soon(self.look, "nursery")

    async def run(self) -> None:
        await self.look("run")
        await trio.sleep_forever()

    async def shutdown(self) -> None:
        await self.look("shutdown")

    async def look(self, where: str) -> None:
        if where == self.where:
            SelfMade.where = ""
            raise ComponentBroken(where)


@pytest.mark.parametrize(
    ("where", "expected"),
    [
        ("startup", StartFailed),
        ("run", ComponentCrashed),
        ("nursery", ComponentCrashed),
        ("shutdown", ShutdownFailed),
    ],
)
async def test_a_component_that_breaks_itself_is_reported_once(
    where: str, expected: type, autojump_clock: MockClock
) -> None:
    SelfMade.where = where
    notices: list[Notice] = []
    async with open_gru(None, options=GruOptions(start_patience=60)) as gru:
        gru._bus.listeners.append(notices.append)
        await gru.start(SelfMade)
        await trio.sleep(60)
        await gru.stop()

    bad = StartFailed | ComponentCrashed | ShutdownFailed
    found = [n for n in notices if isinstance(n, bad)]
    assert [type(n) for n in found] == [expected]
    assert str(found[0].report) == f"minions.errors.ComponentBroken: {where}"


class Socket(Resource):
    """Needs a task of its own for closing."""

    service: Service

    async def __aenter__(self) -> None:
        self.closing = trio.Event()
        self._tasks = trio.open_nursery()
        tasks = await self._tasks.__aenter__()
        tasks.start_soon(self._close)

    async def __aexit__(self, *exc: object) -> bool | None:
        self.closing.set()
        return await self._tasks.__aexit__(*exc)  # type: ignore[arg-type]

    async def _close(self) -> None:
        await self.closing.wait()
        log.append(f"closing got {await self.service.answer()}")


async def test_a_task_of_a_shutdown_gets_through(autojump_clock: MockClock) -> None:
    async with open_gru(None) as gru:
        await gru.start(Socket)
        with pytest.raises(DependencyLost):
            async with gru.borrow(Service) as service:
                await service.fail()
        await gru.wait_up(Socket)

        assert log == ["closing got 42"]
        await gru.stop()


class Torn(Resource):
    async def tear(self) -> None:
        with trio.CancelScope() as scope:
            scope.cancel()
            try:
                await trio.sleep_forever()
            except trio.Cancelled as exc:
                cancelled = exc
        raise BaseExceptionGroup("", [cancelled, ComponentBroken("x")])


async def test_a_cancellation_in_the_group_goes_on(autojump_clock: MockClock) -> None:
    notices: list[Notice] = []
    async with open_gru(None) as gru:
        gru._bus.listeners.append(notices.append)
        await gru.start(Torn)
        with pytest.raises(DependencyLost, match="while it was borrowed"):
            async with gru.borrow(Torn) as torn:
                with pytest.raises(BaseExceptionGroup) as caught:
                    await torn.tear()
                await trio.sleep_forever()
        await gru.stop()

    assert isinstance(caught.value.exceptions[0], trio.Cancelled)
    crashed = [n for n in notices if isinstance(n, ComponentCrashed)]
    assert [str(n.report) for n in crashed] == ["minions.errors.ComponentBroken: x"]


def test_a_class_stays_plain_in_a_test() -> None:
    service = Service()

    assert trio.run(service.via) == 42
    with pytest.raises(ComponentBroken):
        trio.run(service.fail)


class Deaf(Resource):
    async def startup(self) -> None:
        with trio.CancelScope(shield=True, deadline=trio.current_time() + 40):
            await trio.sleep_forever()
        log.append("started")

    async def shutdown(self) -> None:
        log.append("shut down")


class DeafManager(Resource):
    async def __aenter__(self) -> None:
        await Deaf.startup(self)  # type: ignore[arg-type]

    async def __aexit__(self, *exc: object) -> None:
        log.append("shut down")


@pytest.mark.parametrize("cls", [Deaf, DeafManager])
async def test_a_startup_that_returns_after_a_stop_is_shut_down(
    cls: type, autojump_clock: MockClock
) -> None:
    async def start() -> None:
        with pytest.raises(NotRunningError):
            await gru.start(cls)

    async with open_gru(None) as gru, trio.open_nursery() as nursery:
        nursery.start_soon(start)
        await trio.sleep(1)
        await gru.stop()

    assert log == ["started", "shut down"]


async def test_a_startup_that_returns_too_late_has_failed_and_is_shut_down(
    autojump_clock: MockClock,
) -> None:
    notices: list[Notice] = []
    async with open_gru(None, options=GruOptions(start_timeout=30)) as gru:
        gru._bus.listeners.append(notices.append)
        with pytest.raises(StartError, match="within start_timeout = 30 s"):
            await gru.start(Deaf)

    assert log == ["started", "shut down"]
    assert sum(isinstance(n, StartFailed) for n in notices) == 1
    assert not any(isinstance(n, ComponentUp) for n in notices)


async def test_a_shutdown_that_fails_after_a_start_too_late_is_noted(
    autojump_clock: MockClock,
) -> None:
    class DeafTwice(Deaf):
        async def shutdown(self) -> None:
            raise OSError("twice")

    notices: list[Notice] = []
    async with open_gru(None, options=GruOptions(start_timeout=30)) as gru:
        gru._bus.listeners.append(notices.append)
        with pytest.raises(StartError, match="within start_timeout = 30 s"):
            await gru.start(DeafTwice)

    failed = [n for n in notices if isinstance(n, StartFailed | ShutdownFailed)]
    assert [type(n) for n in failed] == [StartFailed, ShutdownFailed]
    assert str(failed[1].report) == "OSError: twice"


@resource
class Keyword:
    async def startup(self, *, nursery: trio.Nursery) -> None:
        nursery.start_soon(trio.sleep_forever)
        log.append(f"{len(nursery.child_tasks)} task")


async def test_a_marked_class_may_take_its_nursery_by_keyword(
    autojump_clock: MockClock,
) -> None:
    async with open_gru(None) as gru:
        await gru.start(Keyword)
        await gru.stop()

    assert log == ["1 task"]


@pytest.mark.parametrize(
    ("cls", "words"),
    [
        (Outside, "gru.borrow: .*Outside: expected a resource, found a pipeline; use"),
        (Asks, "gru.borrow: .*Asks: expected a resource, found a minion; use"),
        (3, "3: expected a class"),
    ],
)
async def test_only_a_resource_can_be_borrowed(
    cls: Any, words: str, autojump_clock: MockClock
) -> None:
    async with open_gru(None) as gru:
        with pytest.raises(DefinitionError, match=words):
            async with gru.borrow(cls):
                pytest.fail("nothing to borrow")
        assert not gru.snapshot().components


class Overstays(Minion[Number, Nothing]):
    @minion_step
    async def overstay(self) -> None:
        with trio.CancelScope(shield=True, deadline=trio.current_time() + 30):
            await trio.sleep_forever()


async def test_a_step_that_overstays_is_named_with_its_stack(
    autojump_clock: MockClock,
) -> None:
    notices: list[Notice] = []
    async with open_gru(None, options=GruOptions(grace=2)) as gru:
        gru._bus.listeners.append(notices.append)
        await gru.start_minion(Overstays, Outside)
        await gru.emit(Outside, Number(1))
        await gru.stop()

    (stuck,) = [n for n in notices if isinstance(n, ComponentStuck)]
    assert stuck.component.endswith("Overstays")
    assert "in overstay" in stuck.stacks


@pytest.mark.parametrize(
    ("child", "printed"),
    [
        ("stuck.py", ["waiting", "other is released"]),
        ("stuck_first.py", ["stuck", "low is released"]),
    ],
)
def test_the_process_ends_when_only_what_is_stuck_is_left(
    child: str, printed: list[str], tmp_path: Path
) -> None:
    program = Path(__file__).parent / "children" / child

    done = subprocess.run(
        [sys.executable, program, tmp_path / "state"],
        capture_output=True,
        text=True,
        timeout=30,
        check=False,
    )

    assert done.returncode == 70, done.stderr
    assert done.stdout.splitlines() == printed


class ShutsDown(Resource):
    async def shutdown(self) -> None:
        await trio.sleep(0.05)
        log.append("down")


class Patient(Minion[Number, Nothing]):
    seconds: ClassVar[float] = 0.05

    @minion_step
    async def wait(self) -> None:
        await trio.sleep(self.seconds)
        log.append("finished")


async def interrupted(times: int) -> str:
    async with open_gru(None) as gru:
        await gru.start(ShutsDown)
        await gru.start_minion(Patient, Outside)
        await gru.emit(Outside, Number(1))
        for _ in range(times):
            signal.raise_signal(signal.SIGINT)
            await trio.sleep(0.01)
        await trio.sleep_forever()
    return "unreachable"


async def stopped(times: int) -> str:
    with trio.CancelScope() as scope:
        async with open_gru(None) as gru:
            await gru.start_minion(Patient, Outside)
            await gru.emit(Outside, Number(1))
            for _ in range(times):
                signal.raise_signal(signal.SIGTERM)
                await trio.sleep(0.01)
    return f"went on, {scope.cancelled_caught}"


def test_the_first_signal_stops_in_order(capsys: pytest.CaptureFixture[str]) -> None:
    Patient.seconds, count = 0.05, SignalCount()

    assert run(stopped, 1, signals=count) == "went on, False"

    assert log == ["finished"]
    assert (count.count, count.last) == (1, signal.SIGTERM)
    assert "stopping in order" in capsys.readouterr().err


def test_the_second_signal_cuts_over() -> None:
    Patient.seconds = 3600

    assert run(stopped, 2) == "went on, False"

    assert log == []


@pytest.mark.parametrize("times", [1, 2])
def test_a_body_that_only_waits_is_left_once_all_has_stopped(times: int) -> None:
    """It may finish what it does until then: the answer of a workflow, say."""
    Patient.seconds = 0.05

    async def main() -> str:
        async with open_gru(None) as gru:
            await gru.start(ShutsDown)
            for _ in range(times):
                signal.raise_signal(signal.SIGINT)
                await trio.sleep(0.01)
            try:
                await trio.sleep_forever()
            finally:
                log.append("left")
        await trio.lowlevel.checkpoint()
        return "behind the block"

    assert run(main, say=log.append) == "behind the block"

    assert log[0] == "SIGINT: stopping in order"
    assert log[-2:] == ["down", "left"]


def test_a_body_that_asks_for_the_stop_goes_on() -> None:
    async def main() -> None:
        async with open_gru(None) as gru:
            await gru.start(ShutsDown)
            await gru.stop()
            await trio.sleep(0.01)
            log.append("goes on")

    run(main)

    assert log == ["down", "goes on"]


class Exits(Minion[Number, Nothing]):
    @minion_step
    async def leave(self) -> None:
        raise SystemExit(3)


async def test_an_exit_of_a_step_leaves_a_body_that_only_waits(
    autojump_clock: MockClock,
) -> None:
    with pytest.raises(SystemExit, match="3"), trio.fail_after(60):
        async with open_gru(None) as gru:
            await gru.start(ShutsDown)
            await gru.start_minion(Exits, Outside)
            await gru.emit(Outside, Number(1))
            await trio.sleep_forever()

    assert log == ["down"]


def test_the_third_signal_raises_a_plain_keyboard_interrupt() -> None:
    Patient.seconds = 3600

    with pytest.raises(KeyboardInterrupt) as caught:
        run(interrupted, 3, say=log.append)

    assert log[-2].startswith("SIGINT: giving up; waits for")
    assert log[-1] == "down"
    assert not isinstance(caught.value, BaseExceptionGroup)


def test_without_a_gru_a_signal_interrupts_at_once() -> None:
    async def main() -> None:
        signal.raise_signal(signal.SIGINT)
        await trio.sleep_forever()

    with pytest.raises(KeyboardInterrupt):
        run(main)


def test_ctrl_c_without_minions_run_stops_in_order() -> None:
    """Plain trio: the interrupt ends the body, Gru drains, and it comes out."""
    Patient.seconds = 0.05

    async def main() -> None:
        async with open_gru(None) as gru:
            await gru.start_minion(Patient, Outside)
            await gru.emit(Outside, Number(1))
            signal.raise_signal(signal.SIGINT)
            await trio.sleep_forever()

    with pytest.raises(KeyboardInterrupt):
        trio.run(main)
    assert log == ["finished"]


def test_an_error_comes_out_as_it_was_raised() -> None:
    """At once, before anything waits: no group, and its cause is still there."""
    cause = OSError("why")

    async def main() -> None:
        raise StartError("it did not come up") from cause

    with pytest.raises(StartError) as caught:
        run(main)

    assert caught.value.__cause__ is cause


def test_a_group_of_the_programs_own_stays_one() -> None:
    async def main() -> None:
        raise ExceptionGroup("mine", [ValueError()])

    with pytest.raises(ExceptionGroup, match="mine"):
        run(main)


def test_a_program_that_never_waits_has_a_result() -> None:
    async def main() -> int:
        return 3

    assert run(main) == 3


class ShutsDownSlowly(Resource):
    async def shutdown(self) -> None:
        await trio.sleep(8)
        log.append("down")


def test_ctrl_c_again_and_again_leaves_in_order() -> None:
    """Plain trio delivers each one to the main task, wherever that waits."""

    async def impatient() -> None:
        for _ in range(4):
            await trio.sleep(1)
            signal.raise_signal(signal.SIGINT)

    async def main() -> None:
        async with open_gru(None) as gru:
            await gru.start(ShutsDownSlowly)
            trio.lowlevel.spawn_system_task(impatient)
            await trio.sleep_forever()

    with pytest.raises(KeyboardInterrupt):
        trio.run(main, clock=MockClock(autojump_threshold=0))

    assert log == ["down"]


def test_a_signal_stops_the_grus_of_other_threads_too() -> None:
    opened, ends = threading.Event(), list[str]()

    async def elsewhere() -> None:
        async with open_gru(None) as gru:
            orchestration = await gru.start_minion(Patient, Outside)
            opened.set()
            with trio.fail_after(10):
                ends.append(await orchestration.wait())

    async def main() -> None:
        async with open_gru(None) as gru:
            orchestration = await gru.start_minion(Patient, Outside)
            opened.wait(10)
            signal.raise_signal(signal.SIGTERM)
            with trio.fail_after(10):
                ends.append(await orchestration.wait())

    thread = threading.Thread(target=trio.run, args=(elsewhere,))
    thread.start()
    run(main)

    thread.join(10)
    assert ends == ["stopped", "stopped"]


@pytest.mark.parametrize("options", [{"keep": 1}, {}, GruOptions, 0])
async def test_options_of_another_type_are_refused(
    tmp_path: Path, options: Any
) -> None:
    with pytest.raises(ConfigError, match="expected options of type GruOptions"):
        async with open_gru(tmp_path / "state", options=options):
            pass

    assert not (tmp_path / "state").exists()
