"""The figures of the parts: fan-out, calls, reopening, memory, restarts, and so on.

The store of a program that opens one again was just written, and stands in the page
cache: reopening is measured warm, on both sides of a row. What a title says of counts
holds for ``--quick``, too: that takes fewer rounds.
"""

from __future__ import annotations

from harness import Figure, Program, Row

RATE = "workflows_per_s"
SAVED = (10_000, 100_000, 1_000_000)
# What the goals speak of.
GOAL_SAVED = 100_000
QUICK_SAVED = SAVED[0]
MINIONS = (1, 2, 4, 8, 16)
COMPONENTS = (10, 100, 1_000)
SHAPES = ("chain", "star")


def fanout() -> Figure:
    """Compare many minions on one pipeline with one."""
    return Figure(
        name="fanout",
        letter="c",
        title="One pipeline, 1 to 16 minions, fsync, 256 in flight each",
        programs=tuple(
            Program(
                label=f"x{count}",
                command=("fanout.py", "--minions", str(count)),
                quick=("--workflows", "1600"),
            )
            for count in MINIONS
        ),
        rows=tuple(
            Row(
                title=f"workflows/s with {count} minions on one pipeline, against 1",
                of=(f"x{count}", RATE),
                against=(f"x{MINIONS[0]}", RATE),
            )
            for count in MINIONS[1:]
        ),
    )


def calls() -> Figure:
    """Show what a guarded call takes beyond a plain one."""
    program = Program(label="calls", command=("calls.py",), quick=("--rounds", "50"))
    return Figure(
        name="calls",
        letter="d",
        title="A resource's method, through the runtime and plain",
        programs=(program,),
        rows=(
            Row(
                title="a guarded method call, beyond the plain one",
                of=("calls", "beyond_us"),
                compare="value",
                better="less",
                goal=1.0,
                aim=0.5,
                unit="µs",
            ),
            Row(
                title="a guarded method call, against the plain one",
                of=("calls", "guarded_ns"),
                against=("calls", "plain_ns"),
                better="less",
            ),
        ),
    )


def reopen(state: str, count: int) -> Program:
    """Make the program that opens a store with so many saved workflows."""
    command = ("reopen.py", "--state", state, "--saved", str(count))
    return Program(label=state if count else "empty", command=command)


def cold(count: int) -> Figure:
    """Compare a store with sleeping workflows with an empty one."""
    is_goal = count == GOAL_SAVED
    live, empty = ("cold", "live_s"), ("empty", "live_s")
    return Figure(
        name=f"reopen-cold-{count}",
        letter="e",
        title=f"Reopening with {count:,} cold workflows",
        programs=(reopen("cold", count), reopen("cold", 0)),
        rows=(
            Row(
                title=f"{count:,} cold workflows: reopen to first live event",
                of=live,
                compare="value",
                better="less",
                goal=1.0 if is_goal else None,
                unit="s",
            ),
            Row(
                title=f"{count:,} cold workflows: the same, beyond an empty store's",
                of=live,
                against=empty,
                compare="difference",
                better="less",
                goal=0.3 if is_goal else None,
                aim=0.1 if is_goal else None,
                unit="s",
            ),
        ),
        in_quick=count == QUICK_SAVED,
    )


def resumed(state: str, count: int) -> Figure:
    """Compare saved workflows that all go on with those of a source."""
    is_goal = (state, count) == ("in-flight", GOAL_SAVED)
    said = {"in-flight": "in-flight", "due": "sleeping and overdue"}[state]
    rows = [
        Row(
            title=f"{count:,} {said} workflows resumed, rate against (a) at the"
            " default max_in_flight, fsync",
            of=(state, RATE),
            against=("source", RATE),
            goal=1.0 if is_goal else None,
            aim=1.2 if is_goal else None,
        ),
        *(
            Row(
                title=f"{count:,} {said} workflows: reopen to {what}",
                of=(state, key),
                compare="value",
                better="less",
                unit="s",
            )
            for key, what in (
                ("live_s", "first live event"),
                ("resumed_s", "all resumed and ended"),
            )
        ),
    ]
    source = ("--in-flight", "1000", "--workflows", str(min(count, GOAL_SAVED)))
    return Figure(
        name=f"reopen-{state}-{count}",
        letter="e",
        title=f"Reopening with {count:,} {said} workflows",
        programs=(
            reopen(state, count),
            Program(label="source", command=("two_steps.py", *source)),
        ),
        rows=tuple(rows),
        runs=2 if count == SAVED[-1] else 5,  # a minute each
        in_quick=count == QUICK_SAVED and state == "in-flight",
    )


def running() -> Figure:
    """Show the memory of a running workflow."""
    return Figure(
        name="memory-running",
        letter="f",
        title="Memory of 10,000 running workflows",
        programs=(
            Program(
                label="running",
                command=("memory.py", "--running", "10000"),
            ),
        ),
        rows=(
            Row(
                title="RssAnon per running workflow, beyond its event and context",
                of=("running", "beyond_kb"),
                compare="value",
                better="less",
                goal=6.0,
                aim=4.5,
                unit="kB",
            ),
        ),
    )


