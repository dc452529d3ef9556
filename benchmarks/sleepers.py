"""Prepared records in a new store: workflows that sleep for a day and more."""

from __future__ import annotations

import time
from pathlib import Path

import msgspec

from minions.identity import orchestration_id
from minions.store.codec import codec_for
from minions.store.lmdb_store import open_lmdb_store
from minions.workflow.record import WorkflowRecord
from minions.workflow.stored import entries

DAY = 86_400.0
BATCH = 2_000


async def fill(
    folder: Path,
    count: int,
    *,
    between: tuple[str, str],
    event: object,
    context: object,
    step: str,
) -> None:
    """Put *count* sleeping workflows into the store of *folder*.

    Args:
        folder: Where the store will lie.
        count: How many.
        between: The identities of minion and pipeline, as ``component_id`` names them.
        event: What each of them began with.
        context: What each of them has reached.
        step: The one that each goes on with.
    """
    events = codec_for(type(event), component="sleepers")
    contexts = codec_for(type(context), component="sleepers")
    now = time.time()
    record = WorkflowRecord(
        orchestration_id(*between, ""),
        events.type_name,
        events.encode(event),
        contexts.type_name,
        contexts.encode(context),
        step,
        now,
        state="sleeping",
        since=now,
    )
    async with open_lmdb_store(folder, durability="none") as store:
        for number in range(1, count + 1):
            until = now + DAY + number / 100
            one = msgspec.structs.replace(record, until=until)
            store.write_nowait(entries(number, one))
            if number % BATCH == 0:
                await store.barrier()
