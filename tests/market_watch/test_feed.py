from __future__ import annotations

import json
from collections.abc import AsyncGenerator, Awaitable, Callable
from contextlib import asynccontextmanager, suppress
from datetime import date, timedelta
from functools import partial

import pytest
import trio
from trio_websocket import serve_websocket

from feed import FeedClient, FeedSettings, open_connection
from feed_server import answer, messages
from minions import ComponentBroken
from quotes import Quote, load_quotes
from system import open_feed

QUOTES = [
    Quote(symbol, date(2020, 1, 1) + timedelta(day), float(day))
    for day in range(40)
    for symbol in ("A", "B", "C")
]


@asynccontextmanager
async def serving(quotes: list[Quote]) -> AsyncGenerator[str]:
    async with trio.open_nursery() as nursery:
        handler = partial(answer, quotes=quotes, pause=0)
        server = await nursery.start(
            partial(serve_websocket, handler, "127.0.0.1", 0, ssl_context=None)
        )
        yield f"ws://127.0.0.1:{server.port}"
        nursery.cancel_scope.cancel()


@asynccontextmanager
async def open_client(url: str) -> AsyncGenerator[FeedClient]:
    client = FeedClient()
    client.config = FeedSettings(url)
    async with client:
        yield client


async def rest(client: FeedClient) -> list[Quote]:
    result: list[Quote] = []
    while quotes := await client.receive():
        result += quotes
    return result


def test_messages_hold_one_day_each_and_end_without_quotes() -> None:
    parsed = [json.loads(message) for message in messages(QUOTES, 116)]

    assert [message["position"] for message in parsed] == [116, 117, 120]
    assert [len(message["quotes"]) for message in parsed] == [1, 3, 0]


@pytest.mark.parametrize("position", [0, 1, 60, 119, 120])
async def test_client_gets_all_from_the_position_it_asks_for(position: int) -> None:
    async with serving(QUOTES) as url, open_client(url) as client:
        await client.ask(position)

        assert await rest(client) == QUOTES[position:]
        assert client.position == 120


async def test_client_may_ask_again_while_an_answer_comes() -> None:
    """What the first request left on the way is not taken for the second's."""
    async with serving(QUOTES) as url, open_client(url) as client:
        await client.ask(0)
        for _ in range(5):
            await client.receive()

        await client.ask(7)

        assert await rest(client) == QUOTES[7:]


async def test_client_that_was_cancelled_can_ask_again() -> None:
    async with serving(QUOTES) as url, open_client(url) as client:
        await client.ask(0)
        await client.receive()
        with trio.CancelScope() as scope:
            scope.cancel()
            await client.receive()

        await client.ask(client.position)

        assert await rest(client) == QUOTES[3:]


async def test_server_that_leaves_breaks_the_component() -> None:
    async def serve(
        *, task_status: trio.TaskStatus[tuple[str, trio.CancelScope]]
    ) -> None:
        with trio.CancelScope() as scope:
            async with serving([]) as url:
                task_status.started((url, scope))
                await trio.sleep_forever()

    async with trio.open_nursery() as nursery:
        url, server = await nursery.start(serve)
        async with open_client(url) as client:
            await client.ask(0)
            assert await client.receive() == []

            server.cancel()

            with pytest.raises(ComponentBroken, match="the feed is gone"):
                await client.receive()
            with pytest.raises(ComponentBroken, match="the feed is gone"):
                await client.ask(0)


@asynccontextmanager
async def accepting(
    handler: Callable[[trio.SocketStream], Awaitable[object]],
) -> AsyncGenerator[str]:
    async with trio.open_nursery() as nursery:
        (listener,) = await nursery.start(
            partial(trio.serve_tcp, handler, 0, host="127.0.0.1")
        )
        yield f"ws://127.0.0.1:{listener.socket.getsockname()[1]}"
        nursery.cancel_scope.cancel()


async def test_server_that_hangs_up_in_the_handshake_is_a_failed_start() -> None:
    async with accepting(trio.SocketStream.receive_some) as url:
        with pytest.RaisesGroup(trio.TooSlowError):
            async with open_connection(url, handshake_timeout=0.05):
                pytest.fail("the server hung up")


@pytest.mark.parametrize("ours", [0.05, 60.0])
async def test_deadline_ends_a_handshake_that_is_never_answered(ours: float) -> None:
    """Our own deadline or one around us: the server sees the stream's end."""
    ended = trio.Event()

    async def say_nothing(stream: trio.SocketStream) -> None:
        async for _ in stream:
            pass
        ended.set()

    async with accepting(say_nothing) as url:
        with suppress(BaseExceptionGroup), trio.move_on_after(0.1):
            async with open_connection(url, handshake_timeout=ours):
                pytest.fail("the handshake was never answered")

        with trio.fail_after(5):
            await ended.wait()


@pytest.mark.slow
async def test_feed_process_serves_the_real_quotes_and_ends_with_its_input() -> None:
    quotes = load_quotes()

    with trio.fail_after(60):
        async with open_feed() as url, open_client(url) as client:
            await client.ask(12_000)
            assert await rest(client) == quotes[12_000:]
