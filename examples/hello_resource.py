"""The smallest system, with a resource that the minion needs."""

import attrs
import trio

from minions import Minion, Pipeline, Resource, minion_step, open_gru


@attrs.frozen
class Greeting:
    text: str


@attrs.define
class Memory:
    last: str = ""


class Greetings(Pipeline[Greeting]):
    count = 0

    async def produce_event(self) -> Greeting:
        self.count += 1
        if self.count > 3:
            raise trio.EndOfChannel
        return Greeting(f"hello world {self.count}")


class Journal(Resource):
    lines = 0

    async def startup(self) -> None:
        print("journal opened")

    async def write(self, text: str) -> None:
        self.lines += 1
        print(f"{self.lines}: {text}")

    async def shutdown(self) -> None:
        print(f"journal closed after {self.lines} lines")


class Greeter(Minion[Greeting, Memory]):
    journal: Journal  # a dependency: set before startup
    max_in_flight = 1

    @minion_step
    async def remember(self) -> None:
        self.context.last = self.event.text

    @minion_step
    async def say(self) -> None:
        await self.journal.write(self.context.last)


async def main() -> None:
    async with open_gru("state") as gru:
        await gru.start_minion(Greeter, Greetings)


trio.run(main)
