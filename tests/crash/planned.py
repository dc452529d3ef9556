"""A system made of a plan: it tells of itself outside the store, and kills itself.

Arguments: a file with the plan, the folder, and as JSON what is to befall it.
Each step writes a line to the ledger before it does anything and before it ends.  A
line is written by one call to a file opened for appending: it survives a kill.
"""

from __future__ import annotations

import json
import os
import signal
import sys
import time
from collections.abc import Callable, Sequence
from pathlib import Path
from types import new_class
from typing import Any, cast

import attrs
import msgspec
import trio
from trio.testing import MockClock

from minions import (
    AbortWorkflow,
    After,
    Backoff,
    Done,
    GoTo,
    Gru,
    GruOptions,
    Minion,
    NotRunningError,
    Pipeline,
    Resource,
    Restart,
    Retry,
    Wait,
    component_id,
    minion_step,
    open_gru,
)
from minions.store.lmdb_store import LmdbStore
from plans import (
    Act,
    MinionPlan,
    PipelinePlan,
    Plan,
    Step,
    event_key,
    path_of,
    read_plan,
)
from plans import signal_of as name_of_signal

# Without a line: then it stands still.  In virtual time longer than any delay.
_MOST_ROUNDS = 2000
_IDLE_STATES = {"sleeping", "waiting", "retrying"}


class Fate(msgspec.Struct, frozen=True):
    """What befalls one life of the process."""

    life: int = 0
    before: int = 0
    """Killed before this commit; 0: not."""

    after: int = 0
    """Killed after this commit."""

    at: float = 0.0
    """Killed after so many seconds; 0: not."""

    call: tuple[str, int] = ("", 0)
    """Killed at a system call on the data file: its name, and which of them."""

    crashes: dict[str, list[int]] = {}
    """Components that crash, and at which commits."""

    marks: bool = False
    """Whether a line is written before and after each commit."""

    @property
    def is_deadly(self) -> bool:
        return bool(self.before or self.after or self.at or self.call[0])


@attrs.frozen
class Order:
    pipeline: str
    number: int
    origin: str

    @property
    def key(self) -> str:
        return event_key(self.pipeline, self.number, self.origin)


@attrs.define
class Memory:
    trail: list[str] = attrs.field(factory=list)
    taken: list[str] = attrs.field(factory=list)
    mended: bool = False


def _signal_class(name: str) -> type:
    return attrs.make_class(name, {"token": attrs.field(type=str)}, frozen=True)


SIGNALS = {
    name: _signal_class(name)
    for name in (f"{kind}{n}" for kind in ("Wait", "Inside") for n in range(8))
}


class Crash(Exception):  # noqa: N818  # what befalls a component
    """The plan wants it."""


@attrs.define(eq=False)
class World:
    """One life of the process."""

    plan: Plan
    folder: Path
    fate: Fate
    classes: dict[str, type] = attrs.field(factory=dict)
    # Set when a component is to crash.
    blows: dict[str, trio.Event] = attrs.field(factory=dict)
    fed: set[str] = attrs.field(factory=set)
    # How many it has told.
    lines: int = 0
    _out: int = -1
    _base: float = 0.0
    _tokens: int = 0

    def __attrs_post_init__(self) -> None:
        path = self.folder / "ledger"
        self._out = os.open(path, os.O_WRONLY | os.O_CREAT | os.O_APPEND, 0o600)

    def start_clock(self) -> None:
        if self.plan.is_virtual:
            self._base = time.time() - trio.current_time()

    def now(self) -> float:
        if self.plan.is_virtual:
            return self._base + trio.current_time()
        return time.time()

    def tell(self, kind: str, **fields: object) -> None:
        line = json.dumps({"k": kind, **fields}, separators=(",", ":"))
        os.write(self._out, line.encode() + b"\n")
        self.lines += 1

    def token(self) -> str:
        self._tokens += 1
        return f"<t{self.fate.life}.{self._tokens}>"

    async def crash_when_hit(self, name: str) -> None:
        while True:
            await self.blows.setdefault(name, trio.Event()).wait()
            self.blows[name] = trio.Event()
            self.tell("crash", c=name, t=self.now())
            raise Crash(name)


def die() -> None:
    os.kill(os.getpid(), signal.SIGKILL)
    signal.pause()


