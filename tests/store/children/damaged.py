"""Damages a folder in one way after another, opens each, and says what it found.

An image that ends the process is the one that was begun last.
"""

from __future__ import annotations

import json
import os
import random
import re
import shutil
import sys
from collections.abc import Iterator
from pathlib import Path

import trio
import trio.testing

from minions.errors import StoreError
from minions.store import Keyspace, open_lmdb_store
from minions.store.machine import boot_id
from minions.workflow.record import CorruptRecordError, seal, unseal

PAGE = 4096
SPACES = [Keyspace.RECORD, Keyspace.QUARANTINE, Keyspace.META]
KINDS = {1: "branch", 2: "leaf", 4: "overflow", 8: "meta"}
Content = dict[tuple[str, bytes], bytes]
Image = tuple[str, bytes]


def say(*words: object) -> None:
    os.write(1, (" ".join(map(str, words)) + "\n").encode())


def some_content(rng: random.Random) -> Content:
    sizes = {"record": [40, 300, 3000, 9000], "quarantine": [500], "meta": [8]}
    return {
        (space.value, key): seal(key, rng.randbytes(rng.choice(sizes[space.value])))
        for space in SPACES
        for key in (b"%04d" % n for n in range(200 if space != Keyspace.META else 1))
    }


async def fill(folder: Path, content: Content) -> None:
    entries = list(content.items())
    async with open_lmdb_store(folder) as store:
        for n in range(0, len(entries), 40):
            await store.write(
                [(Keyspace(s), k, v) for (s, k), v in entries[n : n + 40]]
            )


def flipped(data: bytes, bit: int) -> bytes:
    damaged = bytearray(data)
    damaged[bit // 8] ^= 1 << bit % 8
    return bytes(damaged)


def images_of(data: bytes, rng: random.Random, count: int) -> Iterator[Image]:
    """Cut the file, zero its pages, and flip bits by the kind of page."""
    pages = range(len(data) // PAGE)
    for _ in range(count):
        yield "cut", data[: rng.randrange(len(data))]
    for page in rng.sample(pages, min(count, len(pages))):
        yield "zeros", data[: page * PAGE] + bytes(PAGE) + data[(page + 1) * PAGE :]
    by_kind: dict[str, list[int]] = {}
    for page in pages:
        flags = int.from_bytes(data[page * PAGE + 10 : page * PAGE + 12], sys.byteorder)
        by_kind.setdefault(KINDS.get(flags, "other"), []).append(page)
    for kind, found in sorted(by_kind.items()):
        for _ in range(count):
            # Most of a page holds data: what steers LMDB stands at its beginning.
            size = rng.choice([64, 200, PAGE])
            bit = rng.choice(found) * PAGE * 8 + rng.randrange(size * 8)
            yield f"bit in {kind}", flipped(data, bit)
    for found_at in re.finditer(b"quarantine", data):
        for bit in range(8 * found_at.start(), 8 * found_at.end()):
            yield "bit in a name", flipped(data, bit)


async def look(folder: Path, right: Content) -> str:
    async with open_lmdb_store(folder) as store:
        found = {
            (space.value, key): value
            for space in SPACES
            for key, value in await store.page(space, limit=10**6)
        }
    corrupt = 0
    for (_, key), value in found.items():
        try:
            unseal(key, value)
        except CorruptRecordError:
            corrupt += 1
    whole = {
        place: value for place, value in found.items() if right.get(place) == value
    }
    if found == right:
        return "same"
    # Each record that is not as it was is known to be damaged.
    return "found" if len(whole) + corrupt == len(right) == len(found) else "wrong"


def outcome_of(folder: Path, right: Content) -> tuple[str, str]:
    try:
        clock = trio.testing.MockClock(autojump_threshold=0)
        return trio.run(look, folder, right, clock=clock), ""
    except StoreError as exc:
        return "refused", str(exc).replace("\n", " ")
    except Exception as exc:
        return "raised", repr(exc).replace("\n", " ")


def main() -> None:
    start, scratch, state = Path(sys.argv[1]), Path(sys.argv[2]), sys.argv[3]
    first, count = int(sys.argv[4]), int(sys.argv[5])
    rng = random.Random(1)  # noqa: S311  # no secret
    right = some_content(rng)
    if not start.exists():
        clock = trio.testing.MockClock(autojump_threshold=0)
        trio.run(fill, start, right, clock=clock)
    mark = json.loads((start / "minions.json").read_text())
    if state != "closed":
        mark |= {"state": "open", "boot": boot_id() if state == "killed" else "other"}
        del mark["checksum"]
    # What is on disk is of no matter here.
    os.fsync = lambda _: None  # type: ignore[assignment]
    data = (start / "data.mdb").read_bytes()
    for number, (kind, image) in enumerate(images_of(data, rng, count)):
        if number >= first:
            say(number, kind.replace(" ", "-"), "begun")
            shutil.rmtree(scratch, ignore_errors=True)
            scratch.mkdir()
            (scratch / "minions.json").write_text(json.dumps(mark))
            (scratch / "data.mdb").write_bytes(image)
            say(number, kind.replace(" ", "-"), *outcome_of(scratch, right))


if __name__ == "__main__":
    main()
