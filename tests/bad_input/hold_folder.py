"""Hold a state folder open until the standard input ends."""

from __future__ import annotations

import sys

import trio

from minions import open_gru


async def main() -> None:
    async with open_gru(sys.argv[1]):
        print("open", flush=True)
        sys.stdin.read()


trio.run(main)
