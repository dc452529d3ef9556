"""A thousand workflows in flight, and one among them that ends the process.

Arguments: the folder, how it ends the process, in which step, and with which number.
"""

from __future__ import annotations

import os
import signal
import sys
from pathlib import Path

import attrs
import trio

from minions import GruOptions, Minion, Pipeline, component_id, minion_step, open_gru

FOLDER = Path(sys.argv[1])
HOW, WHERE, GUILTY = sys.argv[2], sys.argv[3], int(sys.argv[4])
EVENTS = 1000
OUT = os.open(FOLDER / "ledger", os.O_WRONLY | os.O_CREAT | os.O_APPEND, 0o600)
IS_FIRST_LIFE = not (FOLDER / "state").exists()


def tell(*words: object) -> None:
    os.write(OUT, (" ".join(map(str, words)) + "\n").encode())


@attrs.frozen
class Number:
    value: int


@attrs.define
class Nothing:
    passed: int = 0


@component_id("numbers")
class Numbers(Pipeline[Number], cursor=int):
    async def run(self) -> None:
        if self.cursor is None:
            batch = [Number(n) for n in range(EVENTS)]
            await self.emit_many(batch, cursor=EVENTS)


@component_id("worker")
class Worker(Minion[Number, Nothing]):
    max_in_flight = EVENTS

    @minion_step
    async def first(self) -> None:
        await self.pass_step("first")

    @minion_step
    async def second(self) -> None:
        await self.pass_step("second")

    async def pass_step(self, name: str) -> None:
        tell("begin", name, self.event.value)
        if (self.event.value, name) == (GUILTY, WHERE):
            # At first it is one among a thousand that run.
            await trio.sleep(0.05 if IS_FIRST_LIFE else 0)
            if HOW == "exit":
                os._exit(1)
            os.kill(os.getpid(), signal.SIGKILL)
        await trio.sleep(1 if IS_FIRST_LIFE and name == WHERE else 0.0005)
        tell("end", name, self.event.value)


async def main() -> None:
    tell("open")
    async with open_gru(FOLDER / "state", options=GruOptions(max_crashes=3)) as gru:
        await gru.start_minion(Worker, Numbers)
    async with open_gru(FOLDER / "state") as gru:
        async for flow in gru.workflows.list():
            reason = flow.reason.partition(":")[0]
            tell("left", flow.state, flow.event["value"], reason)
        await gru.stop()


trio.run(main)
