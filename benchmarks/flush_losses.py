"""What a loss of power leaves of each way of `flush_ways.py`: counted, not argued.

``python benchmarks/flush_losses.py --csv docs/explanation/flush-losses.csv``

Some commits of a seed are traced with strace. A write is on disk for certain once a
later flush of its file has returned, or itself if its file was opened with ``O_DSYNC``;
until then any part of what is pending may be there, in any order, in pieces of a page
(of a sector of the log), and a file may already have its new length. At each flush and
each acknowledgement the images that may be there are built: each prefix of what is
pending, all subsets of its last pieces, some at random. Each is opened as after a
crash, in a process that it may end. What comes out:

``kept``
    All that was acknowledged is there, and perhaps what was under way.
``one lost``, ``more lost``
    The content of an earlier commit, whole.
``refused``
    LMDB or ``lmdb.verify`` found damage.
``wrong``
    It was opened, with what never was there.
``died``
    The process did.
"""

from __future__ import annotations

import argparse
import csv
import hashlib
import json
import os
import random
import re
import shutil
import struct
import subprocess
import sys
import tempfile
from collections import Counter
from collections.abc import Callable, Iterator
from itertools import compress, product
from pathlib import Path
from typing import Any, NamedTuple

import lmdb
import lmdb.verify

from flush_ways import WAYS, Content, Logged, Way, Write

FILES = ("data.mdb", "log")
PIECES = {"data.mdb": 4096, "log": 512}
LOG_SIZE = 32 * 1024
WINDOW = 8
AT_RANDOM = 24
TRACED = "openat,write,pwrite64,pwritev,pwritev2,writev,lseek,fdatasync,fsync,ftruncate"
# What a walk through arbitrary bytes may raise besides its own error.
STUMBLES = (struct.error, LookupError, ValueError, RecursionError, MemoryError)
OUTCOMES = ("kept", "one lost", "more lost", "refused", "wrong", "died")


def open_way(name: str, folder: Path) -> Way:
    kind = WAYS[name]
    return kind(folder, LOG_SIZE) if issubclass(kind, Logged) else kind(folder)


def digest_of(content: Content) -> str:
    return hashlib.sha256(repr(sorted(content.items())).encode()).hexdigest()[:16]


def say(*words: object) -> None:
    os.write(1, (" ".join(map(str, words)) + "\n").encode())


def record(name: str, folder: str, seed: str, commits: str) -> None:
    """Write some commits, and say before and after each what is there."""
    rng = random.Random(seed)  # noqa: S311  # no secret
    way = open_way(name, Path(folder))
    content = way.content()
    say("saved", digest_of(content))
    for number in range(int(commits)):
        # A commit that changes nothing writes nothing.
        batch: list[Write] = [(b"count", b"%d" % number)]
        for _ in range(rng.choice([1, 1, 2, 5, 20])):
            key, value = b"%03d" % rng.randrange(60), None
            if rng.choice([True, True, True, False]):
                value = rng.randbytes(rng.choice([8, 200, 200, 1500]))
            batch.append((key, value))
        # Each key once: `lmdb.verify` takes what is replaced within one for damage.
        batch = list(dict(batch).items())
        content |= {key: value for key, value in batch if value is not None}
        content = {k: v for k, v in content.items() if (k, None) not in batch}
        say("begun", digest_of(content))
        way.write(batch)
        say("saved", digest_of(content))
        if isinstance(way, Logged) and not (number + 1) % 4:
            way.checkpoint()
    way.close()


_verify: Callable[[str], list[str]] = lmdb.verify.verify


class Piece(NamedTuple):
    file: str
    offset: int
    data: bytes


class Event(NamedTuple):
    kind: str
    """``write``, ``durable``, ``flush``, ``begun`` or ``saved``."""
    piece: Piece = Piece("", 0, b"")
    digest: str = ""


