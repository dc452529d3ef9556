"""The side of the socket that asks; see :mod:`minions.runtime.wire`."""

from __future__ import annotations

import contextlib
import socket
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import attrs

from minions.runtime.wire import MAX_REPLY, VERSION, address_of, read_line, written

__all__ = ["ControlError", "Owner", "find_owner"]

# Seconds for a process to say who it is: its event loop may be busy.
_PATIENCE = 10.0


class ControlError(Exception):
    """The process that uses a state folder did not do what it was asked for."""

    def __init__(self, message: str, kind: str = "") -> None:
        super().__init__(message)
        self.kind = kind
        """The class of the error that it reports; empty if it has not answered."""


@attrs.frozen
class Owner:
    """The process that uses a state folder."""

    folder: Path
    pid: int
    host: str
    started: str
    """When it opened the folder, as ISO 8601 text."""

    _patience: float = _PATIENCE

    def ask(self, do: str, **fields: object) -> Any:
        """Ask for something; return what it replies.

        Waits as long as the process needs for it.

        Raises:
            ControlError: It refuses, with the class of its error as ``kind``; or it
                has ended or does not answer.
        """
        with _connected(self.folder, self._patience) as link:
            if link is None:
                raise ControlError(
                    f"{self.folder}: expected that process {self.pid} answers, found"
                    " that it has ended; nothing was asked of it: try again"
                )
            try:
                link.socket.settimeout(None)
                request = {"version": VERSION, "do": do, **fields}
                link.socket.sendall(written(request))
                reply = link.read()
            except OSError as exc:
                reply = None
                cause: Exception | None = exc
            else:
                cause = None
        if reply is None:
            raise ControlError(
                f"{self.folder}: expected a reply of process {self.pid}, found that it"
                f" has ended before: whether it did what it was asked for ({do}) is"
                " not known; look, and try again"
            ) from cause
        if reply.get("ok") is True:
            return reply.get("result")
        raise ControlError(str(reply.get("message")), str(reply.get("kind")))


def find_owner(folder: Path, *, patience: float = _PATIENCE) -> Owner | None:
    """Return the process that uses a state folder; ``None``: none can be reached.

    Args:
        folder: The folder.
        patience: Seconds for it to say who it is.

    Raises:
        ControlError: There is one that does not answer, or speaks otherwise.
    """
    with _connected(folder, patience) as link:
        if link is None:
            return None
        hello = link.hello
        if hello.get("minions") != VERSION:
            raise ControlError(
                f"{folder}: expected a process that speaks version {VERSION}, found"
                f" {hello.get('minions')!r}; use the version of minions that runs it"
            )
        pid = hello.get("pid")
        return Owner(
            folder,
            pid if isinstance(pid, int) else 0,
            str(hello.get("host")),
            str(hello.get("started")),
            patience,
        )


@attrs.define(eq=False)
class _Link:
    """A connection on which the process has said who it is."""

    socket: socket.socket
    hello: dict[str, Any] = attrs.field(factory=dict)
    _received: bytearray = attrs.field(factory=bytearray)

    def read(self) -> dict[str, Any] | None:
        """Return the next message; ``None``: the other side has gone.

        Raises:
            ControlError: It is none.
            OSError: The connection is broken, or nothing came in time.
        """
        while b"\n" not in self._received:
            data = self.socket.recv(65536)
            if not data:
                return None
            self._received += data
            if len(self._received) > MAX_REPLY:
                raise ControlError(f"expected at most {MAX_REPLY} bytes, found more")
        line, _, rest = self._received.partition(b"\n")
        self._received = rest
        try:
            return read_line(bytes(line))
        except ValueError as exc:
            raise ControlError(f"expected a message of minions: {exc}") from exc


@contextlib.contextmanager
def _connected(folder: Path, patience: float) -> Iterator[_Link | None]:
    """Connect; ``None``: nobody listens."""
    with socket.socket(socket.AF_UNIX, socket.SOCK_STREAM) as sock:
        sock.settimeout(patience)
        link = _Link(sock)
        hello = None
        try:
            with address_of(folder) as address:
                sock.connect(address)
            hello = link.read()
        # Blocked: so many wait that no more may.
        except (TimeoutError, BlockingIOError) as exc:
            raise ControlError(
                f"{folder}: expected that the process that uses it answers within"
                f" {patience:g} s, found that it does not: its event loop may be"
                " blocked; see what it does, and try again"
            ) from exc
        except PermissionError as exc:
            raise ControlError(
                f"{folder}: expected to be let in by the process that uses it, found:"
                f" {exc}; be the user that runs it"
            ) from exc
        except (FileNotFoundError, ConnectionError, NotADirectoryError):
            pass  # there is none, or it has just ended
        link.hello = hello or {}
        yield link if hello is not None else None
