"""Where a system keeps its state: the port, a store on disk, one in memory."""

from __future__ import annotations

from minions.store.lmdb_store import open_lmdb_store
from minions.store.memory import MemoryStore
from minions.store.migrate import Migrated
from minions.store.port import Keyspace, StateStore, StoreStatistics, Write

__all__ = [
    "Keyspace",
    "MemoryStore",
    "Migrated",
    "StateStore",
    "StoreStatistics",
    "Write",
    "open_lmdb_store",
]
