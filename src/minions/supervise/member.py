"""A component's entry in the group's table: what survives its incarnations."""

from __future__ import annotations

import contextvars
import enum
import math

import attrs
import trio

from minions.restart import BackoffState, RestartWindow
from minions.supervise.cause import Cause
from minions.supervise.incarnation import Incarnation
from minions.supervise.life import Plan

__all__ = ["Member", "State"]


class State(enum.Enum):
    """The states of a component: the only state machine of supervision."""

    WAITING = "waiting"
    STARTING = "starting"
    UP = "up"
    DRAINING = "draining"
    RELEASING = "releasing"
    BACKOFF = "backoff"
    FAILED = "failed"
    STUCK = "stuck"
    STOPPED = "stopped"


def _window(member: Member) -> RestartWindow:
    policy = member.plan.restart
    return RestartWindow(policy.max_restarts, policy.within)


def _backoff(member: Member) -> BackoffState:
    return BackoffState(member.plan.restart.backoff)


def _depth(member: Member) -> int:
    return 0 if member.parent is None else member.parent.depth + 1


@attrs.define(eq=False)
class Member:
    """One component: its plan, its place, its budget, and its present life."""

    plan: Plan
    # The member in whose nursery its runner is placed; None: the group's own.
    parent: Member | None
    # Every incarnation is spawned from a copy of this, so that a restart does
    # not inherit the variables of whoever caused it.
    context: contextvars.Context = attrs.field(factory=contextvars.copy_context)

    # How many members lie between it and the root, on the way by their parents.
    depth: int = attrs.field(init=False, default=attrs.Factory(_depth, takes_self=True))
    epoch: int = 0
    state: State = State.WAITING
    since: float = attrs.field(factory=trio.current_time)
    # Whether somebody wants it to be up; the runner ends when not.
    wanted: bool = True
    # Whether an operator has asked for its next life, which is free of charge then.
    ordered: bool = False
    cause: Cause | None = None
    waits_for: str = ""
    restarts: int = 0
    window: RestartWindow = attrs.field(
        init=False, default=attrs.Factory(_window, takes_self=True)
    )
    backoff: BackoffState = attrs.field(
        init=False, default=attrs.Factory(_backoff, takes_self=True)
    )
    not_before: float = -math.inf
    last_up: float = math.inf
    last_failure: BaseException | None = None

    current: Incarnation | None = None
    # Invariant: up.is_set() if and only if state is UP; a fresh one per epoch.
    up: trio.Event = attrs.field(factory=trio.Event)
    # Set and replaced at every change of state.
    changed: trio.Event = attrs.field(factory=trio.Event)
    # Whether a runner task exists, and what its waits between lives are under.
    running: bool = False
    pause: trio.CancelScope | None = None
    placed: list[Member] = attrs.field(factory=list)
    # Those that need or want it; told when it begins to drain.
    dependents: list[Member] = attrs.field(factory=list)

    @property
    def name(self) -> str:
        """Return the component's name."""
        return self.plan.name

    def runs_hook_in(self, task: trio.lowlevel.Task) -> bool:
        """Say whether its startup or its shutdown runs in that very task."""
        one = self.current
        return (
            one is not None
            and one.runner_task is task
            and (one.releasing or not one.acquired)
        )

    def enter(self, state: State, waits_for: str = "") -> None:
        """Change the state and wake who waits for a change."""
        if self.state is State.UP and state is not State.UP:
            self.up = trio.Event()
        self.state = state
        self.since = trio.current_time()
        self.waits_for = waits_for
        if state is State.UP:
            self.up.set()
        self.changed.set()
        self.changed = trio.Event()

    def wake(self) -> None:
        """End the runner's wait between two lives; it looks at its orders anew."""
        if self.pause is not None:
            self.pause.cancel(reason=f"{self.name}: its orders have changed")
