"""The same system under fire: crashes and kills at places that a seed decides.

The components are those of the normal run.  This program wraps some of their
methods, so that they break when enough quotes have come in.  What has been dealt is
written down first, so that each blow falls once, whatever it hits.
"""

from __future__ import annotations

import argparse
import functools
import logging
import os
import random
import signal
from collections.abc import Awaitable, Callable
from pathlib import Path
from typing import Any

import attrs
import trio

from books import Ledger, PriceHistory
from feed import FeedClient, Quotes
from lifeline import until_stdin_closes
from minions import Backoff, ComponentBroken, Gru, GruOptions, Restart
from minions.notices import ComponentCrashed, ComponentUp
from system import open_system
from workers import CrossoverTrader, DrawdownAlarm

COMPONENTS: tuple[type[Any], ...] = (
    *(FeedClient, Quotes, PriceHistory),
    *(Ledger, CrossoverTrader, DrawdownAlarm),
)
PROCESS = "process"
KILLS = 6
CRASHES_EACH = 4


@attrs.frozen(order=True)
class Blow:
    """One crash of a component, or one kill of the process."""

    at: int
    """How many quotes must have come in."""

    target: str

    def __str__(self) -> str:
        return f"{self.at} {self.target}"


def schedule(seed: int) -> list[Blow]:
    """Draw all blows of a run; the same seed, the same blows."""
    draw = random.Random(seed)  # noqa: S311  # no secret
    kills = [
        Blow(1_700 * number + draw.randrange(400), PROCESS)
        for number in range(1, KILLS + 1)
    ]
    crashes = [
        Blow(at, component.__name__)
        for component in COMPONENTS
        for at in draw.sample(range(200, 10_500), CRASHES_EACH)
    ]
    return sorted(kills + crashes)


def dealt(path: Path) -> list[str]:
    """Read which blows have fallen."""
    return path.read_text().splitlines() if path.exists() else []


class Crash(Exception):  # noqa: N818  # it is what happens here
    """A planned crash."""


class Trouble:
    """The blows still to come."""

    def __init__(self, seed: int, path: Path) -> None:
        self._path = path
        past = dealt(path)
        self._blows = [blow for blow in schedule(seed) if str(blow) not in past]
        self._quotes = 0
        self._more = trio.Event()

    def advance(self, quotes: int) -> None:
        """Take note of how many quotes have come in; maybe kill this process."""
        self._quotes = quotes
        self._more.set()
        self._more = trio.Event()
        if self.strikes(PROCESS):
            os.kill(os.getpid(), signal.SIGKILL)

    def strikes(self, target: str) -> bool:
        """Say whether *target* is to break now; if so, write it down."""
        for blow in self._blows:
            if blow.target == target and blow.at <= self._quotes:
                self._blows.remove(blow)
                with self._path.open("a") as file:
                    file.write(f"{blow}\n")
                print(f"quote {self._quotes:6,}: {target} is hit", flush=True)
                return True
        return False

    async def crash(self, target: str) -> None:
        """Wait for the next blow to *target*, and raise."""
        while not self.strikes(target):
            await self._more.wait()
        raise Crash(target)


def break_within(trouble: Trouble, component: type[Any], *methods: str) -> None:
    """Let a resource break when a method's work is done and its caller waits."""

    def sabotage(method: Callable[..., Awaitable[Any]]) -> Callable[..., Any]:
        @functools.wraps(method)
        async def sabotaged(self: Any, *args: Any) -> Any:
            result = await method(self, *args)
            if component is FeedClient:
                trouble.advance(self.position)
            if trouble.strikes(component.__name__):
                raise ComponentBroken("hit")
            return result

        return sabotaged

    for name in methods:
        setattr(component, name, sabotage(getattr(component, name)))


def crash_beside(trouble: Trouble, component: type[Any]) -> None:
    """Let a component crash by a task in its nursery, whatever it is doing."""

    async def startup(self: Any) -> None:
        self.nursery.start_soon(trouble.crash, component.__name__)

    component.startup = startup


async def tell(gru: Gru) -> None:
    """Print what the runtime says about each crash and each return."""
    async for notice in gru.notices():
        if isinstance(notice, ComponentCrashed) and not notice.during_drain:
            print(f"    crashed  {notice.component}#{notice.epoch}", flush=True)
        elif isinstance(notice, ComponentUp) and notice.epoch > 1:
            print(f"    up again {notice.component}#{notice.epoch}", flush=True)


async def run(folder: Path, url: str, seed: int) -> None:
    """Run the system; be killed, or come to the end of the feed."""
    trouble = Trouble(seed, folder / "dealt.txt")
    break_within(trouble, FeedClient, "receive")
    break_within(trouble, PriceHistory, "record")
    break_within(trouble, Ledger, "place", "note")
    for component in (Quotes, CrossoverTrader, DrawdownAlarm):
        crash_beside(trouble, component)
    for each in COMPONENTS:
        each.restart = Restart(max_restarts=100, backoff=Backoff(base=0.05, cap=0.2))

    async with trio.open_nursery() as nursery:
        nursery.start_soon(end_with_parent, nursery.cancel_scope)
        options = GruOptions(max_component_restarts=1_000)
        async with open_system(folder, url, options) as (gru, _):
            nursery.start_soon(tell, gru)
        nursery.cancel_scope.cancel()


async def end_with_parent(scope: trio.CancelScope) -> None:
    """Leave no orphan behind when the parent is killed."""
    await until_stdin_closes()
    scope.cancel()


def main() -> None:
    """Read the command line and run."""
    parser = argparse.ArgumentParser(description=__doc__.partition("\n")[0])
    parser.add_argument("folder", type=Path)
    parser.add_argument("url")
    parser.add_argument("seed", type=int)
    args = parser.parse_args()
    # Each crash is planned, and told by notices: no log beside it.
    logging.getLogger("minions").addHandler(logging.NullHandler())
    trio.run(run, args.folder, args.url, args.seed)


if __name__ == "__main__":
    main()
