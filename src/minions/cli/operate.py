"""Runs a system that was checked, and says what its end waits for."""

from __future__ import annotations

import gc
from collections.abc import Iterator
from contextlib import contextmanager
from typing import Any

import trio

from minions.cli.logs import Voice
from minions.cli.plan import SystemPlan
from minions.errors import NotRunningError, StartError, StoreError
from minions.runtime.gru import Gru
from minions.runtime.opening import open_gru
from minions.runtime.process import SignalCount
from minions.runtime.snapshot import GruSnapshot

__all__ = ["RefusedError", "describe_end", "operate"]

# Seconds between two looks at what an end waits for.
_INTERVAL = 1.0
_ENDING = {"draining", "releasing", "stuck"}
# Objects that come to be between two collections of the youngest: with the default
# of 700, a batch of workflows begins two or three, for 4 % of all instructions.
_YOUNG = 10_000


class RefusedError(Exception):
    """The system must not begin as it stands; nothing of it has begun to work."""


async def operate(plan: SystemPlan, signals: SignalCount, voice: Voice) -> None:
    """Run a system until it has ended or was stopped.

    Raises:
        RefusedError: The store cannot be opened, or holds subscriptions that nobody
            starts; ``__cause__`` is the error.
        MinionsError: As ``open_gru`` and ``start_minion``.
    """
    with _rare_collections():
        await _operate(plan, signals, voice)


@contextmanager
def _rare_collections() -> Iterator[None]:
    """Collect garbage less often, and leave alone what was there before."""
    before = gc.get_threshold()
    gc.collect()
    gc.freeze()
    gc.set_threshold(_YOUNG, *before[1:])
    try:
        yield
    finally:
        gc.set_threshold(*before)
        gc.unfreeze()


async def _operate(plan: SystemPlan, signals: SignalCount, voice: Voice) -> None:
    opened = False
    problem: BaseException | None = None
    async with trio.open_nursery() as watchers:
        try:
            async with open_gru(plan.file.state, options=plan.file.options) as gru:
                opened = True
                watchers.start_soon(_tell_progress, gru, signals, voice)
                await _start(gru, plan)
        except trio.Cancelled:
            raise
        # It must not end up in the nursery's group.
        except BaseException as exc:  # noqa: BLE001  # raised below
            problem = exc
        watchers.cancel_scope.cancel(reason="the system has ended")
    if isinstance(problem, StoreError) and not opened:
        raise RefusedError(str(problem)) from problem
    if problem is not None:
        raise problem


async def _start(gru: Gru, plan: SystemPlan) -> None:
    for cls, source in plan.configs:
        gru.configure(cls, source)
    started = False
    try:
        async with gru.starting():
            if plan.components:
                await gru.start(*plan.components)
            for start in plan.starts:
                await gru.start_minion(
                    start.minion, start.pipeline, config=start.config, name=start.name
                )
            started = True
    except StartError as exc:
        if started:
            raise RefusedError(str(exc)) from exc
        if not gru.snapshot().stopping:
            raise
    except NotRunningError:
        # Stopped by a signal before all had started: an ordered stop, too.
        if not gru.snapshot().stopping:
            raise


async def _tell_progress(gru: Gru, signals: SignalCount, voice: Voice) -> Any:
    """Say what an end waits for that a signal asked for, whenever that changes."""
    said = ""
    while True:
        await trio.sleep(_INTERVAL)
        if signals.count:
            text = describe_end(gru.snapshot())
            if text and text != said:
                voice.tell(f"still waits for {text}")
            said = text


def describe_end(snapshot: GruSnapshot) -> str:
    """Say what a Gru that stops waits for; empty if there is nothing to name."""
    work = [
        f"{o.id} ({o.unfinished} workflow{'s' if o.unfinished > 1 else ''})"
        for o in snapshot.orchestrations.values()
        if o.running or (o.unfinished and o.status == "running")
    ]
    ending = [
        f"{name} ({c.state}, {c.waits_for})" if c.waits_for else f"{name} ({c.state})"
        for name, c in snapshot.components.items()
        if c.state in _ENDING
    ]
    return ", ".join(work + ending)