def watch_commits(world: World) -> Callable[[], None]:
    """Count the commits, and do at each what the fate says; return what undoes it."""
    original, fate, count = LmdbStore._commit, world.fate, 0
    token = trio.lowlevel.current_trio_token()

    def hit(name: str) -> None:
        world.blows.setdefault(name, trio.Event()).set()

    def commit(self: LmdbStore, batch: Sequence[Any]) -> None:
        nonlocal count
        count += 1
        if fate.marks:
            world.tell("committing", n=count)
        if fate.before == count:
            die()
        original(self, batch)
        if fate.after == count:
            die()
        if fate.marks:
            world.tell("committed", n=count)
        for name, numbers in fate.crashes.items():
            if count in numbers:
                token.run_sync_soon(hit, name)

    def undo() -> None:
        LmdbStore._commit = original  # type: ignore[method-assign]
        world.tell("commits", n=count)

    LmdbStore._commit = commit  # type: ignore[method-assign]
    return undo


# Components.


def make_classes(world: World) -> None:
    for resource in world.plan.resources:
        base = {"run": _run_of(world, resource.name), "use": _use}
        annotations = {
            f"need{i}": world.classes[n] for i, n in enumerate(resource.needs)
        }
        _make(world, resource.name, Resource, {**base, "__annotations__": annotations})
    for pipeline in world.plan.pipelines:
        _make_pipeline(world, pipeline)
    for minion in world.plan.minions:
        _make_minion(world, minion)


def _make(world: World, name: str, base: Any, body: dict[str, Any], **kw: Any) -> None:
    delay = 0.01
    restart = Restart(
        max_restarts=10_000, within=1, backoff=Backoff(base=delay, cap=delay)
    )
    body = {"restart": restart, "__module__": __name__, **body}
    cls = new_class(name, (base,), kw, lambda ns: ns.update(body))
    world.classes[name] = component_id(name)(cls)


def _run_of(world: World, name: str) -> Any:
    async def run(self: Any) -> None:
        await world.crash_when_hit(name)

    return run


async def _use(self: Any) -> None:
    await trio.lowlevel.checkpoint()


def _make_pipeline(world: World, plan: PipelinePlan) -> None:
    if plan.kind != "cursor":
        body = {"dedup_window": world.plan.dedup_window}
        _make(world, plan.name, Pipeline[Order], body)
        return

    async def feed(self: Any) -> None:
        at = self.cursor or 0
        while at < plan.events:
            upto = min(at + plan.batch, plan.events)
            world.tell("emit", p=plan.name, upto=upto)
            batch = [Order(plan.name, n, "c") for n in range(at, upto)]
            await self.emit_many(batch, cursor=upto)
            world.tell("emitted", p=plan.name, upto=upto)
            at = upto
        world.fed.add(plan.name)

    async def run(self: Any) -> None:
        async with trio.open_nursery() as nursery:
            nursery.start_soon(feed, self)
            await world.crash_when_hit(plan.name)

    _make(world, plan.name, Pipeline[Order], {"run": run}, cursor=int)


def _make_minion(world: World, plan: MinionPlan) -> None:
    body: dict[str, Any] = {
        "max_in_flight": plan.max_in_flight,
        "signals": tuple(SIGNALS.values()),
        "run": _run_of(world, plan.name),
        "__annotations__": {
            f"need{i}": world.classes[n] for i, n in enumerate(plan.needs)
        },
    }
    if plan.keys:
        body["key"] = lambda self, event: event.number % plan.keys
    if plan.hold:
        body["key_on_quarantine"] = "hold"
    if plan.discards:
        body["on_failure"] = "discard"
    for step in plan.steps:
        retry = None
        if step.attempts > 1:
            retry = Retry(
                max_attempts=step.attempts,
                base=world.plan.delay,
                cap=1e6,
                jitter="none",
                on=Crash,
            )
        body[step.name] = minion_step(retry=retry)(_step_of(world, plan, step))
    _make(world, plan.name, Minion[Order, Memory], body)


def _step_of(world: World, minion: MinionPlan, step: Step) -> Any:
    async def run_step(self: Any) -> Any:
        flow, event = self.workflow, self.event
        who = {"w": flow.id, "s": step.name, "a": flow.attempt}
        world.tell(
            "begin",
            **who,
            m=minion.name,
            e=event.key,
            n=event.number,
            trail=self.context.trail,
            t=world.now(),
        )
        self.context.trail = [*self.context.trail, step.name]
        try:
            outcome = await _play(world, minion, step, self)
        except trio.Cancelled:
            world.tell("cut", **who)
            raise
        except BaseException as exc:
            world.tell("fail", **who, why=type(exc).__name__, t=world.now())
            raise
        world.tell("end", **who, t=world.now(), taken=self.context.taken)
        return outcome

    run_step.__name__ = step.name
    return run_step


