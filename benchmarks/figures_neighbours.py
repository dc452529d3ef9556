"""The neighbours: two-step workflows as others run them, in turn with ours.

Ours flushes each commit; how far each neighbour's work is safe stands in its label, and
its program checks that at run time.
"""

from __future__ import annotations

from functools import partial

from harness import Figure, Program, Row
from neighbours.venvs import python_of

RATE = "workflows_per_s"


def ours(in_flight: int, workflows: int, quick: int) -> Program:
    return Program(
        label="minions",
        command=(
            "two_steps.py",
            *("--durability", "fsync"),
            *("--in-flight", str(in_flight)),
            *("--workflows", str(workflows)),
        ),
        quick=("--workflows", str(quick)),
    )


def neighbour(
    name: str, in_flight: int, workflows: int, quick: int, *options: str, label: str
) -> Program:
    return Program(
        label=label,
        command=(
            f"neighbours/{name}.py",
            *("--in-flight", str(in_flight)),
            *("--workflows", str(workflows)),
            *options,
        ),
        quick=("--workflows", str(quick)),
        python=partial(python_of, name),
    )


def by_hand(in_flight: int) -> Figure:
    """Compare with asyncio and sqlite3, without a goal."""
    kinds = {
        "FULL each": "a flush for each write",
        "FULL group": "a flush for all that waits",
        "NORMAL each": "a commit for each write, not flushed",
    }
    programs = [ours(in_flight, 20_000, 2000)]
    rows = []
    for kind, label in kinds.items():
        synchronous, commit = kind.split()
        options = ("--synchronous", synchronous, "--commit", commit)
        count, quick = (1000, 100) if kind == "FULL each" else (5000, 500)
        programs.append(
            neighbour("by_hand", in_flight, count, quick, *options, label=label)
        )
        rows.append(
            Row(
                title=f"workflows/s, fsync, {in_flight} in flight, against asyncio and"
                f" sqlite3 by hand ({label})",
                of=("minions", RATE),
                against=(label, RATE),
            )
        )
    return Figure(
        name=f"by-hand-{in_flight}",
        letter="a",
        title=f"Two steps, {in_flight} in flight, against a program by hand",
        programs=tuple(programs),
        rows=tuple(rows),
    )


PREDECESSOR = "the predecessor (commits are not flushed, snapshots get lost)"
LOSING_NONE = "the predecessor, mended (commits are not flushed)"
DBOS = "DBOS on SQLite (each of four commits is flushed)"

FIGURES = (
    Figure(
        name="predecessor",
        letter="a",
        title="Two steps, 256 in flight, against the asyncio predecessor",
        programs=(
            ours(256, 20_000, 2000),
            neighbour("predecessor", 256, 3000, 500, label=PREDECESSOR),
            neighbour(
                "predecessor", 256, 3000, 500, "--one-at-a-time", label=LOSING_NONE
            ),
        ),
        rows=(
            Row(
                title=f"workflows/s, fsync, 256 in flight, against {PREDECESSOR}",
                of=("minions", RATE),
                against=(PREDECESSOR, RATE),
                goal=15,
                aim=25,
            ),
            Row(
                title=f"workflows/s, fsync, 256 in flight, against {LOSING_NONE}",
                of=("minions", RATE),
                against=(LOSING_NONE, RATE),
            ),
        ),
    ),
    Figure(
        name="dbos",
        letter="a",
        title="Two steps, 64 in flight, against DBOS on SQLite",
        programs=(
            ours(64, 20_000, 2000),
            neighbour("dbos_sqlite", 64, 500, 100, label=DBOS),
        ),
        rows=(
            Row(
                title=f"workflows/s, fsync, 64 in flight, against {DBOS}",
                of=("minions", RATE),
                against=(DBOS, RATE),
                goal=80,
                aim=130,
            ),
        ),
    ),
    by_hand(64),
    by_hand(256),
)
