"""The table of accepted work: decisions without a clock."""

from __future__ import annotations

from hypothesis import given
from hypothesis import strategies as st

from minions.runtime.table import WorkTable
from minions.runtime.work import Bounds, Work
from minions.workflow.record import WorkflowRecord

RECORD = WorkflowRecord("o", "", b"", "", b"", "", 0.0)


def nothing() -> None:
    """Be told of changes."""


def make_table() -> WorkTable:
    return WorkTable("o", Bounds(), nothing, nothing)


@given(st.permutations(range(20)), st.integers(0, 20))
def test_what_is_put_back_keeps_the_order_of_arrival(
    numbers: list[int], taken: int
) -> None:
    table = make_table()
    for seq in numbers:
        table.put_back(Work(seq, RECORD))

    first = [table.ready.take() for _ in range(taken)]
    for work in reversed(first):
        assert work is not None
        table.put_back(work)

    line = [work.seq for _ in numbers if (work := table.ready.take()) is not None]
    assert line == sorted(numbers)
    assert not table.ready
