"""Something is stuck long before the others have ended; time is virtual."""

import sys

import trio
from trio.testing import MockClock

from minions import GruOptions, Resource, open_gru


class Stuck(Resource):
    async def shutdown(self) -> None:
        print("stuck", flush=True)
        with trio.CancelScope(shield=True):
            await trio.sleep(100)


class Low(Resource):
    async def shutdown(self) -> None:
        await trio.sleep(0.9)
        print("low is released", flush=True)


class High(Resource):
    low: Low

    async def shutdown(self) -> None:
        await trio.sleep(0.9)


async def main() -> None:
    options = GruOptions(grace=1, on_stuck="exit")
    async with open_gru(sys.argv[1], options=options) as gru:
        await gru.start(Stuck, High)
        await gru.stop()


trio.run(main, clock=MockClock(autojump_threshold=0))
