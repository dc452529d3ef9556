"""The workflows of a state folder as rows: from the store, and from its process."""

from __future__ import annotations

import contextlib
import heapq
import operator
import sys
from collections.abc import Iterable, Iterator

import attrs

from minions.control import ControlError, Owner
from minions.errors import SnapshotError
from minions.store.reading import StoreView
from minions.workflow.layout import Keyspace, sequence_of
from minions.workflow.passing import BODIES, decode_body
from minions.workflow.record import EndedRecord, QuarantineRecord
from minions.workflow.stored import Body

__all__ = ["HOT", "Row", "merged_with_live", "row_of", "stored_rows"]

_NUMBER = operator.attrgetter("seq")

HOT = frozenset({"ready", "running", "queued", "parked"})
"""The states that only the process tells apart; in the store they are ``ready``."""

_COLD = frozenset({"sleeping", "retrying", "waiting"})


@attrs.frozen
class Row:
    """One workflow."""

    seq: int
    orchestration: str
    state: str
    step: str = ""
    attempt: int = 0
    since: float | None = None
    until: float | None = None
    reason: str = ""
    """In one word why it is quarantined, or why it has ended."""

    @property
    def id(self) -> str:
        """Its id."""
        return f"w{self.seq}"


def stored_rows(view: StoreView, state: str | None = None) -> Iterator[Row]:
    """Iterate over what the store says of the workflows that may be in a state.

    They come in the order of their numbers.  ``None``: all that have not ended.
    """
    spaces = [_rows_in(view, space) for space in _spaces(state)]
    return heapq.merge(*spaces, key=_NUMBER)


def _rows_in(view: StoreView, space: Keyspace) -> Iterator[Row]:
    for key, value in view.items(space):
        try:
            body = decode_body(space, key, value)
        except SnapshotError as exc:
            yield Row(sequence_of(key), "", "damaged", reason=str(exc))
        else:
            yield row_of(sequence_of(key), body)


def _spaces(state: str | None) -> list[Keyspace]:
    if state == "damaged":
        return list(BODIES)
    if state is None:
        return [Keyspace.RECORD, Keyspace.COLD, Keyspace.QUARANTINE]
    if state in HOT:
        return [Keyspace.RECORD]
    if state in _COLD:
        return [Keyspace.COLD]
    return [Keyspace.QUARANTINE if state == "quarantined" else Keyspace.ENDED]


def row_of(seq: int, body: Body) -> Row:
    """Return the row of a workflow that stands in the store."""
    if isinstance(body, QuarantineRecord):
        record, state, reason = body.record, "quarantined", body.reason
        since, until = body.quarantined_at, None
    elif isinstance(body, EndedRecord):
        record, state, reason = body.record, body.state, body.reason
        since, until = body.ended_at, None
    else:
        record, state, reason = body, body.state, ""
        since, until = record.since or record.accepted_at, record.until
    return Row(
        seq,
        # The same few, a million times.
        sys.intern(record.orchestration),
        sys.intern(state),
        sys.intern(record.step),
        record.attempt,
        since,
        until,
        reason,
    )


def merged_with_live(rows: Iterable[Row], owner: Owner) -> Iterator[Row]:
    """Say what those that are ready do, as their process says; it may be ending.

    What it says is younger than the rows: who has come or gone since is as the store
    had it, so that nothing is counted twice.
    """
    live = _live_rows(owner)
    ahead: Row | None = None
    for row in rows:
        if row.state == "ready":
            while ahead is None or ahead.seq < row.seq:
                ahead = next(live, None)
                if ahead is None:
                    break
        yield ahead if ahead is not None and ahead.seq == row.seq else row


def _live_rows(owner: Owner) -> Iterator[Row]:
    """Iterate over what a process has in memory, by number, as far as it answers."""
    after = 0
    with contextlib.suppress(ControlError):
        while page := owner.ask("live", after=after):
            yield from (Row(*fields) for fields in page)
            after = page[-1][0]
