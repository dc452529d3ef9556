"""Draws what is played: mostly what leads somewhere, sometimes what does not."""

from __future__ import annotations

from hypothesis import strategies as st
from tests.model.play import Command, Plan
from tests.model.scripts import ENDS, KINDS, STEPS, Act, Order

__all__ = ["plans"]

# No sum of a few of these equals another one, or an option.
PAUSES = (0.0, 0.0, 0.0, 0.0, 1.31, 4.73, 7.19, 13.37)
AFTERS = (0.0, 3.17, 20.39, 100.71)
WAITS = (None, None, 0.0, 2.33, 40.97)
HEARS = (None, 1.73, 6.61)
SPANS = (0.41, 2.57, 4.03, 9.29, 33.91, 151.7)
GRACES = (0.0, 3.59, 10.43)
# More of what goes on than of what ends.
LIKELY = (*ENDS, "go", "go", "goto", "after", "after", "wait", "wait", "wait", "fail")


@st.composite
def acts(draw: st.DrawFn) -> Act:
    end = draw(st.sampled_from(LIKELY))
    step = draw(st.sampled_from([None, None, *STEPS]))
    hear = draw(st.sampled_from(["", "", "", "", *KINDS]))
    times = {"after": AFTERS, "wait": WAITS}.get(end, (None,))
    return Act(
        tell=draw(st.integers(0, 5)) == 5,
        hear=hear,
        limit=draw(st.sampled_from(HEARS)) if hear else None,
        pause=draw(st.sampled_from(PAUSES)),
        end=end,
        step=step if end in {"goto", "after", "wait"} else None,
        seconds=draw(st.sampled_from(times)),
        kind=draw(st.sampled_from(KINDS)) if end == "wait" else "Ping",
    )


TARGETS = st.integers(0, 19)
# Some do the same thing again and again: until no attempt is left.
SCRIPTS = st.one_of(
    st.lists(acts(), min_size=1, max_size=4).map(tuple),
    st.lists(acts(), min_size=2, max_size=4).map(tuple),
    acts().map(lambda act: (act,) * 4),
)
ORDERS = st.builds(Order, st.just(""), st.sampled_from([0, 0, 1]), SCRIPTS)
# Whether the next process does not start the main orchestration at once.
IDLE = st.sampled_from([False, False, False, True])
EMITS = st.builds(Command, st.just("emit"), TARGETS, order=ORDERS)
COMMANDS = {
    "emit": EMITS,
    "crowd": st.builds(Command, st.just("crowd"), TARGETS, order=ORDERS),
    "signal": st.builds(
        Command,
        st.just("signal"),
        TARGETS,
        st.sampled_from([*KINDS, *KINDS, *KINDS, "Wrong"]),
        flag=st.sampled_from([True, True, False]),
    ),
    "cancel": st.builds(Command, st.just("cancel"), TARGETS),
    "redrive": st.builds(
        Command,
        st.just("redrive"),
        TARGETS,
        st.sampled_from(["", "", "", "two", "nowhere"]),
        flag=st.booleans(),
    ),
    "discard": st.builds(Command, st.just("discard"), TARGETS),
    "advance": st.builds(Command, st.just("advance"), seconds=st.sampled_from(SPANS)),
    "stop": st.builds(
        Command,
        st.just("stop"),
        TARGETS,
        st.sampled_from(["drain", "pause", "cutover"]),
        st.sampled_from(GRACES),
    ),
    "start": st.builds(Command, st.just("start"), TARGETS),
    "close": st.builds(
        Command,
        st.just("close"),
        seconds=st.sampled_from([0.0, 0.0, 57.3]),
        flag=IDLE,
    ),
    "die": st.builds(Command, st.just("die"), flag=IDLE),
    "restart": st.builds(Command, st.just("restart"), TARGETS),
    "crash": st.builds(Command, st.just("crash"), TARGETS),
    "break": st.just(Command("break")),
    "repair": st.just(Command("repair")),
}
WEIGHTS = {
    "start": 2,
    "emit": 7,
    "advance": 7,
    "signal": 6,
    "redrive": 3,
    "cancel": 2,
    "die": 2,
}
NAMES = [name for name in COMMANDS for _ in range(WEIGHTS.get(name, 1))]
ANY = st.sampled_from(NAMES).flatmap(COMMANDS.__getitem__)


# Many run when the process dies: suspects, of whom few run at once.
LASTING = st.sampled_from([Act(pause=13.37), Act(end="stay"), Act(hear="Ping")])
CROWDS = st.builds(
    lambda order, act: Command(
        "crowd", 0, order=Order("", order.key, (act, act, *order.script))
    ),
    ORDERS,
    LASTING,
)
# Redriven while a younger one of its key runs, whose minion goes.  Which of them
# goes on first is seen, since both take a while.
OVERTAKING = st.tuples(
    st.just(Command("emit", order=Order("", script=(Act(end="bug"), Act(pause=1.31))))),
    st.just(Command("advance", seconds=0.41)),
    st.builds(
        lambda acts: Command("emit", order=Order("", script=acts)),
        st.sampled_from([(Act(end="stay"), Act(pause=4.73)), (Act(pause=13.37),) * 2]),
    ),
    st.just(Command("redrive")),
    st.sampled_from([Command("crash"), Command("restart")]),
    st.just(Command("advance", seconds=33.91)),
)
BEGINNINGS = st.one_of(
    st.just(()),
    st.just(()),
    st.just(()),
    st.tuples(CROWDS, st.just(Command("die"))),
    st.tuples(CROWDS, st.just(Command("die")), st.just(Command("die"))),
    # Redriven when no attempt was left.
    st.just(
        (
            Command("emit", order=Order("", script=(Act(end="fail"),) * 4)),
            Command("advance", seconds=33.91),
            Command("redrive"),
        )
    ),
    # Fails when it has taken a signal.
    st.just(
        (
            Command(
                "emit", order=Order("", script=(Act(hear="Ping", end="fail"),) * 2)
            ),
            Command("signal", kind="Ping", flag=True),
        )
    ),
    # Redriven at a step that is not there, while nobody can tell.
    st.just(
        (
            Command("emit", order=Order("", script=(Act(end="bug"),))),
            Command("close", flag=True),
            Command("redrive", kind="nowhere"),
            Command("start"),
        )
    ),
)


MAINS = st.sampled_from(["Plain", "Keyed", "Holds", "Drops"])


def plans(*, least: int = 6, most: int = 20) -> st.SearchStrategy[Plan]:
    """Draw what is played, from so many to so many commands."""
    usual = [_plans(MAINS, BEGINNINGS, least, most) for _ in range(7)]
    return st.one_of(*usual, _plans(st.just("Keyed"), OVERTAKING, least, most))


def _plans(
    mains: st.SearchStrategy[str],
    beginnings: st.SearchStrategy[tuple[Command, ...]],
    least: int,
    most: int,
) -> st.SearchStrategy[Plan]:
    return st.builds(
        Plan,
        main=mains,
        keep=st.sampled_from([0.0, 50.0]),
        max_crashes=st.sampled_from([1, 3]),
        commands=st.tuples(
            beginnings, EMITS, st.lists(ANY, min_size=least, max_size=most)
        ).map(lambda drawn: (*drawn[0], drawn[1], *drawn[2])),
    )
