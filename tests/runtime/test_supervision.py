"""Components of a system: injected, guarded, interrupted, ended in order."""

from __future__ import annotations

from collections.abc import AsyncIterator
from contextlib import asynccontextmanager
from pathlib import Path
from typing import Annotated, ClassVar, Self

import attrs
import pytest
import trio
from trio.testing import MockClock, wait_all_tasks_blocked

from minions import (
    AlreadyRunningError,
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
    RestartLimitError,
    StartError,
    minion_step,
    open_gru,
    resource,
)

State = Path | None
AT_ONCE = Restart(backoff=Backoff(base=0, cap=0))

log: list[str] = []


@pytest.fixture(autouse=True)
def forget() -> None:
    log.clear()
    Database.broken = False


@attrs.frozen
class Number:
    value: int


@attrs.define
class Nothing:
    done: int = 0


class Outside(Pipeline[Number]):
    pass


class Database(Resource):
    restart = AT_ONCE
    broken: ClassVar[bool] = False

    async def startup(self) -> None:
        log.append("database up")

    async def shutdown(self) -> None:
        log.append("database down")

    async def store(self, value: int) -> None:
        await trio.lowlevel.checkpoint()
        if self.broken:
            Database.broken = False
            raise ComponentBroken("the connection is gone")
        log.append(f"stored {value}")


@attrs.frozen
class Cache(Resource):
    database: Database

    async def startup(self) -> None:
        log.append("cache up")

    async def shutdown(self) -> None:
        await self.database.store(-1)
        log.append("cache down")

    async def put(self, value: int) -> None:
        await self.database.store(value)


class Writer(Minion[Number, Nothing]):
    cache: Cache

    @minion_step
    async def write(self) -> None:
        await self.cache.put(self.event.value)

    @minion_step
    async def finish(self) -> None:
        self.context.done += 1


async def test_resources_start_before_and_end_after_their_users(
    state: State, autojump_clock: MockClock
) -> None:
    async with open_gru(state) as gru:
        await gru.start_minion(Writer, Outside)
        (workflow_id,) = await gru.emit(Outside, Number(1))
        assert workflow_id is not None
        await gru.workflows.wait(workflow_id)
        await gru.stop()

    assert log == [
        "database up",
        "cache up",
        "stored 1",
        "stored -1",
        "cache down",
        "database down",
    ]


async def test_a_broken_resource_interrupts_and_the_step_runs_again(
    state: State, autojump_clock: MockClock
) -> None:
    async with open_gru(state) as gru:
        await gru.start_minion(Writer, Outside)
        Database.broken = True
        (workflow_id,) = await gru.emit(Outside, Number(1))
        assert workflow_id is not None

        answer = await gru.workflows.wait(workflow_id)

        assert (answer.state, answer.context.done) == ("done", 1)
        epochs = {c.identity: c.epoch for c in gru.snapshot().components.values()}
        assert sorted(epochs.values()) == [1, 2, 2, 2], "the pipeline stays up"
        await gru.stop()
    assert log.count("stored 1") == 1


class Flaky(Resource):
    restart = AT_ONCE
    tell: ClassVar[trio.Event]
    first: ClassVar[str] = "step"

    async def run(self) -> None:
        await self.tell.wait()
        Flaky.tell = trio.Event()
        if self.first == "step":
            await trio.sleep(0.02)
        raise OSError("lost")

    async def ask(self) -> None:
        if self.first == "step":
            self.tell.set()
            raise ConnectionResetError("the step hears first")
        self.tell.set()
        await trio.sleep_forever()


class Asker(Minion[Number, Nothing]):
    flaky: Flaky
    asked: ClassVar[int] = 0

    @minion_step
    async def ask(self) -> None:
        Asker.asked += 1
        if self.asked == 1:
            await self.flaky.ask()
        log.append(f"attempt {self.workflow.attempt}")


@pytest.mark.parametrize("first", ["step", "resource"])
async def test_who_hears_first_makes_no_difference(
    state: State, first: str, autojump_clock: MockClock
) -> None:
    """A step that loses what it needs was interrupted, whatever it raised."""
    Flaky.tell, Flaky.first, Asker.asked = trio.Event(), first, 0
    async with open_gru(state) as gru:
        await gru.start_minion(Asker, Outside)
        (workflow_id,) = await gru.emit(Outside, Number(1))
        assert workflow_id is not None

        answer = await gru.workflows.wait(workflow_id)

        assert answer.state == "done"
        assert Asker.asked == 2
        assert log == ["attempt 1"], "an interruption is no attempt"
        await gru.stop()


