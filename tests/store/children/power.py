"""Records the writes to a folder, and opens what a loss of power may leave of it.

``power.py record FOLDER DURABILITY SEED COMMITS`` writes to a folder from a seed and
says after each commit what is there; strace writes down what LMDB does meanwhile.
``power.py open TRACE FOLDER SCRATCH FIRST`` builds one image after
another, of the folder as it was before, opens it, and says what it found.  An image
that ends the process is the one that was begun last.

Theory: a write is on disk for certain once a later flush has returned, or itself if
its file was opened with ``O_DSYNC``.  Until then the disk and the operating system
may have written it or not, in any order, in pieces of a page; and the length of the
file may be that of the missing pieces.
"""

from __future__ import annotations

import hashlib
import itertools
import json
import os
import random
import re
import shutil
import sys
from collections.abc import Iterable, Iterator
from dataclasses import dataclass, field
from pathlib import Path

import trio
import trio.testing

from minions.errors import StoreError
from minions.store import Keyspace, Write, open_lmdb_store

PAGE = 4096
WINDOW = 8
SPACES = [Keyspace.RECORD, Keyspace.QUARANTINE, Keyspace.META]
FILL = bytes(3000)

Content = dict[tuple[str, bytes], bytes]
Piece = tuple[int, bytes]


def say(*words: object) -> None:
    os.write(1, (" ".join(map(str, words)) + "\n").encode())


def digest_of(content: Content) -> str:
    return hashlib.sha256(repr(sorted(content.items())).encode()).hexdigest()[:16]


def some_writes(rng: random.Random, content: Content) -> list[Write]:
    """Choose puts, replacements and deletes, mostly of a few keys."""
    writes: list[Write] = []
    for _ in range(rng.choice([1, 1, 2, 5, 20])):
        space, key = rng.choice(SPACES), b"%03d" % rng.randrange(60)
        value = None
        if rng.random() < 0.75:
            value = rng.randbytes(rng.choice([8, 8, 200, 200, 1500, 5000]))
        writes.append((space, key, value))
        if value is None:
            content.pop((space.value, key), None)
        else:
            content[space.value, key] = value
    return writes


async def record(name: str, durability: str, seed: str, commits: str) -> None:
    folder, rng = Path(name), random.Random(seed)  # noqa: S311  # no secret
    content: Content = {}
    async with open_lmdb_store(folder, durability=durability) as store:  # type: ignore[arg-type]
        for space in SPACES:
            for key, value in await store.page(space):
                content[space.value, key] = value
        shutil.copy(folder / "minions.json", f"{folder}.open.json")
        say("saved", digest_of(content))
        for _ in range(int(commits)):
            writes = some_writes(rng, content)
            # What is under way may be there, too.
            say("begun", digest_of(content))
            await store.write(writes)
            say("saved", digest_of(content))


@dataclass(frozen=True)
class Image:
    """A data file as it may be, and what it may hold."""

    base: bytes
    writes: tuple[Piece, ...]
    length: int
    """At least; what is missing is zeros."""
    allowed: frozenset[str] = frozenset()


@dataclass
class Event:
    kind: str
    """``write``, ``flush``, ``marked``, ``begun`` or ``saved``."""
    piece: Piece = (0, b"")
    digest: str = ""
    durable: bool = False


@dataclass
class Trace:
    """Reads what strace wrote with ``-y -xx``."""

    events: list[Event] = field(default_factory=list)
    _durable: set[str] = field(default_factory=set)
    _place: int = 0

    CALL = re.compile(r"^(\w+)\((\d+|AT_FDCWD)?<?([^>]*)>?(.*)\) += (-?\d+)")
    TEXT = re.compile(r'"((?:\\x[0-9a-f]{2})*)"')

    def read(self, path: Path) -> list[Event]:
        for line in path.read_text().splitlines():
            if (found := self.CALL.match(line)) is not None:
                self._take(*found.groups())
        return self.events

    def _take(self, call: str, fd: str, file: str, rest: str, result: str) -> None:
        texts = [bytes.fromhex(t.replace("\\x", "")) for t in self.TEXT.findall(rest)]
        name = texts[0] if texts else b""
        if call == "openat" and name.endswith(b"data.mdb") and int(result) >= 0:
            (self._durable.add if "O_DSYNC" in rest else self._durable.discard)(result)
        elif call == "write" and fd == "1":
            kind, digest = texts[0].decode().split()
            self.events.append(Event(kind, digest=digest))
        elif call == "rename" and _named_mark(file + rest):
            self.events.append(Event("marked"))
        elif not bytes.fromhex(file.replace("\\x", "")).endswith(b"data.mdb"):
            return
        elif call == "lseek":
            self._place = int(result)
        elif call in {"pwrite64", "writev", "write"}:
            assert int(result) == sum(map(len, texts)), (call, result, len(texts))
            offset = self._place
            if call == "pwrite64":
                offset = int(rest.rsplit(", ", 1)[1])
            self._write(offset, b"".join(texts), durable=fd in self._durable)
        elif call in {"fdatasync", "fsync"}:
            self.events.append(Event("flush"))
        else:
            raise AssertionError(f"a write of an unknown kind: {call}")

    def _write(self, offset: int, data: bytes, *, durable: bool) -> None:
        while data:
            size = PAGE - offset % PAGE
            piece = (offset, data[:size])
            self.events.append(Event("write", piece=piece, durable=durable))
            offset, data = offset + size, data[size:]


