"""What a group of components does, one behaviour a test."""

from __future__ import annotations

import contextvars
import functools
import math
from collections.abc import Awaitable, Callable
from typing import Literal

import attrs
import pytest
import trio
from trio.testing import MockClock

from minions.errors import InternalError, NotRunningError, RestartLimitError, StartError
from minions.notices import (
    ComponentBackoff,
    ComponentCrashed,
    ComponentDraining,
    ComponentEnded,
    ComponentFailed,
    ComponentStuck,
    ComponentUp,
    Notice,
    ShutdownFailed,
    StartFailed,
)
from minions.options import Backoff, GruOptions, Restart
from minions.supervise import (
    Cause,
    CauseKind,
    Group,
    Incarnation,
    Life,
    Plan,
    RunEnd,
    State,
    open_group,
)

AT_ONCE = Restart(max_restarts=3, backoff=Backoff(base=0, cap=0))
Hook = Callable[[], Awaitable[object]]


async def nothing() -> None:
    pass


@attrs.define(eq=False)
class Scripted(Life):
    """A life whose hooks are given."""

    startup: Hook = nothing
    body: Hook = trio.sleep_forever
    shutdown: Hook = nothing
    end: RunEnd = RunEnd.RETURNED

    async def acquire(self) -> None:
        await self.startup()

    async def run(self) -> RunEnd:
        await self.body()
        return self.end

    async def release(self, problem: BaseException | None) -> None:
        await self.shutdown()


def plan(
    name: str,
    *needs: str,
    make: Callable[[Incarnation], Life] = lambda _: Life(),
    restart: Restart = AT_ONCE,
    wants: tuple[str, ...] = (),
    on_exhausted: Literal["stop"] | None = None,
) -> Plan:
    return Plan(
        name=name,
        make=make,
        needs=needs,
        wants=wants,
        restart=restart,
        on_exhausted=on_exhausted,
    )


def raising(exc: BaseException, after: float = 0) -> Hook:
    async def hook() -> None:
        await trio.sleep(after)
        raise exc

    return hook


def epochs(group: Group) -> dict[str, int]:
    return {name: member.epoch for name, member in group.members.items()}


async def crash(group: Group, name: str, text: str = "broken") -> None:
    group.crash(await group.wait_up(name), ValueError(text))


def current(group: Group, name: str) -> Incarnation:
    incarnation = group.members[name].current
    assert incarnation is not None
    return incarnation


async def diamond(group: Group) -> None:
    group.add(plan("a"))
    group.add(plan("b", "a"))
    group.add(plan("d"))
    group.add(plan("c", "b", "d"))
    await group.wait_up("c")


@pytest.mark.parametrize(
    ("origin", "after"),
    [
        ("a", {"a": 2, "b": 2, "d": 1, "c": 2}),
        ("b", {"a": 1, "b": 2, "d": 1, "c": 2}),
        ("d", {"a": 1, "b": 1, "d": 2, "c": 2}),
        ("c", {"a": 1, "b": 1, "d": 1, "c": 2}),
    ],
)
@pytest.mark.parametrize("placement", ["dominator", "flat"])
async def test_a_crash_restarts_the_dependents_once_and_nothing_else(
    autojump_clock: MockClock,
    placement: Literal["dominator", "flat"],
    origin: str,
    after: dict[str, int],
) -> None:
    notices: list[Notice] = []
    async with open_group(notify=notices.append, placement=placement) as group:
        await diamond(group)

        await crash(group, origin)
        await trio.sleep(1)

        assert epochs(group) == after
        assert all(m.state is State.UP for m in group.members.values())
    charged = [n.component for n in notices if isinstance(n, ComponentBackoff)]
    assert charged == [origin]
    crashed = [n for n in notices if isinstance(n, ComponentCrashed)]
    assert [str(n.report) for n in crashed] == ["ValueError: broken"]


