"""The socket of a state folder: what it answers, and what it does not put up with."""

# ruff: noqa: ASYNC240  # a test has the event loop to itself

from __future__ import annotations

import json
import os
import socket
from collections.abc import AsyncIterator, Callable
from contextlib import asynccontextmanager
from functools import partial
from pathlib import Path
from typing import Any

import attrs
import pytest
import trio
from trio.testing import MockClock, wait_all_tasks_blocked

from minions import (
    DefinitionError,
    Gru,
    GruOptions,
    Minion,
    Pipeline,
    Resource,
    Restart,
    minion_step,
    open_gru,
)
from minions.control import ControlError, find_owner
from minions.runtime import wire
from minions.runtime.listener import Listener
from minions.runtime.wire import MAX_REQUEST, address_of, listening_socket
from minions.store import open_lmdb_store


@pytest.fixture(params=["proc", "elsewhere"])
def folder(
    request: pytest.FixtureRequest, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> Path:
    """Return a folder with too long a path for a socket, with /proc and without."""
    if request.param == "elsewhere":
        monkeypatch.setattr(wire, "_FDS", tmp_path / "none")
    return tmp_path / ("s" * 130)


@asynccontextmanager
async def connected(folder: Path) -> AsyncIterator[trio.SocketStream]:
    """Connect, and read who it is."""
    with address_of(folder) as address:
        stream = await trio.open_unix_socket(address)
    async with stream:
        hello = json.loads(await read_line(stream))
        assert hello["minions"] == 1
        assert hello["pid"] == os.getpid()
        yield stream


async def read_line(stream: trio.SocketStream) -> bytes:
    received = b""
    while not received.endswith(b"\n"):
        data = await stream.receive_some()
        assert data, f"the other side has gone after {received!r}"
        received += data
    return received


async def ask(folder: Path, line: bytes) -> Any:
    async with connected(folder) as stream:
        await stream.send_all(line)
        return json.loads(await read_line(stream))


def request(do: str, **fields: object) -> bytes:
    return json.dumps({"version": 1, "do": do, **fields}).encode() + b"\n"


async def test_only_the_owner_may_connect(folder: Path) -> None:
    async with open_gru(folder):
        with address_of(folder) as address:
            path = Path(address)
            assert path.stat().st_mode & 0o777 == 0o600
            assert path.parent.stat().st_mode & 0o777 == 0o700

    assert not path.exists()
    assert not (folder / "minions.sock").exists()
    assert "socket" not in json.loads((folder / "minions.lock").read_text())


async def test_a_store_that_the_user_has_opened_is_reached_too(tmp_path: Path) -> None:
    async with open_lmdb_store(tmp_path / "s") as store, open_gru(store):
        assert (await ask(tmp_path / "s", request("live")))["ok"] is True


async def test_memory_has_no_socket(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.chdir(tmp_path)
    async with open_gru(None):
        assert list(tmp_path.iterdir()) == []


BAD: dict[str, tuple[bytes, str]] = {
    "no JSON": (b"hello\n", "expected one line of JSON"),
    "no object": (b"[1]\n", "expected a JSON object"),
    "nested": (b"[" * 60000 + b"\n", "expected one line of JSON"),
    "bytes": (b"\xff\xfe\n", "expected one line of JSON"),
    "no version": (b'{"do": "live"}\n', "expected a request of version 1"),
    "newer": (b'{"version": 2, "do": "live"}\n', "found 2"),
    "unknown": (request("fly"), "expected one of cancel, discard"),
    "no text": (request("redrive", id=3), "expected text in 'id', found 3"),
    "no number": (request("live", after="x"), "expected a number in 'after'"),
    "no id": (request("look", id="x"), "x"),
    "not there": (request("cancel", id="w7"), "w7"),
    "too long": (b" " * (MAX_REQUEST + 1) + b"\n", "expected at most 65536 bytes"),
}


@pytest.mark.parametrize("name", BAD)
async def test_a_bad_request_gets_an_error(tmp_path: Path, name: str) -> None:
    line, words = BAD[name]

    async with open_gru(tmp_path / "s"):
        reply = await ask(tmp_path / "s", line)

        assert reply["ok"] is False
        assert words in reply["message"]
        assert (await ask(tmp_path / "s", request("live")))["ok"] is True


async def test_who_says_nothing_is_dropped(
    tmp_path: Path, autojump_clock: MockClock
) -> None:
    """Neither silence, nor half a line, nor a reply that nobody takes is waited for."""
    folder = tmp_path / "s"
    async with open_gru(folder), connected(folder) as silent, connected(folder) as half:
        await half.send_all(b'{"version": 1')
        began = trio.current_time()

        assert await half.receive_some() == b""
        assert await silent.receive_some() == b""

        assert trio.current_time() - began == pytest.approx(10)


async def test_who_does_not_take_the_reply_is_dropped(
    tmp_path: Path, autojump_clock: MockClock
) -> None:
    class Wordy:
        async def obey(self, request: dict[str, Any]) -> object:
            return "x" * 10_000_000

    tmp_path.joinpath("minions.lock").write_text("{}")
    with listening_socket(tmp_path) as listening:
        listener = Listener(listening)
        async with trio.open_nursery() as nursery:
            nursery.start_soon(listener.serve, Wordy())
            async with connected(tmp_path) as stream:
                await stream.send_all(request("live"))
                await trio.sleep(11)
                with pytest.raises(AssertionError, match="has gone"):
                    await read_line(stream)
            nursery.cancel_scope.cancel()


async def test_who_goes_ends_what_it_has_asked_for(tmp_path: Path) -> None:
    ended = trio.Event()

    class Slow:
        async def obey(self, request: dict[str, Any]) -> object:
            try:
                await trio.sleep_forever()
            finally:
                ended.set()

    tmp_path.joinpath("minions.lock").write_text("{}")
    with listening_socket(tmp_path) as listening:
        listener = Listener(listening)
        async with trio.open_nursery() as nursery:
            nursery.start_soon(listener.serve, Slow())
            async with connected(tmp_path) as stream:
                await stream.send_all(request("wait"))
                await wait_all_tasks_blocked()
            await ended.wait()
            nursery.cancel_scope.cancel()


async def test_too_many_at_once_are_turned_away(tmp_path: Path) -> None:
    async with open_gru(tmp_path / "s"), trio.open_nursery() as nursery:
        entered = trio.Event()
        count = 0

        async def stay() -> None:
            nonlocal count
            async with connected(tmp_path / "s"):
                count += 1
                if count == 64:
                    entered.set()
                await trio.sleep_forever()

        for _ in range(64):
            nursery.start_soon(stay)
        await entered.wait()
        with address_of(tmp_path / "s") as address:
            stream = await trio.open_unix_socket(address)
        async with stream:
            assert await stream.receive_some() == b""
        nursery.cancel_scope.cancel()


async def test_an_error_inside_ends_one_connection_only(
    tmp_path: Path, caplog: pytest.LogCaptureFixture
) -> None:
    class Broken:
        async def obey(self, request: dict[str, Any]) -> object:
            if request["do"] == "crash":
                raise ZeroDivisionError("ours")
            if request["do"] == "exit":
                raise SystemExit(3)
            return object() if request["do"] == "odd" else 1

    tmp_path.joinpath("minions.lock").write_text("{}")
    with listening_socket(tmp_path) as listening:
        listener = Listener(listening)
        async with trio.open_nursery() as nursery:
            nursery.start_soon(listener.serve, Broken())

            for do in ("crash", "exit", "odd"):
                assert (await ask(tmp_path, request(do)))["ok"] is False
            assert (await ask(tmp_path, request("x")))["result"] == 1

            nursery.cancel_scope.cancel()
    assert caplog.text.count("a request over the socket has failed") == 3


async def test_a_stale_socket_is_replaced(folder: Path) -> None:
    """A killed process has left it; whoever holds the lock is the next to listen."""
    folder.mkdir()
    handle = os.open(folder, os.O_RDONLY)
    dead = socket.socket(socket.AF_UNIX)
    dead.bind(f"/proc/self/fd/{handle}/minions.sock")
    dead.close()
    os.close(handle)
    assert await trio.to_thread.run_sync(find_owner, folder) is None

    async with open_gru(folder):
        assert (await ask(folder, request("live")))["ok"] is True


async def test_without_sockets_gru_goes_on(
    tmp_path: Path, caplog: pytest.LogCaptureFixture, monkeypatch: pytest.MonkeyPatch
) -> None:
    def refuse(*args: object) -> None:
        raise PermissionError("no sockets here")

    monkeypatch.setattr(socket.socket, "bind", refuse)
    async with open_gru(tmp_path / "s"):
        assert "no socket can be made" in caplog.text


# The client's side; it blocks, and so stands in a thread.


@attrs.frozen
class Job:
    fails: bool = False


@attrs.define
class Nothing:
    pass


class Jobs(Pipeline[Job]):
    pass


mended: list[bool] = []


class Worker(Minion[Job, Nothing]):
    @minion_step
    async def work(self) -> None:
        if self.event.fails and not mended:
            raise ValueError("no")
        if not self.event.fails:
            await trio.sleep_forever()


In = Callable[..., Any]


@asynccontextmanager
async def working(folder: Path) -> AsyncIterator[tuple[Gru, In]]:
    """Run a workflow that hangs, w1, and one that is quarantined, w2."""
    mended.clear()
    async with open_gru(folder) as gru:
        await gru.start_minion(Worker, Jobs)
        await gru.emit(Jobs, Job())
        (failed,) = await gru.emit(Jobs, Job(fails=True))
        assert failed == "w2"
        await gru.workflows.wait(failed)
        owner = await trio.to_thread.run_sync(find_owner, folder)
        assert owner is not None
        assert (owner.pid, owner.host) == (os.getpid(), socket.gethostname())

        async def ask(do: str, **fields: object) -> Any:
            return await trio.to_thread.run_sync(partial(owner.ask, do, **fields))

        yield gru, ask
        gru.cut_over()


async def test_what_is_in_memory_is_shown(folder: Path) -> None:
    async with working(folder) as (_, ask):
        ((seq, identity, state, step, attempt, since, until),) = await ask("live")

        assert (seq, state, step, attempt, until) == (1, "running", "", 0, None)
        assert identity.startswith("worker-")
        assert since > 1e9
        assert await ask("live", after=1) == []
        assert (await ask("look", id="w1"))["why"].startswith("runs its first step")
        assert await ask("look", id="w2") is None


async def test_a_workflow_is_redriven_and_waited_for(folder: Path) -> None:
    async with working(folder) as (_, ask):
        await ask("redrive", id="w2")
        again = await ask("wait", id="w2")
        assert (again["state"], again["reason"]) == (
            "quarantined",
            "failed: ValueError: no",
        )

        mended.append(True)
        await ask("redrive", id="w2")
        with pytest.raises(ControlError) as refused:
            await ask("redrive", id="w2")
        assert refused.value.kind == "KeyError"


async def test_a_workflow_that_nothing_runs_is_not_waited_for(tmp_path: Path) -> None:
    async with working(tmp_path / "s") as (gru, ask):
        (runner,) = gru._orchestrations.by_id.values()
        assert await ask("wait", id="w2", dry=True) is None
        await runner.stop("cutover")
        # It has ended, as far as it can.
        assert (await ask("wait", id="w2"))["state"] == "quarantined"

        with trio.fail_after(5):
            for workflow, dry in (("w1", False), ("w2", True)):
                with pytest.raises(ControlError, match="it was paused") as refused:
                    await ask("wait", id=workflow, dry=dry)
                assert refused.value.kind == "NotRunningError"


async def test_a_wait_ends_when_its_orchestration_stops(tmp_path: Path) -> None:
    async with working(tmp_path / "s") as (gru, _):
        (runner,) = gru._orchestrations.by_id.values()
        replies: list[Any] = []

        async def wait() -> None:
            replies.append(await ask(tmp_path / "s", request("wait", id="w1")))

        with trio.fail_after(5):
            async with trio.open_nursery() as nursery:
                nursery.start_soon(wait)
                await wait_all_tasks_blocked()
                await runner.stop("cutover")

        assert replies[0]["kind"] == "NotRunningError"
        assert "w1: expected that its orchestration worker-" in replies[0]["message"]


class Shop(Resource):
    restart = Restart(max_restarts=0)
    closes = trio.Event()

    async def run(self) -> None:
        await self.closes.wait()


class Buyer(Minion[Job, Nothing]):
    shop: Shop

    @minion_step
    async def buy(self) -> None:
        await trio.sleep_forever()


async def test_a_wait_ends_when_what_is_needed_fails(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(Shop, "closes", trio.Event())
    replies: list[Any] = []

    async def wait() -> None:
        replies.append(await ask(tmp_path / "s", request("wait", id="w1")))

    async with open_gru(
        tmp_path / "s", options=GruOptions(wait_for_failed=True)
    ) as gru:
        await gru.start_minion(Buyer, Jobs)
        await gru.emit(Jobs, Job())
        with trio.fail_after(5):
            async with trio.open_nursery() as nursery:
                nursery.start_soon(wait)
                await wait_all_tasks_blocked()
                Shop.closes.set()
            await wait()
        gru.cut_over()
        await gru.stop()

    for reply in replies:
        assert reply["kind"] == "NotRunningError"
        assert "Shop has failed" in reply["message"]


async def test_workflows_are_ended(folder: Path) -> None:
    async with working(folder) as (gru, ask):
        await ask("discard", id="w2")
        await ask("cancel", id="w1")

        assert [workflow async for workflow in gru.workflows.list()] == []
        for do in ("discard", "cancel"):
            with pytest.raises(ControlError, match="w2"):
                await ask(do, id="w2")


async def test_what_runs_is_not_forgotten(folder: Path) -> None:
    async with working(folder) as (gru, ask):
        (identity,) = gru.snapshot().orchestrations
        for dry in (True, False):
            with pytest.raises(ControlError, match="found that it") as refused:
                await ask("forget", id=identity, dry=dry)
            assert refused.value.kind == "AlreadyRunningError"
            with pytest.raises(ControlError) as unknown:
                await ask("forget", id="other", dry=dry)
            assert unknown.value.kind == DefinitionError.__name__
            assert str(unknown.value).endswith(f"there are: {identity} (running)")

    async with open_gru(folder):
        owner = await trio.to_thread.run_sync(find_owner, folder)
        assert owner is not None
        for dry in (True, False):
            other = partial(owner.ask, "forget", id="other", dry=dry)
            with pytest.raises(ControlError, match=f"there are: {identity}$"):
                await trio.to_thread.run_sync(other)
            forget = partial(owner.ask, "forget", id=identity, dry=dry)
            assert await trio.to_thread.run_sync(forget) == 1
        # Its workflow stays, and is no subscription.
        with pytest.raises(ControlError, match=r"there are: none$"):
            await trio.to_thread.run_sync(other)


async def test_an_owner_that_has_ended_is_named(folder: Path) -> None:
    async with open_gru(folder):
        owner = await trio.to_thread.run_sync(find_owner, folder)
    assert owner is not None

    with pytest.raises(ControlError, match="nothing was asked of it") as gone:
        owner.ask("live")
    assert gone.value.kind == ""
    assert find_owner(folder) is None


def answering(folder: Path, *lines: bytes) -> Any:
    """Return a program that says these lines to one who connects."""

    async def serve(task_status: Any) -> None:
        with listening_socket(folder) as listening:
            copy = trio.socket.from_stdlib_socket(listening.dup())
            async with trio.SocketListener(copy) as server:
                task_status.started()
                while True:
                    async with await server.accept() as stream:
                        for line in lines:
                            await stream.send_all(line)

    return serve


HELLO = b'{"minions": 1, "pid": 7, "host": "h", "started": "s"}\n'


@pytest.mark.parametrize(
    ("lines", "words"),
    [
        ([b"220 smtp\n"], "expected a message of minions"),
        ([b'{"minions": 3}\n'], "found 3"),
    ],
)
async def test_a_strange_owner_is_refused(
    tmp_path: Path, lines: list[bytes], words: str
) -> None:
    async with trio.open_nursery() as nursery:
        tmp_path.joinpath("minions.lock").write_text("{}")
        await nursery.start(answering(tmp_path, *lines))

        with pytest.raises(ControlError, match=words):
            await trio.to_thread.run_sync(find_owner, tmp_path)
        nursery.cancel_scope.cancel()


async def test_an_owner_that_ends_in_the_middle_is_told(tmp_path: Path) -> None:
    async with trio.open_nursery() as nursery:
        tmp_path.joinpath("minions.lock").write_text("{}")
        await nursery.start(answering(tmp_path, HELLO))
        owner = await trio.to_thread.run_sync(find_owner, tmp_path)
        assert owner is not None
        assert owner.pid == 7

        with pytest.raises(ControlError, match="is not known; look") as gone:
            await trio.to_thread.run_sync(owner.ask, "cancel")
        assert gone.value.kind == ""
        nursery.cancel_scope.cancel()


async def test_an_owner_whose_loop_is_blocked_is_told(tmp_path: Path) -> None:
    tmp_path.joinpath("minions.lock").write_text("{}")
    with (
        listening_socket(tmp_path),
        pytest.raises(ControlError, match="its event loop may be blocked"),
    ):
        find_owner(tmp_path, patience=0.01)