async def test_a_step_that_fails_alone_has_failed(
    state: State, autojump_clock: MockClock
) -> None:
    Flaky.tell, Flaky.first, Asker.asked = trio.Event(), "step", 0

    class Alone(Flaky):
        async def run(self) -> None:
            await trio.sleep_forever()

    class AskAlone(Minion[Number, Nothing]):
        flaky: Alone

        @minion_step
        async def ask(self) -> None:
            await self.flaky.ask()

    AskAlone.__annotations__["flaky"] = Alone
    AskAlone.__minions_id__ = "ask-alone"  # type: ignore[attr-defined]
    async with open_gru(None) as gru:
        await gru.start_minion(AskAlone, Outside)
        (workflow_id,) = await gru.emit(Outside, Number(1))
        assert workflow_id is not None

        answer = await gru.workflows.wait(workflow_id)

        assert answer.reason.startswith("failed: ConnectionResetError")
        await gru.stop()


class Brittle(Resource):
    """Fails when told to, also while it drains."""

    restart = AT_ONCE
    fail: ClassVar[trio.Event]

    async def run(self) -> None:
        await self.fail.wait()
        Brittle.fail = trio.Event()
        raise OSError("lost")

    async def ask(self) -> None:
        log.append("asked")
        await trio.sleep(7)


class Patient(Minion[Number, Nothing]):
    brittle: Brittle

    @minion_step
    async def ask(self) -> None:
        try:
            await trio.sleep(self.event.value)
            await self.brittle.ask()
        finally:
            log.append(f"{self.event.value} left")


@pytest.mark.parametrize("stop_first", ["minion", "resource"])
async def test_a_crash_during_a_drain_interrupts_who_waits_for_it(
    stop_first: str, state: State, autojump_clock: MockClock
) -> None:
    """A soft drain lets steps end; what has crashed meanwhile lets none of them."""
    Brittle.fail = trio.Event()
    began = trio.current_time()
    async with open_gru(state) as gru:
        await gru.start_minion(Patient, Outside)
        ids = [(await gru.emit(Outside, Number(value)))[0] for value in (0, 2)]
        async with trio.open_nursery() as nursery:
            await trio.sleep(0.5)
            first = Patient if stop_first == "minion" else Brittle
            nursery.start_soon(gru.restart, first)
            await trio.sleep(0.5)

            Brittle.fail.set()
            await trio.sleep(0.01)

            assert sorted(log[:3]) == ["0 left", "2 left", "asked"]
            assert trio.current_time() - began < 1.1
        for workflow_id in ids:
            assert workflow_id is not None
            assert (await gru.workflows.wait(workflow_id)).state == "done"
        await gru.stop()


async def test_a_call_into_what_crashed_during_its_drain_fails_at_once(
    autojump_clock: MockClock,
) -> None:
    """A dependent that is still there may shut down with it, and nothing else."""

    class Slow(Resource):
        brittle: Brittle
        nursery: trio.Nursery

        async def run(self) -> None:
            while True:
                await trio.sleep(0.1)
                try:
                    await self.brittle.ask()
                except DependencyLost:
                    log.append("lost")
                    await trio.sleep_forever()

        async def shutdown(self) -> None:
            await trio.sleep(3)

    class Above(Resource):
        slow: Slow

        async def shutdown(self) -> None:
            await trio.sleep(8)

    Slow.__annotations__["brittle"] = Brittle
    Above.__annotations__["slow"] = Slow
    Brittle.fail = trio.Event()
    async with open_gru(None) as gru:
        await gru.start(Above)
        async with trio.open_nursery() as nursery:
            nursery.start_soon(gru.restart, Brittle)
            await trio.sleep(1)
            Brittle.fail.set()
            await trio.sleep(6.5)

            assert log == ["asked", "lost"]
        await gru.stop()


class Client:
    pass


@resource
class Marked:
    async def startup(self, nursery: trio.Nursery) -> None:
        nursery.start_soon(self.beat)

    async def beat(self) -> None:
        log.append("beat")
        await trio.sleep_forever()