async def test_the_cause_names_the_whole_chain(autojump_clock: MockClock) -> None:
    notices: list[Notice] = []
    async with open_group(notify=notices.append) as group:
        await diamond(group)
        await crash(group, "a")
        await trio.sleep(1)

    causes = [n.cause for n in notices if isinstance(n, ComponentDraining)]
    assert causes[:3] == [
        "a#1 crashed: ValueError: broken",
        "dependency a#1 crashed: ValueError: broken",
        "dependency b#1: dependency a#1 crashed: ValueError: broken",
    ]


async def test_a_runner_is_placed_in_its_dominator(autojump_clock: MockClock) -> None:
    async with open_group() as group:
        group.add(plan("root"))
        group.add(plan("left", "root"))
        group.add(plan("right", "root"))
        group.add(plan("both", "left", "right"))
        incarnation = await group.wait_up("root")
        await group.wait_up("both")

        assert incarnation.frame is not None
        names = {task.name for task in incarnation.frame.child_tasks}

    assert names == {"root#1/nursery", "root#1/run", "left#1", "right#1", "both#1"}


async def test_who_notices_first_is_not_charged(autojump_clock: MockClock) -> None:
    """A dependent that crashes just before its dependency was not the origin."""
    notices: list[Notice] = []
    async with open_group(notify=notices.append) as group:
        group.add(plan("a"))
        group.add(plan("b", "a"))
        await group.wait_up("b")

        await crash(group, "b", "noticed")
        await trio.sleep(0.04)
        await crash(group, "a", "origin")
        await trio.sleep(1)

        assert epochs(group) == {"a": 2, "b": 2}
    charged = [n.component for n in notices if isinstance(n, ComponentBackoff)]
    assert charged == ["a"]


async def test_a_spent_budget_fails_and_dependents_wait(
    autojump_clock: MockClock,
) -> None:
    notices: list[Notice] = []
    flaky = Scripted(body=raising(ValueError("again"), after=1))
    async with open_group(notify=notices.append) as group:
        group.add(plan("a", make=lambda _: flaky))
        group.add(plan("b", "a"))
        await trio.sleep(20)

        states = {name: m.state for name, m in group.members.items()}
        assert states == {"a": State.FAILED, "b": State.WAITING}
        assert epochs(group) == {"a": 4, "b": 4}
        with pytest.raises(StartError, match="a: expected to come up, found failed"):
            await group.wait_up("a")

        flaky.body = trio.sleep_forever
        group.restart("a")
        await group.wait_up("b")
    assert sum(isinstance(n, ComponentFailed) for n in notices) == 1


async def test_a_failure_can_end_the_group(autojump_clock: MockClock) -> None:
    def make(_: Incarnation) -> Life:
        return Scripted(body=raising(ValueError("again")))

    with pytest.raises(RestartLimitError, match="a has failed") as caught:
        async with open_group() as group:
            group.add(plan("a", make=make, on_exhausted="stop"))
            await trio.sleep(100)

    assert str(caught.value.__cause__) == "again"


async def test_the_limit_over_all_components_holds(autojump_clock: MockClock) -> None:
    options = GruOptions(max_component_restarts=2)

    def make(_: Incarnation) -> Life:
        return Scripted(body=raising(ValueError(), after=1))

    async with open_group(options=options) as group:
        for name in "abc":
            group.add(plan(name, make=make))
        await trio.sleep(5)

        assert sum(m.epoch for m in group.members.values()) == 5
        assert all(m.state is State.FAILED for m in group.members.values())


@pytest.mark.parametrize(
    ("kind", "state", "epoch"),
    [
        ("permanent", State.FAILED, 4),
        ("transient", State.UP, 1),
        ("temporary", State.UP, 1),
    ],
)
async def test_what_a_return_of_run_means(
    autojump_clock: MockClock,
    kind: Literal["permanent", "transient", "temporary"],
    state: State,
    epoch: int,
) -> None:
    policy = attrs.evolve(AT_ONCE, type=kind)
    async with open_group() as group:
        group.add(plan("a", make=lambda _: Scripted(body=nothing), restart=policy))
        await trio.sleep(10)

        assert group.members["a"].state is state
        assert group.members["a"].epoch == epoch


async def test_a_temporary_component_is_not_restarted(
    autojump_clock: MockClock,
) -> None:
    async with open_group() as group:
        group.add(plan("a", restart=Restart(type="temporary")))
        await crash(group, "a")
        await trio.sleep(1)

        assert group.members["a"].state is State.FAILED


