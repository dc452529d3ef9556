"""Opens a folder, writes to it, and says what is acknowledged; to be killed."""

from __future__ import annotations

import os
import sys
from collections.abc import Mapping
from pathlib import Path
from typing import Any

import lmdb
import trio
import trio.testing

from minions.store import Keyspace, migrate, open_lmdb_store

RECORD = Keyspace.RECORD


def say(line: str) -> None:
    os.write(1, line.encode() + b"\n")


def double(txn: lmdb.Transaction, dbs: Mapping[Keyspace, Any]) -> None:
    for key, value in list(txn.cursor(dbs[RECORD])):
        txn.put(key, bytes(value) * 2, db=dbs[RECORD])


async def main() -> None:
    folder, durability, begin, end, later = sys.argv[1:]
    if later == "later":
        migrate.MIGRATIONS[migrate.FORMAT] = double
        migrate.FORMAT += 1
    async with open_lmdb_store(Path(folder), durability=durability) as store:  # type: ignore[arg-type]
        say(f"open {store.unclean}")
        for number in range(int(begin), int(end)):
            # The large one takes pages of its own.
            value = b"%d" % number * (5000 if number % 3 == 0 else 1)
            await store.write([(RECORD, b"%04d" % number, value)])
            say(f"saved {number}")
    say("closed")


if __name__ == "__main__":
    # Without threads, so that each call of the kernel has one number.
    trio.run(main, clock=trio.testing.MockClock(autojump_threshold=0))
