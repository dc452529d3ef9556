"""Long chains of components: nothing recurses along them, no text grows with them."""

from __future__ import annotations

import pytest
import trio
from trio.testing import MockClock

from minions.notices import ComponentCrashed, ComponentReleased, Notice
from minions.options import Backoff, Restart
from minions.supervise import (
    Cause,
    CauseKind,
    Incarnation,
    Life,
    Plan,
    State,
    open_group,
)

# More than Python recurses into.
LONG = 3000
AT_ONCE = Restart(backoff=Backoff(base=0, cap=0))


def chain(length: int) -> list[Incarnation]:
    """Return incarnations that are up, each leasing the one before it."""
    found: list[Incarnation] = []
    for number in range(length):
        needs = {below.name: below for below in found[-1:]}
        one = Incarnation(f"c{number}", 1, needs, lambda _: None)
        one.acquired = True
        for below in needs.values():
            below.admit(one)
        found.append(one)
    return found


async def test_a_drain_reaches_the_end_of_a_long_chain() -> None:
    all_of_it = chain(LONG)
    crashed = Cause(CauseKind.CRASH, "c0", 1, hard=True, text="ValueError: gone")

    all_of_it[0].begin_drain(crashed)

    assert all(one.drain_asked.is_set() for one in all_of_it)
    assert all_of_it[0].cause is crashed
    assert all(one.cause and one.cause.hard for one in all_of_it)
    assert all_of_it[-1].has_broken_need()
    assert str(all_of_it[-1].cause) == (
        "dependency c2998#1: dependency c2997#1: dependency c2996#1: … 2994 more …:"
        " dependency c1#1: dependency c0#1 crashed: ValueError: gone"
    )
    assert len(repr(all_of_it[-1].cause)) < 200


async def test_a_hard_cause_ends_the_soft_drains_of_a_long_chain() -> None:
    all_of_it = chain(LONG)
    all_of_it[0].begin_drain(Cause(CauseKind.STOP, "c0", 1, hard=False))
    assert not all_of_it[-1].has_broken_need()

    all_of_it[0].begin_drain(Cause(CauseKind.CANCELLED, "", 0, hard=True))

    assert all(one.soft_scope.cancel_called for one in all_of_it)


async def test_the_dependents_hear_before_the_runner_wakes() -> None:
    """Depth first: each wakes when all that lean on it have been told."""
    a, b, c = chain(3)
    told: list[str] = []

    def tell(one: Incarnation) -> None:
        woken = [x.name for x in (a, b, c) if x.drain_asked.is_set()]
        told.append(f"{one.name} {woken}")

    other = Incarnation("d", 1, {"c0": a}, tell, acquired=True)
    a.admit(other)
    a.on_drain = b.on_drain = c.on_drain = tell

    a.begin_drain(Cause(CauseKind.STOP, "c0", 1, hard=False))

    assert told == ["c0 []", "c1 []", "c2 []", "d ['c1', 'c2']"]


@pytest.mark.parametrize("length", range(1, 12))
def test_a_cause_names_both_ends_of_its_chain(length: int) -> None:
    cause = Cause(CauseKind.CRASH, "c0", 1, hard=True)
    for number in range(length):
        cause = cause.passed_on(f"c{number}", 1)

    told = str(cause)

    links = [f"dependency c{n}#1" for n in reversed(range(length))]
    if length > 5:
        # The crash itself is a link, but no name of its own.
        links[3:-2] = [f"… {length - 5} more …"]
    assert told == ": ".join(links) + " crashed"


def test_a_broken_need_is_found_on_every_path_once() -> None:
    """A ladder of diamonds has more paths than there is time for."""
    below = [Incarnation(f"{side}0", 1, {}, lambda _: None) for side in "ab"]
    for number in range(1, 200):
        needs = {one.name: one for one in below}
        below = [
            Incarnation(f"{side}{number}", 1, needs, lambda _: None) for side in "ab"
        ]

    assert not below[0].has_broken_need()


@pytest.mark.slow
async def test_a_long_chain_lives_crashes_and_stops_in_order(
    autojump_clock: MockClock,
) -> None:
    length = 1500
    notices: list[Notice] = []
    async with open_group(notify=notices.append) as group:
        for number in range(length):
            needs = (f"c{number - 1}",) if number else ()
            make = Plan(
                name=f"c{number}", make=lambda _: Life(), needs=needs, restart=AT_ONCE
            )
            group.add(make)
        last = group.members[f"c{length - 1}"]
        first = await group.wait_up(last.name)

        group.crash(await group.wait_up("c0"), ValueError("gone"))
        with trio.fail_after(10):
            while (again := await group.wait_up(last.name)) is first:
                await last.changed.wait()

        assert again.epoch == 2
        assert {m.epoch for m in group.members.values()} == {2}
    assert {m.state for m in group.members.values()} == {State.STOPPED}
    assert sum(isinstance(n, ComponentCrashed) for n in notices) == 1
    released = [n.component for n in notices if isinstance(n, ComponentReleased)]
    downwards = [f"c{number}" for number in reversed(range(length))]
    assert released == [*downwards, *downwards]