async def test_an_ended_component_stops(autojump_clock: MockClock) -> None:
    notices: list[Notice] = []
    ended = Scripted(body=nothing, end=RunEnd.ENDED)
    async with open_group(notify=notices.append) as group:
        group.add(plan("a", make=lambda _: ended))
        await trio.sleep(1)
        assert group.members["a"].state is State.STOPPED
        group.discard("a")
        assert not group.members

    assert [n.cause for n in notices if isinstance(n, ComponentEnded)] == ["a#1 ended"]


async def test_failed_starts_back_off_and_are_not_charged(
    autojump_clock: MockClock,
) -> None:
    notices: list[Notice] = []
    slow = Restart(max_restarts=0, backoff=Backoff(base=1, factor=2, cap=4))

    def make(incarnation: Incarnation) -> Life:
        if incarnation.epoch < 6:
            raise ConnectionError
        return Life()

    async with open_group(notify=notices.append) as group:
        group.add(plan("a", make=make, restart=slow))
        await group.wait_up("a")

    delays = [n.delay for n in notices if isinstance(n, ComponentBackoff)]
    assert not any(n.charged for n in notices if isinstance(n, ComponentBackoff))
    for delay, whole in zip(delays, [1, 2, 4, 4, 4], strict=True):
        assert whole / 2 <= delay <= whole


async def test_a_start_that_takes_too_long_has_failed(
    autojump_clock: MockClock,
) -> None:
    notices: list[Notice] = []
    options = GruOptions(start_timeout=3)
    hanging = Scripted(startup=trio.sleep_forever)
    async with open_group(options=options, notify=notices.append) as group:
        group.add(plan("a", make=lambda _: hanging))
        await trio.sleep(3.1)

    failed = next(n for n in notices if isinstance(n, StartFailed))
    assert "a: expected startup() to return within start_timeout = 3 s" in str(
        failed.report
    )


async def overstay(seconds: float) -> None:
    """Take no notice of a cancellation, and return."""
    with trio.CancelScope(shield=True, deadline=trio.current_time() + seconds):
        await trio.sleep_forever()


@pytest.mark.parametrize("why", ["timeout", "stop", "cancel", "crash"])
async def test_a_start_that_succeeds_too_late_is_released(
    why: str, autojump_clock: MockClock
) -> None:
    """What it has acquired is there, whoever does not want it any more."""
    notices: list[Notice] = []
    released: list[int] = []

    def make(incarnation: Incarnation) -> Life:
        async def shutdown() -> None:
            released.append(incarnation.epoch)

        startup: Hook = nothing
        if incarnation.epoch == 1:
            startup = functools.partial(overstay, 5)
        return Scripted(startup=startup, shutdown=shutdown)

    with trio.move_on_after(1 if why == "cancel" else 60):
        async with open_group(
            options=GruOptions(start_timeout=2 if why == "timeout" else 30),
            notify=notices.append,
        ) as group:
            group.add(plan("a", make=make))
            await trio.sleep(1)
            if why == "stop":
                group.stop("a")
            elif why == "crash":
                group.crash(current(group, "a"), ValueError("in its nursery"))
            await trio.sleep(10)

            assert released == [1]

    assert released[0] == 1
    ups = [n.epoch for n in notices if isinstance(n, ComponentUp)]
    assert ups == ([2] if why in {"timeout", "crash"} else [])
    failed = [str(n.report) for n in notices if isinstance(n, StartFailed)]
    said = {"timeout": "start_timeout = 2 s", "crash": "in its nursery"}.get(why)
    assert [said in text for text in failed if said] == [True] * len(failed)
    assert len(failed) == (said is not None)


