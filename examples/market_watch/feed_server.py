"""A feed of quotes over a WebSocket: a process of its own, as an exchange would be.

A client sends ``{"from": 1200}``.  The server answers with all quotes from that
position on, one message a day::

    {"position": 1200, "quotes": [["AAPL", "2001-05-08", 24.57], ...]}

After the last day comes a message without quotes.  A new request ends the answer
to the one before.  The server ends when its standard input closes, so that it
never outlives the process that started it.
"""

from __future__ import annotations

import argparse
import itertools
import json
from collections.abc import Iterator, Sequence
from functools import partial

import trio
from trio_websocket import (
    ConnectionClosed,
    WebSocketConnection,
    WebSocketRequest,
    serve_websocket,
)

from lifeline import until_stdin_closes
from quotes import Quote, load_quotes


def messages(quotes: Sequence[Quote], position: int) -> Iterator[str]:
    """Turn the quotes from *position* on into messages of one day each."""
    rest = itertools.islice(quotes, position, None)
    for _, group in itertools.groupby(rest, key=lambda quote: quote.day):
        rows = [(quote.symbol, quote.day.isoformat(), quote.price) for quote in group]
        yield json.dumps({"position": position, "quotes": rows})
        position += len(rows)
    yield json.dumps({"position": position, "quotes": []})


async def replay(
    connection: WebSocketConnection,
    quotes: Sequence[Quote],
    position: int,
    *,
    pause: float,
    superseded: trio.Event,
) -> None:
    """Send the quotes from *position* on, as fast as the client reads them.

    It stops between two messages: a cancelled send would leave half a frame.
    """
    try:
        for message in messages(quotes, position):
            if superseded.is_set():
                return
            await connection.send_message(message)
            await trio.sleep(pause)
    except ConnectionClosed:
        pass


async def answer(
    request: WebSocketRequest, *, quotes: Sequence[Quote], pause: float
) -> None:
    """Serve one client until it leaves."""
    connection = await request.accept()
    superseded = trio.Event()
    async with trio.open_nursery() as nursery:
        try:
            while True:
                wanted = json.loads(await connection.get_message())
                superseded.set()
                superseded = trio.Event()
                send = partial(replay, pause=pause, superseded=superseded)
                nursery.start_soon(send, connection, quotes, int(wanted["from"]))
        except ConnectionClosed:
            nursery.cancel_scope.cancel()


async def serve(port: int, days_per_second: float) -> None:
    """Serve on localhost until standard input closes; print the port first."""
    pause = 1 / days_per_second if days_per_second else 0
    handler = partial(answer, quotes=load_quotes(), pause=pause)
    async with trio.open_nursery() as nursery:
        server = await nursery.start(
            partial(serve_websocket, handler, "127.0.0.1", port, ssl_context=None)
        )
        print(server.port, flush=True)
        await until_stdin_closes()
        nursery.cancel_scope.cancel()


def main() -> None:
    """Read the command line and serve."""
    parser = argparse.ArgumentParser(description=__doc__.partition("\n")[0])
    parser.add_argument("--port", type=int, default=0, help="0: any free one")
    parser.add_argument(
        "--days-per-second", type=float, default=0, help="0: as fast as they are read"
    )
    args = parser.parse_args()
    trio.run(serve, args.port, args.days_per_second)


if __name__ == "__main__":
    main()
