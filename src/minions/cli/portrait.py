"""All that the store knows of one workflow, without the user's classes."""

from __future__ import annotations

import time

import attrs

from minions.cli.output import iso, moment
from minions.errors import SnapshotError
from minions.runtime.registry import Found
from minions.runtime.why import why
from minions.store.codec import to_printable
from minions.store.reading import StoreView
from minions.workflow.layout import Keyspace, key_of, sequence_of
from minions.workflow.passing import BODIES, decode_body
from minions.workflow.record import (
    EndedRecord,
    QuarantineRecord,
    WorkflowRecord,
    decode_record,
    decode_signal,
)
from minions.workflow.stored import Body

__all__ = ["Portrait", "portrait_of"]


@attrs.frozen(kw_only=True)
class Portrait:
    """One workflow; the names are the keys of the JSON document."""

    id: str
    orchestration: str = ""
    state: str
    why: str
    step: str = ""
    attempt: int = 0
    accepted_at: str | None = None
    since: str | None = None
    until: str | None = None
    key: object = None
    waits_for: str = ""
    problem: str = ""
    """Why its last attempt has failed."""

    crash_count: int = 0
    reason: str = ""
    message: str = ""
    code_version: str = ""
    event_type: str = ""
    event: object = None
    context_type: str = ""
    context: object = None
    received_type: str = ""
    received: object = None
    signals: tuple[dict[str, object], ...] = ()
    traceback: str = ""
    stands_in: str
    """The keyspace of its record."""


def portrait_of(view: StoreView, seq: int) -> Portrait | None:
    """Return what the store knows of a workflow; ``None``: it holds none."""
    key = key_of(seq)
    for space in BODIES:
        value = view.get(space, key)
        if value is None:
            continue
        try:
            body = decode_body(space, key, value)
        except SnapshotError as exc:
            return Portrait(
                id=f"w{seq}",
                state="damaged",
                why=f"is damaged: {exc}",
                message=str(exc),
                event=_printable(value),
                stands_in=space.value,
            )
        portrait = _portrait(seq, space, body)
        return attrs.evolve(portrait, signals=tuple(_signals(view, seq)))
    return None


def _portrait(seq: int, space: Keyspace, body: Body) -> Portrait:
    record = body if isinstance(body, WorkflowRecord) else body.record
    portrait = _of_record(seq, space, record)
    if isinstance(body, QuarantineRecord):
        said = f"{body.reason}: {body.message}"
        return attrs.evolve(
            portrait,
            state="quarantined",
            why=f"waits for a person since {moment(body.quarantined_at)} UTC ({said})",
            since=iso(body.quarantined_at),
            until=None,
            reason=body.reason,
            message=body.message,
            traceback=body.exception,
            code_version=body.code_version,
        )
    if isinstance(body, EndedRecord):
        said = f" ({body.reason})" if body.reason else ""
        return attrs.evolve(
            portrait,
            state=body.state,
            why=f"{body.state} since {moment(body.ended_at)} UTC{said}",
            since=iso(body.ended_at),
            until=None,
            reason=body.reason,
        )
    return portrait


def _of_record(seq: int, space: Keyspace, record: WorkflowRecord) -> Portrait:
    if not record.orchestration:
        record = _unwrapped(seq, record)
    return Portrait(
        id=f"w{seq}",
        orchestration=record.orchestration,
        state=record.state,
        why=why(Found(seq, None), record, time.time()),
        step=record.step,
        attempt=record.attempt,
        accepted_at=iso(record.accepted_at),
        since=iso(record.since or record.accepted_at),
        until=iso(record.until),
        key=None if record.key is None else _printable_key(record.key),
        waits_for=record.waits,
        problem=record.problem,
        crash_count=record.crash_count,
        event_type=record.event_type,
        event=_printable(record.event),
        context_type=record.context_type,
        context=_printable(record.context),
        received_type=record.received_type,
        received=_printable(record.received),
        stands_in=space.value,
    )


def _unwrapped(seq: int, record: WorkflowRecord) -> WorkflowRecord:
    """Read what could not be read when it was put into quarantine."""
    try:
        return decode_record(key_of(seq), record.event)
    except SnapshotError:
        return record


def _signals(view: StoreView, seq: int) -> list[dict[str, object]]:
    found: list[dict[str, object]] = []
    for key, value in view.items(Keyspace.MAIL, key_of(seq)):
        number = sequence_of(key)
        try:
            signal = decode_signal(key, value)
        except SnapshotError as exc:
            found.append({"number": number, "damaged": str(exc)})
        else:
            found.append(
                {
                    "number": number,
                    "type": signal.type,
                    "payload": _printable(signal.payload),
                    "sent_at": iso(signal.sent_at),
                }
            )
    return found


def _printable_key(data: bytes) -> object:
    """Return what the minion's ``key`` has returned; of a long one only a hash."""
    match _printable(data):
        case [str(), value]:  # stored with the name of its type: 1 is not "1"
            return value
        case _:
            return f"0x{data.hex()}"


def _printable(data: bytes) -> object:
    if not data:
        return None
    try:
        return to_printable(data)
    except SnapshotError:
        return f"0x{data.hex()}"