async def test_all_that_a_failed_start_raises_is_reported(
    autojump_clock: MockClock,
) -> None:
    """A task of the nursery crashes, and startup raises on its way out."""
    notices: list[Notice] = []

    def make(incarnation: Incarnation) -> Life:
        async def startup() -> None:
            try:
                await trio.sleep(5)
            finally:
                raise OSError("on the way out")

        return Scripted(startup=startup if incarnation.epoch == 1 else nothing)

    async with open_group(notify=notices.append) as group:
        group.add(plan("a", make=make))
        await trio.sleep(1)
        group.crash(current(group, "a"), ValueError("in its nursery"))
        await group.wait_up("a")

    failed = [str(n.report) for n in notices if isinstance(n, StartFailed)]
    assert failed == ["ValueError: in its nursery; OSError: on the way out"]


async def test_a_late_start_whose_shutdown_raises_is_reported_as_both(
    autojump_clock: MockClock,
) -> None:
    notices: list[Notice] = []
    late = Scripted(
        startup=functools.partial(overstay, 5), shutdown=raising(OSError("no"))
    )
    options = GruOptions(start_timeout=2)
    async with open_group(options=options, notify=notices.append) as group:
        group.add(plan("a", make=lambda _: late, restart=Restart()))
        await trio.sleep(5.1)

    failed = [type(n) for n in notices if isinstance(n, StartFailed | ShutdownFailed)]
    assert failed == [StartFailed, ShutdownFailed]


async def test_a_shutdown_that_raises_counts_as_released(
    autojump_clock: MockClock,
) -> None:
    notices: list[Notice] = []
    async with open_group(notify=notices.append) as group:
        group.add(plan("a", make=lambda _: Scripted(shutdown=raising(OSError("no")))))
        await group.wait_up("a")

    failed = [str(n.report) for n in notices if isinstance(n, ShutdownFailed)]
    assert failed == ["OSError: no"]


async def test_a_shutdown_that_hangs_is_cut_off(autojump_clock: MockClock) -> None:
    notices: list[Notice] = []
    hanging = Scripted(shutdown=trio.sleep_forever)
    options = GruOptions(grace=2)
    began = trio.current_time()

    async with open_group(options=options, notify=notices.append) as group:
        group.add(plan("a", make=lambda _: hanging))
        await group.wait_up("a")

    assert trio.current_time() - began == pytest.approx(2)
    failed = [str(n.report) for n in notices if isinstance(n, ShutdownFailed)]
    assert failed == ["TimeoutError: shutdown was cut off after 2 s"]


async def test_what_overstays_is_stuck_and_its_stack_is_shown(
    autojump_clock: MockClock,
) -> None:
    notices: list[Notice] = []
    options = GruOptions(grace=2)
    async with open_group(options=options, notify=notices.append) as group:
        group.add(plan("a"))
        group.add(
            plan(
                "b",
                "a",
                make=lambda _: Scripted(shutdown=functools.partial(overstay, 30)),
            )
        )
        await group.wait_up("b")
        group.stop("b")
        await trio.sleep(3)

        assert group.members["b"].state is State.STUCK
        assert group.members["a"].state is State.UP
    (stuck,) = [n for n in notices if isinstance(n, ComponentStuck)]
    assert (stuck.component, stuck.stage) == ("b", "shutdown")
    assert "overstay" in stuck.stacks


async def test_a_wanted_component_is_leased_if_it_comes_up_in_time(
    autojump_clock: MockClock,
) -> None:
    seen: dict[str, set[str]] = {}

    def make(incarnation: Incarnation) -> Life:
        seen[incarnation.name] = set(incarnation.needs)
        return Life()

    async with open_group(options=GruOptions(wants_timeout=1)) as group:
        for name, seconds in [("early", 0.5), ("late", 5.0)]:
            slow = Scripted(startup=functools.partial(trio.sleep, seconds))
            group.add(plan(name, make=lambda _, slow=slow: slow))  # type: ignore[misc]
        group.add(plan("a", make=make, wants=("early", "late")))
        await trio.sleep(10)

        assert seen == {"a": {"early"}}
        assert epochs(group)["a"] == 1, "its coming up later restarts nobody"


async def test_stopping_a_dependency_parks_its_dependents(
    autojump_clock: MockClock,
) -> None:
    async with open_group() as group:
        await diamond(group)

        group.stop("d")
        await trio.sleep(1)
        states = {name: m.state for name, m in group.members.items()}
        group.restart("d")
        await group.wait_up("c")

        assert states["c"] is State.WAITING
        assert states["d"] is State.STOPPED
        assert epochs(group) == {"a": 1, "b": 1, "d": 2, "c": 2}


