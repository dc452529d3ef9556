"""Writes to a folder on a disk that fills, and says what happens.

``disk.py tmpfs FOLDER``: the folder lies on a small disk, which is filled to the brim
by a file beside it, and freed again.  ``disk.py space FOLDER``: the map may not grow
beyond the address space that the process is given.
"""

# ruff: noqa: ASYNC240  # it has the event loop to itself

from __future__ import annotations

import os
import resource
import sys
from pathlib import Path

import trio

from minions.errors import StoreError
from minions.store import Keyspace, open_lmdb_store

RECORD = Keyspace.RECORD
VALUE = bytes(range(256)) * 16
told: list[str] = []


def tell(error: StoreError | None) -> None:
    told.append(type(error).__name__)


def fill(path: Path) -> None:
    with path.open("wb", buffering=0) as file:
        for size in (4096, 1):
            try:
                while True:
                    file.write(b"x" * size)
            except OSError:
                pass


async def tmpfs(folder: Path) -> None:
    ballast = folder.parent / "ballast"
    async with open_lmdb_store(folder, notify=tell) as store:
        await store.write([(RECORD, b"early", VALUE)])
        fill(ballast)
        saved, deleted = trio.Event(), trio.Event()
        store.write_nowait([(RECORD, b"early", None)], deleted.set)
        for number in range(30):
            store.write_nowait([(RECORD, b"%06d" % number, VALUE)], saved.set)
        await trio.sleep(1)
        # Deletes need room, too.
        print("on a full disk:", saved.is_set(), deleted.is_set())
        print("state:", store.statistics().state, told)
        ballast.unlink()
        await store.barrier()
        print("deleted:", deleted.is_set(), await store.read(RECORD, b"early"))
        print("state:", store.statistics().state, told)
    async with open_lmdb_store(folder) as store:
        print("saved:", len(await store.page(RECORD)), store.unclean)


async def full_at_the_start(folder: Path) -> None:
    ballast = folder.parent / "ballast"
    fill(ballast)
    try:
        async with open_lmdb_store(folder):
            print("opened")
    except StoreError as exc:
        print("refused:", type(exc).__name__, exc)
    print("left:", sorted(os.listdir(folder.parent)))  # noqa: PTH208
    ballast.unlink()
    async with open_lmdb_store(folder) as store:
        await store.write([(RECORD, b"a", b"1")])
    # At the end, too, the mark needs room.
    try:
        async with open_lmdb_store(folder) as store:
            await store.write([(RECORD, b"b", b"1")])
            fill(ballast)
    except StoreError as exc:
        print("at the end:", type(exc).__name__, exc)
    ballast.unlink()
    async with open_lmdb_store(folder) as store:
        print("saved:", len(await store.page(RECORD)), store.unclean)


async def full_at_the_end(folder: Path) -> None:
    ballast = folder.parent / "ballast"
    try:
        async with open_lmdb_store(folder, patience=0.5) as store:
            await store.write([(RECORD, b"early", VALUE)])
            fill(ballast)
            for number in range(30):
                store.write_nowait([(RECORD, b"%06d" % number, VALUE)])
    except StoreError as exc:
        print("refused:", type(exc).__name__, exc)
    ballast.unlink()
    async with open_lmdb_store(folder) as store:
        print("saved:", len(await store.page(RECORD)), store.unclean)


async def space(folder: Path) -> None:
    async with open_lmdb_store(folder, map_size=2**20, notify=tell) as store:
        used = int(Path("/proc/self/statm").read_text().split()[0]) * 4096
        _, hard = resource.getrlimit(resource.RLIMIT_AS)
        resource.setrlimit(resource.RLIMIT_AS, (used + 24 * 2**20, hard))
        number = 0
        while store.statistics().state != "backoff":
            store.write_nowait([(RECORD, b"%06d" % number, VALUE)])
            number += 1
            while store.statistics().waiting:
                await trio.lowlevel.checkpoint()
                if store.statistics().state == "backoff":
                    break
        print("state:", store.statistics().state, told)
        print("grown:", store.statistics().map_size > 2**20)
        resource.setrlimit(resource.RLIMIT_AS, (hard, hard))
        await store.barrier()
        print("state:", store.statistics().state, told)
    async with open_lmdb_store(folder) as store:
        print("saved all:", len(await store.page(RECORD, limit=10**6)) == number)


async def read_only(folder: Path) -> None:
    try:
        async with open_lmdb_store(folder):
            print("opened")
    except StoreError as exc:
        print("refused:", type(exc).__name__, exc)


if __name__ == "__main__":
    ways = [tmpfs, full_at_the_start, full_at_the_end, space, read_only]
    way = {way.__name__: way for way in ways}[sys.argv[1]]
    trio.run(way, Path(sys.argv[2]))