async def _play(world: World, minion: MinionPlan, step: Step, self: Any) -> Any:
    """Do what the plan wants of a step; return what the step is to return."""
    if self.workflow.received is not None:
        self.context.taken.append(self.workflow.received.token)
    acts = step.acts_for(self.event.number)
    for act in acts:
        if act.kind == "call":
            await getattr(self, f"need{minion.needs.index(act.to)}").use()
        elif act.kind == "emit":
            await _send(world, step, act, self)
        elif act.kind == "receive":
            await _receive(world, minion, step, act, self)
        else:
            _fail(act, self)
    outcomes = [_outcome(world, minion, step, act) for act in acts]
    return next((outcome for outcome in outcomes if outcome is not None), None)


async def _send(world: World, step: Step, act: Act, self: Any) -> None:
    for index in range(act.times):
        origin = f"{self.workflow.id}.{step.name}.{index}"
        order = Order(act.to, self.event.number, origin)
        await self.workflow.emit(order, to=world.classes[act.to])


async def _receive(
    world: World, minion: MinionPlan, step: Step, act: Act, self: Any
) -> None:
    signals = SIGNALS[name_of_signal(minion, step.name, inside=True)]
    timeout = world.plan.delay if act.timed else None
    got = await self.workflow.receive(signals, timeout=timeout)
    if got is not None:
        self.context.taken.append(got.token)


def _fail(act: Act, self: Any) -> None:
    if act.kind == "fail" and self.workflow.attempt <= act.times:
        raise Crash(f"attempt {self.workflow.attempt}")
    if act.kind == "quarantine" and not self.context.mended:
        raise LookupError("somebody must mend it")
    if act.kind == "abort":
        raise AbortWorkflow("the plan wants it")


def _outcome(world: World, minion: MinionPlan, step: Step, act: Act) -> Any:
    delay = world.plan.delay
    if act.kind == "after":
        return After(delay, act.to or None)
    if act.kind in {"wait", "cancel"}:
        signals = SIGNALS[name_of_signal(minion, step.name, inside=False)]
        return Wait(signals, delay if act.timed else None, act.to or None)
    if act.kind == "goto":
        return GoTo(act.to)
    return Done() if act.kind == "done" else None


# Whoever sends events and signals, redrives and cancels.


