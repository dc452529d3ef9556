"""The figures of two-step workflows: against the bare loop, alone, and in growth."""

from __future__ import annotations

from harness import Figure, Program, Row

RATE, P50, P99 = "workflows_per_s", "p50_s", "p99_s"
FEEDS = ("produce", "emit", "emit-many")
IN_FLIGHT = (1, 64, 256, 1024)
DURABILITIES = ("fsync", "async", "none")
# Workflows a run: about a second of the faster side.
COUNTS = {
    "fsync": {1: 1_000, 64: 10_000, 256: 20_000, 1024: 20_000},
    "async": {1: 10_000, 64: 20_000, 256: 30_000, 1024: 30_000},
    "none": {1: 10_000, 64: 20_000, 256: 30_000, 1024: 30_000},
}
# One by one, each event waits for a flush of its own, whatever the room.
EMIT_COUNTS = {"fsync": 1_000, "async": 10_000, "none": 10_000}
QUICK = {1: 200, 64: 1_000, 256: 2_000, 1024: 2_000}
QUICK_NONE = {256}
QUICK_EMIT = {"fsync": 200, "async": 1_000, "none": 1_000}

# What must be reached, and what is aimed at, of the bare loop's rate.
RATE_GOALS = {
    ("fsync", 256, "produce"): (0.40, 0.60),
    ("async", 256, "produce"): (0.35, 0.50),
    ("fsync", 1, "produce"): (0.80, 1.0),
    ("async", 1, "produce"): (0.55, 0.80),
    ("async", 64, "produce"): (0.40, 0.60),
    ("fsync", 1024, "produce"): (0.35, 0.55),
}
RECORDS = (1_000, 10_000, 100_000, 1_000_000)
QUICK_RECORDS = {10_000}
QUICK_CONTEXTS = {100, 100_000}
# Workflows a run, by the bytes of the text in each context.
CONTEXTS = {100: 20_000, 1_000: 10_000, 10_000: 4_000, 100_000: 1_000}


def two_steps(label: str, *arguments: str, quick: tuple[str, ...] = ()) -> Program:
    """Make the product's side."""
    return Program(label=label, command=("two_steps.py", *arguments), quick=quick)


def bare(*arguments: str, quick: tuple[str, ...] = ()) -> Program:
    """Make the limit's side."""
    return Program(label="bare", command=("bare.py", *arguments), quick=quick)


def workflows(count: int) -> tuple[str, str]:
    return ("--workflows", str(count))


def throughput(durability: str, room: int) -> Figure:
    """Compare the product with the bare loop, from each kind of source."""
    work = ("--durability", durability, "--in-flight", str(room))
    counts = dict.fromkeys(FEEDS, COUNTS[durability][room])
    counts["emit"] = min(counts["emit"], EMIT_COUNTS[durability])
    quick = dict.fromkeys(FEEDS, QUICK[room])
    quick["emit"] = min(quick["emit"], QUICK_EMIT[durability])
    programs = [
        two_steps(
            feed,
            *(*work, "--feed", feed, *workflows(counts[feed])),
            quick=workflows(quick[feed]),
        )
        for feed in FEEDS
    ]
    limit = bare(
        *work, *workflows(COUNTS[durability][room]), quick=workflows(QUICK[room])
    )
    rows = [rate_row(durability, room, feed) for feed in FEEDS]
    if (durability, room) == ("fsync", 256):
        rows.append(
            Row(
                title="p50 from produced to done, fsync, 256 in flight, against bare",
                of=("produce", P50),
                against=("bare", P50),
                better="less",
                goal=1.5,
                aim=1.1,
            )
        )
    return Figure(
        name=f"{durability}-{room}",
        letter="a",
        title=f"Two-step workflows, {durability}, {room} in flight",
        programs=(*programs, limit),
        rows=tuple(rows),
        in_quick=durability != "none" or room in QUICK_NONE,
    )


def rate_row(durability: str, room: int, feed: str) -> Row:
    goal, aim = RATE_GOALS.get((durability, room, feed), (None, None))
    return Row(
        title=f"workflows/s, {durability}, {room} in flight, {SAID[feed]},"
        " against bare",
        of=(feed, RATE),
        against=("bare", RATE),
        goal=goal,
        aim=aim,
    )


SAID = {
    "produce": "produce_event",
    "emit": "emit one by one",
    "emit-many": "emit_many of 100",
}


