"""One pass over a store, for the rules of :mod:`minions.workflow.check`."""

from __future__ import annotations

from collections.abc import Callable, Iterator
from typing import Protocol

import attrs

from minions.errors import SnapshotError
from minions.workflow.layout import NEXT_SEQ, Keyspace, key_of, sequence_of
from minions.workflow.record import (
    decode_ended,
    decode_quarantine,
    decode_record,
    unseal,
)
from minions.workflow.stored import Body

__all__ = ["BODIES", "LOOK", "RESTORE", "Pass", "View", "Violation", "decode_body"]

RESTORE = (
    "restore the state folder from a backup, and report it: this is a defect of"
    " Minions, of the disk, or of who changed the file"
)
LOOK = (
    "look at it with `minions show {id}`; an unfinished one goes into quarantine when"
    " the folder is opened the next time, where `minions discard {id}` ends it; or "
)


class View(Protocol):
    """A store at one moment."""

    def get(self, space: Keyspace, key: bytes, /) -> bytes | None:
        """Return one value."""

    def items(self, space: Keyspace, /) -> Iterator[tuple[bytes, bytes]]:
        """Iterate over a keyspace in the order of its keys."""


@attrs.frozen
class Violation:
    """Something that must not stand in a store, or is missing there."""

    space: str
    """The keyspace."""

    key: bytes
    found: str
    """What was expected, and what was found."""

    remedy: str = RESTORE
    """What to do."""


BODIES: dict[Keyspace, Callable[[bytes, bytes], Body]] = {
    Keyspace.RECORD: decode_record,
    Keyspace.COLD: decode_record,
    Keyspace.QUARANTINE: decode_quarantine,
    Keyspace.ENDED: decode_ended,
}
"""Where workflows stand, and how what stands there is read."""

_SIZES = {
    Keyspace.RECORD: 8,
    Keyspace.COLD: 8,
    Keyspace.QUARANTINE: 8,
    Keyspace.ENDED: 8,
    Keyspace.ENDED_AGE: 16,
    Keyspace.TIMER: 32,
    Keyspace.MAIL: 16,
    Keyspace.CURSOR: 16,
    Keyspace.DEDUP: 32,
    Keyspace.DEDUP_AGE: 40,
}


def decode_body(space: Keyspace, key: bytes, value: bytes) -> Body:
    """Read what stands for a workflow in one of :data:`BODIES`.

    Raises:
        SnapshotError: It is damaged, or of a newer format.
    """
    return BODIES[space](key, value)


class Pass:
    """One pass over a store."""

    def __init__(self, view: View) -> None:
        self.view = view
        self.end: int = self._read_end()

    def _read_end(self) -> int:
        """Read the first number that was never given."""
        value = self.view.get(Keyspace.META, NEXT_SEQ)
        try:
            return int.from_bytes(unseal(NEXT_SEQ, value or b""), "big")
        except SnapshotError:  # missing, or said where META is checked
            return 0 if value is None else 2**64

    def well_formed(self, space: Keyspace) -> Iterator[tuple[bytes, bytes]]:
        """Iterate over the entries whose key has the right length."""
        for key, value in self.view.items(space):
            if len(key) == _SIZES.get(space, len(key)):
                yield key, value

    def keys(self, space: Keyspace) -> Iterator[Violation]:
        """Find the keys of a wrong length."""
        size = _SIZES[space]
        for key, _ in self.view.items(space):
            if len(key) != size:
                yield Violation(
                    space.value,
                    key,
                    f"expected a key of {size} bytes, found {len(key)}",
                )

    def body(self, seq: int, spaces: tuple[Keyspace, ...]) -> Body | None:
        """Return a workflow that stands in one of these and can be read."""
        key = key_of(seq)
        for space in spaces:
            value = self.view.get(space, key)
            if value is not None:
                try:
                    return decode_body(space, key, value)
                except SnapshotError:  # said where it stands
                    return None
        return None

    def number(self, space: Keyspace, key: bytes) -> Iterator[Violation]:
        """Find a number that was never given."""
        seq = sequence_of(key)
        if seq >= self.end:
            yield Violation(
                space.value,
                key,
                f"expected a number below {self.end}, the next one to be given"
                f" ({Keyspace.META.value}/{NEXT_SEQ.decode()}), found {seq}",
            )

    def empty(self, space: Keyspace, key: bytes, value: bytes) -> Iterator[Violation]:
        """Find a damaged entry of an index, which has no value."""
        try:
            if unseal(key, value) == b"":
                return
            found = "expected an entry without a value, found one that has a value"
        except SnapshotError as exc:
            found = str(exc)
        yield Violation(space.value, key, found)
