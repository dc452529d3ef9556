"""Open a state folder, and tell how that was refused."""

from __future__ import annotations

import json
import sys

import trio

from minions import MinionsError, open_gru


async def main() -> None:
    try:
        async with open_gru(sys.argv[1]):
            pass
    except MinionsError as exc:
        print(json.dumps([type(exc).__name__, str(exc)]))


trio.run(main)
