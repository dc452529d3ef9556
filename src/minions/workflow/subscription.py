"""What stands in the store for one subscription."""

from __future__ import annotations

import msgspec

from minions.workflow.record import CorruptRecordError, seal, unseal

__all__ = ["SubscriptionRecord", "decode_subscription", "encode_subscription"]


class SubscriptionRecord(msgspec.Struct, array_like=True, frozen=True):
    """An orchestration's durable claim on a pipeline's events."""

    orchestration: str
    pipeline: str
    minion: str
    name: str
    order: int
    """Its place among the subscriptions of the store."""

    max_in_flight: int
    max_backlog: int
    max_unfinished: int
    overflow: str


_encoder = msgspec.msgpack.Encoder()
_decoder = msgspec.msgpack.Decoder(SubscriptionRecord)


def encode_subscription(record: SubscriptionRecord) -> tuple[bytes, bytes]:
    """Make the key and the sealed value of a subscription."""
    key = record.orchestration.encode()
    return key, seal(key, _encoder.encode(record))


def decode_subscription(key: bytes, data: bytes) -> SubscriptionRecord:
    """Read a subscription.

    Raises:
        CorruptRecordError: The value is damaged.
        SnapshotError: It is of a newer format.
    """
    body = unseal(key, data)
    try:
        return _decoder.decode(body)
    except msgspec.DecodeError as exc:
        raise CorruptRecordError(
            f"the record under key {key!r} is no subscription: {exc}; restore the"
            " state folder from a copy"
        ) from exc
