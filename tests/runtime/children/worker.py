"""Counts up with a cursor; each step tells of itself outside the store.

A line goes to a file, which survives a kill, and to the parent, which kills.

Arguments: the folder, the durability, and how many events there are.
"""

from __future__ import annotations

import os
import sys
from pathlib import Path

import attrs
import trio

from minions import GruOptions, Minion, Pipeline, component_id, minion_step, open_gru

FOLDER = Path(sys.argv[1])
OPTIONS = GruOptions(durability=sys.argv[2])  # type: ignore[arg-type]
EVENTS = int(sys.argv[3])
OUT = os.open(FOLDER / "out", os.O_WRONLY | os.O_CREAT | os.O_APPEND)


def tell(*words: object) -> None:
    line = " ".join(map(str, words))
    os.write(OUT, f"{line}\n".encode())
    print(line, flush=True)


@attrs.frozen
class Number:
    value: int


@attrs.define
class Sum:
    passed: int = 0


@component_id("counting")
class Counting(Pipeline[Number], cursor=int):
    async def run(self) -> None:
        at = self.cursor or 0
        while at < EVENTS:
            batch = [Number(n) for n in range(at, min(at + 3, EVENTS))]
            await self.emit_many(batch, cursor=at + len(batch))
            at += len(batch)


@component_id("worker")
class Worker(Minion[Number, Sum]):
    max_in_flight = 20

    def key(self, event: Number) -> int:
        return event.value % 4

    async def pass_step(self) -> None:
        n = self.context.passed
        tell("begin", self.workflow.id, self.event.value, n)
        await trio.sleep(0.0005)
        self.context.passed = n + 1

    @minion_step
    async def first(self) -> None:
        await self.pass_step()

    @minion_step
    async def second(self) -> None:
        await self.pass_step()

    @minion_step
    async def third(self) -> None:
        await self.pass_step()


async def main() -> None:
    async with open_gru(FOLDER / "state", options=OPTIONS) as gru:
        await gru.start_minion(Worker, Counting)


trio.run(main)
