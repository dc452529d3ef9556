"""Fills stores with prepared records, as an earlier process would have left them.

To run a million workflows only to have them wait would take minutes. So the records
are made here, with the functions of the product, and a test compares them with those
that the product has left itself. Numbers, subscription and the mark of an ordered end
are the product's own: it has opened the folder before.

The file is warm: what was just written stands in the page cache.
"""

from __future__ import annotations

import contextlib
import multiprocessing
import time
from collections.abc import Callable, Iterator
from functools import partial
from pathlib import Path
from typing import ClassVar, Literal

import attrs
import trio

from minions import GruOptions, Minion, Pipeline, Wait, minion_step, open_gru
from minions.identity import component_identity, orchestration_id
from minions.store.codec import codec_for
from minions.store.lmdb_store import open_lmdb_store
from minions.workflow.record import READY, WorkflowRecord
from minions.workflow.stored import entries

BATCH = 2_000
DAY = 86_400.0
PEACE = GruOptions(durability="none")


@attrs.frozen(kw_only=True)
class Filling:
    """Which workflows a store is filled with; each has its number, from 1 on."""

    minion: type
    pipeline: type
    event: Callable[[int], object]
    context: Callable[[int], object] | None = None
    """``None``: no step has ended yet."""

    step: str = ""
    """The name of the next one; empty for the first."""

    state: Literal["ready", "sleeping", "waiting"] = "sleeping"
    delay: float | None = DAY
    """Seconds from now to the time that the first of them waits for, if any; each
    later one waits for 10 ms more."""

    signal: type | None = None
    """The class of the signal that they wait for."""


def records(filling: Filling, count: int) -> Iterator[WorkflowRecord]:
    """Make the records, as steps leave them that end with ``After`` or ``Wait``."""
    minion = component_identity(filling.minion)
    pipeline = component_identity(filling.pipeline)
    identity = orchestration_id(minion, pipeline, "")
    event = codec_for(type(filling.event(0)), component=pipeline)
    waits, context, context_type = "", b"", ""
    if filling.signal is not None:
        waits = codec_for(filling.signal, component=minion).type_name
    if filling.context is not None:
        left = codec_for(type(filling.context(0)), component=minion)
        context_type = left.type_name
    now = time.time()
    until = None
    for number in range(1, count + 1):
        if filling.context is not None:
            context = left.encode(filling.context(number))
        if filling.state != READY and filling.delay is not None:
            until = now + filling.delay + number / 100
        yield WorkflowRecord(
            identity,
            event.type_name,
            event.encode(filling.event(number)),
            context_type,
            context,
            filling.step,
            now,
            state=filling.state,
            since=now if filling.step else 0.0,
            until=until,
            waits=waits,
        )


class _SubscribedError(Exception):
    pass


async def fill(folder: Path, filling: Filling, count: int) -> None:
    """Make a folder that holds an orchestration's subscription and *count* records."""
    with contextlib.suppress(_SubscribedError):
        async with open_gru(folder, options=PEACE) as gru, gru.starting():
            await gru.start_minion(filling.minion, filling.pipeline)
            # A block that raises leaves the source held: it never begins.
            raise _SubscribedError
    async with open_lmdb_store(folder, durability="none") as store:
        for number, record in enumerate(records(filling, count), 1):
            store.write_nowait(entries(number, record))
            if number % BATCH == 0:
                await store.barrier()


def fill_apart(folder: Path, filling: str, count: int) -> None:
    """Fill a folder in a process of its own, which leaves this one's memory alone.

    Args:
        folder: Where; it must not be there.
        filling: One of `FILLINGS`.
        count: How many.
    """
    child = multiprocessing.get_context("spawn").Process(
        target=_fill, args=(str(folder), filling, count)
    )
    child.start()
    child.join()
    assert child.exitcode == 0, f"filling ended with {child.exitcode}"


def _fill(folder: str, filling: str, count: int) -> None:
    trio.run(partial(fill, Path(folder), FILLINGS[filling], count))


# What the programs that open a filled store have in common.


@attrs.frozen
class Event:
    number: int
    text: str = "x" * 100


@attrs.define
class Context:
    total: int = 0
    text: str = ""


@attrs.frozen
class Go:
    """The signal."""

    number: int


@attrs.define
class Seen:
    """What the steps of this process have done."""

    live_at: float = 0.0
    """When the first step of the live event began."""

    totals: list[int] = attrs.field(factory=list)
    """One of each workflow that has ended."""

    received: list[Go] = attrs.field(factory=list)
    received_at: float = 0.0
    came: trio.Event = attrs.field(factory=trio.Event)


seen = Seen()


class Source(Pipeline[Event]):
    """Emits one live event, number 0, and is exhausted."""

    emitted: ClassVar[int] = 0

    async def produce_event(self) -> Event:
        if Source.emitted:
            raise trio.EndOfChannel
        Source.emitted += 1
        return Event(0)


class TwoSteps(Minion[Event, Context]):
    """As that of two_steps.py, at the default of ``max_in_flight``."""

    @minion_step
    async def first(self) -> None:
        if not self.event.number:
            seen.live_at = time.perf_counter()
        self.context.total = self.event.number
        self.context.text = self.event.text

    @minion_step
    async def second(self) -> None:
        self.context.total += 1
        seen.totals.append(self.context.total)
        if not self.event.number:
            seen.came.set()


class Waits(Minion[Event, Context]):
    """Waits for a signal after its first step."""

    @minion_step
    async def first(self) -> Wait:
        self.context.total = self.event.number
        self.context.text = self.event.text
        return Wait(Go)

    @minion_step
    async def second(self) -> None:
        seen.received_at = time.perf_counter()
        assert isinstance(self.workflow.received, Go)
        seen.received.append(self.workflow.received)
        seen.came.set()


def after_first(number: int) -> Context:
    """Return the context as the first step leaves it."""
    return Context(number, "x" * 100)


_two_steps = partial(Filling, minion=TwoSteps, pipeline=Source, event=Event)
FILLINGS = {
    # Nothing in memory before they are due, in a day.
    "cold": _two_steps(context=after_first, step="second"),
    # All due when the store is opened again.
    "due": _two_steps(context=after_first, step="second", delay=-2 * DAY),
    # Accepted; both steps are still to run.
    "in-flight": _two_steps(state="ready"),
    "waiting": Filling(
        minion=Waits,
        pipeline=Source,
        event=Event,
        context=after_first,
        step="second",
        state="waiting",
        delay=None,
        signal=Go,
    ),
}
