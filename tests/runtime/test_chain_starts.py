"""Starts of what needs much: in a time that grows with it, and not faster."""

from __future__ import annotations

from typing import Any, ClassVar

import trio
from trio.testing import MockClock

from minions import Backoff, GruOptions, Resource, Restart, component_id, open_gru
from minions.supervise import Member


class Counted(dict[str, Member]):
    """A table of components that counts how often one is looked at."""

    looks = 0

    def __getitem__(self, name: str) -> Member:
        self.looks += 1
        return super().__getitem__(name)

    def values(self) -> Any:
        self.looks += len(self)
        return super().values()


class Part(Resource):
    async def startup(self) -> None:
        await trio.sleep(1)


def chain_of(length: int) -> list[type[Part]]:
    parts: list[type[Part]] = []
    for number in range(length):
        needs = {"below": parts[-1]} if parts else {}
        body: dict[str, Any] = {"__annotations__": needs}
        cls = type(f"Part{number}", (Part,), body)
        parts.append(component_id(f"part-{number}")(cls))
    return parts


async def looks_at_start(length: int) -> int:
    async with open_gru(None) as gru:
        gru._group.members = counted = Counted()
        await gru.start(*chain_of(length))
        found = counted.looks
        await gru.stop()
    assert found >= length
    return found


async def test_a_start_looks_at_each_of_a_chain_so_many_times(
    autojump_clock: MockClock,
) -> None:
    """Once for each above it was quadratic: a minute for ten thousand."""
    short, long = await looks_at_start(20), await looks_at_start(60)

    assert long < 3.3 * short


class Flaky(Resource):
    """Comes up when it is tried for the second time."""

    restart = Restart(backoff=Backoff(base=0))
    tries: ClassVar[int] = 0

    async def startup(self) -> None:
        Flaky.tries += 1
        if Flaky.tries == 1:
            raise OSError("not there yet")


class Slow(Resource):
    flaky: Flaky

    async def startup(self) -> None:
        await trio.sleep(10)


async def test_who_is_up_by_now_fails_no_start(autojump_clock: MockClock) -> None:
    """When the patience is over only those count that are not up."""
    Flaky.tries = 0

    async with open_gru(None, options=GruOptions(start_patience=5)) as gru:
        await gru.start(Slow)
        states = {c.state for c in gru.snapshot().components.values()}
        await gru.stop()

    assert (Flaky.tries, states) == (2, {"up"})
