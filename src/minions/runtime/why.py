"""What a workflow waits for, in words."""

from __future__ import annotations

from datetime import UTC, datetime

from minions.runtime.registry import Found
from minions.runtime.table import WorkTable
from minions.runtime.work import Work
from minions.workflow.record import END, READY, WorkflowRecord

__all__ = ["cold_why", "state_of", "why"]


def state_of(found: Found, record: WorkflowRecord, now: float) -> str:
    """Return the state of a workflow that has not ended and is not quarantined."""
    work, table = found.work, found.table
    is_due = record.until is not None and record.until <= now
    if work is None and not (record.state != READY and is_due):
        return record.state
    if work is not None and work.state in {"running", "queued"}:
        return work.state
    if table is not None and table.engine is None and table.parked_on():
        return "parked"
    return "ready" if work is not None else record.state


def why(found: Found, record: WorkflowRecord, now: float) -> str:
    """Say what it waits for, and since when."""
    state, since = state_of(found, record, now), _moment(record.since)
    at = _place(record)
    if not record.since:
        since = _moment(record.accepted_at)
    table, work = found.table, found.work
    if state == "parked" and table is not None:
        return f"parked before {at}: waits for {table.parked_on()}"
    if state == "running":
        return f"runs {at}, attempt {record.attempt + 1}, since {since}"
    if state == "queued" and work is not None and table is not None:
        holder = table.keys.holder_of(work.key) if work.key is not None else None
        behind = f"w{holder.seq}" if holder is not None else "another one"
        return f"queued before {at}, behind {behind} of the same key"
    if state == READY:
        return f"ready for {at} since {since}: {_hindrance(table, work)}"
    return cold_why(record, now)


def cold_why(record: WorkflowRecord, now: float) -> str:
    """Say what a cold workflow waits for; needs its record only."""
    at = _place(record)
    since = _moment(record.since)
    until = "" if record.until is None else f"until {_moment(record.until)}"
    if record.until is not None:
        until += f" ({_span(record.until - now)})"
    if record.state == "retrying":
        return (
            f"retries {at} {until}: attempt {record.attempt} failed at {since} with"
            f" {record.problem or 'no message'}"
        )
    if record.state == "waiting":
        limit = f", {until}" if until else ", without a timeout"
        return f"waits for a signal of {record.waits} before {at} since {since}{limit}"
    return f"sleeps before {at} since {since} {until}"


def _place(record: WorkflowRecord) -> str:
    if record.step == END:
        return "its end"
    return f"step {record.step!r}" if record.step else "its first step"


def _hindrance(table: WorkTable | None, work: Work | None) -> str:
    if table is None or (table.engine is None and not table.is_started):
        return "its orchestration is not started"
    if table.engine is None:
        return "its minion is not up"
    if work is not None and work.is_paced:
        return "it was parked, and comes back in its turn"
    if work is not None and not work.saved:
        return "its snapshot is on the way to the disk"
    if table.running >= table.bounds.max_in_flight:
        return f"max_in_flight = {table.bounds.max_in_flight} of its minion run"
    return "its turn comes"


def _moment(seconds: float) -> str:
    return f"{datetime.fromtimestamp(seconds, UTC):%Y-%m-%d %H:%M:%S} UTC"


def _span(seconds: float) -> str:
    if seconds <= 0:
        return "due"
    for size, name in ((86400, "d"), (3600, "h"), (60, "min")):
        if seconds >= size:
            return f"in {seconds / size:.1f} {name}"
    return f"in {seconds:.1f} s"
