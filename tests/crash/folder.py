"""Reads a state folder that nobody uses, and checks what always holds in it."""

from __future__ import annotations

from collections import Counter
from collections.abc import Callable
from pathlib import Path
from typing import Any

import attrs
import lmdb

from minions.store.codec import to_printable
from minions.workflow.layout import (
    Keyspace,
    dedup_of_age,
    mark_of,
    sequence_of,
    time_of,
)
from minions.workflow.record import (
    EndedRecord,
    QuarantineRecord,
    SignalRecord,
    WorkflowRecord,
    decode_ended,
    decode_quarantine,
    decode_record,
    decode_signal,
    unseal,
)
from minions.workflow.stored import INDEXES, Body, entries

Store = dict[Keyspace, dict[bytes, bytes]]
_PLACES: dict[Keyspace, Callable[[bytes, bytes], Body]] = {
    Keyspace.RECORD: decode_record,
    Keyspace.COLD: decode_record,
    Keyspace.QUARANTINE: decode_quarantine,
    Keyspace.ENDED: decode_ended,
}


def read_store(folder: Path) -> Store:
    """Read all of it, without a lock: its process is dead."""
    data = folder / "data.mdb"
    if not data.exists() or not data.stat().st_size:  # killed before it was made
        return {space: {} for space in Keyspace}
    env = lmdb.open(
        str(folder), max_dbs=64, readonly=True, lock=False, create=False, lib_version=0
    )
    with env:
        store: Store = {}
        for space in Keyspace:
            try:
                db = env.open_db(space.value.encode(), create=False)
            except lmdb.NotFoundError:  # killed before it was made
                store[space] = {}
                continue
            with env.begin(db=db) as txn, txn.cursor() as cursor:
                store[space] = dict(iter(cursor))
        return store


@attrs.frozen
class Saved:
    """One workflow as the store has it."""

    seq: int
    space: Keyspace
    body: Body
    raw: bytes

    @property
    def record(self) -> WorkflowRecord:
        return self.body if isinstance(self.body, WorkflowRecord) else self.body.record

    @property
    def event(self) -> dict[str, Any]:
        event = to_printable(self.record.event)
        assert isinstance(event, dict)
        return event

    @property
    def trail(self) -> list[str]:
        return list(self._context().get("trail", []))

    @property
    def taken(self) -> list[str]:
        return list(self._context().get("taken", []))

    def _context(self) -> dict[str, Any]:
        context = to_printable(self.record.context) if self.record.context else {}
        assert isinstance(context, dict)
        return context


def workflows_in(store: Store) -> dict[str, Saved]:
    """Read every workflow; each stands in one place."""
    found: dict[str, Saved] = {}
    for space, decode in _PLACES.items():
        for key, value in store[space].items():
            seq = sequence_of(key)
            body: Body = decode(key, value)
            assert f"w{seq}" not in found, f"w{seq} stands in two places"
            found[f"w{seq}"] = Saved(seq, space, body, value)
    return found


def mail_in(store: Store) -> list[tuple[str, SignalRecord]]:
    return [
        (f"w{sequence_of(key[:8])}", decode_signal(key, value))
        for key, value in store[Keyspace.MAIL].items()
    ]


def check_indexes(store: Store, redriven: set[str]) -> None:
    """Hold what stands in the indexes against what the records say.

    Args:
        store: All of it.
        redriven: Workflows that a person may have sent on again: these take their
            key anew.
    """
    flows = workflows_in(store)
    holders = {
        key: sequence_of(unseal(key, value))
        for key, value in store[Keyspace.KEY].items()
    }
    holding = set(holders.values())
    assert len(holding) == len(holders), "a workflow holds two keys"
    expected: Counter[tuple[Keyspace, bytes]] = Counter()
    for name, flow in flows.items():
        for space, key, value in entries(
            flow.seq, flow.body, holds=flow.seq in holding
        ):
            expected[space, key] += 1
            assert store[space].get(key) == value, f"{name}: {space} {key.hex()}"
        must_hold = flow.record.key is not None and (
            flow.space is Keyspace.COLD
            or (flow.space is Keyspace.RECORD and name not in redriven)
        )
        assert not must_hold or flow.seq in holding, f"{name} has lost its key"
        assert flow.space is not Keyspace.ENDED or flow.seq not in holding
    for space in (*INDEXES, *_PLACES):
        for key in store[space]:
            assert expected[space, key] == 1, f"{space}: {key.hex()} belongs to nothing"
    _check_rest(store, flows)


def _check_rest(store: Store, flows: dict[str, Saved]) -> None:
    for name, _ in mail_in(store):
        assert name in flows, f"a signal to {name}, which is gone"
        assert flows[name].space is not Keyspace.ENDED, f"{name} has ended with mail"
    ids, ages = store[Keyspace.DEDUP], store[Keyspace.DEDUP_AGE]
    assert sorted(ids) == sorted(map(dedup_of_age, ages)), "event ids and their index"
    for space, values in store.items():
        for key, value in values.items():
            unseal(key, value)
            assert key, space
    numbers = [flow.seq for flow in flows.values()]
    numbers += [sequence_of(key) for key in store[Keyspace.MAIL]]
    if numbers:
        (value,) = store[Keyspace.META].values()
        (key,) = store[Keyspace.META]
        assert max(numbers) < sequence_of(unseal(key, value)), "a number given again"


def cursor_in(store: Store, pipeline: str) -> int:
    """Read the committed position of a pipeline."""
    key = mark_of(pipeline)
    value = store[Keyspace.CURSOR].get(key)
    if value is None:
        return 0
    position = to_printable(unseal(key, value))
    assert isinstance(position, int)
    return position


__all__ = [
    "EndedRecord",
    "QuarantineRecord",
    "Saved",
    "Store",
    "check_indexes",
    "cursor_in",
    "mail_in",
    "read_store",
    "time_of",
    "workflows_in",
]
