"""Many components: start, a crash of the root until all are up again, ordered stop.

``python benchmarks/restarts.py --components 1000 --shape chain``

In a ``chain`` each component needs the one before it, in a ``star`` all need the
first. Settle window and backoff are 0. All is done twice in the process and the
second time counts. ``start_s`` is the whole call of ``gru.start``, which reads the
classes; ``bring_up_s`` the part of it behind the first ``startup``: beside the whole
a restart would look cheap.
"""

from __future__ import annotations

import argparse
import json
import logging
import time
from collections.abc import Sequence
from typing import Any

import attrs
import trio

from minions import Backoff, GruOptions, Resource, Restart, component_id, open_gru

AT_ONCE = Restart(backoff=Backoff(base=0))
SHAPES = ("chain", "star")


@attrs.define
class Log:
    """Which components have started and been released, in order."""

    started: list[int] = attrs.field(factory=list)
    released: list[int] = attrs.field(factory=list)
    crash: trio.Event = attrs.field(factory=trio.Event)
    started_at: float = 0.0
    """When the first of them began to start."""

    expected: int = 0
    all_started: trio.Event = attrs.field(factory=trio.Event)

    def begin(self) -> None:
        """Begin anew."""
        self.started.clear()
        self.released.clear()
        self.all_started = trio.Event()


log = Log()


class Part(Resource):
    number = 0
    restart = AT_ONCE

    async def startup(self) -> None:
        if not log.started:
            log.started_at = time.perf_counter()
        log.started.append(self.number)
        if len(log.started) == log.expected:
            log.all_started.set()

    async def shutdown(self) -> None:
        log.released.append(self.number)


@component_id("part-0")
class Root(Part):
    async def run(self) -> None:
        await log.crash.wait()
        log.crash = trio.Event()  # the next life's
        raise RuntimeError("the crash that is measured")


def make_parts(count: int, shape: str) -> list[type[Part]]:
    """Make the classes of one system, the root's first."""
    parts: list[type[Part]] = [Root]
    for number in range(1, count):
        needs = parts[-1] if shape == "chain" else Root
        body: dict[str, Any] = {"number": number, "__annotations__": {"needs": needs}}
        cls = type(f"Part{number}", (Part,), body)
        parts.append(component_id(f"part-{number}")(cls))
    return parts


def check_order(numbers: Sequence[int], shape: str, count: int) -> None:
    """Hold that each took part once, none before what it needs."""
    assert sorted(numbers) == list(range(count)), "some took part twice, or never"
    if shape == "chain":
        assert list(numbers) == list(range(count))
    else:
        assert numbers[0] == 0


async def cycle(parts: Sequence[type[Part]], shape: str) -> dict[str, float]:
    """Start, crash and stop a system; return the seconds of each."""
    count, numbers = len(parts), {}
    log.expected = count
    log.begin()
    options = GruOptions(settle=0, grace=60, start_timeout=60)
    async with open_gru(None, options=options) as gru:
        began = time.perf_counter()
        await gru.start(*parts)
        numbers["start_s"] = time.perf_counter() - began
        numbers["bring_up_s"] = time.perf_counter() - log.started_at
        check_order(log.started, shape, count)

        log.begin()
        began = time.perf_counter()
        log.crash.set()
        await log.all_started.wait()
        for part in parts:
            await gru.wait_up(part)
        numbers["restart_s"] = time.perf_counter() - began
        check_order(log.started, shape, count)
        check_order(log.released[::-1], shape, count)
        epochs = [state.epoch for state in gru.snapshot().components.values()]
        assert epochs == [2] * count, "each restarts once"

        log.begin()
        began = time.perf_counter()
        await gru.stop()
        numbers["stop_s"] = time.perf_counter() - began
        check_order(log.released[::-1], shape, count)
    return numbers


async def measure(count: int, shape: str) -> dict[str, float]:
    parts = make_parts(count, shape)
    await cycle(parts, shape)
    return await cycle(parts, shape)


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--components", type=int, default=1000)
    parser.add_argument("--shape", choices=SHAPES, default="chain")
    given = parser.parse_args()
    logging.getLogger("minions").addHandler(logging.NullHandler())
    print(json.dumps(trio.run(measure, given.components, given.shape)))


if __name__ == "__main__":
    main()