async def test_an_outer_cancel_keeps_the_order(autojump_clock: MockClock) -> None:
    gone: list[str] = []

    def make(incarnation: Incarnation) -> Life:
        async def leave() -> None:
            await trio.sleep(0.5)
            gone.append(incarnation.name)

        return Scripted(shutdown=leave)

    with trio.move_on_after(1):
        async with open_group() as group:
            group.add(plan("a", make=make))
            group.add(plan("b", "a", make=make))
            group.add(plan("c", "b", make=make))
            await trio.sleep_forever()

    assert gone == ["c", "b", "a"]
    assert trio.current_time() == pytest.approx(2.5, abs=0.01)


async def test_nothing_is_restarted_in_a_group_that_stops(
    autojump_clock: MockClock,
) -> None:
    """It would run on, and the group would never end."""

    def make(_: Incarnation) -> Life:
        return Scripted(shutdown=functools.partial(trio.sleep, 2))

    with trio.fail_after(100):
        async with open_group() as group:
            group.add(plan("a", make=make))
            group.add(plan("b", make=make))
            await group.wait_up("b")
            group.stop("a")
            await trio.sleep(3)
            group.stop_all(Cause(CauseKind.STOP, "", 0, hard=False))

            for name in "ab":
                with pytest.raises(NotRunningError, match="stopping"):
                    group.restart(name)

    assert epochs(group) == {"a": 1, "b": 1}
    assert {m.state for m in group.members.values()} == {State.STOPPED}


@attrs.define(eq=False)
class Unhurried(Life):
    """What it does when asked to go takes longer than any grace."""

    left: list[tuple[str, float]]
    name: str

    async def drained(self) -> None:
        try:
            await trio.sleep_forever()
        finally:
            self.left.append((self.name, trio.current_time()))


async def soft_chain(group: Group, left: list[tuple[str, float]]) -> None:
    """A chain of three, of which all but the lowest let their work end."""
    group.add(plan("a"))
    group.add(plan("b", "a", make=lambda _: Unhurried(left, "b")))
    group.add(plan("c", "b", make=lambda _: Unhurried(left, "c")))
    await group.wait_up("c")


async def test_an_outer_cancel_ends_a_drain_that_was_soft(
    autojump_clock: MockClock,
) -> None:
    left: list[tuple[str, float]] = []
    began = trio.current_time()
    with trio.move_on_after(1):
        async with open_group() as group:
            await soft_chain(group, left)
            group.stop("b")
            await trio.sleep_forever()

    assert {name: at - began for name, at in left} == {"c": 1, "b": 1}
    assert trio.current_time() - began == 1


@pytest.mark.parametrize(
    ("stopped", "soft"), [("a", {"b", "c"}), ("b", {"b", "c"}), ("c", {"c"})]
)
async def test_a_crash_ends_the_soft_drains_of_the_dependents(
    stopped: str, soft: set[str], autojump_clock: MockClock
) -> None:
    """What they wait for may wait for what has crashed; the first cause is kept."""
    notices: list[Notice] = []
    left: list[tuple[str, float]] = []
    async with open_group(notify=notices.append) as group:
        await soft_chain(group, left)
        group.stop(stopped)
        began = trio.current_time()
        await trio.sleep(1)

        group.crash(current(group, "a"), ValueError("broken"))
        await trio.sleep(1)

        assert {name: at - began for name, at in left} == dict.fromkeys(soft, 1)
    crashed = [n for n in notices if isinstance(n, ComponentCrashed)]
    assert [n.during_drain for n in crashed] == [stopped == "a"]
    causes = {n.component: n.cause for n in notices if isinstance(n, ComponentDraining)}
    assert causes[stopped] == f"{stopped}#1 was stopped"


async def test_an_exception_of_the_body_comes_out_as_itself(
    autojump_clock: MockClock,
) -> None:
    with pytest.raises(LookupError, match="mine"):
        async with open_group() as group:
            group.add(plan("a"))
            await group.wait_up("a")
            raise LookupError("mine")


