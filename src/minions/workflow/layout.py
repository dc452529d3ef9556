"""Where things stand in the store: the keyspaces, and how their keys are made.

Each unfinished workflow stands in one of two keyspaces.  ``RECORD`` holds those
that are taken up when the store is opened; ``COLD`` those that wait for a time or a
signal, apart, so that a million of them cost the others nothing.  Each cold one has
one entry in ``TIMER``, in the order of their times, behind the hash of its
orchestration.

Keys sort as the numbers in them: big-endian, without a sign.  What may be long
stands as a hash of 16 bytes.
"""

from __future__ import annotations

import enum
import math
from hashlib import blake2b
from typing import TYPE_CHECKING

__all__ = [
    "NEVER",
    "NEXT_SEQ",
    "Keyspace",
    "Write",
    "age_key",
    "dedup_age_key",
    "dedup_key",
    "dedup_of_age",
    "holder_key",
    "key_of",
    "mail_key",
    "mark_of",
    "sequence_of",
    "time_of",
    "time_of_dedup",
    "timer_key",
]

_KEY_SIZE = 8
_HASH_SIZE = 16
_MICRO = 1_000_000
NEVER: float = math.inf
"""The time of what waits for no time."""
_LAST = 2**64 - 1
NEXT_SEQ: bytes = b"next_seq"
"""The key, in ``META``, of the first number that was never given."""


class Keyspace(enum.Enum):
    """A kind of data; each has its own order of keys."""

    RECORD = "record"
    """By number: the workflows that go on as soon as there is room."""

    COLD = "cold"
    """By number: those that wait for a time or a signal."""

    TIMER = "timer"
    """By orchestration, time and number: the index of the cold ones."""

    KEY = "key"
    """By orchestration and key: the number of the workflow that holds the key."""

    MAIL = "mail"
    """By the workflow's number and its own: the signals that were not taken."""

    QUARANTINE = "quarantine"
    """By number: the workflows that wait for a person."""

    ENDED = "ended"
    """By number: the ended ones that are kept for a while."""

    ENDED_AGE = "ended_age"
    """By time and number: the index of the ended ones."""

    SUBSCRIPTION = "subscription"
    CURSOR = "cursor"

    DEDUP = "dedup"
    """By pipeline and id: what the first emit with this id returned."""

    DEDUP_AGE = "dedup_age"
    """By pipeline, time and id: the index of these."""

    META = "meta"

    # Members are singletons; the inherited hash is a Python function, and each
    # write looks its keyspace up.
    if not TYPE_CHECKING:  # pragma: no branch  # a checker calls it ambiguous
        __hash__ = object.__hash__


Write = tuple[Keyspace, bytes, bytes | None]
"""A keyspace, a key, and the value to put there; ``None`` deletes."""


def key_of(seq: int) -> bytes:
    """Make the key of the record with this sequence number; keys sort by it."""
    return seq.to_bytes(_KEY_SIZE, "big")


def sequence_of(key: bytes) -> int:
    """Read the sequence number that ends *key*."""
    return int.from_bytes(key[-_KEY_SIZE:], "big")


def mark_of(name: str) -> bytes:
    """Make what stands for a long name in a key."""
    return blake2b(name.encode(), digest_size=_HASH_SIZE).digest()


def _time_key(at: float) -> bytes:
    micros = _LAST if at == NEVER else max(0, math.ceil(at * _MICRO))
    return min(micros, _LAST).to_bytes(_KEY_SIZE, "big")


def timer_key(orchestration: str, at: float, seq: int) -> bytes:
    """Make the key of a cold workflow; *at* in seconds since the epoch."""
    return mark_of(orchestration) + _time_key(at) + key_of(seq)


def time_of(key: bytes) -> float:
    """Read the time of an index key: what stands before its last part."""
    micros = int.from_bytes(key[-2 * _KEY_SIZE : -_KEY_SIZE], "big")
    return NEVER if micros == _LAST else micros / _MICRO


def holder_key(orchestration: str, key: bytes) -> bytes:
    """Make the key under which stands who holds *key*."""
    return mark_of(orchestration) + key


def mail_key(seq: int, number: int) -> bytes:
    """Make the key of a signal to a workflow."""
    return key_of(seq) + key_of(number)


def age_key(at: float, seq: int) -> bytes:
    """Make the index key of an ended workflow."""
    return _time_key(at) + key_of(seq)


def dedup_key(pipeline: str, event_id: str) -> bytes:
    """Make the key of an event id."""
    return mark_of(pipeline) + mark_of(event_id)


def time_of_dedup(age: bytes) -> float:
    """Read the time of an index key of an event id."""
    micros = int.from_bytes(age[_HASH_SIZE : _HASH_SIZE + _KEY_SIZE], "big")
    return micros / _MICRO


def dedup_of_age(age: bytes) -> bytes:
    """Return the key of the event id that an index key stands for."""
    return age[:_HASH_SIZE] + age[_HASH_SIZE + _KEY_SIZE :]


def dedup_age_key(at: float, key: bytes) -> bytes:
    """Make the index key of what stands under *key* of the event ids."""
    return key[:_HASH_SIZE] + _time_key(at) + key[_HASH_SIZE:]