def sleeping(count: int) -> Figure:
    """Compare the memory of a store with sleeping workflows with an empty one's."""
    is_goal = count == SAVED[-1]
    return Figure(
        name=f"memory-cold-{count}",
        letter="f",
        title=f"Memory with {count:,} cold workflows",
        programs=tuple(
            Program(label=label, command=("memory.py", "--cold", str(number)))
            for label, number in (("cold", count), ("empty", 0))
        ),
        rows=(
            Row(
                title=f"{count:,} cold workflows: RssAnon over an empty store",
                of=("cold", "rss_anon_mib"),
                against=("empty", "rss_anon_mib"),
                compare="difference",
                better="less",
                goal=64.0 if is_goal else None,
                aim=16.0 if is_goal else None,
                unit="MiB",
            ),
        ),
        in_quick=count == QUICK_SAVED,
    )


def restarts(shape: str, count: int) -> Figure:
    """Compare the restart of a whole system with its start."""
    is_goal = count == COMPONENTS[-1]
    label = "parts"
    said = f"{count:,} components ({shape})"
    against = {
        "bring_up_s": "against bringing them up",
        "start_s": "against the whole start, which reads the classes",
    }
    return Figure(
        name=f"restart-{shape}-{count}",
        letter="g",
        title=f"Crash, start and stop of {said}",
        programs=(
            Program(
                label=label,
                command=("restarts.py", "--components", str(count), "--shape", shape),
            ),
        ),
        rows=(
            *(
                Row(
                    title=f"crash of the root of {said} to all up again, {what}",
                    of=(label, "restart_s"),
                    against=(label, key),
                    better="less",
                    goal=2.0 if is_goal else None,
                    aim=1.4 if is_goal else None,
                )
                for key, what in against.items()
            ),
            *(
                Row(
                    title=f"{what} of {said}",
                    of=(label, key),
                    compare="value",
                    better="less",
                    unit="s",
                )
                for key, what in (("start_s", "start"), ("stop_s", "ordered stop"))
            ),
        ),
        in_quick=is_goal and shape == "star",
    )


def signals() -> Figure:
    """Compare a signal beside very many that wait with one beside few.

    Without a flush, behind which all that the number of waiters may cost would hide.
    """
    many, few = 100_000, 1_000

    def program(label: str, waiting: int, durability: str) -> Program:
        given = ("--waiting", str(waiting), "--durability", durability)
        quick = ("--signals", "100")
        return Program(label=label, command=("signals.py", *given), quick=quick)

    return Figure(
        name="signals",
        letter="h",
        title="A signal to its step",
        programs=(
            program("many", many, "async"),
            program("few", few, "async"),
            program("flushed", many, "fsync"),
        ),
        rows=(
            *(
                Row(
                    title=f"{key[:3]} of a signal to its step, async, with {many:,}"
                    f" waiters, against {few:,}",
                    of=("many", key),
                    against=("few", key),
                    better="less",
                )
                for key in ("p50_s", "p99_s")
            ),
            *(
                Row(
                    title=f"p50 of a signal to its step, {durability}, with {many:,}"
                    " waiters",
                    of=(label, "p50_s"),
                    compare="value",
                    better="less",
                    unit="s",
                )
                for label, durability in (("many", "async"), ("flushed", "fsync"))
            ),
        ),
    )


def idle() -> Figure:
    """Show the processor's share of sleeping workflows."""
    return Figure(
        name="idle",
        letter="i",
        title="Idle with 100,000 sleeping workflows",
        programs=(
            Program(
                label="idle",
                command=("idle.py", "--saved", "100000", "--idle", "30"),
                quick=("--idle", "3"),
            ),
        ),
        rows=(
            Row(
                title="idle CPU, 100,000 sleepers",
                of=("idle", "cpu_percent"),
                compare="value",
                better="less",
                goal=0.2,
                aim=0.0,
                unit="%",
            ),
        ),
        runs=3,
    )


def imports() -> Figure:
    """Compare the import of minions with that of trio."""
    return Figure(
        name="imports",
        letter="j",
        title="Import time",
        programs=tuple(
            Program(label=module, command=("imports.py", "--module", module))
            for module in ("minions", "trio")
        ),
        rows=(
            Row(
                title="import time against `import trio`",
                of=("minions", "import_s"),
                against=("trio", "import_s"),
                better="less",
                goal=2.0,
                aim=1.6,
            ),
            Row(
                title="CPU time of the import, against that of `import trio`",
                of=("minions", "cpu_s"),
                against=("trio", "cpu_s"),
                better="less",
            ),
        ),
        runs=11,
    )


FIGURES: tuple[Figure, ...] = (
    fanout(),
    calls(),
    *(cold(count) for count in SAVED),
    *(resumed("in-flight", count) for count in SAVED),
    *(resumed("due", count) for count in SAVED[:2]),
    running(),
    *(sleeping(count) for count in SAVED),
    *(restarts(shape, count) for shape in SHAPES for count in COMPONENTS),
    signals(),
    idle(),
    imports(),
)
