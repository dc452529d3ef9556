"""A step that never ends, in a Gru that gives up on it."""

import sys
import threading

import attrs
import trio

from minions import GruOptions, Minion, Pipeline, Resource, minion_step, open_gru


@attrs.frozen
class Number:
    value: int


@attrs.define
class Nothing:
    done: int = 0


class Outside(Pipeline[Number]):
    pass


class Other(Resource):
    async def shutdown(self) -> None:
        print("other is released", flush=True)


class Stuck(Minion[Number, Nothing]):
    @minion_step
    async def wait(self) -> None:
        print("waiting", flush=True)
        await trio.to_thread.run_sync(threading.Event().wait)


async def main() -> None:
    options = GruOptions(grace=0.1, on_stuck="exit")
    async with open_gru(sys.argv[1], options=options) as gru:
        await gru.start(Other)
        await gru.start_minion(Stuck, Outside)
        await gru.emit(Outside, Number(1))
        await gru.stop()


trio.run(main)
