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
from minions.workflow.layout import key_of

__all__ = [
    "END",
    "READY",
    "CorruptRecordError",
    "EndedRecord",
    "QuarantineRecord",
    "SignalRecord",
    "WorkflowRecord",
    "decode_ended",
    "decode_quarantine",
    "decode_record",
    "decode_signal",
    "encode_ended",
    "encode_quarantine",
    "encode_record",
    "encode_signal",
    "seal",
    "unseal",
]

READY = "ready"
"""The state of what goes on as soon as there is room."""
END = "="
"""The step of a workflow that ends when it wakes; no name of a method."""

FRAME_VERSION = 1
_PREFIX = bytes([FRAME_VERSION])
_CRC_SIZE = 4


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

    state: str = READY
    """``ready``, or what it waits for: ``sleeping``, ``retrying``, ``waiting``."""

    since: float = 0.0
    """When it came to this step or state, in seconds since the epoch."""

    until: float | None = None
    """When it wakes at the latest, in seconds since the epoch."""

    waits: str = ""
    """The name of the type of signal that it waits for."""

    received_type: str = ""
    """The name of the type of the signal that the next step finds."""

    received: bytes = b""
    """That signal, encoded."""

    problem: str = ""
    """Why its last attempt has failed."""

    is_marked: bool = False
    """Whether a suspect's step has begun; see :mod:`minions.workflow.suspects`."""


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


class SignalRecord(msgspec.Struct, array_like=True, frozen=True):
    """A signal that was sent to a workflow and not taken."""

    type: str
    """The name of the payload's type."""

    payload: bytes
    """The payload, encoded."""

    sent_at: float
    """In seconds since the epoch."""


class EndedRecord(msgspec.Struct, array_like=True, frozen=True):
    """A workflow that has ended, kept for a while."""

    record: WorkflowRecord
    """The workflow with the context that its last step left."""

    state: str
    """``done``, ``aborted``, ``cancelled`` or ``discarded``."""

    reason: str
    """Why, unless it is done."""

    ended_at: float
    """In seconds since the epoch."""


_Stored = TypeVar(
    "_Stored", WorkflowRecord, QuarantineRecord, SignalRecord, EndedRecord
)

_encode = msgspec.msgpack.Encoder().encode
_signal_decoder = msgspec.msgpack.Decoder(SignalRecord)
_ended_decoder = msgspec.msgpack.Decoder(EndedRecord)
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


def encode_record(seq: int, record: WorkflowRecord) -> tuple[bytes, bytes]:
    """Make the key and the sealed value of a workflow's record.

    Raises:
        SnapshotError: A text field cannot be encoded (a lone surrogate).
    """
    key = seq.to_bytes(8, "big")  # as key_of, without a call: once per step
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


def encode_ended(seq: int, ended: EndedRecord) -> tuple[bytes, bytes]:
    """Make the key and the sealed value of an ended workflow."""
    key = key_of(seq)
    try:
        body = _encode(ended)
    except UnicodeEncodeError:
        body = _encode(msgspec.structs.replace(ended, reason=_escape(ended.reason)))
    return key, seal(key, body)


def decode_ended(key: bytes, data: bytes) -> EndedRecord:
    """Read an ended workflow; raises as :func:`decode_record` does."""
    return _decode(_ended_decoder, key, data)


def encode_signal(key: bytes, signal: SignalRecord) -> bytes:
    """Make the sealed value of a signal."""
    return seal(key, _encode(signal))


def decode_signal(key: bytes, data: bytes) -> SignalRecord:
    """Read a signal; raises as :func:`decode_record` does."""
    return _decode(_signal_decoder, key, data)


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
