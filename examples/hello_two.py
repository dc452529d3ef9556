"""Two minions on one pipeline, and a resource that both need."""

import attrs
import trio

from minions import Minion, Pipeline, Resource, minion_step, open_gru


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
    count = 0

    async def produce_event(self) -> Greeting:
        self.count += 1
        if self.count > 3:
            raise trio.EndOfChannel
        return Greeting(f"hello world {self.count}")


class Journal(Resource):
    lines = 0
    letters = 0

    async def write(self, text: str) -> None:
        self.lines += 1
        print(f"{self.lines}: {text}")

    async def add_letters(self, count: int) -> None:
        self.letters += count

    async def shutdown(self) -> None:
        print(f"journal closed: {self.lines} lines, {self.letters} letters")


class Greeter(Minion[Greeting, Memory]):
    journal: Journal
    max_in_flight = 1

    @minion_step
    async def remember(self) -> None:
        self.context.last = self.event.text

    @minion_step
    async def say(self) -> None:
        await self.journal.write(self.context.last)


class Measurer(Minion[Greeting, Measure]):
    journal: Journal

    @minion_step
    async def measure(self) -> None:
        self.context.letters = sum(c.isalpha() for c in self.event.text)

    @minion_step
    async def report(self) -> None:
        await self.journal.add_letters(self.context.letters)


async def main() -> None:
    async with open_gru("state") as gru, gru.starting():
        await gru.start_minion(Greeter, Greetings)
        await gru.start_minion(Measurer, Greetings)
        print(gru.snapshot())


trio.run(main)