def _named_mark(arguments: str) -> bool:
    # The names are not parted from each other by a descriptor.
    return b"/minions.json".hex(" ").replace(" ", "\\x") + '")' in arguments + ")"


class Losses:
    """Follows the events, and builds what the disk may hold at each moment."""

    def __init__(self, events: list[Event], base: bytes, *, flushed: bool) -> None:
        self._events, self._flushed = events, flushed
        self._sure = bytearray(base)
        self._pending: list[Piece] = []
        # Before the first commit: what was there.
        self._allowed = [next(e.digest for e in events if e.kind == "saved")]
        # A new folder is marked twice; until it is marked as open, it is begun anew.
        self._marks = 1 if base else 2

    def images(self) -> Iterator[Image]:
        for event in self._events:
            if event.kind in {"saved", "flush"} or event.durable:
                self._pending += [event.piece] * event.durable
                yield from self._now()
            if event.kind in {"begun", "saved"}:
                if event.kind == "saved" and self._flushed:
                    # Acknowledged: what was before is gone.
                    self._allowed.clear()
                self._allowed.append(event.digest)
            elif event.kind == "marked":
                self._marks = max(0, self._marks - 1)
            elif event.kind == "flush":
                _apply(self._sure, self._pending)
                self._pending.clear()
            elif event.durable:
                _apply(self._sure, [self._pending.pop()])
            else:
                self._pending.append(event.piece)

    def _now(self) -> Iterator[Image]:
        if self._marks:
            return
        base, allowed = bytes(self._sure), frozenset(self._allowed)
        end = _length(base, self._pending)
        for chosen in _choices(self._pending):
            yield Image(base, tuple(chosen), 0, allowed)
            if _length(base, chosen) < end:
                yield Image(base, tuple(chosen), end, allowed)


def _length(base: bytes, pieces: list[Piece]) -> int:
    return max([len(base), *(offset + len(piece) for offset, piece in pieces)])


def _apply(data: bytearray, pieces: Iterable[Piece]) -> None:
    for offset, piece in pieces:
        end = offset + len(piece)
        data.extend(bytes(max(0, end - len(data))))
        data[offset:end] = piece


def _choices(pieces: list[Piece]) -> Iterator[list[Piece]]:
    """Choose which pieces are there: each prefix, and all subsets of a window."""
    for count in range(len(pieces) + 1):
        yield pieces[:count]
    first = max(0, len(pieces) - WINDOW)
    window = pieces[first:]
    for there in itertools.product([True, False], repeat=len(window)):
        # Prefixes are above.
        if sorted(there, reverse=True) != list(there):
            yield pieces[:first] + list(itertools.compress(window, there))


def build(folder: Path, mark: str, image: Image) -> None:
    shutil.rmtree(folder, ignore_errors=True)
    folder.mkdir()
    (folder / "minions.json").write_text(mark)
    data = bytearray(image.base)
    _apply(data, image.writes)
    data.extend(bytes(max(0, image.length - len(data))))
    (folder / "data.mdb").write_bytes(data)


async def all_of(folder: Path) -> Content:
    """Read everything, and see that the store can be written to."""
    async with open_lmdb_store(folder) as store:
        found = {
            (space.value, key): value
            for space in SPACES
            for key, value in await store.page(space, limit=10**6)
        }
        await store.write([(Keyspace.CURSOR, b"%d" % n, FILL) for n in range(9)])
        await store.write([(Keyspace.CURSOR, b"%d" % n, None) for n in range(9)])
        again = {
            (space.value, key): value
            for space in SPACES
            for key, value in await store.page(space, limit=10**6)
        }
    assert again == found, "a write has changed what it did not touch"
    return found


def outcome_of(folder: Path, image: Image) -> tuple[str, str]:
    try:
        clock = trio.testing.MockClock(autojump_threshold=0)
        content = trio.run(all_of, folder, clock=clock)
    except StoreError as exc:
        return "refused", str(exc)
    except Exception as exc:
        return "raised", repr(exc)
    right = digest_of(content) in image.allowed
    return ("opened" if right else "wrong"), ""


def open_all(trace: str, before: str, scratch: str, first: int) -> None:
    # What is on disk is of no matter here.
    os.fsync = lambda _: None  # type: ignore[assignment]
    data = Path(before) / "data.mdb"
    base = data.read_bytes() if data.exists() else b""
    mark = json.loads(Path(f"{before}.open.json").read_text())
    flushed = mark["durability"] == "fsync"
    text = json.dumps(mark | {"boot": "another"})
    losses = Losses(Trace().read(Path(trace)), base, flushed=flushed)
    for number, image in enumerate(dict.fromkeys(losses.images())):
        if number >= first:
            say(number, "begun")
            build(Path(scratch), text, image)
            say(number, *outcome_of(Path(scratch), image))


if __name__ == "__main__":
    if sys.argv[1] == "record":
        # Without threads, so that the trace is in one order.
        name, durability, seed, commits = sys.argv[2:]
        clock = trio.testing.MockClock(autojump_threshold=0)
        trio.run(record, name, durability, seed, commits, clock=clock)
    else:
        trace, before, scratch, first = sys.argv[2:]
        open_all(trace, before, scratch, int(first))