class Managed(Resource):
    async def __aenter__(self) -> Self:
        log.append("entered")
        return self

    async def __aexit__(self, *_: object) -> None:
        log.append("left")


@attrs.define
class Settings:
    limit: int = 3


class Everything(Minion[Number, Nothing]):
    config: Settings
    marked: Marked
    managed: Managed
    client: Annotated[Client, "eu"]
    missing: Database | None

    @minion_step
    async def look(self) -> None:
        assert isinstance(self.client, Client)
        assert isinstance(self.marked, Marked)
        assert self.missing is not None
        log.append(f"limit {self.config.limit}")


@asynccontextmanager
async def make_client() -> AsyncIterator[Client]:
    log.append("client made")
    yield Client()
    log.append("client closed")


async def test_all_kinds_of_resources_are_injected(
    state: State, autojump_clock: MockClock
) -> None:
    async with open_gru(state) as gru:
        gru.provide(Client, make_client, name="eu")
        await gru.start_minion(Everything, Outside, config={"limit": 5})
        (workflow_id,) = await gru.emit(Outside, Number(1))
        assert workflow_id is not None
        assert (await gru.workflows.wait(workflow_id)).state == "done"
        await gru.stop()

    assert {"beat", "entered", "client made", "limit 5"} <= set(log)
    assert {"left", "client closed", "database down"} <= set(log)


async def test_a_config_that_does_not_fit_is_refused(
    folder: Path, autojump_clock: MockClock
) -> None:
    async with open_gru(folder) as gru:
        gru.provide(Client, make_client, name="eu")
        with pytest.raises(ConfigError, match="did you mean 'limit'"):
            await gru.start_minion(Everything, Outside, config={"limits": 5})
        with pytest.raises(ConfigError, match="expected a resource or a pipeline"):
            gru.configure(Everything, {"limit": 5})
        assert gru.snapshot().components == {}


@attrs.frozen
class Tuning:
    name: str
    limit: int = 3


@attrs.frozen
class Defaults:
    limit: int = 3
    symbols: tuple[str, ...] = ()


class Tuned(Resource):
    config: Tuning


class ByDefault(Resource):
    config: Defaults

    async def startup(self) -> None:
        log.append(repr(self.config))


async def test_a_config_without_a_source_has_its_defaults(
    autojump_clock: MockClock,
) -> None:
    async with open_gru(None) as gru:
        await gru.start(ByDefault)
        with pytest.raises(ConfigError, match=r"Tuned: expected .* Tuning, found none"):
            await gru.start(Tuned)
        await gru.stop()

    assert log == ["Defaults(limit=3, symbols=())"]


async def test_text_is_no_list_of_letters(autojump_clock: MockClock) -> None:
    async with open_gru(None) as gru:
        gru.configure(ByDefault, {"symbols": "AAPL"})
        with pytest.raises(ConfigError, match=r"'symbols': .* found 'AAPL'; put"):
            await gru.start(ByDefault)


class NeverUp(Resource):
    async def startup(self) -> None:
        raise ConnectionError("nobody there")


class NeedsIt(Minion[Number, Nothing]):
    database: Database
    never: NeverUp

    @minion_step
    async def never_run(self) -> None: ...


async def test_a_failed_start_leaves_nothing(
    folder: Path, autojump_clock: MockClock
) -> None:
    async with open_gru(folder) as gru:
        with pytest.raises(StartError, match="nobody there") as caught:
            await gru.start_minion(NeedsIt, Outside)
        await trio.sleep(1)

        assert isinstance(caught.value.__cause__, ConnectionError)
        assert gru.snapshot().components == {}
        assert gru.snapshot().orchestrations == {}
    assert log == ["database up", "database down"]


class LateManaged(Resource):
    async def __aenter__(self) -> Self:
        with trio.CancelScope(shield=True):
            await trio.sleep(5)
        log.append("entered")
        return self

    async def __aexit__(self, *_: object) -> None:
        log.append("left")


class LateStarted(Resource):
    async def startup(self) -> None:
        with trio.CancelScope(shield=True):
            await trio.sleep(5)
        log.append("entered")

    async def shutdown(self) -> None:
        log.append("left")