def busy() -> Figure:
    """Compare the worst hundredth where one step in a hundred computes."""
    work = ("--compute-every", "100", "--compute-ms", "2", *workflows(20_000))
    quick = workflows(2_000)
    return Figure(
        name="computing",
        letter="a",
        title="One step in a hundred computes for 2 ms",
        programs=(
            two_steps("produce", *work, quick=quick),
            bare(*work, quick=quick),
        ),
        rows=(
            Row(
                title="p99 at 256 in flight, one step in a hundred computing for 2 ms,"
                " against bare with the same",
                of=("produce", P99),
                against=("bare", P99),
                better="less",
                goal=2.0,
                aim=1.5,
            ),
        ),
    )


def single() -> Figure:
    """Compare one workflow at a time with single flushed commits."""
    quick = workflows(200)
    commit = ("commit", P50)
    return Figure(
        name="single",
        letter="b",
        title="One workflow at a time, fsync",
        programs=(
            two_steps("produce", "--in-flight", "1", *workflows(1_000), quick=quick),
            two_steps(
                "alone", "--feed", "emit", "--alone", *workflows(1_000), quick=quick
            ),
            Program(
                label="commit",
                command=("commit.py", "--commits", "2000"),
                quick=("--commits", "400"),
            ),
        ),
        rows=(
            Row(
                title="p50 of one workflow, fsync, 1 in flight, accepted to last"
                " step's end, in single flushed commits with their thread hop",
                of=("produce", P50),
                against=commit,
                better="less",
                goal=2.3,
                aim=2.1,
            ),
            Row(
                title="the same, emitted when the end of the last is on disk",
                of=("alone", P50),
                against=commit,
                better="less",
            ),
            Row(
                title="p50 from emit to the first step, fsync, in the same",
                of=("alone", "first_step_p50_s"),
                against=commit,
                better="less",
            ),
            Row(
                title="p99 from emit to the first step, fsync, in the p99 of the same",
                of=("alone", "first_step_p99_s"),
                against=("commit", P99),
                better="less",
            ),
        ),
    )


def latency(durability: str) -> Figure:
    """Show the time from emit to the first step, one at a time."""
    rows = [
        Row(
            title=f"{word} from emit to the first step, {durability}, one at a time",
            of=("alone", f"first_step_{word}_s"),
            compare="value",
            better="less",
            unit="s",
        )
        for word in ("p50", "p99")
    ]
    return Figure(
        name=f"first-step-{durability}",
        letter="b",
        title=f"Emit to first step, {durability}",
        programs=(
            two_steps(
                "alone",
                *("--durability", durability, "--feed", "emit", "--alone"),
                *workflows(1_000 if durability == "fsync" else 5_000),
                quick=workflows(200),
            ),
        ),
        rows=tuple(rows),
    )


def growth(count: int) -> Figure:
    """Compare a store that holds sleeping workflows with an empty one."""
    work = ("--durability", "async", *workflows(20_000))
    quick = workflows(2_000)
    last = count == RECORDS[-1]
    return Figure(
        name=f"records-{count}",
        letter="k",
        title=f"Beside {count:,} sleeping workflows, async, 256 in flight",
        programs=(
            two_steps("cold", *work, "--records", str(count), quick=quick),
            two_steps("empty", *work, quick=quick),
        ),
        rows=(
            Row(
                title=f"workflows/s with {count:,} cold records in the store, async,"
                " 256 in flight, against an empty one",
                of=("cold", RATE),
                against=("empty", RATE),
                goal=0.90 if last else None,
                aim=0.97 if last else None,
            ),
        ),
        in_quick=count in QUICK_RECORDS,
    )


def contexts(size: int) -> Figure:
    """Compare the product with the bare loop, both with larger contexts."""
    work = ("--context-bytes", str(size), *workflows(CONTEXTS[size]))
    quick = workflows(300)
    return Figure(
        name=f"context-{size}",
        letter="k",
        title=f"Contexts of {size:,} bytes, fsync, 256 in flight",
        programs=(
            two_steps("produce", *work, quick=quick),
            bare(*work, quick=quick),
        ),
        rows=(
            Row(
                title=f"workflows/s, contexts of {size:,} bytes, fsync, 256 in flight,"
                " against bare with the same",
                of=("produce", RATE),
                against=("bare", RATE),
            ),
        ),
        in_quick=size in QUICK_CONTEXTS,
    )


FIGURES: tuple[Figure, ...] = (
    *(throughput(kind, room) for kind in DURABILITIES for room in IN_FLIGHT),
    busy(),
    single(),
    *(latency(kind) for kind in DURABILITIES),
    *(growth(count) for count in RECORDS),
    *(contexts(size) for size in CONTEXTS),
)
