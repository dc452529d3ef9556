"""Shows workflows, with their classes where these are known."""

from __future__ import annotations

from collections.abc import Mapping
from datetime import UTC, datetime
from typing import Any

import attrs

from minions.errors import SnapshotError
from minions.runtime.codecs import Codecs
from minions.runtime.ledger import Ledger
from minions.runtime.registry import Found
from minions.runtime.why import state_of, why
from minions.runtime.work import Ended
from minions.store.codec import to_printable
from minions.workflow.layout import sequence_of
from minions.workflow.record import (
    EndedRecord,
    QuarantineRecord,
    WorkflowRecord,
    decode_quarantine,
)

__all__ = ["Inspector", "Workflow"]


@attrs.frozen
class Workflow:
    """One workflow as it stands now, or as it ended."""

    id: str
    orchestration_id: str
    state: str
    """``ready``, ``running``, ``retrying``, ``sleeping``, ``waiting``, ``queued``,
    ``parked``, ``quarantined``, or an end: ``done``, ``aborted``, ``cancelled``,
    ``discarded``."""

    step: str
    """The step at which its last snapshot goes on; empty for the first, and ``=`` if
    only its end is left."""

    attempt: int
    """How many attempts of that step have failed."""

    accepted_at: datetime
    event: Any
    """The event; plain data if its class is not known in this process."""

    context: Any
    """The context of the last snapshot; of the end, if it has ended."""

    reason: str = ""
    """Why it ended or is quarantined."""

    traceback: str = ""
    """Of the exception for which it is quarantined."""

    why: str = ""
    """What it waits for, and since when; one sentence for a person."""

    since: datetime | None = None
    """When it came to its step or state."""

    until: datetime | None = None
    """When it wakes at the latest; ``None``: no time is set."""


class Inspector:
    """Makes what users see of a record."""

    def __init__(self, ledger: Ledger, codecs: Mapping[str, Codecs]) -> None:
        self._ledger = ledger
        self._codecs = codecs

    def show(self, found: Found) -> Workflow:
        """Show a workflow, wherever it stands."""
        body = found.body
        if isinstance(body, QuarantineRecord):
            return self.quarantined(found.seq, body)
        if isinstance(body, EndedRecord):
            return self.kept(found.seq, body)
        record = found.work.record if found.work is not None else body
        assert record is not None
        return self.unfinished(found, record)

    def unfinished(self, found: Found, record: WorkflowRecord) -> Workflow:
        """Show one that goes on."""
        now = self._ledger.now()
        view = self._view(found.seq, state_of(found, record, now), record)
        return attrs.evolve(view, why=why(found, record, now))

    def quarantined(self, seq: int, body: QuarantineRecord) -> Workflow:
        """Show one in quarantine."""
        view = self._view(seq, "quarantined", body.record)
        since = _time(body.quarantined_at)
        reason = f"{body.reason}: {body.message}"
        return attrs.evolve(
            view,
            reason=reason,
            traceback=body.exception,
            since=since,
            until=None,
            why=f"waits for a person since {since:%Y-%m-%d %H:%M:%S} UTC ({reason})",
        )

    def quarantined_or_damaged(self, key: bytes, value: bytes) -> Workflow:
        """Show what stands in the quarantine, even if it cannot be read."""
        try:
            return self.quarantined(sequence_of(key), decode_quarantine(key, value))
        except SnapshotError as exc:
            return self.damaged(sequence_of(key), value, exc)

    def damaged(self, seq: int, value: bytes, exc: SnapshotError) -> Workflow:
        """Show a record that cannot be read."""
        raw = WorkflowRecord("", "", value, "", b"", "", 0.0)
        view = self._view(seq, "quarantined", raw)
        return attrs.evolve(view, reason=f"corrupt: {exc}", why=f"is damaged: {exc}")

    def kept(self, seq: int, body: EndedRecord) -> Workflow:
        """Show one that has ended and is kept."""
        view = self._view(seq, body.state, body.record)
        since = _time(body.ended_at)
        said = f" ({body.reason})" if body.reason else ""
        return attrs.evolve(
            view,
            reason=body.reason,
            since=since,
            until=None,
            why=f"{body.state} since {since:%Y-%m-%d %H:%M:%S} UTC{said}",
        )

    def closed(self, seq: int, ended: Ended) -> Workflow:
        """Show how one ended."""
        view = self._view(seq, ended.state, ended.record)
        if ended.context is not None:
            view = attrs.evolve(view, context=ended.context)
        return attrs.evolve(view, reason=ended.reason, why=ended.state)

    def _view(self, seq: int, state: str, record: WorkflowRecord) -> Workflow:
        event, context = self._decoded(record)
        return Workflow(
            id=f"w{seq}",
            orchestration_id=record.orchestration,
            state=state,
            step=record.step,
            attempt=record.attempt,
            accepted_at=_time(record.accepted_at),
            event=event,
            context=context,
            since=_time(record.since or record.accepted_at),
            until=_time(record.until) if record.until is not None else None,
        )

    def _decoded(self, record: WorkflowRecord) -> tuple[Any, Any]:
        codecs = self._codecs.get(record.orchestration)
        if codecs is not None:
            try:
                return codecs.event.decode(record.event), codecs.context_of(record)
            except BaseException:  # noqa: BLE001, S110  # shown as plain data instead
                pass
        return _printable(record.event), _printable(record.context)


def _time(seconds: float) -> datetime:
    return datetime.fromtimestamp(seconds, UTC)


def _printable(data: bytes) -> object:
    if not data:
        return None
    try:
        return to_printable(data)
    except SnapshotError:
        return data
