"""What workflows are ordered by, as bytes."""

from __future__ import annotations

import hashlib

import msgspec

from minions.errors import DefinitionError

__all__ = ["key_bytes"]

_LONGEST_KEY = 256


def key_bytes(value: object) -> bytes:
    """Make what workflows are ordered by; long ones as a hash.

    Raises:
        DefinitionError: The key is no plain value.
    """
    try:
        data = msgspec.msgpack.encode([type(value).__qualname__, value])
    except (TypeError, ValueError, OverflowError, UnicodeError) as exc:
        raise DefinitionError(
            f"key: expected a plain value (text, number, bytes, date, UUID, or a tuple"
            f" of them), found {value!r}; return one of these"
        ) from exc
    if len(data) <= _LONGEST_KEY:
        return data
    return hashlib.blake2b(data, digest_size=16).digest()
