"""``minions.run``: ``trio.run`` plus what a program needs at its edge."""

from __future__ import annotations

import contextlib
import signal
import sys
from collections.abc import Awaitable, Callable
from typing import Any, TypeVar

import msgspec
import trio

from minions.notices import leaves_of
from minions.runtime.opening import doors, open_grus

__all__ = ["SignalCount", "run", "to_stderr"]

T = TypeVar("T")
# The second OS signal cuts over, the third one gives up.
_CUT, _GIVE_UP = 2, 3


class SignalCount(msgspec.Struct, eq=False):
    """The OS signals that came during a run."""

    count: int = 0
    last: signal.Signals | None = None


def run(
    async_function: Callable[..., Awaitable[T]],
    *args: Any,
    signals: SignalCount | None = None,
    say: Callable[[str], None] | None = None,
) -> T:
    """Run an async function, and stop its Grus in order on SIGINT and SIGTERM.

    The first signal stops every open Gru in order and says what it waits for.  Once
    a Gru has stopped, what its body still waits for is cancelled, and the function
    goes on behind its block.  The second signal cuts over, the third raises
    ``KeyboardInterrupt``; without an open Gru the first one does.  What shields
    itself, and a thread, hold the process up even then: SIGKILL ends them.

    Args:
        async_function: Called with *args*; its result is returned.
        *args: Its arguments.
        signals: Counts the signals for the caller.
        say: Called with one line after each signal; writes to standard error
            without it.

    Raises:
        KeyboardInterrupt: Plain, never in a group.
    """
    counted = signals if signals is not None else SignalCount()
    try:
        return trio.run(_main, async_function, args, counted, say or to_stderr)
    except BaseExceptionGroup as group:
        # A group that holds only Ctrl-C is a Ctrl-C.
        if all(isinstance(leaf, KeyboardInterrupt) for leaf in leaves_of(group)):
            raise KeyboardInterrupt from group
        raise


async def _main(
    function: Callable[..., Awaitable[T]],
    args: tuple[Any, ...],
    counted: SignalCount,
    say: Callable[[str], None],
) -> T:
    results: list[T] = []
    problem: BaseException | None = None
    given_up = trio.Event()
    with trio.open_signal_receiver(signal.SIGINT, signal.SIGTERM) as received:
        async with trio.open_nursery() as nursery:

            async def obey() -> None:
                await _obey(received, counted, say)
                given_up.set()
                nursery.cancel_scope.cancel(reason="an OS signal interrupts it")

            nursery.start_soon(obey, name="minions/signals")
            try:
                results.append(await function(*args))
            except trio.Cancelled:
                raise
            # It must not end up in the nursery's group.
            except BaseException as exc:  # noqa: BLE001  # raised below
                problem = exc
            nursery.cancel_scope.cancel(reason="the program has ended")
    if given_up.is_set():
        raise KeyboardInterrupt from problem
    if problem is not None:
        raise problem
    return results[0]


async def _obey(
    received: Any, counted: SignalCount, say: Callable[[str], None]
) -> None:
    """Obey signals; return at the one that interrupts."""
    async for number in received:
        counted.count += 1
        counted.last = signal.Signals(number)
        if not open_grus:
            for door in doors:
                door.stop_asked = True
            if doors and counted.count < _CUT:
                say(f"{counted.last.name}: stopping as soon as the state is open")
                continue
            return
        if counted.count >= _GIVE_UP:
            say(_progress(counted))
            return
        for gru, opened in list(open_grus.items()):
            action = gru.cut_over if counted.count == _CUT else opened.leave
            # In its own run, which may be one of another thread.
            with contextlib.suppress(trio.RunFinishedError):
                opened.token.run_sync_soon(action)
        say(_progress(counted))


def _progress(counted: SignalCount) -> str:
    """Say what the stop waits for."""
    assert counted.last is not None
    what = {1: "stopping in order", _CUT: "cutting over"}.get(counted.count)
    text = f"{counted.last.name}: {what or 'giving up'}"
    token = trio.lowlevel.current_trio_token()
    snapshots = [g.snapshot() for g, each in open_grus.items() if each.token is token]
    waiting = [
        f"{o.id} ({o.unfinished} unfinished)"
        for snapshot in snapshots
        for o in snapshot.orchestrations.values()
        if o.unfinished and (what or o.running)
    ]
    waiting += [
        f"{name} ({component.state})"
        for snapshot in snapshots
        for name, component in snapshot.components.items()
        if component.state in {"draining", "releasing", "stuck"}
    ]
    return f"{text}; waits for {', '.join(waiting)}" if waiting else text


def to_stderr(text: str) -> None:
    """Write a line to standard error, if anybody can read there.

    What is said on the way to an end must not be what breaks it off.
    """
    # Closed, a pipe without a reader, a full disk; None where there is no console.
    with contextlib.suppress(OSError, ValueError):
        if sys.stderr is not None:
            sys.stderr.write(text + "\n")