async def test_a_system_exit_of_a_component_stops_all_in_order(
    autojump_clock: MockClock,
) -> None:
    notices: list[Notice] = []
    with pytest.raises(SystemExit):
        async with open_group(notify=notices.append) as group:
            group.add(plan("a"))
            group.add(
                plan("b", "a", make=lambda _: Scripted(body=raising(SystemExit())))
            )
            await trio.sleep(1)

    ended = [n.component for n in notices if isinstance(n, ComponentEnded)]
    assert ended == ["b", "a"]


async def test_a_base_exception_of_its_own_is_a_crash(
    autojump_clock: MockClock,
) -> None:
    class Odd(BaseException):
        pass

    async with open_group() as group:
        await diamond(group)
        group.crash(await group.wait_up("c"), Odd())
        await trio.sleep(1)

        assert epochs(group)["c"] == 2


async def test_a_restart_does_not_inherit_context_variables(
    autojump_clock: MockClock,
) -> None:
    variable: contextvars.ContextVar[str] = contextvars.ContextVar("variable")
    seen: list[str] = []

    def make(_: Incarnation) -> Life:
        seen.append(variable.get("unset"))
        return Life()

    async with open_group() as group:
        group.add(plan("a", make=make))
        await group.wait_up("a")
        variable.set("leaked")
        await crash(group, "a")
        await trio.sleep(1)

    assert seen == ["unset", "unset"]


async def test_backoff_begins_anew_after_a_stable_time(
    autojump_clock: MockClock,
) -> None:
    notices: list[Notice] = []
    policy = Restart(max_restarts=99, backoff=Backoff(base=1, factor=10, cap=100))

    def make(incarnation: Incarnation) -> Life:
        return Scripted(
            body=raising(ValueError(), 100 if incarnation.epoch == 3 else 1)
        )

    async with open_group(notify=notices.append) as group:
        group.add(plan("a", make=make, restart=policy))
        await trio.sleep(130)

    delays = [n.delay for n in notices if isinstance(n, ComponentBackoff)]
    assert delays[0] <= 1
    assert 5 <= delays[1] <= 10
    assert delays[2] <= 1


async def test_adding_out_of_order_is_refused(autojump_clock: MockClock) -> None:
    async with open_group() as group:
        group.add(plan("a"))
        with pytest.raises(InternalError, match="needs"):
            group.add(plan("b", "missing"))
        with pytest.raises(InternalError, match="a"):
            group.add(plan("a"))
        with pytest.raises(InternalError, match="it runs"):
            group.discard("a")


async def test_a_thousand_components_start_restart_and_stop(
    autojump_clock: MockClock,
) -> None:
    notices: list[Notice] = []
    async with open_group(notify=notices.append) as group:
        group.add(plan("n0"))
        for number in range(1, 1000):
            group.add(plan(f"n{number}", f"n{(number - 1) // 2}", f"n{number // 3}"))
        for number in range(1000):
            await group.wait_up(f"n{number}")
        await crash(group, "n0")
        await trio.sleep(1)

        assert set(epochs(group).values()) == {2}
        assert math.isfinite(group.members["n999"].last_up)
    assert sum(isinstance(n, ComponentUp) for n in notices) == 2000


async def test_a_life_does_not_inherit_what_the_one_before_has_set(
    autojump_clock: MockClock,
) -> None:
    """Each incarnation begins from the Context of the definition (R13)."""
    variable: contextvars.ContextVar[str] = contextvars.ContextVar("variable")
    seen: list[str] = []

    async def look() -> None:
        seen.append(variable.get("unset"))
        variable.set("left behind")

    async def look_and_sleep() -> None:
        await look()
        await trio.sleep_forever()

    async with open_group() as group:
        group.add(plan("a", make=lambda _: Scripted(startup=look, body=look_and_sleep)))
        await crash(group, "a")
        await trio.sleep(1)

    # The work of a life sees what its own startup has set.
    assert seen == ["unset", "left behind", "unset", "left behind"]
