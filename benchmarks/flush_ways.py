"""Four ways to make a batch of writes durable, as ``flushes.py`` compares them.

``sync``
    LMDB as the product uses it: the pages, a flush, and the meta page through a
    descriptor of its own that is opened with ``O_DSYNC``.
``nometasync``
    ``MDB_NOMETASYNC``: the pages, a flush, and the meta page, which the flush of the
    next commit makes durable.
``log``
    Each batch is appended to a log and flushed there; LMDB takes it without a flush
    and is flushed once a second or when the log is full, which then begins anew.
``held``
    The same log, but LMDB takes nothing before that moment, and then all of it in one
    flushed commit; until then a table in memory answers reads.

The log is written over and over in a file that has its length from the beginning, so
that a flush of its data has no new length to record. What was written in an
earlier round lies behind the last frame, and each frame carries a number: one that
does not follow the one before it ends the log, as a wrong checksum does. LMDB holds
the number of the last batch that it has taken; frames up to it are passed over.
"""

from __future__ import annotations

import os
import struct
import time
import zlib
from collections.abc import Iterator, Sequence
from pathlib import Path

import lmdb
import msgspec

Write = tuple[bytes, bytes | None]
Content = dict[bytes, bytes]

LOG_SIZE = 16 * 2**20
PATIENCE = 1.0
MAP_SIZE = 2**30
APPLIED = b"applied"
# Length of the payload, checksum of the rest, number of the frame.
HEADER = struct.Struct("<IIQ")

_encode = msgspec.msgpack.Encoder().encode
_decode = msgspec.msgpack.Decoder(list[tuple[bytes, bytes | None]]).decode


class Log:
    """Frames of batches, one behind the other, in a file of a fixed length."""

    def __init__(self, path: Path, size: int = LOG_SIZE) -> None:
        self._size, self._end = size, 0
        self._fd = os.open(path, os.O_RDWR | os.O_CREAT, 0o600)
        if os.fstat(self._fd).st_size < size:
            # Zeros that are written, not a hole: its blocks would be recorded later.
            os.pwrite(self._fd, bytes(size), 0)
            os.fsync(self._fd)
            folder = os.open(path.parent, os.O_RDONLY)
            os.fsync(folder)
            os.close(folder)

    def frames(self) -> Iterator[tuple[int, list[Write]]]:
        """Read the frames until one is torn, or of an earlier round."""
        data = os.pread(self._fd, self._size, 0)
        offset, before = 0, None
        while offset + HEADER.size <= len(data):
            length, checksum, number = HEADER.unpack_from(data, offset)
            end = offset + HEADER.size + length
            if length == 0 or end > len(data) or before not in {None, number - 1}:
                return
            if zlib.crc32(data[offset + 8 : end]) != checksum:
                return
            yield number, list(_decode(data[offset + HEADER.size : end]))
            offset, before = end, number

    def append(self, number: int, payload: bytes) -> None:
        """Write a frame and flush it."""
        rest = struct.pack("<Q", number) + payload
        frame = struct.pack("<II", len(payload), zlib.crc32(rest)) + rest
        written = os.pwrite(self._fd, frame, self._end)
        assert written == len(frame)
        os.fdatasync(self._fd)
        self._end += len(frame)

    def has_room(self, payload: bytes) -> bool:
        if HEADER.size + len(payload) > self._size:
            raise ValueError(f"a batch of {len(payload)} bytes for {self._size}")
        return self._end + HEADER.size + len(payload) <= self._size

    def begin_anew(self) -> None:
        """Write over what is there from now on; LMDB has it."""
        self._end = 0

    def close(self) -> None:
        os.close(self._fd)


class Way:
    """LMDB, flushed at each commit."""

    options: dict[str, bool] = {}  # noqa: RUF012  # a subclass has its own

    def __init__(self, folder: Path) -> None:
        self._env = lmdb.open(
            str(folder), map_size=MAP_SIZE, lib_version=0, **self.options
        )

    def write(self, batch: Sequence[Write]) -> None:
        """Return when the batch is as safe as this way makes it."""
        with self._env.begin(write=True) as txn:
            _apply(txn, batch)

    def content(self) -> Content:
        """Return all that is there."""
        with self._env.begin() as txn:
            found = {bytes(k): bytes(v) for k, v in txn.cursor()}
        found.pop(APPLIED, None)
        return found

    def close(self) -> None:
        self._env.close()


class NoMetaSync(Way):
    options = {"metasync": False}  # noqa: RUF012


class Logged(Way):
    """A log in front of LMDB that is not flushed."""

    options = {"sync": False, "metasync": False}  # noqa: RUF012

    def __init__(self, folder: Path, log_size: int = LOG_SIZE) -> None:
        super().__init__(folder)
        self._log = Log(folder / "log", log_size)
        with self._env.begin() as txn:
            self._number = int.from_bytes(txn.get(APPLIED, b""))
        for number, batch in self._log.frames():
            if number > self._number:
                self._number = number
                self._take(batch)
        self.checkpoint()

    def write(self, batch: Sequence[Write]) -> None:
        payload = _encode(batch)
        if not self._log.has_room(payload) or time.monotonic() > self._due:
            self.checkpoint()
        self._number += 1
        self._log.append(self._number, payload)
        self._take(batch)

    def checkpoint(self) -> None:
        """Make LMDB durable, and begin the log anew."""
        self._settle()
        self._log.begin_anew()
        self._due = time.monotonic() + PATIENCE

    def _take(self, batch: Sequence[Write]) -> None:
        with self._env.begin(write=True) as txn:
            _apply(txn, batch)
            txn.put(APPLIED, self._number.to_bytes(8))

    def _settle(self) -> None:
        self._env.sync(True)

    def close(self) -> None:
        self.checkpoint()
        self._log.close()
        super().close()


class Held(Logged):
    """A log in front of LMDB that is written at a checkpoint alone."""

    options = {}  # noqa: RUF012

    def __init__(self, folder: Path, log_size: int = LOG_SIZE) -> None:
        self._held: dict[bytes, bytes | None] = {}
        super().__init__(folder, log_size)

    def _take(self, batch: Sequence[Write]) -> None:
        self._held.update(batch)

    def _settle(self) -> None:
        if self._held:
            super()._take(list(self._held.items()))
            self._held.clear()

    def content(self) -> Content:
        found = super().content() | self._held
        return {key: value for key, value in found.items() if value is not None}


WAYS: dict[str, type[Way]] = {
    "sync": Way,
    "nometasync": NoMetaSync,
    "log": Logged,
    "held": Held,
}


def _apply(txn: lmdb.Transaction, batch: Sequence[Write]) -> None:
    for key, value in batch:
        txn.delete(key) if value is None else txn.put(key, value)
