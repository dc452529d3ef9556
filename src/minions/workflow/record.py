"""What stands in the store for one workflow, and the frame around every value.

A workflow is one record: its event, its context and the name of its next step,
under a key that is its place in the order of arrival.  A record that cannot go on
moves, whole, into a quarantine record.

The frame is one byte of format version, the body, and a CRC-32 of the key and all
before it: LMDB has no checksums of pages, and a value under the wrong key is as
damaged as a torn one.

Bodies are MessagePack arrays in the order of the fields.  A field is added at the
end, with a default, and never removed: an older record then reads with the
default, and an older program passes over what it does not know.

Source:
    MessagePack: https://github.com/msgpack/msgpack/blob/master/spec.md
    CRC-32 as zlib computes it: RFC 1952, section 8.
"""

from __future__ import annotations

from typing import ClassVar, TypeVar
from zlib import crc32

import msgspec

from minions.errors import SnapshotError

__all__ = [
    "CorruptRecordError",
    "QuarantineRecord",
    "WorkflowRecord",
    "decode_quarantine",
    "decode_record",
    "encode_quarantine",
    "encode_record",
    "key_of",
    "seal",
    "sequence_of",
    "unseal",
]

FRAME_VERSION = 1
_PREFIX = bytes([FRAME_VERSION])
_CRC_SIZE = 4
_KEY_SIZE = 8


class CorruptRecordError(SnapshotError):
    """A stored value is damaged: its checksum, frame or body is wrong."""

    reason: ClassVar[str] = "corrupt"


class WorkflowRecord(msgspec.Struct, array_like=True, frozen=True, gc=False):
    """One accepted workflow that has not ended."""

    orchestration: str
    """The id of the orchestration that it belongs to."""

    event_type: str
    """The name of the event's type; see :func:`minions.store.codec.codec_for`."""

    event: bytes
    """The event, encoded."""

    context_type: str
    """The name of the context's type."""

    context: bytes
    """The context before the next step; empty for the default one."""

    step: str
    """The name of the next step; empty for the first one."""

    accepted_at: float
    """When the event was accepted, in seconds since the epoch."""

    attempt: int = 0
    """How many attempts of the next step have failed."""

    key: bytes | None = None
    """What the workflow is ordered by, or ``None``."""

    crash_count: int = 0
    """At how many unclean opens in a row the workflow was in flight."""


class QuarantineRecord(msgspec.Struct, array_like=True, frozen=True):
    """A workflow that waits for a person, and why."""

    record: WorkflowRecord
    """The workflow with its last good snapshot."""

    reason: str
    """One word: ``failed``, ``unstorable``, ``incompatible``, ``corrupt``, ..."""

    message: str
    """One sentence for a person."""

    exception: str
    """The traceback as text; empty if nothing was raised."""

    quarantined_at: float
    """In seconds since the epoch."""

    code_version: str
    """The version of the code that gave up."""


_Stored = TypeVar("_Stored", WorkflowRecord, QuarantineRecord)

_encode = msgspec.msgpack.Encoder().encode
_record_decoder = msgspec.msgpack.Decoder(WorkflowRecord)
_quarantine_decoder = msgspec.msgpack.Decoder(QuarantineRecord)


def seal(key: bytes, body: bytes) -> bytes:
    """Put the frame around *body*, which is stored under *key*."""
    data = _PREFIX + body
    return data + crc32(data, crc32(key)).to_bytes(_CRC_SIZE, "big")


def unseal(key: bytes, data: bytes) -> bytes:
    """Check and take off the frame of what was stored under *key*.

    Raises:
        CorruptRecordError: The checksum does not fit.
        SnapshotError: The frame is of a newer format.
    """
    sealed = data[:-_CRC_SIZE]
    expected = crc32(sealed, crc32(key)).to_bytes(_CRC_SIZE, "big")
    if not sealed or data[-_CRC_SIZE:] != expected:
        raise CorruptRecordError(
            f"the record under key {key.hex()} is damaged: expected the CRC-32"
            f" {expected.hex()}, found {data[-_CRC_SIZE:].hex() or 'nothing'};"
            " restore the state folder from a copy, or discard the record"
        )
    if sealed[0] != FRAME_VERSION:
        raise SnapshotError(
            f"the record under key {key.hex()} has format {sealed[0]}, expected"
            f" {FRAME_VERSION}; read it with the version of minions that wrote it"
        )
    return sealed[1:]


def key_of(seq: int) -> bytes:
    """Make the key of the record with this sequence number; keys sort by it."""
    return seq.to_bytes(_KEY_SIZE, "big")


def sequence_of(key: bytes) -> int:
    """Read the sequence number that *key* was made from."""
    return int.from_bytes(key, "big")


def encode_record(seq: int, record: WorkflowRecord) -> tuple[bytes, bytes]:
    """Make the key and the sealed value of a workflow's record.

    Raises:
        SnapshotError: A text field cannot be encoded (a lone surrogate).
    """
    key = seq.to_bytes(_KEY_SIZE, "big")
    try:
        data = _PREFIX + _encode(record)
    except (UnicodeEncodeError, OverflowError) as exc:
        raise SnapshotError(
            f"the record of workflow {seq} of {record.orchestration!r} cannot be"
            f" stored: {exc}; expected well-formed text and 64-bit integers"
        ) from exc
    return key, data + crc32(data, crc32(key)).to_bytes(_CRC_SIZE, "big")


def decode_record(key: bytes, data: bytes) -> WorkflowRecord:
    """Read a workflow's record.

    Raises:
        CorruptRecordError: The value is damaged.
        SnapshotError: It is of a newer format.
    """
    return _decode(_record_decoder, key, data)


def encode_quarantine(seq: int, record: QuarantineRecord) -> tuple[bytes, bytes]:
    """Make the key and the sealed value of a quarantined workflow.

    Text that UTF-8 cannot hold is escaped: what goes wrong must never keep the
    report of it from being stored.
    """
    key = key_of(seq)
    try:
        body = _encode(record)
    except UnicodeEncodeError:
        safe = msgspec.structs.replace(
            record,
            reason=_escape(record.reason),
            message=_escape(record.message),
            exception=_escape(record.exception),
            code_version=_escape(record.code_version),
        )
        body = _encode(safe)
    return key, seal(key, body)


def decode_quarantine(key: bytes, data: bytes) -> QuarantineRecord:
    """Read a quarantined workflow; raises as :func:`decode_record` does."""
    return _decode(_quarantine_decoder, key, data)


def _escape(text: str) -> str:
    return text.encode(errors="backslashreplace").decode()


def _decode(
    decoder: msgspec.msgpack.Decoder[_Stored], key: bytes, data: bytes
) -> _Stored:
    body = unseal(key, data)
    try:
        return decoder.decode(body)
    except msgspec.DecodeError as exc:
        raise CorruptRecordError(
            f"the record under key {key.hex()} is no record of a workflow: {exc};"
            " restore the state folder from a copy, or discard the record"
        ) from exc
