"""The smallest system: three events, one minion, two steps."""

import attrs
import trio

from minions import Minion, Pipeline, minion_step, open_gru


@attrs.frozen
class Greeting:
    text: str


@attrs.define
class Memory:  # a context: every field has a default
    last: str = ""


class Greetings(Pipeline[Greeting]):
    count = 0

    async def produce_event(self) -> Greeting:
        self.count += 1
        if self.count > 3:
            raise trio.EndOfChannel
        return Greeting(f"hello world {self.count}")


class Greeter(Minion[Greeting, Memory]):
    max_in_flight = 1  # one workflow at a time, in order of arrival

    @minion_step
    async def remember(self) -> None:
        self.context.last = self.event.text

    @minion_step
    async def say(self) -> None:
        print(self.context.last)


async def main() -> None:
    async with open_gru("state") as gru:
        await gru.start_minion(Greeter, Greetings)


trio.run(main)