@pytest.mark.parametrize("cls", [LateManaged, LateStarted])
@pytest.mark.parametrize("why", ["timeout", "cancel"])
async def test_a_startup_that_has_returned_is_shut_down(
    cls: type, why: str, autojump_clock: MockClock
) -> None:
    """Also if nobody waits for it any more."""
    options = GruOptions(start_timeout=2 if why == "timeout" else 30)
    with trio.move_on_after(1 if why == "cancel" else 100):
        async with open_gru(None, options=options) as gru:
            with pytest.raises(StartError, match="start_timeout"):
                await gru.start(cls)

    assert log == ["entered", "left"]


async def test_patience_tries_again(autojump_clock: MockClock) -> None:
    class Late(Resource):
        tries: ClassVar[int] = 0

        async def startup(self) -> None:
            Late.tries += 1
            if Late.tries < 4:
                raise ConnectionError("not yet")

    async with open_gru(None, options=GruOptions(start_patience=60)) as gru:
        await gru.start(Late)
        assert Late.tries == 4
        await gru.stop()


async def test_the_same_three_twice_is_refused(
    state: State, autojump_clock: MockClock
) -> None:
    async with open_gru(state) as gru:
        first = await gru.start_minion(Writer, Outside)
        with pytest.raises(AlreadyRunningError, match=first.id):
            await gru.start_minion(Writer, Outside)
        second = await gru.start_minion(Writer, Outside, name="other")

        assert second.id != first.id
        ids = await gru.emit(Outside, Number(1))
        assert len(ids) == 2
        await gru.stop()


async def test_stopping_one_keeps_what_others_use(
    state: State, autojump_clock: MockClock
) -> None:
    async with open_gru(state) as gru:
        first = await gru.start_minion(Writer, Outside)
        second = await gru.start_minion(Writer, Outside, name="other")

        await first.stop()
        assert first.status == "stopped"
        assert "database down" not in log
        assert len(await gru.emit(Outside, Number(2))) == 1
        await second.stop()
        await trio.sleep(1)

        assert log[-1] == "database down"
        assert gru.snapshot().components == {}


async def test_a_spent_budget_ends_the_block_with_its_error(
    state: State, autojump_clock: MockClock
) -> None:
    class Doomed(Resource):
        restart = Restart(max_restarts=1, backoff=Backoff(base=0, cap=0))

        async def run(self) -> None:
            await trio.sleep(1)
            raise ValueError("again")

    with pytest.raises(RestartLimitError, match="again"):
        async with open_gru(state) as gru:
            await gru.start(Doomed)


async def test_a_borrower_is_cancelled_when_it_loses_its_lease(
    autojump_clock: MockClock,
) -> None:
    async with open_gru(None) as gru:
        with pytest.raises(DependencyLost):
            async with gru.borrow(Database) as database:
                assert isinstance(database, Database)
                Database.broken = True
                with pytest.raises(DependencyLost):
                    await database.store(1)
                await trio.sleep_forever()
        async with gru.borrow(Database) as database:
            await database.store(2)
    assert log[-2:] == ["stored 2", "database down"]


class Starter(Minion[Number, Nothing]):
    grus: ClassVar[list[object]] = []

    @minion_step
    async def start(self) -> None:
        gru = self.grus[0]
        assert hasattr(gru, "start_minion")
        await gru.start_minion(Writer, Outside, name="from-inside")


class Stopper(Minion[Number, Nothing]):
    @minion_step
    async def stop(self) -> None:
        gru = Starter.grus[0]
        assert hasattr(gru, "stop")
        await gru.stop()
        log.append("asked")


class Single(Pipeline[Number]):
    pass


async def test_all_may_be_asked_from_inside(
    state: State, autojump_clock: MockClock
) -> None:
    async with open_gru(state) as gru:
        Starter.grus[:] = [gru]
        await gru.start_minion(Starter, Single)
        await gru.start_minion(Stopper, Outside)
        (one,) = await gru.emit(Single, Number(1))
        assert one is not None
        assert (await gru.workflows.wait(one)).state == "done"
        assert "cache up" in log
        await gru.emit(Outside, Number(3))

    assert "asked" in log
    assert log[-1] == "database down"


