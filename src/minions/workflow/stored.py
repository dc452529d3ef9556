"""What the store holds for one workflow, whichever state it is in.

The states, and the one place that owns each:

============================================  ======================================
ready (running, queued and parked are, too)   ``RECORD``
sleeping, retrying, waiting                   ``COLD``, found through ``TIMER``
quarantined                                   ``QUARANTINE``
done, aborted, cancelled, discarded           ``ENDED`` while it is kept, found
                                              through ``ENDED_AGE``; else nowhere
============================================  ======================================

Besides, ``KEY`` names the workflow that holds a key, from the first commit after it
was taken up.

Every change is the difference between what stood there and what is to stand there.
The engine, the check of a store and the model all ask the same function for it.
"""

from __future__ import annotations

from collections.abc import Sequence

from minions.workflow.layout import (
    NEVER,
    Keyspace,
    Write,
    age_key,
    holder_key,
    key_of,
    timer_key,
)
from minions.workflow.record import (
    READY,
    EndedRecord,
    QuarantineRecord,
    WorkflowRecord,
    encode_ended,
    encode_quarantine,
    encode_record,
    seal,
)

__all__ = ["INDEXES", "Body", "difference", "entries", "places"]

Body = WorkflowRecord | QuarantineRecord | EndedRecord
"""What stands in the store for a workflow; its class and state say where."""

INDEXES = frozenset({Keyspace.TIMER, Keyspace.ENDED_AGE, Keyspace.KEY})
"""The keyspaces whose entries follow from the records."""

Place = tuple[Keyspace, bytes]


def places(seq: int, body: Body, *, holds: bool = False) -> list[Place]:
    """Return the keys under which a workflow stands, its record's first.

    Args:
        seq: Its number.
        body: What stands there.
        holds: Whether it holds its key.
    """
    key, found = key_of(seq), []
    record = body if isinstance(body, WorkflowRecord) else body.record
    if isinstance(body, QuarantineRecord):
        found.append((Keyspace.QUARANTINE, key))
    elif isinstance(body, EndedRecord):
        found.append((Keyspace.ENDED, key))
        found.append((Keyspace.ENDED_AGE, age_key(body.ended_at, seq)))
    elif body.state == READY:
        found.append((Keyspace.RECORD, key))
    else:
        until = NEVER if body.until is None else body.until
        found.append((Keyspace.COLD, key))
        found.append((Keyspace.TIMER, timer_key(body.orchestration, until, seq)))
    if holds and record.key is not None:
        found.append((Keyspace.KEY, holder_key(record.orchestration, record.key)))
    return found


def entries(
    seq: int, body: Body, *, holds: bool = False
) -> list[tuple[Keyspace, bytes, bytes]]:
    """Return all that stands in the store for a workflow.

    Raises:
        SnapshotError: A text cannot be stored.
    """
    (space, key), *indexes = places(seq, body, holds=holds)
    return [
        (space, key, _sealed(seq, body)),
        *(
            (s, k, seal(k, key_of(seq) if s is Keyspace.KEY else b""))
            for s, k in indexes
        ),
    ]


def _sealed(seq: int, body: Body) -> bytes:
    if isinstance(body, QuarantineRecord):
        return encode_quarantine(seq, body)[1]
    if isinstance(body, EndedRecord):
        return encode_ended(seq, body)[1]
    return encode_record(seq, body)[1]


def difference(
    seq: int,
    before: tuple[Body, bool] | None,
    after: tuple[Body, bool] | None,
) -> list[Write]:
    """Return the writes that lead from one state of a workflow to another.

    Args:
        seq: Its number.
        before: What stands there, and whether it holds its key; ``None``: nothing.
        after: What is to stand there, likewise.

    Raises:
        SnapshotError: A text cannot be stored.
    """
    old = places(seq, before[0], holds=before[1]) if before is not None else []
    new: Sequence[tuple[Keyspace, bytes, bytes]] = ()
    if after is not None:
        new = entries(seq, after[0], holds=after[1])
    kept = {(space, key) for space, key, _ in new}
    stood = set(old)
    writes: list[Write] = [(s, k, None) for s, k in old if (s, k) not in kept]
    # An entry of an index never changes: it is there or not.
    writes += [
        entry
        for entry in new
        if entry[0] not in INDEXES or (entry[0], entry[1]) not in stood
    ]
    return writes
