"""Trials of a user's components: what they draw, what they find, what they need."""

from __future__ import annotations

import logging
import subprocess
import threading
from collections.abc import Callable, Iterator
from pathlib import Path

import attrs
import hypothesis
import pytest
import trio
from hypothesis import HealthCheck, Phase, example, given, seed, settings

from minions import DependencyLost, Gru, GruOptions, Minion, Pipeline, Resource
from minions import minion_step as step
from minions.notices import (
    ComponentBackoff,
    ComponentDraining,
    ComponentEnded,
    ComponentFailed,
    ComponentNotice,
    ComponentReleased,
    ComponentStarting,
    ComponentUp,
)
from minions.supervise.incarnation import Incarnation
from minions.testing import (
    Order,
    StandIn,
    Trial,
    check_notices,
    run_trial,
    trials,
)
from minions.testing import trying as trying_module
from minions.testing.stand_ins import Watch

QUIET = [HealthCheck.too_slow, HealthCheck.data_too_large]


@pytest.fixture(autouse=True)
def silence() -> Iterator[None]:
    """Keep the log of thousands of crashes out of the report."""
    logging.disable(logging.CRITICAL)
    yield
    logging.disable(logging.NOTSET)


@pytest.fixture
def watches(monkeypatch: pytest.MonkeyPatch) -> list[Watch]:
    """Collect what the trials of a test have observed."""
    made: list[Watch] = []

    def make() -> Watch:
        made.append(Watch())
        return made[-1]

    monkeypatch.setattr(trying_module, "Watch", make)
    return made


# Graphs of real classes.


# Four in a row: the second still runs, and calls, while the upper two shut down.
CHAIN = Trial(
    (),
    tuple(
        StandIn(needs=(n - 1,) if n else (), uses=(), startup=0, shutdown=0.3)
        for n in range(4)
    ),
    (Order(1.0, "crash", 0),),
)


def test_calls_into_what_has_crashed_fail_fast(watches: list[Watch]) -> None:
    """No hang: they are refused without the clock moving, except at a shutdown."""

    alone = StandIn(needs=(), uses=(), startup=0.0, shutdown=0.0)
    again = tuple(Order(at=0.5, what="crash", target=0) for _ in range(4))

    @settings(max_examples=50, deadline=None, suppress_health_check=QUIET)
    @given(trial=trials(max_stand_ins=6))
    @example(trial=Trial(resources=(), stand_ins=(alone,), orders=again))
    @example(trial=CHAIN)  # in which some are refused, whatever is drawn
    def search(trial: Trial) -> None:
        run_trial(trial)

    search()

    assert any(watch.refused for watch in watches)


def test_a_call_is_refused_while_others_still_leave(watches: list[Watch]) -> None:
    run_trial(CHAIN)

    assert watches[0].refused


