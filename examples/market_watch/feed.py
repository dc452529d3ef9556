"""The way in: a connection to the feed, and the pipeline that reads from it."""

from __future__ import annotations

import json
from collections.abc import AsyncGenerator
from contextlib import AsyncExitStack, asynccontextmanager
from datetime import date
from typing import Self
from urllib.parse import urlsplit

import attrs
import trio
from trio_websocket import ConnectionClosed, WebSocketConnection, wrap_client_stream

from minions import ComponentBroken, Pipeline, Resource
from quotes import Quote


@attrs.frozen
class FeedSettings:
    """Where the feed is."""

    url: str = "ws://127.0.0.1:8765"
    handshake_timeout: float = 5.0
    """Seconds for which the server may leave a new connection unanswered."""


@asynccontextmanager
async def open_connection(
    url: str, handshake_timeout: float
) -> AsyncGenerator[WebSocketConnection]:
    """Connect to a WebSocket server; close the connection at the end of the block.

    The socket is closed on every way out.  In trio-websocket 0.12 a cancelled
    handshake of its own ``open_websocket`` leaks it, and its ``connect_timeout``
    does not end one; here the stream has an owner before the handshake begins.  A
    server that hangs up instead of answering is noticed by the timeout only.

    The block owns a nursery: the reader that it runs must still be alive while the
    closing handshake is under way, and a component's own nursery no longer is.
    """
    address = urlsplit(url)
    host, port = address.hostname or "", address.port or 80
    stream = await trio.open_tcp_stream(host, port)
    async with stream, trio.open_nursery() as nursery:
        with trio.fail_after(handshake_timeout):
            connection = await wrap_client_stream(
                nursery, stream, f"{host}:{port}", address.path or "/"
            )
        yield connection
        with trio.move_on_after(1):
            await connection.aclose()
        nursery.cancel_scope.cancel()


class FeedClient(Resource):
    """A connection to the feed server.

    A lost connection breaks this component; its next incarnation has a new one.
    """

    config: FeedSettings
    position = 0
    """How many quotes come before the next one that is expected."""

    async def __aenter__(self) -> Self:
        async with AsyncExitStack() as stack:
            self._connection = await stack.enter_async_context(
                open_connection(self.config.url, self.config.handshake_timeout)
            )
            self._closing = stack.pop_all()
        return self

    async def __aexit__(self, *exc_info: object) -> None:
        await self._closing.aclose()

    async def ask(self, position: int) -> None:
        """Ask for the quotes from *position* on."""
        self.position = position
        try:
            await self._connection.send_message(json.dumps({"from": position}))
        except ConnectionClosed as exc:
            raise ComponentBroken(f"the feed is gone: {exc.reason}") from exc

    async def receive(self) -> list[Quote]:
        """Wait for the quotes of the next day; an empty list is the end."""
        while True:
            try:
                message = json.loads(await self._connection.get_message())
            except ConnectionClosed as exc:
                raise ComponentBroken(f"the feed is gone: {exc.reason}") from exc
            # What an earlier request asked for may still be on its way.
            if message["position"] == self.position:
                break
        self.position += len(message["quotes"])
        return [
            Quote(symbol, date.fromisoformat(day), price)
            for symbol, day, price in message["quotes"]
        ]


class Quotes(Pipeline[Quote], cursor=int):
    """All quotes of the feed, each exactly once.

    The cursor is the number of quotes taken.  It is saved in the same commit as
    the workflows that the quotes start, so it cannot disagree with them.
    """

    feed: FeedClient

    async def run(self) -> None:
        """Go on behind the last quote that was taken, until the feed ends."""
        await self.feed.ask(self.cursor or 0)
        while quotes := await self.feed.receive():
            await self.emit_many(quotes, cursor=self.feed.position)
