"""A process that kills itself in the middle of a step, and the one after it."""

import os
import signal
import sys
from functools import partial

import attrs
import trio

from minions import Minion, Pipeline, minion_step, open_gru


@attrs.frozen
class Greeting:
    text: str


@attrs.define
class Memory:
    last: str = ""


class Greetings(Pipeline[Greeting], cursor=int):
    async def run(self) -> None:
        for number in range((self.cursor or 0) + 1, 4):
            await self.emit(Greeting(f"hello world {number}"), cursor=number)


class Greeter(Minion[Greeting, Memory]):
    max_in_flight = 1

    @minion_step
    async def remember(self) -> None:
        print(f"remembering {self.event.text}", flush=True)
        self.context.last = self.event.text

    @minion_step
    async def say(self) -> None:
        mark = trio.Path("killed")
        if self.context.last.endswith("2") and not await mark.exists():
            await mark.touch()
            os.kill(os.getpid(), signal.SIGKILL)
        print(self.context.last, flush=True)


async def main() -> None:
    async with open_gru("state") as gru:
        await gru.start_minion(Greeter, Greetings)


if sys.argv[1:] == ["child"]:
    trio.run(main)
else:
    for attempt in (1, 2):
        print(f"process {attempt}", flush=True)
        command = [sys.executable, __file__, "child"]
        ended = trio.run(partial(trio.run_process, command, check=False))
        print(f"process {attempt} ended with code {ended.returncode}", flush=True)
