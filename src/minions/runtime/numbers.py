"""The numbers of workflows and signals: each is given once, for ever."""

from __future__ import annotations

import msgspec

from minions.store.port import Keyspace, StateStore
from minions.workflow.layout import NEXT_SEQ as NEXT
from minions.workflow.record import seal

__all__ = ["NEXT", "Numbers", "read_next"]

# Numbers are reserved in blocks, so that one ended long ago is never given again.
_BLOCK = 4096


class Numbers(msgspec.Struct, eq=False):
    """Gives numbers in the order of arrival."""

    _store: StateStore
    # The next free number, and the end of the block that the store knows.
    _next: int = 1
    _reserved: int = 1

    def begin_at(self, first: int) -> None:
        """Hear of the first number that was never given, as the store has it."""
        self._next = self._reserved = first

    def note(self, seq: int) -> None:
        """Hear of a number that is in use: a damaged count must not give it again."""
        self._next = max(self._next, seq + 1)

    def take(self) -> int:
        """Return a new number.

        The block that it is of is committed before, on its own: a call of emit
        that used it first may be cancelled while others of the block are not.
        """
        seq = self._next
        if seq >= self._reserved:
            reserved = seq + _BLOCK
            value = seal(NEXT, reserved.to_bytes(8, "big"))
            self._store.write_nowait([(Keyspace.META, NEXT, value)])
            self._reserved = reserved
        self._next = seq + 1
        return seq


def read_next(value: bytes) -> int:
    """Read the first number that was never given, from the store."""
    return int.from_bytes(value, "big")
