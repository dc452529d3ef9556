"""A pure model of the engine: what must be observable after each command.

It is written from the contract, not from the runtime: plain objects, a number for
the time, and no task.  Everything that can happen at an instant happens in `pump`;
`advance` goes from one instant at which something is due to the next.

Where the contract leaves an order open (what is due in the same instant), the model
has none either: it raises `Ambiguous` if the order would matter.
"""

from __future__ import annotations

import itertools
from collections.abc import Callable, Iterator
from functools import partial
from math import inf
from typing import Literal

import attrs
from tests.model.scripts import (
    BACKOFF,
    GRACE,
    RETRIES,
    SETTLE,
    STEPS,
    TIMEOUTS,
    Act,
    Order,
    Shape,
    shapes,
)

__all__ = ["Ambiguous", "Flow", "Line", "Model", "Refused"]

# In seconds: what is closer together than this may happen in any order.
CLOSE = 1e-3
END = "="
# How many suspects of the first and of the second degree run at once.
AT_ONCE = {1: 4, 2: 1}


class Ambiguous(Exception):  # noqa: N818
    """Two things are due at once, and their order matters."""


class Refused(Exception):  # noqa: N818
    """The command is refused with an error of this class."""

    def __init__(self, error: str) -> None:
        super().__init__(error)
        self.error = error


@attrs.define(eq=False)
class Mail:
    kind: str
    number: int

    def __str__(self) -> str:
        return f"{self.kind}(number={self.number})"


@attrs.define(eq=False)
class Run:
    """One run of a step."""

    act: Act
    number: int
    step: str
    trail: tuple[str, ...]
    phase: Literal["hear", "pause", "stay", "settle"] = "pause"
    # Until when the phase lasts, and the step may.
    until: float = inf
    limit: float = inf
    error: str = ""
    taken: list[Mail] = attrs.field(factory=list)


@attrs.define(eq=False)
class Flow:
    """One workflow."""

    order: Order
    line: Line
    arrival: int
    accepted: float
    place: Literal["hot", "cold", "quarantined", "ended"] = "hot"
    # If hot: ready, running or queued; if cold: what it waits for.
    state: str = "ready"
    # The snapshot.
    step: str = ""
    attempt: int = 0
    trail: tuple[str, ...] = ()
    is_fresh: bool = True
    """No context was stored yet."""
    saved_key: int | None = None
    holds: bool = False
    crashes: int = 0
    is_marked: bool = False
    waits: str = ""
    received: Mail | None = None
    problem: str = ""
    since: float | None = None
    until: float | None = None
    # In memory.
    key: int | None = None
    run: Run | None = None
    is_suspect: bool = False
    """Waits for its turn among the suspects."""
    has_lost_key: bool = False
    """It was interrupted before a commit held its key."""
    # Elsewhere.
    mail: list[Mail] = attrs.field(factory=list)
    runs: int = 0
    reason: str = ""
    closed_at: float = 0.0
    """When it ended, or came into quarantine."""

    @property
    def label(self) -> str:
        return self.order.label

    @property
    def waits_cold(self) -> bool:
        return self.state in {"sleeping", "retrying", "waiting"}


@attrs.define(eq=False)
class Stop:
    mode: str
    deadline: float
    finished: int = 0
    others: int = 0
    is_vague: bool = False
    """The minion went for another reason meanwhile."""


@attrs.define(eq=False)
class Line:
    """One orchestration."""

    name: str
    shape: Shape
    phase: Literal["stopped", "live", "draining"] = "stopped"
    is_known: bool = False
    """Whether it was started in this process."""
    is_subscribed: bool = False
    is_new: bool = False
    """Whether its subscription is on the way to the disk while its minion starts."""
    is_resting: bool = False
    is_pausing: bool = False
    minion: Literal["gone", "up", "draining", "settling", "backoff"] = "gone"
    # Until when a soft drain, the settle window or a backoff lasts.
    until: float = inf
    stop: Stop | None = None
    results: list[tuple[int | None, int, int | None]] = attrs.field(factory=list)
    # By key: who holds it first, then who queues.
    queues: dict[int, list[Flow]] = attrs.field(factory=dict)
    # By workflow: the degree with which it runs.
    suspects: dict[str, int] = attrs.field(factory=dict)


