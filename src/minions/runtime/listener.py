"""Listens on the socket of a state folder, on behalf of the Gru that holds it.

Nothing that a client does or leaves undone holds Gru up or ends it: a request has a
greatest length and a deadline, a reply has a deadline, and what goes wrong with one
connection ends that one.
"""

from __future__ import annotations

import contextlib
import logging
import os
import socket
from collections.abc import Iterator
from datetime import UTC, datetime
from functools import partial
from pathlib import Path
from typing import Any, Protocol

import attrs
import trio

from minions.errors import MinionsError
from minions.runtime.wire import (
    MAX_REQUEST,
    VERSION,
    listening_socket,
    read_line,
    written,
)

__all__ = ["Listener", "Obedient", "listener_in"]

# Seconds for a request to come, and for a reply to go.
_PATIENCE = 10.0
# Connections at once; who waits for a workflow keeps one.
_MOST = 64
_log = logging.getLogger("minions.control")


class Obedient(Protocol):
    """Who does what a request says."""

    async def obey(self, request: dict[str, Any], /) -> object:
        """Do it, and return what JSON can hold."""


@contextlib.contextmanager
def listener_in(folder: Path | None) -> Iterator[Listener | None]:
    """Listen in a state folder; ``None``: there is none, or it takes no sockets."""
    with contextlib.ExitStack() as opened:
        listener = None
        if folder is not None:
            try:
                listener = Listener(opened.enter_context(listening_socket(folder)))
            except OSError as exc:
                _log.warning(
                    "%s: no socket can be made, so that commands are refused while"
                    " this process runs: %s",
                    folder,
                    exc,
                )
        yield listener


@attrs.define(eq=False)
class Listener:
    """The socket of one state folder."""

    _socket: socket.socket
    _started: datetime = attrs.field(factory=lambda: datetime.now(UTC))
    _open: int = 0

    @trio.lowlevel.enable_ki_protection
    async def serve(self, owner: Obedient) -> None:
        """Let *owner* obey what comes, for ever."""
        # One of its own, which trio may close: the socket is its opener's.
        copy = trio.socket.from_stdlib_socket(self._socket.dup())
        async with trio.SocketListener(copy) as listener:
            await trio.serve_listeners(partial(self._serve_one, owner), [listener])

    async def _serve_one(self, owner: Obedient, stream: trio.SocketStream) -> None:
        self._open += 1
        try:
            async with stream:
                if self._open <= _MOST:
                    await self._converse(stream, owner)
        except (trio.BrokenResourceError, trio.ClosedResourceError, trio.TooSlowError):
            pass  # whoever it was has gone, or says nothing
        except Exception:  # noqa: BLE001  # it ends this connection only
            _log.exception("a request over the socket could not be served")
        finally:
            self._open -= 1

    async def _converse(self, stream: trio.SocketStream, owner: Obedient) -> None:
        hello = {
            "minions": VERSION,
            "pid": os.getpid(),
            "host": socket.gethostname(),
            "started": self._started.isoformat(timespec="seconds"),
        }
        with trio.fail_after(_PATIENCE):
            await stream.send_all(written(hello))
            line = await _receive_line(stream)
        if line is None:
            return
        reply = await _while_there(stream, line, owner)
        if reply is not None:
            with trio.fail_after(_PATIENCE):
                await stream.send_all(reply)


async def _receive_line(stream: trio.SocketStream) -> bytes | None:
    """Return the first line; ``None``: nobody is there any more."""
    received = bytearray()
    while b"\n" not in received and len(received) <= MAX_REQUEST:
        data = await stream.receive_some(MAX_REQUEST)
        if not data:
            return None
        received += data
    return bytes(received)


async def _while_there(
    stream: trio.SocketStream, line: bytes, owner: Obedient
) -> bytes | None:
    """Obey while the other side is there; ``None``: it has gone meanwhile."""
    replies: list[bytes] = []
    async with trio.open_nursery() as nursery:

        async def watch() -> None:
            with contextlib.suppress(trio.BrokenResourceError):
                # More than one request is a misuse; it ends here, too.
                await stream.receive_some(1)
            nursery.cancel_scope.cancel(reason="who asked has gone")

        nursery.start_soon(watch, name="minions/control/watch")
        replies.append(await _obeyed(line, owner))
        nursery.cancel_scope.cancel(reason="it is done")
    return replies[0] if replies else None


async def _obeyed(line: bytes, owner: Obedient) -> bytes:
    """Obey one request; return the line of the reply."""
    try:
        if len(line) > MAX_REQUEST:
            raise ValueError(f"expected at most {MAX_REQUEST} bytes, found more")
        result = await owner.obey(read_line(line))
        return written({"version": VERSION, "ok": True, "result": result})
    except (MinionsError, ValueError, KeyError) as exc:
        # The words of a KeyError stand in quotes otherwise.
        message = str(exc.args[0]) if isinstance(exc, KeyError) else str(exc)
        kind = type(exc).__name__
    except trio.BusyResourceError as exc:
        kind, message = type(exc).__name__, str(exc)
    except (trio.Cancelled, KeyboardInterrupt):
        raise
    # A user's class may raise anything when an end is shown.
    except BaseException as exc:  # noqa: BLE001  # told to whoever asked
        _log.exception("a request over the socket has failed")
        kind, message = type(exc).__name__, str(exc)
    failed = {"version": VERSION, "ok": False, "kind": kind, "message": message}
    return written(failed)