class Operator:
    """Does what the plan wants from outside; remembers what the ledger says."""

    def __init__(self, world: World, gru: Gru) -> None:
        self.world, self.gru = world, gru
        # By orchestration.
        self.minions: dict[str, MinionPlan] = {}
        self._done: set[tuple[str, ...]] = set()
        text = (world.folder / "ledger").read_text()
        for line in map(json.loads, text.splitlines()):
            if "ack" in line:
                self._done.add(tuple(line["ack"]))

    async def work(self) -> None:
        async with trio.open_nursery() as nursery:
            for plan in self.world.plan.pipelines:
                if plan.kind == "outside":
                    # An emit may wait for room that only a redrive makes.
                    nursery.start_soon(self._emit, plan)
            await self._attend_all()
        await self.gru.stop()

    async def _attend_all(self) -> None:
        rounds = lines = 0
        while True:
            plans = self.world.plan.pipelines
            unfinished = any(
                plan.kind != "target" and plan.name not in self.world.fed
                for plan in plans
            )
            async for workflow in self.gru.workflows.list():
                unfinished = True
                try:
                    await self._attend(workflow)
                except (KeyError, NotRunningError):
                    continue  # it went on meanwhile
            if not unfinished:
                return
            rounds = rounds + 1 if lines == self.world.lines else 0
            lines = self.world.lines
            if rounds > _MOST_ROUNDS:
                await self._complain()
            await self._pause()

    async def _pause(self) -> None:
        await trio.sleep(20.0 if self.world.plan.is_virtual else 0.01)

    async def _complain(self) -> None:
        async for workflow in self.gru.workflows.list():
            print(workflow, file=sys.stderr)
        print(self.gru.snapshot(), file=sys.stderr, flush=True)
        self.world.tell("stalled")
        os._exit(3)

    async def _once(self, ack: tuple[str, ...], call: Any, **told: object) -> None:
        """Do something, unless it is known to be done."""
        if ack in self._done:
            return
        self.world.tell("try", what=ack[0], **told)
        await call()
        self._done.add(ack)
        self.world.tell("did", what=ack[0], ack=ack, **told)

    async def _emit(self, plan: PipelinePlan) -> None:
        """Emit to a pipeline that has no source of its own."""
        for n in range(plan.events):
            # Every other one has an id, and may be tried again without harm.
            origin = "id" if n % 2 else self.world.token()
            order = Order(plan.name, n, origin)

            async def emit(order: Order = order) -> None:
                cls = self.world.classes[order.pipeline]
                name = order.key if order.origin == "id" else None
                await self.gru.emit(cls, order, id=name)

            await self._once(("emit", plan.name, str(n)), emit, e=order.key)
            await self._pause()
        self.world.fed.add(plan.name)

    async def _attend(self, flow: Any) -> None:
        minion = self.minions.get(flow.orchestration_id)
        if minion is None or not isinstance(flow.context, Memory):
            return
        path = path_of(minion, flow.event.number)
        passed = len(flow.context.trail)
        if flow.state == "quarantined":
            act = path[passed].act("quarantine") if passed < len(path) else None
            await self._decide(flow, None if flow.reason.startswith("crashed") else act)
            return
        for index, visit in enumerate(path):
            cancel = visit.act("cancel")
            if cancel is not None and index < passed and flow.state == "waiting":
                await self._once(
                    ("cancel", flow.id),
                    lambda: self.gru.workflows.cancel(flow.id),
                    w=flow.id,
                )
            for kind in ("wait", "receive"):
                act = visit.act(kind)
                if act is None or act.timed:
                    continue
                inside = kind == "receive"
                is_there = index == passed - (not inside) and flow.state == (
                    "running" if inside else "waiting"
                )
                if act.early or is_there:
                    name = name_of_signal(minion, visit.step.name, inside=inside)
                    await self._signal(flow.id, name)

    async def _signal(self, flow: str, name: str) -> None:
        token = self.world.token()
        await self._once(
            ("signal", flow, name),
            lambda: self.gru.workflows.signal(flow, SIGNALS[name](token)),
            w=flow,
            token=token,
        )

    async def _decide(self, flow: Any, act: Any) -> None:
        if act is not None and act.to == "discard":
            self.world.tell("try", what="discard", w=flow.id)
            await self.gru.workflows.discard(flow.id)
            self.world.tell("did", what="discard", w=flow.id)
            return
        # One that was only suspected is as it was.
        mended = flow.context.mended or act is not None
        context = attrs.evolve(flow.context, mended=mended)
        self.world.tell("try", what="redrive", w=flow.id, why=flow.reason[:40])
        await self.gru.workflows.redrive(flow.id, context=context)
        self.world.tell("did", what="redrive", w=flow.id)


async def live(world: World) -> None:
    plan = world.plan
    world.start_clock()
    world.tell("life", n=world.fate.life)
    undo = watch_commits(world)
    options = GruOptions(
        durability=cast("Any", plan.durability),
        keep=plan.keep,
        max_kept=plan.max_kept,
        settle=0.01,
        max_component_restarts=100_000,
    )
    async with open_gru(world.folder / "state", options=options) as gru:
        operator = Operator(world, gru)
        async with gru.starting():
            for minion in plan.minions:
                started = await gru.start_minion(
                    world.classes[minion.name], world.classes[minion.pipeline]
                )
                operator.minions[started.id] = minion
        world.tell("up")
        await operator.work()
    undo()
    world.tell("closed")


def main(plan: str, folder: str, fate: str) -> None:
    world = World(
        read_plan(Path(plan)), Path(folder), msgspec.json.decode(fate, type=Fate)
    )
    make_classes(world)
    if world.fate.at:
        # Nothing hears it: it ends the process as a kill does.
        signal.setitimer(signal.ITIMER_REAL, world.fate.at)
    clock = None
    if world.plan.is_virtual:
        clock = MockClock(autojump_threshold=0)
        # Runs of one plan are to be the same up to the kill.
        core = sys.modules["trio._core._run"]
        core._ALLOW_DETERMINISTIC_SCHEDULING = True  # type: ignore[attr-defined]
        core._r.seed(world.plan.seed)
    trio.run(live, world, clock=clock)


if __name__ == "__main__":
    main(*sys.argv[1:])