class Trace:
    """Reads what strace wrote with ``-y -xx``."""

    CALL = re.compile(r"^(\w+)\((\d+|AT_FDCWD)?<?([^>]*)>?(.*)\) += (-?\d+)")
    TEXT = re.compile(r'"((?:\\x[0-9a-f]{2})*)"')

    def __init__(self) -> None:
        self.events: list[Event] = []
        self._durable: set[str] = set()
        self._places: dict[str, int] = {}

    def read(self, path: Path) -> list[Event]:
        for line in path.read_text(encoding="ascii").splitlines():
            if (found := self.CALL.match(line)) is not None:
                self._take(*found.groups())
        return self.events

    def _take(self, call: str, fd: str, file: str, rest: str, result: str) -> None:
        texts = [_bytes(text) for text in self.TEXT.findall(rest)]
        name = Path(os.fsdecode(_bytes(file))).name
        if call == "openat":
            opened = Path(os.fsdecode(texts[0])).name if texts else ""
            # The descriptor's number may have been another file's.
            add = opened in FILES and "O_DSYNC" in rest
            (self._durable.add if add else self._durable.discard)(result)
        elif call == "write" and fd == "1":
            kind, digest = texts[0].decode().split()
            self.events.append(Event(kind, digest=digest))
        elif name not in FILES:
            return
        elif call == "lseek":
            self._places[fd] = int(result)
        elif call in {"pwrite64", "writev", "write"}:
            data = b"".join(texts)
            assert int(result) == len(data), (call, result, len(data))
            at = int(rest.rsplit(", ", 1)[1]) if call == "pwrite64" else None
            self._write(fd, name, self._places[fd] if at is None else at, data)
            if at is None:
                self._places[fd] += len(data)
        elif call in {"fdatasync", "fsync"}:
            self.events.append(Event("flush", Piece(name, 0, b"")))
        else:
            raise AssertionError(f"a write of an unknown kind: {call}")

    def _write(self, fd: str, name: str, offset: int, data: bytes) -> None:
        kind = "durable" if fd in self._durable else "write"
        while data:
            size = PIECES[name] - offset % PIECES[name]
            self.events.append(Event(kind, Piece(name, offset, data[:size])))
            offset, data = offset + size, data[size:]


def _bytes(text: str) -> bytes:
    return bytes.fromhex(text.replace("\\x", ""))


class Image(NamedTuple):
    files: tuple[tuple[str, bytes], ...]
    history: tuple[str, ...]
    """What was there after each commit, the one under way included."""
    acknowledged: int
    """Index of the last one that was acknowledged."""


class Losses:
    """Follows the events, and builds what the disk may hold at each moment."""

    def __init__(self, events: list[Event], base: dict[str, bytes]) -> None:
        self._events = events
        self._sure = {file: bytearray(data) for file, data in base.items()}
        self._pending: list[Piece] = []
        self._history: list[str] = []
        self._acknowledged = 0
        self._rng = random.Random(0)  # noqa: S311  # no secret

    def images(self) -> Iterator[Image]:
        for kind, piece, digest in self._events:
            if kind == "durable":
                self._pending.append(piece)
                yield from self._now()
                _apply(self._sure, [self._pending.pop()])
            elif kind == "write":
                self._pending.append(piece)
            elif kind == "flush":
                yield from self._now()
                _apply(self._sure, [p for p in self._pending if p.file == piece.file])
                self._pending = [p for p in self._pending if p.file != piece.file]
            elif kind == "begun":
                self._history.append(digest)
            else:
                self._history = self._history or [digest]
                self._acknowledged = len(self._history) - 1
                yield from self._now()

    def _now(self) -> Iterator[Image]:
        if not self._history:
            return
        lengths = {file: len(data) for file, data in self._sure.items()}
        for file, offset, data in self._pending:
            lengths[file] = max(lengths[file], offset + len(data))
        for chosen in self._choices():
            files = {file: bytearray(data) for file, data in self._sure.items()}
            _apply(files, chosen)
            yield self._image(files)
            for file, length in lengths.items():
                files[file].extend(bytes(length - len(files[file])))
            yield self._image(files)

    def _image(self, files: dict[str, bytearray]) -> Image:
        held = tuple((file, bytes(data)) for file, data in files.items())
        return Image(held, tuple(self._history), self._acknowledged)

    def _choices(self) -> Iterator[list[Piece]]:
        pending = self._pending
        for count in range(len(pending) + 1):
            yield pending[:count]
        first = max(0, len(pending) - WINDOW)
        for there in product([True, False], repeat=len(pending) - first):
            yield pending[:first] + list(compress(pending[first:], there))
        for _ in range(AT_RANDOM if first else 0):
            yield [piece for piece in pending if self._rng.getrandbits(1)]


