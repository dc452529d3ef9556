"""Shows workflows, with their classes where these are known."""

from __future__ import annotations

from collections.abc import Mapping
from datetime import UTC, datetime
from typing import Any

import attrs

from minions.errors import SnapshotError
from minions.runtime.codecs import Codecs
from minions.runtime.work import Ended, Work
from minions.store.codec import to_printable
from minions.workflow.layout import sequence_of
from minions.workflow.record import QuarantineRecord, WorkflowRecord, decode_quarantine

__all__ = ["Inspector", "Workflow"]


@attrs.frozen
class Workflow:
    """One workflow as it stands now, or as it ended."""

    id: str
    orchestration_id: str
    state: str
    """``accepting``, ``ready``, ``running``, ``queued``, ``quarantined``, or an end:
    ``done``, ``aborted``, ``discarded``."""

    step: str
    """The step at which its last snapshot goes on; empty for the first."""

    attempt: int
    accepted_at: datetime
    event: Any
    """The event; plain data if its class is not known in this process."""

    context: Any
    """The context of the last snapshot; of the end, if it has ended."""

    reason: str = ""
    """Why it ended or is quarantined."""

    traceback: str = ""
    """Of the exception for which it is quarantined."""


class Inspector:
    """Makes what users see of a record."""

    def __init__(self, codecs: Mapping[str, Codecs]) -> None:
        self._codecs = codecs

    def present(self, work: Work) -> Workflow:
        """Show one that has not ended."""
        return self._view(work.seq, work.state, work.record)

    def shown(self, seq: int, found: QuarantineRecord) -> Workflow:
        """Show one in quarantine."""
        view = self._view(seq, "quarantined", found.record)
        return attrs.evolve(
            view, reason=f"{found.reason}: {found.message}", traceback=found.exception
        )

    def shown_or_damaged(self, key: bytes, value: bytes) -> Workflow:
        """Show what stands in the quarantine, even if it cannot be read."""
        try:
            return self.shown(sequence_of(key), decode_quarantine(key, value))
        except SnapshotError as exc:
            raw = WorkflowRecord("", "", value, "", b"", "", 0.0)
            view = self._view(sequence_of(key), "quarantined", raw)
            return attrs.evolve(view, reason=f"corrupt: {exc}")

    def closed(self, seq: int, ended: Ended) -> Workflow:
        """Show how one ended."""
        view = self._view(seq, ended.state, ended.record)
        if ended.context is not None:
            view = attrs.evolve(view, context=ended.context)
        return attrs.evolve(view, reason=ended.reason)

    def _view(self, seq: int, state: str, record: WorkflowRecord) -> Workflow:
        event, context = self._decoded(record)
        return Workflow(
            id=f"w{seq}",
            orchestration_id=record.orchestration,
            state=state,
            step=record.step,
            attempt=record.attempt,
            accepted_at=datetime.fromtimestamp(record.accepted_at, UTC),
            event=event,
            context=context,
        )

    def _decoded(self, record: WorkflowRecord) -> tuple[Any, Any]:
        codecs = self._codecs.get(record.orchestration)
        if codecs is not None:
            try:
                return codecs.event.decode(record.event), codecs.context_of(record)
            except Exception:  # noqa: BLE001, S110  # shown as plain data instead
                pass
        return _printable(record.event), _printable(record.context)


def _printable(data: bytes) -> object:
    if not data:
        return None
    try:
        return to_printable(data)
    except SnapshotError:
        return data
