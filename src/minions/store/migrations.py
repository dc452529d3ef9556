"""What changed between the formats of a state folder, one function for each.

A migration is given LMDB's transaction and the database of each keyspace; see
:mod:`minions.store.migrate` for what it may do.
"""

from __future__ import annotations

from collections.abc import Mapping
from typing import TYPE_CHECKING, Any

from minions.errors import SnapshotError
from minions.workflow.layout import Keyspace, holder_key, key_of, sequence_of
from minions.workflow.record import decode_record, seal

if TYPE_CHECKING:
    import lmdb

__all__ = ["hold_keys"]


def hold_keys(txn: lmdb.Transaction, dbs: Mapping[Keyspace, Any]) -> None:
    """Lead from format 1 to 2: say who holds its key.

    Format 2 has keyspaces for cold workflows, held keys, signals, ended workflows and
    event ids.  All are empty in a folder of format 1 but those of held keys: a workflow
    that is half way holds the key that its record names.
    """
    with txn.cursor(db=dbs[Keyspace.RECORD]) as cursor:
        for key, value in ((bytes(k), bytes(v)) for k, v in cursor):
            try:
                record = decode_record(key, value)
            except SnapshotError:
                continue  # found, and put into quarantine, when the store is read
            if record.key is None or not record.step:
                continue
            held = holder_key(record.orchestration, record.key)
            if txn.get(held, db=dbs[Keyspace.KEY]) is None:
                holder = seal(held, key_of(sequence_of(key)))
                txn.put(held, holder, db=dbs[Keyspace.KEY])