def _apply(files: dict[str, bytearray], pieces: list[Piece]) -> None:
    for file, offset, piece in pieces:
        data, end = files[file], offset + len(piece)
        data.extend(bytes(max(0, end - len(data))))
        data[offset:end] = piece


def outcome_of(name: str, folder: Path, image: Image) -> str:
    shutil.rmtree(folder, ignore_errors=True)
    folder.mkdir()
    for file, data in image.files:
        (folder / file).write_bytes(data)
    try:
        if _verify(str(folder)):
            return "refused"
        way = open_way(name, folder)
        found = digest_of(way.content())
        way.close()
    except (lmdb.Error, lmdb.verify.VerifyError, *STUMBLES):
        return "refused"
    places = [n for n, digest in enumerate(image.history) if digest == found]
    if not places:
        return "wrong"
    lost = image.acknowledged - places[-1]
    return "kept" if lost <= 0 else "one lost" if lost == 1 else "more lost"


def open_all(name: str, trace: str, before: str, first: str) -> None:
    """Open every image from a number on, and say what each is."""
    # What is on disk is of no matter here.
    os.fsync = os.fdatasync = lambda _: None  # type: ignore[assignment]
    base = {f.name: f.read_bytes() for f in Path(before).iterdir() if f.name in FILES}
    images = dict.fromkeys(Losses(Trace().read(Path(trace)), base).images())
    memory = Path("/dev/shm")  # noqa: S108  # what is built is thrown away
    with tempfile.TemporaryDirectory(dir=memory if memory.is_dir() else None) as place:
        for number, image in enumerate(images):
            if number >= int(first):
                say(number, "died")
                say(number, outcome_of(name, Path(place) / "image", image))


def run(*command: str, under: tuple[str, ...] = ()) -> subprocess.CompletedProcess[str]:
    program = [*under, sys.executable, __file__, *command]
    # What is traced is what the way writes.
    environment = {**os.environ, "PYTHONDONTWRITEBYTECODE": "1"}
    return subprocess.run(
        program, capture_output=True, text=True, check=False, env=environment
    )


def count(name: str, seed: int, commits: int) -> Counter[str]:
    """Count the outcomes of all images of some commits."""
    with tempfile.TemporaryDirectory() as place:
        folder, before, trace = (Path(place) / n for n in ("way", "before", "trace"))
        folder.mkdir()
        begun = run("--record", name, str(folder), "base", "20")
        assert begun.returncode == 0, begun.stderr
        shutil.copytree(folder, before)
        strace = ("strace", "-qq", "-y", "-xx", "-s", "1000000", "-o", str(trace))
        asked = ("--record", name, str(folder), str(seed), str(commits))
        traced = run(*asked, under=(*strace, "-e", f"trace={TRACED}"))
        assert traced.returncode == 0, traced.stderr
        found: dict[int, str] = {}
        while True:
            first = str(len(found))
            child = run("--open", name, str(trace), str(before), first)
            for line in child.stdout.splitlines():
                number, outcome = line.split(" ", 1)
                found[int(number)] = outcome
            if child.returncode == 0:
                return Counter(found.values())
            assert child.stdout, child.stderr


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--seeds", type=int, default=4)
    parser.add_argument("--commits", type=int, default=10)
    parser.add_argument("--csv", type=Path, help="where the table goes")
    for name in ("--record", "--open"):
        parser.add_argument(name, nargs=4, help=argparse.SUPPRESS)
    given = parser.parse_args()
    if given.record or given.open:
        record(*given.record) if given.record else open_all(*given.open)
        return
    if shutil.which("strace") is None:
        print(json.dumps({"not_measured": "strace is not installed"}))
        return
    rows: list[dict[str, Any]] = []
    for name in WAYS:
        total: Counter[str] = Counter()
        for seed in range(given.seeds):
            total += count(name, seed, given.commits)
        counts = {outcome: total[outcome] for outcome in OUTCOMES}
        assert sum(counts.values()) == total.total(), total
        rows.append({"way": name, "images": total.total(), **counts})
    if given.csv:
        with given.csv.open("w", newline="", encoding="utf-8") as file:
            table = csv.DictWriter(file, rows[0], lineterminator="\n")
            table.writeheader()
            table.writerows(rows)
    flat = {f"{r['way']}_{k}".replace(" ", "_"): r[k] for r in rows for k in r}
    print(json.dumps({k: v for k, v in flat.items() if not isinstance(v, str)}))


if __name__ == "__main__":
    main()
