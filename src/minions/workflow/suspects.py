"""Which workflow ends the process each time: found without any cost on the hot path.

Theory: nothing on disk tells the culprit from the thousand workflows that ran beside
it.  So when a store is opened that was not closed, each workflow in flight becomes a
suspect.  Suspects run a few at a time, and before each of their steps a mark is
committed; the commit that ends the step clears the mark and the suspicion.  So a
second crash leaves marks on a few only, and only those stay suspects of the second
degree, which run one at a time.

Rejected: counting every workflow in flight at each crash.  Up to five innocent ones
were quarantined beside one guilty among a thousand.
"""

from __future__ import annotations

import msgspec

from minions.workflow.record import WorkflowRecord

__all__ = ["AT_ONCE", "after_crash", "degree_of", "marked"]

AT_ONCE = {1: 4, 2: 1}
"""How many suspects of a degree run at once."""


def after_crash(record: WorkflowRecord) -> WorkflowRecord:
    """Return what is known of a workflow that was in flight at an unclean end."""
    marked = record.is_marked and record.crash_count
    count = record.crash_count + 1 if marked else 1
    return msgspec.structs.replace(record, crash_count=count, is_marked=False)


def degree_of(record: WorkflowRecord) -> int:
    """Return 0 for who is above suspicion, else 1, or 2 after a second crash."""
    return min(record.crash_count, 2)


def marked(record: WorkflowRecord) -> WorkflowRecord:
    """Return the record of a suspect whose step is about to begin."""
    return msgspec.structs.replace(record, is_marked=True)