async def test_an_exception_of_the_body_drains(
    state: State, autojump_clock: MockClock
) -> None:
    class Slow(Minion[Number, Nothing]):
        @minion_step
        async def slow(self) -> None:
            await trio.sleep(5)
            log.append("finished")

    Slow.__minions_id__ = "slow"  # type: ignore[attr-defined]
    with pytest.raises(LookupError, match="mine"):
        async with open_gru(state) as gru:
            await gru.start_minion(Slow, Outside)
            await gru.emit(Outside, Number(1))
            raise LookupError("mine")
    assert log == ["finished"]


async def test_an_outer_cancel_cuts_over_and_saves(
    folder: Path, autojump_clock: MockClock
) -> None:
    class Slow(Minion[Number, Nothing]):
        database: Database

        @minion_step
        async def slow(self) -> None:
            await trio.sleep(5)
            log.append("finished")

    Slow.__minions_id__ = "slow"  # type: ignore[attr-defined]
    Slow.__annotations__["database"] = Database
    began = trio.current_time()
    with trio.move_on_after(1):
        async with open_gru(folder) as gru:
            await gru.start_minion(Slow, Outside)
            await gru.emit(Outside, Number(1))
            await trio.sleep_forever()
    assert trio.current_time() - began < 2
    assert log == ["database up", "database down"]

    async with open_gru(folder) as gru:
        await gru.start_minion(Slow, Outside)
        await trio.sleep(6)
        await gru.stop()
    assert "finished" in log


async def test_nothing_starts_on_a_gru_that_stops(autojump_clock: MockClock) -> None:
    async with open_gru(None) as gru:
        await gru.stop()
        with pytest.raises(NotRunningError):
            await gru.start_minion(Writer, Outside)


async def test_nothing_restarts_on_a_gru_that_stops(autojump_clock: MockClock) -> None:
    class Slow(Resource):
        async def shutdown(self) -> None:
            await trio.sleep(5)

    with trio.fail_after(100):
        async with open_gru(None) as gru:
            await gru.start(Slow)
            gru.ask_stop()
            await trio.sleep(1)
            with pytest.raises(NotRunningError, match="stopping"):
                await gru.restart(Slow)


async def test_a_start_that_meets_the_stop_revives_nothing(
    autojump_clock: MockClock,
) -> None:
    """A start looks for what is there again after each of its waits."""

    class Slow(Resource):
        async def shutdown(self) -> None:
            await trio.sleep(5)

    with trio.fail_after(100):
        async with open_gru(None) as gru:
            await gru.start(Slow)
            reading = gru._components.reader.read([Slow], {})
            gru.ask_stop()
            await trio.sleep(1)
            gru._components.add_resources(reading)


async def test_wrong_classes_are_refused(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, autojump_clock: MockClock
) -> None:
    broken = tmp_path / "module_that_raises.py"
    broken.write_text("raise LookupError('while it is imported')")
    monkeypatch.syspath_prepend(tmp_path)
    async with open_gru(None) as gru:
        with pytest.raises(DefinitionError, match="expected a minion"):
            await gru.start_minion(Outside, Writer)
        with pytest.raises(DefinitionError, match="expected a resource"):
            await gru.start(Outside)
        with pytest.raises(DefinitionError, match="expected a resource"):
            async with gru.borrow(Writer):
                pass
        for name in (
            "nowhere:Thing",
            ":Thing",
            "..above:Thing",
            "trio:Thing",
            f"{broken.stem}:Thing",
        ):
            with pytest.raises(DefinitionError, match=f"{name}: expected .*; see"):
                await gru.start_minion(name, Outside)
        with pytest.raises(DefinitionError, match=r"found a builtin\w+; name"):
            await gru.start_minion("time:sleep", Outside)


async def test_the_snapshot_draws_the_tree(autojump_clock: MockClock) -> None:
    async with open_gru(None) as gru:
        await gru.start_minion(Writer, Outside)
        await wait_all_tasks_blocked()

        lines = str(gru.snapshot()).splitlines()

        module = __name__
        assert lines == [
            f"{module}:Database  resource up #1",
            f"  {module}:Cache  resource up #1",
            f"    {module}:Writer  minion up #1",
            f"{module}:Outside  pipeline up #1",
        ]
        assert gru.snapshot().healthy
        await gru.stop()
