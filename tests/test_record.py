"""Records and their frame."""

from __future__ import annotations

import msgspec
import pytest
from hypothesis import given
from hypothesis import strategies as st

from minions.errors import SnapshotError
from minions.workflow.layout import key_of, sequence_of
from minions.workflow.record import (
    CorruptRecordError,
    QuarantineRecord,
    WorkflowRecord,
    decode_quarantine,
    decode_record,
    encode_quarantine,
    encode_record,
    seal,
    unseal,
)

RECORD = WorkflowRecord("greeter-1", "m:Event", b"\x01", "m:Context", b"", "", 1.5)


@given(
    st.integers(0, 2**64 - 1),
    st.builds(
        WorkflowRecord,
        st.text(),
        st.text(),
        st.binary(),
        st.text(),
        st.binary(),
        st.text(),
        st.floats(allow_nan=False),
        st.integers(0, 2**63),
        st.none() | st.binary(),
        st.integers(0, 2**63),
    ),
)
def test_what_is_read_equals_what_was_written(seq: int, record: WorkflowRecord) -> None:
    key, data = encode_record(seq, record)

    assert decode_record(key, data) == record
    assert sequence_of(key) == seq


@given(st.integers(0, 2**64 - 1), st.integers(0, 2**64 - 1))
def test_keys_sort_by_the_order_of_arrival(one: int, other: int) -> None:
    assert (key_of(one) < key_of(other)) == (one < other)


@given(st.binary(min_size=1), st.binary(), st.data())
def test_any_changed_bit_is_found(key: bytes, body: bytes, data: st.DataObject) -> None:
    sealed = bytearray(seal(key, body))
    index = data.draw(st.integers(0, len(sealed) - 1))
    sealed[index] ^= 1 << data.draw(st.integers(0, 7))

    with pytest.raises(CorruptRecordError, match="damaged") as caught:
        unseal(key, bytes(sealed))

    assert caught.value.reason == "corrupt"


@given(st.binary(min_size=1), st.binary())
def test_the_frame_comes_off_again(key: bytes, body: bytes) -> None:
    assert unseal(key, seal(key, body)) == body


def test_a_value_under_another_key_is_corrupt() -> None:
    _, data = encode_record(1, RECORD)

    with pytest.raises(CorruptRecordError):
        decode_record(key_of(2), data)


@pytest.mark.parametrize("data", [b"", b"\x01", b"\x00\x00\x00\x00"])
def test_too_short_a_value_is_corrupt(data: bytes) -> None:
    with pytest.raises(CorruptRecordError):
        unseal(b"k", data)


def test_a_newer_frame_is_refused() -> None:
    import zlib  # noqa: PLC0415  # what the format says, written out

    body = b"\x02anything"
    data = body + zlib.crc32(b"k" + body).to_bytes(4, "big")

    with pytest.raises(SnapshotError, match="format 2"):
        unseal(b"k", data)


def test_a_sealed_body_that_is_no_record_is_corrupt() -> None:
    with pytest.raises(CorruptRecordError, match="no record"):
        decode_record(b"k", seal(b"k", msgspec.msgpack.encode({"a": 1})))


def test_an_older_record_reads_with_defaults() -> None:
    """Fields behind the first seven were added later."""
    body = msgspec.msgpack.encode(["o", "e", b"", "c", b"", "step", 2.0])

    record = decode_record(b"k", seal(b"k", body))

    assert record == WorkflowRecord("o", "e", b"", "c", b"", "step", 2.0)


def test_fields_of_a_newer_version_are_passed_over() -> None:
    body = msgspec.msgpack.encode([*msgspec.structs.astuple(RECORD), "newer"])

    assert decode_record(b"k", seal(b"k", body)) == RECORD


def test_text_that_cannot_be_stored_is_refused() -> None:
    record = msgspec.structs.replace(RECORD, step="\ud800")

    with pytest.raises(SnapshotError, match="greeter-1"):
        encode_record(1, record)


@given(st.text(), st.text())
def test_a_quarantined_workflow_is_read_back(message: str, exception: str) -> None:
    record = QuarantineRecord(RECORD, "failed", message, exception, 3.0, "1")

    key, data = encode_quarantine(7, record)

    assert decode_quarantine(key, data) == record


def test_a_report_with_a_lone_surrogate_is_kept() -> None:
    record = QuarantineRecord(RECORD, "failed", "bad \ud800", "\udfff", 3.0, "1")

    found = decode_quarantine(*encode_quarantine(7, record))

    assert (found.message, found.exception) == ("bad \\ud800", "\\udfff")