@pytest.mark.parametrize("number", range(3))
def test_a_guard_that_lets_calls_through_is_found(
    number: int, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(Incarnation, "crashed", property(lambda _: False))

    @seed(number)
    @settings(
        max_examples=200,
        deadline=None,
        database=None,
        phases=[Phase.generate],
        suppress_health_check=list(HealthCheck),
        verbosity=hypothesis.Verbosity.quiet,
    )
    @given(trial=trials(max_stand_ins=6))
    def search(trial: Trial) -> None:
        run_trial(trial)

    with pytest.raises(AssertionError, match="went through, which had crashed"):
        search()


# A user's own.


@attrs.frozen
class Tick:
    number: int


@attrs.define
class Memory:
    last: int = 0


class Ticks(Pipeline[Tick]):
    number = 0

    async def produce_event(self) -> Tick:
        await trio.sleep(0.5)
        self.number += 1
        return Tick(self.number)


class Database(Resource):
    async def store(self, number: int) -> None:
        await trio.sleep(0.02)


class Cache(Resource):
    database: Database

    async def put(self, number: int) -> None:
        await self.database.store(number)


class Keeper(Minion[Tick, Memory]):
    cache: Cache

    @step
    async def keep(self) -> None:
        await self.cache.put(self.event.number)
        self.context.last = self.event.number


async def start_keeper(gru: Gru) -> None:
    await gru.start_minion(Keeper, Ticks)


@settings(max_examples=40, deadline=None, suppress_health_check=QUIET)
@given(trial=trials(Database, Cache))
def test_a_system_keeps_the_rules(trial: Trial) -> None:
    run_trial(trial, start_keeper)


QUIET_TRIAL = Trial((), (StandIn((), (), 0, 0),), ())


class Stubborn(Resource):
    async def shutdown(self) -> None:
        with trio.CancelScope(shield=True):
            await trio.sleep(100)


class Leaking(Resource):
    async def startup(self) -> None:
        trio.lowlevel.spawn_system_task(trio.sleep_forever, name="a leak")


class Abandoning(Resource):
    over = threading.Event()

    async def run(self) -> None:
        await trio.to_thread.run_sync(self.over.wait, abandon_on_cancel=True)


class Doubtful(Resource):
    async def startup(self) -> None:
        raise AssertionError("a doubt")


class NeverAgain(Resource):
    lives = 0

    async def startup(self) -> None:
        NeverAgain.lives += 1
        if self.lives > 1:
            raise OSError("once was enough")


def trial_of(*resources: type, orders: tuple[Order, ...] = ()) -> Trial:
    return attrs.evolve(QUIET_TRIAL, resources=resources, orders=orders)


@pytest.mark.parametrize(
    ("trial", "said"),
    [
        (trial_of(Stubborn), r"stuck:\n.*Stubborn at shutdown"),
        (trial_of(Leaking), "tasks are left: .*a leak"),
        (trial_of(NeverAgain, orders=(Order(1, "crash", 0),)), "at rest"),
    ],
    ids=["stuck", "task", "down"],
)
def test_a_component_that_breaks_a_rule_is_found(trial: Trial, said: str) -> None:
    NeverAgain.lives = 0

    with pytest.raises(AssertionError, match=said):
        run_trial(trial)


def test_a_thread_that_is_left_at_work_is_found() -> None:
    try:
        with pytest.raises(AssertionError, match="1 threads are left at work"):
            run_trial(trial_of(Abandoning))
    finally:
        Abandoning.over.set()


def test_an_assertion_of_a_component_fails_the_trial() -> None:
    async def start(gru: Gru) -> None:
        with pytest.raises(Exception, match="a doubt"):
            await gru.start(Doubtful)

    with pytest.raises(AssertionError, match="a doubt"):
        run_trial(QUIET_TRIAL, start)


def test_a_cancellation_may_take_the_graces_of_a_path_and_no_more() -> None:
    class Slow(Resource):
        async def shutdown(self) -> None:
            await trio.sleep(100)

    orders = (Order(1, "cancel", 0),)

    run_trial(trial_of(Slow, orders=orders), options=GruOptions(grace=3))


def test_what_was_noted_is_returned() -> None:
    notices = run_trial(CHAIN)

    lives = [n.component for n in notices if isinstance(n, ComponentStarting)]
    assert lives == [f"stand-in-{n}" for n in (0, 1, 2, 3)] * 2


@pytest.mark.parametrize("what", ["cancel", "sigint", "stop", "restart"])
def test_each_order_is_carried_out(what: str) -> None:
    order = Order(1, what, 3)  # type: ignore[arg-type]

    run_trial(attrs.evolve(CHAIN, orders=(order,)))


def test_what_start_raises_comes_out() -> None:
    async def start(_: Gru) -> None:
        raise DependencyLost("mine")

    with pytest.raises(DependencyLost, match="mine"):
        run_trial(QUIET_TRIAL, start)


def test_without_hypothesis_only_drawing_is_missing(
    run_python: Callable[[Path], subprocess.CompletedProcess[str]], tmp_path: Path
) -> None:
    program = tmp_path / "main.py"
    program.write_text(
        "import sys\n"
        "sys.modules['hypothesis'] = None\n"
        "import minions, minions.testing as t\n"
        "t.run_trial(t.Trial((), (t.StandIn((), (), 0, 0),), ()))\n"
        "try:\n"
        "    t.trials()\n"
        "except ImportError as exc:\n"
        "    print(exc)\n"
    )

    result = run_python(program)

    assert (result.returncode, result.stderr) == (0, "")
    assert "expected hypothesis to be installed" in result.stdout


# The rules, one by one.  b needs a.


def noted(text: str) -> Iterator[ComponentNotice]:
    """Read notices: "a1+" starts, "a1^" is up, and so on."""
    for word in text.split():
        name, epoch, what = word[0], int(word[1]), word[2:]
        if what == "+":
            yield ComponentStarting(component=name, epoch=epoch)
        elif what == "^":
            yield ComponentUp(component=name, epoch=epoch)
        elif what == "!":
            cause = f"{name}#{epoch} crashed: ValueError"
            yield ComponentDraining(component=name, epoch=epoch, cause=cause)
        elif what.startswith("<"):
            cause = f"dependency {what[1]}#{what[2]} crashed: ValueError"
            yield ComponentDraining(component=name, epoch=epoch, cause=cause)
        elif what == "-":
            yield ComponentReleased(component=name, epoch=epoch)
        elif what == "$":
            yield ComponentBackoff(component=name, epoch=epoch, delay=1, charged=True)
        elif what == "x":
            yield ComponentFailed(component=name, epoch=epoch, cause="")
        else:
            assert what == "."
            yield ComponentEnded(component=name, epoch=epoch, cause="")


GOOD = "a1+ a1^ b1+ b1^ a1! b1<a1 b1- a1- a1$ a2+ a2^ b2+ b2! b2- b2. a2! a2- a2x"


@pytest.mark.parametrize(
    ("text", "said"),
    [
        ("b1+", "b starts while a is down"),
        ("a1+ b1+", "b starts while a is starting"),
        ("a1+ a1+", "a starts while it is starting"),
        ("a2+ a2! a2- a1+", "a#1 after 2"),
        ("a1^", "ComponentUp of a, which does not live"),
        ("a1+ a2^", "a#2, too late"),
        ("a1+ a1^ a1^", "a is up from up"),
        ("a1+ a1-", "a is released from starting"),
        ("a1+ a1^ a1! a1!", "a#1 drains twice"),
        ("a1+ a1^ b1+ b1^ a1! a1-", "a drains without"),
        ("a1+ a1^ b1+ b1^ a1!", "a drains without"),
        ("a1+ a1^ b1+ b1^ a1! b1<a1 a1-", "a#1 is released before"),
        ("a1+ a1^ c1+ c1^ a1! c1<a1", "c drains for a, a stranger"),
        ("a1+ a1^ b1+ b1^ b1<a1", "b drains for a#1, which is up"),
        ("a1+ a1^ b1+ b1^ a1! b1<a2", "b drains for a#2"),
        ("a1+ a1^ a1. ", "ComponentEnded of a while it is up"),
        ("a1+ a1! a1- a2.", "a#2, too late"),
        ("a1+ a1^ b1+ b1^ a1! b1<a1 b1- b1$", "b is charged"),
        ("a1+ a1! a1-", "the last of it is ComponentReleased"),
    ],
)
def test_each_rule_is_checked(text: str, said: str) -> None:
    check_notices(noted(GOOD), {"b": ["a"]})

    with pytest.raises(AssertionError, match=said):
        check_notices(noted(text), {"b": ["a"]})


def test_what_is_wanted_may_be_drained_for() -> None:
    text = "a1+ a1^ c1+ c1^ a1! c1<a1 c1- c1. a1- a1."

    check_notices(noted(text), {}, {"c": ["a"]})
