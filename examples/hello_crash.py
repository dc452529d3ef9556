"""The journal breaks at its second line; what needs it comes back with it."""

import logging

import attrs
import trio

from minions import ComponentBroken, Minion, Pipeline, Resource, minion_step, open_gru

# Crashes are logged as errors; this page looks at the snapshot instead.
logging.getLogger("minions").addHandler(logging.NullHandler())


@attrs.frozen
class Greeting:
    text: str


@attrs.define
class Memory:
    last: str = ""


@attrs.define
class Measure:
    letters: int = 0


class Greetings(Pipeline[Greeting]):
    """It has no source of its own: `gru.emit` hands events over."""


class Journal(Resource):
    pages_left = 1

    async def startup(self) -> None:
        print("journal opened")

    async def write(self, text: str) -> None:
        if text.endswith("2") and Journal.pages_left:
            Journal.pages_left -= 1
            raise ComponentBroken("the page is full")
        print(text)


class Greeter(Minion[Greeting, Memory]):
    journal: Journal

    @minion_step
    async def remember(self) -> None:
        print(f"remembering {self.event.text}")
        self.context.last = self.event.text

    @minion_step
    async def say(self) -> None:
        await self.journal.write(self.context.last)


class Measurer(Minion[Greeting, Measure]):
    journal: Journal

    @minion_step
    async def measure(self) -> None:
        self.context.letters = sum(c.isalpha() for c in self.event.text)


async def main() -> None:
    async with open_gru("state") as gru:
        await gru.start_minion(Greeter, Greetings)
        await gru.start_minion(Measurer, Greetings)
        for number in (1, 2, 3):
            ids = await gru.emit(Greetings, Greeting(f"hello world {number}"))
            for workflow_id in ids:  # one of each minion
                assert workflow_id is not None  # None: it had no room
                await gru.workflows.wait(workflow_id)
        print(gru.snapshot())
        await gru.stop()


trio.run(main)