def nothing() -> None:
    """Be what is due where the time alone says it."""


@attrs.frozen(eq=False)
class Due:
    """Something that a time is set for."""

    at: float
    line: str
    """Whose; empty: of all who need it."""
    kind: str
    """``minion``, ``stop``, ``resource``, or the label of a workflow."""
    act: Callable[[], None] = nothing


@attrs.define(eq=False)
class Begun:
    label: str
    step: str
    attempt: int
    received: str
    number: int
    trail: tuple[str, ...]
    at: float


class Model:
    def __init__(self, *, keep: float, max_crashes: int) -> None:
        self.keep = keep
        self.max_crashes = max_crashes
        self.now = 0.0
        self.lines = {name: Line(name, shape) for name, shape in shapes.items()}
        self.flows: dict[str, Flow] = {}
        self.begun: list[Begun] = []
        self.ends: list[tuple[str, str]] = []
        self.resource_up = False
        self.is_broken = False
        self.resource_until = inf
        self.sent = 0
        self.is_closing = False
        self.happened: set[str] = set()

    # Time.

    def dues(self) -> Iterator[Due]:
        """Everything that a time is set for."""
        if not self.resource_up and not self.is_broken and self.resource_until < inf:
            yield Due(self.resource_until, "", "resource", self.resource_comes)
        for line in self.lines.values():
            yield from self.dues_of_line(line)
        for flow in self.flows.values():
            yield from self.dues_of_flow(flow)

    def dues_of_line(self, line: Line) -> Iterator[Due]:
        if line.minion == "draining":
            yield Due(line.until, line.name, "minion", partial(self.cut, line))
        elif line.minion == "settling":
            yield Due(line.until, line.name, "minion", partial(self.charge, line))
        elif line.minion == "backoff" and line.until > self.now:
            yield Due(line.until, line.name, "minion")
        if line.stop is not None:
            yield Due(line.stop.deadline, line.name, "stop")

    def dues_of_flow(self, flow: Flow) -> Iterator[Due]:
        name, label = flow.line.name, flow.label
        if flow.run is not None:
            yield Due(flow.run.until, name, label, partial(self.phase_over, flow))
            yield Due(flow.run.limit, name, label, partial(self.too_slow, flow))
        elif (
            flow.place == "cold"
            and flow.until is not None
            and flow.until > self.now
            and self.may_wake(flow.line)
        ):
            yield Due(flow.until, name, label)

    def next_due(self) -> float:
        return min((due.at for due in self.dues()), default=inf)

    def apart(self, target: float) -> float:
        """Return a time near *target* at which nothing is due."""
        while any(abs(due.at - target) < 20 * CLOSE for due in self.dues()):
            target += 17 * CLOSE
        return target

    def advance(self, target: float) -> None:
        while (due := self.next_due()) <= target:
            self.step_to(due)
        self.now = target
        self.pump()

    def step_to(self, at: float) -> None:
        near = [due for due in self.dues() if due.at <= at + CLOSE]
        for one, other in itertools.combinations(near, 2):
            same = one.line == other.line or "" in (one.line, other.line)
            parts = {one.kind, other.kind} & {"minion", "stop", "resource"}
            if same and (parts or one.kind == other.kind):
                raise Ambiguous(f"{one.kind} and {other.kind}")
        self.now = max(self.now, at)
        for due in near:
            if due.at <= at:
                due.act()
        self.pump()

    def pump(self) -> None:
        """Let everything happen that can happen now."""
        lines = [*self.lines.values()]
        while sum(self.pump_line(line) for line in lines):
            pass

    def pump_line(self, line: Line) -> bool:
        return (
            self.minion_comes(line)
            or self.wake_due(line)
            or self.dispatch(line)
            or self.drained(line)
            or self.stopped(line)
        )

    # Components.

    def is_lost(self, line: Line) -> bool:
        return line.shape.needs and not self.resource_up

    def resource_comes(self) -> None:
        self.resource_up = True
        self.resource_until = inf

    def minion_comes(self, line: Line) -> bool:
        if line.minion != "backoff" or line.until > self.now or self.is_lost(line):
            return False
        line.minion, line.until = "up", inf
        return True

    def charge(self, line: Line) -> None:
        line.minion, line.until = "backoff", self.now + BACKOFF

    def goes(self, line: Line, until: float) -> None:
        """The minion has gone; it comes back at that time if it may."""
        if line.stop is not None:
            line.stop.is_vague = True
        self.interrupt_all(line)
        for flow in self.hot(line):
            flow.state, flow.is_suspect = "ready", False
            first = line.queues.get(flow.order.key, [])[:1]
            is_first = [flow] == first and flow.runs > 0
            flow.has_lost_key |= is_first and not flow.holds
        line.suspects.clear()
        line.queues.clear()
        for flow in self.flows.values():
            if flow.line is line and flow.holds:
                key = flow.saved_key if flow.key is None else flow.key
                assert key is not None
                assert key not in line.queues, "two hold one key"
                line.queues[key] = [flow]
        line.minion, line.until = "backoff", until

    def cut(self, line: Line) -> None:
        self.goes(line, self.now)

    def drained(self, line: Line) -> bool:
        if line.minion != "draining" or self.running(line):
            return False
        self.goes(line, self.now)
        return True

    def hot(self, line: Line) -> list[Flow]:
        found = [f for f in self.flows.values() if f.line is line and f.place == "hot"]
        return sorted(found, key=lambda flow: flow.arrival)

    def running(self, line: Line) -> list[Flow]:
        return [flow for flow in self.hot(line) if flow.run is not None]

    def interrupt_all(self, line: Line) -> None:
        for flow in self.running(line):
            self.happened.add("a step is interrupted")
            flow.run = None
            flow.state = "ready"

    # Commands on components.

    def start(self, name: str) -> None:
        line = self.lines[name]
        if line.phase != "stopped":
            raise Refused("AlreadyRunningError")
        line.is_new = not line.is_subscribed
        line.phase, line.is_known, line.is_subscribed = "live", True, True
        line.is_resting = line.is_pausing = False
        if line.shape.needs and not self.resource_up:
            self.resource_comes()
        self.repair()
        if not line.shape.holds:
            self.let_keys_go(line)
        line.minion, line.until = "backoff", self.now
        self.pump()
        line.is_new = False

    def let_keys_go(self, line: Line) -> None:
        for flow in self.flows.values():
            if flow.line is line and flow.place == "quarantined" and flow.holds:
                flow.holds = False
                self.release_key(flow)

    def stop(self, name: str, mode: str, grace: float) -> None:
        line = self.lines[name]
        line.phase = "draining"
        line.is_resting = True
        if mode == "drain":
            line.is_subscribed = False
        line.is_pausing = mode == "pause"
        line.stop = Stop(mode, self.now + grace)
        if mode == "cutover":
            line.stop.deadline = self.now
        self.pump()

    def is_moving(self, line: Line) -> bool:
        return any(flow.state in {"running", "ready"} for flow in self.hot(line))

    def stopped(self, line: Line) -> bool:
        stop = line.stop
        if stop is None:
            return False
        busy = stop.mode == "drain" and self.is_moving(line)
        if stop.mode == "pause":
            busy = bool(self.running(line))
        if busy and self.now < stop.deadline:
            return False
        cut = len(self.running(line))
        line.stop = None
        self.goes(line, inf)
        line.minion, line.phase = "gone", "stopped"
        cold = [f for f in self.flows.values() if f.line is line and f.place == "cold"]
        saved = len(self.hot(line)) + len(cold)
        finished = stop.finished if not stop.others else None
        is_cut = None if stop.is_vague else min(cut, saved)
        line.results.append((finished, saved, is_cut))
        if line.shape.needs:
            self.release_resource()
        return True

    def release_resource(self) -> None:
        users = [
            n for n in self.lines.values() if n.shape.needs and n.phase != "stopped"
        ]
        if not users:
            self.resource_up, self.resource_until = False, inf

    def restart(self, name: str) -> None:
        line = self.lines[name]
        line.minion, line.until = "draining", self.now + GRACE
        if line.stop is not None:
            line.stop.is_vague = True
        self.pump()

    def crash(self, name: str) -> None:
        line = self.lines[name]
        if line.minion == "draining":  # it is on its way: no crash is charged
            self.goes(line, self.now)
        else:
            self.goes(line, self.now)
            line.minion, line.until = "settling", self.now + SETTLE
            if not line.shape.needs:
                self.charge(line)
        self.pump()

    def break_resource(self) -> None:
        self.is_broken = True
        self.resource_up, self.resource_until = False, self.now + BACKOFF
        for line in self.lines.values():
            if not line.shape.needs:
                continue
            if line.minion in {"up", "draining"}:
                self.goes(line, self.now)
            elif line.minion == "settling":
                line.minion, line.until = "backoff", self.now
        self.pump()

    def repair(self) -> None:
        self.is_broken = False
        if not self.resource_up and self.resource_until <= self.now:
            self.resource_comes()
        self.pump()

    # The process.

    def close(self) -> None:
        """Stop all in order; the time is then the end of it."""
        deadline = self.now + GRACE
        for line in self.lines.values():
            line.is_resting = True
        self.pump()
        while self.is_working():
            due = self.next_due()
            if abs(due - deadline) < CLOSE:
                raise Ambiguous("the end of a grace")
            if due > deadline:
                self.now = deadline
                break
            self.step_to(due)
        self.gone()

    def is_working(self) -> bool:
        return any(n.minion == "up" and self.is_moving(n) for n in self.lines.values())

    def gone(self) -> None:
        for line in self.lines.values():
            self.goes(line, inf)
            line.minion, line.phase, line.stop = "gone", "stopped", None
            line.is_known = line.is_resting = line.is_pausing = False
        for flow in self.flows.values():
            if flow.place == "hot":
                flow.key = None if not flow.holds else flow.key
        self.resource_up, self.resource_until, self.is_broken = False, inf, False

    def die(self) -> None:
        """End without an order; what was in flight is suspect at the next open."""
        self.gone()
        for flow in sorted(self.flows.values(), key=lambda flow: flow.arrival):
            if flow.place != "hot":
                continue
            count = flow.crashes + 1 if flow.is_marked and flow.crashes else 1
            if count > self.max_crashes:
                # Whether it is to, its class says: when that is started.
                self.quarantine(flow, "crashed", hold=True)
                continue
            flow.crashes, flow.is_marked = count, False

    # Commands on workflows.

    def find(self, label: str) -> Flow:
        flow = self.flows.get(label)
        if flow is None or (flow.place == "ended" and self.is_over(flow)):
            raise Refused("KeyError")
        if flow.place == "ended":
            raise Refused("NotRunningError")
        return flow

    def is_over(self, flow: Flow) -> bool:
        return self.now - flow.closed_at >= self.keep

    def emit(self, name: str, order: Order) -> None:
        line = self.lines[name]
        if line.phase != "live":
            raise Refused("NotRunningError")
        self.accept(line, order)
        self.pump()

    def accept(self, line: Line, order: Order) -> None:
        flow = Flow(order, line, len(self.flows), self.now)
        assert order.label not in self.flows
        self.flows[order.label] = flow

    def asking(self) -> list[tuple[str, str]]:
        """Who waits for a signal, and of which kind."""
        found = []
        for label, flow in sorted(self.flows.items()):
            if flow.run is not None and flow.run.phase == "hear":
                found.append((label, flow.run.act.hear))
            elif flow.place == "cold" and flow.waits:
                found.append((label, flow.waits))
        return found

    def signal(self, label: str, kind: str) -> int:
        flow = self.find(label)
        if not flow.line.is_known:
            raise Refused("NotRunningError")
        if kind == "Wrong":
            raise Refused("TypeError")
        self.sent += 1
        mail = Mail(kind, self.sent)
        if flow.place == "cold" and flow.state == "waiting" and flow.waits == kind:
            self.wake(flow)
            flow.received = mail
        else:
            flow.mail.append(mail)
            self.hear(flow)
        self.pump()
        return mail.number

    def cancel(self, label: str) -> None:
        flow = self.find(label)
        if flow.place == "quarantined":
            raise Refused("KeyError")
        self.end(flow, "cancelled")
        self.pump()

    def quarantined(self, label: str) -> Flow:
        flow = self.flows.get(label)
        if flow is None or flow.place != "quarantined":
            raise Refused("KeyError")
        return flow

    def redrive(self, label: str, step: str | None, *, anew: bool) -> None:
        flow = self.quarantined(label)
        if step == "nowhere" and flow.line.is_known:
            raise Refused("DefinitionError")
        if anew and not flow.line.is_known:
            raise Refused("NotRunningError")
        flow.place, flow.state, flow.attempt = "hot", "ready", 0
        flow.since, flow.until = self.now, None
        if step is not None:
            flow.step, flow.received = step, None
        if anew:
            flow.trail, flow.is_fresh = ("anew",), False
        self.pump()

    def discard(self, label: str) -> None:
        flow = self.quarantined(label)
        flow.place, flow.reason = "ended", "discarded"
        self.happened.add("discarded by hand")
        flow.closed_at = self.now
        flow.mail.clear()
        flow.holds = False
        if flow.line.stop is not None:
            flow.line.stop.others += 1
        self.release_key(flow)
        self.pump()

    # Waking and taking up.

    def may_wake(self, line: Line) -> bool:
        return line.minion == "up" and not line.is_resting

    def wake_due(self, line: Line) -> bool:
        if not self.may_wake(line):
            return False
        due = [
            flow
            for flow in self.flows.values()
            if flow.line is line
            and flow.place == "cold"
            and flow.until is not None
            and flow.until <= self.now
        ]
        for flow in due:
            self.happened.add(f"woken: {flow.state}")
            self.wake(flow)
        return bool(due)

    def wake(self, flow: Flow) -> None:
        flow.place, flow.state, flow.since = "hot", "ready", self.now
        flow.until, flow.waits = None, ""

    def dispatch(self, line: Line) -> bool:
        if line.minion != "up" or line.is_pausing:
            return False
        for flow in self.hot(line):
            if flow.state != "ready" or flow.is_suspect:
                continue
            if line.shape.has_key and not self.take_key(flow):
                flow.state = "queued"
                self.happened.add("queued behind a key")
                return True
            if flow.crashes and not self.admit(flow):
                flow.is_suspect = True
                self.happened.add("a suspect waits for its turn")
                return True
            self.overtakes(flow)
            self.begin(flow)
            return True
        return False

    def overtakes(self, flow: Flow) -> None:
        for other in self.hot(flow.line):
            if other.has_lost_key and other.order.key == flow.order.key:
                if other is not flow:
                    self.happened.add("an older one overtakes an interrupted one")
                other.has_lost_key = False

    def take_key(self, flow: Flow) -> bool:
        flow.key = flow.order.key
        queue = flow.line.queues.setdefault(flow.key, [])
        if not queue:
            queue.append(flow)
        if flow not in queue:
            queue[1:] = sorted([*queue[1:], flow], key=lambda flow: flow.arrival)
        return queue[0] is flow

    def release_key(self, flow: Flow) -> None:
        for key, queue in [*flow.line.queues.items()]:
            if flow not in queue:
                continue
            held = queue[0] is flow
            queue.remove(flow)
            if not queue:
                del flow.line.queues[key]
            elif held and queue[0].state == "queued":
                queue[0].state = "ready"

    def admit(self, flow: Flow) -> bool:
        degree = min(flow.crashes, 2)
        running = [d for d in flow.line.suspects.values() if d == degree]
        if len(running) >= AT_ONCE[degree]:
            return False
        flow.line.suspects[flow.label] = degree
        return True

    def clear(self, flow: Flow) -> None:
        """A suspect has ended a step, or runs no longer."""
        degree = flow.line.suspects.pop(flow.label, 0)
        if not degree:
            return
        for other in self.hot(flow.line):
            if other.is_suspect and min(other.crashes, 2) == degree:
                other.is_suspect = False
                return

    # Running.

    def commit(self, flow: Flow) -> None:
        """A snapshot is on disk, and with it the key."""
        flow.saved_key = flow.key if flow.key is not None else flow.saved_key
        flow.holds = flow.key is not None

    def begin(self, flow: Flow) -> None:
        flow.state = "running"
        if flow.step and flow.step not in (*STEPS, END):
            self.quarantine(flow, "incompatible")
            return
        if flow.step == END:
            self.end(flow, "done")
            return
        if flow.crashes:
            flow.is_marked = True
            self.commit(flow)
        step = flow.step or STEPS[0]
        flow.runs += 1
        script, number = flow.order.script, flow.runs
        act = script[number - 1] if number <= len(script) else Act()
        heard = "" if flow.received is None else str(flow.received)
        attempt = flow.attempt + 1
        self.begun.append(
            Begun(flow.label, step, attempt, heard, number, flow.trail, self.now)
        )
        run = Run(act, number, step, (*flow.trail, f"{step}{number}"))
        run.limit = self.now + TIMEOUTS.get(step, inf)
        flow.run = run
        self.happened.add(f"act: {act.end}")
        if act.tell:
            self.happened.add("act: tell")
            if flow.line.is_new and flow.line.name == "Echoes":
                raise Ambiguous("emits to its own pipeline, which is not known yet")
        if act.hear:
            self.happened.add("act: hear")
            run.phase = "hear"
            run.until = inf if act.limit is None else self.now + act.limit
            self.hear(flow)
        else:
            self.pause(flow)

    def hear(self, flow: Flow) -> None:
        run = flow.run
        if run is None or run.phase != "hear":
            return
        for mail in flow.mail:
            if mail.kind == run.act.hear:
                run.taken.append(mail)
                run.trail = (*run.trail, f"heard {mail}")
                self.happened.add("a signal is received in a step")
                self.pause(flow)
                return

    def pause(self, flow: Flow) -> None:
        run = flow.run
        assert run is not None
        run.phase, run.until = "pause", self.now + run.act.pause
        if not run.act.pause:
            self.leave(flow)

    def phase_over(self, flow: Flow) -> None:
        run = flow.run
        if run is None or run.until > self.now:
            return
        if run.phase == "hear":
            run.trail = (*run.trail, "heard None")
            self.happened.add("a receive times out")
            self.pause(flow)
        elif run.phase == "pause":
            self.leave(flow)
        else:
            self.judge(flow)

    def too_slow(self, flow: Flow) -> None:
        if flow.run is not None and flow.run.limit <= self.now:
            self.happened.add("a step times out")
            self.raises(flow, "trio.TooSlowError")

    # What a step comes to.

    def leave(self, flow: Flow) -> None:
        run = flow.run
        assert run is not None
        act, end = run.act, run.act.end
        if end == "stay":
            run.phase, run.until = "stay", inf
            return
        errors = {
            "fail": "ValueError",
            "fail in a group": "ValueError",
            "bug": "TypeError",
            "bug in a group": "ValueError",
            "abort": "abort",
        }
        if end in errors:
            self.raises(flow, errors[end])
            return
        if end in {"nowhere", "nonsense"}:
            self.fails(flow)
            return
        following: str | None = None
        at = STEPS.index(run.step) + 1
        in_order = STEPS[at] if at < len(STEPS) else None
        if end in {"go", "unstorable"}:
            following = in_order
        elif end == "goto":
            following = act.step or "two"
        elif end in {"after", "wait"}:
            following = act.step or in_order or END
        if end == "unstorable" and (following is not None or self.keep):
            self.quarantine(flow, "unstorable")
            return
        if following is None:
            self.effects(flow)
            flow.trail, flow.is_fresh = (
                (run.trail, False) if self.keep else (flow.trail, flow.is_fresh)
            )
            self.end(flow, "done")
            return
        self.goes_on(flow, following)

    def effects(self, flow: Flow) -> None:
        """What becomes true with the commit that ends the step."""
        run = flow.run
        assert run is not None
        flow.mail = [mail for mail in flow.mail if mail not in run.taken]
        if run.act.tell:
            echo = self.lines["Echoes"]
            self.happened.add("a step emits")
            if echo.is_subscribed:
                self.accept(echo, Order(f"{flow.label}>{run.number}"))

    def goes_on(self, flow: Flow, following: str) -> None:
        run = flow.run
        assert run is not None
        self.effects(flow)
        flow.run = None
        flow.trail, flow.is_fresh, flow.step = run.trail, False, following
        flow.attempt, flow.crashes, flow.is_marked = 0, 0, False
        flow.received, flow.problem, flow.waits = None, "", ""
        flow.since, flow.until = self.now, None
        self.commit(flow)
        act = run.act
        if act.end == "after":
            self.cool(flow, "sleeping", act.seconds or 0.0)
            return
        if act.end == "wait":
            there = next((m for m in flow.mail if m.kind == act.kind), None)
            if there is None:
                flow.waits = act.kind
                self.cool(flow, "waiting", act.seconds)
                return
            self.happened.add("a signal was there before the wait")
            flow.mail.remove(there)
            flow.received = there
        self.clear(flow)
        flow.state = "ready"
        if following != END and not flow.line.is_pausing:
            self.begin(flow)

    def cool(self, flow: Flow, state: str, seconds: float | None) -> None:
        flow.run = None
        flow.place, flow.state = "cold", state
        flow.until = None if seconds is None else self.now + seconds
        self.clear(flow)

    def raises(self, flow: Flow, error: str) -> None:
        run = flow.run
        assert run is not None
        run.error, run.limit = error, inf
        if flow.line.shape.needs:
            run.phase, run.until = "settle", self.now + SETTLE
        else:
            self.judge(flow)

    def judge(self, flow: Flow) -> None:
        run = flow.run
        assert run is not None
        if run.error == "abort":
            if self.keep:
                flow.trail, flow.is_fresh = run.trail, False
            self.end(flow, "aborted")
            return
        attempts, base, factor = RETRIES.get(run.step, (1, 0.0, 1.0))
        is_bug = run.act.end.startswith("bug") and run.error != "trio.TooSlowError"
        if is_bug or flow.attempt + 1 >= attempts:
            self.fails(flow)
            return
        self.happened.add("a step is tried again")
        flow.run = None
        flow.attempt += 1
        flow.step, flow.problem = run.step, run.error
        flow.crashes, flow.is_marked = 0, False
        flow.since, flow.until = self.now, None
        self.commit(flow)
        if base:
            self.cool(flow, "retrying", base * factor ** (flow.attempt - 1))
            return
        flow.state = "ready"
        self.clear(flow)

    def fails(self, flow: Flow) -> None:
        if flow.line.shape.discards:
            self.end(flow, "discarded")
        else:
            self.quarantine(flow, "failed")

    # Ends.

    def end(self, flow: Flow, state: str) -> None:
        self.happened.add(f"end: {state}")
        if flow.line.stop is not None:
            flow.line.stop.finished += 1
        self.close_flow(flow, "ended", state)
        flow.mail.clear()
        flow.holds = False
        self.release_key(flow)
        self.clear(flow)

    def quarantine(self, flow: Flow, reason: str, *, hold: bool | None = None) -> None:
        self.happened.add(f"quarantined: {reason}")
        if flow.line.stop is not None:
            flow.line.stop.others += 1
        self.close_flow(flow, "quarantined", reason)
        if flow.key is not None:
            flow.saved_key = flow.key
        flow.crashes, flow.is_marked = 0, False
        keeps = flow.line.shape.holds if hold is None else hold
        flow.holds = keeps and flow.key is not None
        if not flow.holds:
            self.release_key(flow)
        self.clear(flow)

    def close_flow(
        self, flow: Flow, place: Literal["ended", "quarantined"], reason: str
    ) -> None:
        flow.run = None
        flow.is_suspect = False
        if flow.place == "hot":
            flow.state = "ready"
        flow.place, flow.reason = place, reason
        flow.closed_at = self.now
        self.ends.append((flow.label, reason if place == "ended" else place))

    # What can be seen.

    def visible(self, flow: Flow) -> str:
        line = flow.line
        if flow.place == "quarantined":
            return "quarantined"
        if flow.place == "ended":
            return flow.reason
        if flow.state in {"running", "queued"}:
            return flow.state
        waits = flow.place == "cold" and not (
            flow.until is not None and flow.until <= self.now
        )
        if waits:
            return flow.state
        away = line.minion != "up" and line.phase != "stopped" and self.is_lost(line)
        return "parked" if away else flow.state
