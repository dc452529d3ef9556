"""Plays commands on the real engine and on its model, and compares the two."""

from __future__ import annotations

import itertools
import shutil
import tempfile
from collections import Counter
from collections.abc import Callable
from pathlib import Path
from typing import Any, Literal

import attrs
import msgspec
import pytest
import trio
from tests.model.model import Ambiguous, Flow, Line, Model, Refused
from tests.model.scripts import GRACE, SETTLE, Order
from tests.model.system import (
    MINIONS,
    PIPELINES,
    SIGNALS,
    Fixed,
    Memory,
    Needed,
    World,
    here,
)
from trio.testing import MockClock, wait_all_tasks_blocked

from minions import GruOptions, NotRunningError, open_gru
from minions.identity import component_identity, orchestration_id
from minions.notices import leaves_of
from minions.runtime import wall
from minions.runtime.gru import Gru
from minions.runtime.keys import key_bytes
from minions.runtime.orchestration import Orchestration
from minions.store.codec import codec_for
from minions.store.memory import MemoryStore
from minions.workflow.layout import Keyspace, key_of, sequence_of
from minions.workflow.record import (
    EndedRecord,
    QuarantineRecord,
    WorkflowRecord,
    decode_ended,
    decode_quarantine,
    decode_record,
    decode_signal,
)
from minions.workflow.stored import Body, entries

__all__ = ["Command", "Plan", "play"]

Backend = Literal["memory", "folder"]
# The wall clock at the beginning.  Small, so that floats are fine enough.
BASE = 1_000_000.0
# Seconds that a command is given to settle, and by which times may differ.
TICK = 0.002
NEAR = 5e-4
# What one hears who waits for a workflow that its Gru has saved.
STOPPED = "stopped"
OWNED = (
    Keyspace.RECORD,
    Keyspace.COLD,
    Keyspace.TIMER,
    Keyspace.KEY,
    Keyspace.QUARANTINE,
    Keyspace.ENDED,
    Keyspace.ENDED_AGE,
)
ORDERS = codec_for(Order, component="model")
MEMORIES = codec_for(Memory, component="model")
PAYLOADS = {name: codec_for(cls, component="model") for name, cls in SIGNALS.items()}


@attrs.frozen
class Command:
    """One thing that is done to the system."""

    name: str
    target: int = 0
    """Of the workflows there are, the unknown one included; or of the lines."""

    kind: str = ""
    """Of the signal; the mode of the stop; the step of the redrive."""

    seconds: float = 0.0
    flag: bool = False
    order: Order | None = None


@attrs.frozen
class Plan:
    """All that is played."""

    main: str
    keep: float
    max_crashes: int
    commands: tuple[Command, ...]


class Reborn(MemoryStore):
    """What a store in memory held when its process ended."""

    def __init__(self, other: MemoryStore) -> None:
        super().__init__()
        for space, values in other._spaces.items():
            for key, value in values.values.items():
                self._spaces[space].apply(key, value)

    @property
    def unclean(self) -> bool:
        return self._dead

    _dead = True

    def close_well(self) -> None:
        """Hear that its process has ended in order."""
        self._dead = False


class FakeTime:
    """The machine's clock."""

    @staticmethod
    def time() -> float:
        return BASE + trio.current_time()


def play(plan: Plan, backend: Backend) -> Counter[str]:
    """Play a plan; return what happened.

    Raises:
        Ambiguous: The order of two things that are due at once would matter.
        AssertionError: The engine does not do what the model says.
    """
    here.world = World()
    player = Player(plan, backend)
    with (
        tempfile.TemporaryDirectory(dir=_fast_disk()) as folder,
        pytest.MonkeyPatch.context() as patch,
    ):
        patch.setattr(wall, "time", FakeTime)
        player.folder = Path(folder)
        try:
            trio.run(player.run, clock=MockClock(autojump_threshold=0))
        except BaseExceptionGroup as group:
            ambiguous, rest = group.split(Ambiguous)
            if ambiguous is None or rest is not None:
                raise
            raise Ambiguous(str(leaves_of(ambiguous)[0])) from group
    return Counter(player.happened | player.model.happened)


def _fast_disk() -> str | None:
    shm = Path("/dev/shm")  # noqa: S108  # only where it is
    return str(shm) if shm.is_dir() else None


@attrs.define(eq=False)
class Told:
    """What somebody who waits for a workflow has heard."""

    state: str = ""


class Player:
    def __init__(self, plan: Plan, backend: Backend) -> None:
        self.plan = plan
        self.backend = backend
        self.model = Model(keep=plan.keep, max_crashes=plan.max_crashes)
        self.happened: set[str] = set()
        self.folder = Path()
        self.epoch = 0
        self.memory: MemoryStore = MemoryStore()
        self.left = list(plan.commands)
        self.ids: dict[str, str] = {}
        self.labels: dict[int, str] = {}
        self.handles: dict[str, Orchestration] = {}
        self.results: dict[str, list[Any]] = {}
        self.waiters: list[tuple[str, int, Told]] = []
        self.tasks: trio.Nursery
        self.gru: Gru
        self.emitted = 0
        # Whether the main orchestration is not started in this process.
        self.is_idle = False
        self.began = 0.0

    # Lives of the process.

    @property
    def state(self) -> Any:
        return (
            self.memory if self.backend == "memory" else self.folder / str(self.epoch)
        )

    async def run(self) -> None:
        self.began = trio.current_time()
        is_first = True
        while self.left or is_first:
            is_first = False
            with trio.CancelScope() as process:
                await self.live(process)
        check_ledger(here.world, self.model)

    async def live(self, process: trio.CancelScope) -> None:
        options = GruOptions(
            durability="none",
            keep=self.plan.keep,
            max_crashes=self.plan.max_crashes,
            grace=GRACE,
            settle=SETTLE,
            start_timeout=float("inf"),
            resume_rate=1e6,
            max_component_restarts=1_000_000,
        )
        async with open_gru(self.state, options=options) as self.gru:
            async with trio.open_nursery() as self.tasks:
                self.gru._group.random = Fixed()
                await self.session(process)
                self.tasks.cancel_scope.cancel()
            if not process.cancel_called and not self.left:
                process.cancel()
                await trio.lowlevel.checkpoint()

    async def session(self, process: trio.CancelScope) -> None:
        self.handles, self.results, self.waiters = {}, {}, []
        for line in self.model.lines.values():
            line.results.clear()
        self.here_broken(broken=False)
        await wait_all_tasks_blocked()
        await self.check("open")
        for name in ("Echoes",) if self.is_idle else ("Echoes", self.plan.main):
            await self.start(name)
        await self.settle("start")
        while self.left:
            command = self.left.pop(0)
            if command.name in {"close", "die"}:
                if await self.leave(command, process):
                    return
                continue
            action: Callable[[Command], Any] = getattr(self, f"do_{command.name}")
            if await action(command) is not False:
                self.happened.add(command.name)
            await self.settle(str(command))

    def here_broken(self, *, broken: bool) -> None:
        here.world.is_broken = broken
        if not broken:
            here.world.repair()

    async def leave(self, command: Command, process: trio.CancelScope) -> bool:
        lines = self.model.lines.values()
        if command.name == "close":
            if any(n.stop or n.minion == "draining" for n in lines):
                return False
            self.model.close()
            await self.gru.stop()
            assert_near(trio.current_time() - self.began, self.model.now, "closed")
            await wait_all_tasks_blocked()
            self.compare_told(STOPPED)
            if isinstance(self.memory, Reborn):
                self.memory.close_well()
        else:
            self.die()
            process.cancel()
        self.happened.add(command.name)
        self.is_idle = command.flag
        if command.name == "close" and command.seconds:
            self.model.now += command.seconds
            await trio.sleep(command.seconds)
        return True

    def die(self) -> None:
        """Keep what is committed, and end without an order."""
        self.model.die()
        if self.backend == "memory":
            self.memory = Reborn(self.memory)
        else:
            before = self.state
            self.epoch += 1
            self.state.mkdir(mode=0o700)
            for name in ("data.mdb", "minions.json"):
                shutil.copyfile(before / name, self.state / name)

    async def settle(self, what: str) -> None:
        target = self.model.apart(self.model.now + TICK)
        await self.advance(target)
        await self.check(what)

    async def advance(self, target: float) -> None:
        self.model.advance(target)
        await trio.sleep_until(self.began + target)
        await wait_all_tasks_blocked()

    # Commands.

    async def refusal(self, action: Callable[[], Any], call: Callable[[], Any]) -> bool:
        """Do it on both; return whether both have refused it."""
        expected = ""
        try:
            action()
        except Refused as exc:
            expected = exc.error
        found, text = "", ""
        try:
            with trio.fail_after(1000):
                await call()
        except Exception as exc:
            found, text = type(exc).__name__, str(exc)
        assert found == expected, (
            f"expected {expected or 'success'}, found {found}: {text}"
        )
        if expected:
            self.happened.add(f"refused: {expected}")
        return bool(expected)

    async def start(self, name: str) -> bool:
        if self.model.lines[name].phase == "stopped":
            self.here_broken(broken=False)

        async def call() -> None:
            self.handles[name] = await self.gru.start_minion(
                MINIONS[name], PIPELINES[name]
            )

        return await self.refusal(lambda: self.model.start(name), call)

    def line(self, target: int) -> Line:
        name = (self.plan.main, "Echoes")[target % 4 == 3]
        return self.model.lines[name]

    def label(self, command: Command, *places: str) -> str:
        """Name a workflow: mostly one in these places, sometimes any or none."""
        target = command.target
        flows = self.model.flows
        labels = sorted(label for label, flow in flows.items() if flow.place in places)
        if target % 5 == 4 or not labels:
            labels = [*sorted(flows), "unknown"]
        return labels[target % len(labels)]

    def id_of(self, label: str) -> str:
        return self.ids.get(label, "w999999999")

    async def do_emit(self, command: Command) -> bool:
        assert command.order is not None
        line = self.line(command.target)
        if line.stop is not None and line.stop.mode == "pause":
            return False  # it is open when the pipeline of one that pauses ends
        label = f"a{self.emitted}"
        self.emitted += 1
        order = attrs.evolve(command.order, label=label)
        before = len(self.model.ends)

        async def call() -> None:
            (workflow,) = await self.gru.emit(PIPELINES[line.name], order)
            assert workflow is not None
            self.ids[label] = workflow
            self.labels[int(workflow[1:])] = label
            self.wait_for(label, before)

        await self.refusal(lambda: self.model.emit(line.name, order), call)
        return True

    def wait_for(self, label: str, since: int) -> None:
        told = Told()
        self.waiters.append((label, since, told))

        async def wait() -> None:
            try:
                ended = await self.gru.workflows.wait(self.id_of(label))
            except NotRunningError:
                told.state = STOPPED
            else:
                told.state = ended.state

        self.tasks.start_soon(wait)

    async def do_crowd(self, command: Command) -> None:
        for _ in range(6):
            await self.do_emit(command)

    async def do_signal(self, command: Command) -> None:
        label, kind = self.label(command, "hot", "cold", "quarantined"), command.kind
        asking = [pair for pair in self.model.asking() if command.flag]
        if asking:
            label, kind = asking[command.target % len(asking)]
        payload = SIGNALS[kind](self.model.sent + 1)
        await self.refusal(
            lambda: self.model.signal(label, kind),
            lambda: self.gru.workflows.signal(self.id_of(label), payload),
        )

    async def do_cancel(self, command: Command) -> None:
        label = self.label(command, "hot", "cold")
        await self.refusal(
            lambda: self.model.cancel(label),
            lambda: self.gru.workflows.cancel(self.id_of(label)),
        )

    async def do_redrive(self, command: Command) -> None:
        label = self.label(command, "quarantined")
        step = command.kind or None
        context = Memory(("anew",)) if command.flag else None
        before = len(self.model.ends)
        refused = await self.refusal(
            lambda: self.model.redrive(label, step, anew=command.flag),
            lambda: self.gru.workflows.redrive(
                self.id_of(label), step=step, context=context
            ),
        )
        if not refused and len(self.model.ends) == before:
            self.wait_for(label, before)

    async def do_discard(self, command: Command) -> None:
        label = self.label(command, "quarantined")
        await self.refusal(
            lambda: self.model.discard(label),
            lambda: self.gru.workflows.discard(self.id_of(label)),
        )

    async def do_advance(self, command: Command) -> None:
        await self.advance(self.model.apart(self.model.now + command.seconds))

    async def do_stop(self, command: Command) -> bool:
        line = self.line(command.target)
        if line.phase != "live":
            return False
        handle = self.handles[line.name]
        results = self.results.setdefault(line.name, [])

        async def stop() -> None:
            results.append(await handle.stop(command.kind, grace=command.seconds))  # type: ignore[arg-type]

        self.happened.add(f"stop: {command.kind}")
        self.tasks.start_soon(stop)
        self.model.stop(line.name, command.kind, command.seconds)
        return True

    async def do_start(self, command: Command) -> None:
        await self.start(self.line(command.target).name)

    async def do_restart(self, command: Command) -> bool:
        line = self.line(command.target)
        if line.minion != "up":
            return False
        self.tasks.start_soon(self.quiet, self.gru.restart, MINIONS[line.name])
        self.model.restart(line.name)
        return True

    @staticmethod
    async def quiet(call: Callable[[type], Any], what: type) -> None:
        """A restart that a stop overtakes is refused."""
        try:
            await call(what)
        except Exception as exc:
            if type(exc).__name__ not in {"StartError", "NotRunningError"}:
                raise

    async def do_crash(self, command: Command) -> bool:
        line = self.line(command.target)
        if line.minion not in {"up", "draining"}:
            return False
        here.world.crash(line.name)
        self.model.crash(line.name)
        return True

    async def do_break(self, command: Command) -> bool:
        if not self.model.resource_up:
            return False
        here.world.is_broken = True
        here.world.crash(Needed.__name__)
        self.model.break_resource()
        return True

    async def do_repair(self, command: Command) -> bool:
        if not self.model.is_broken:
            return False
        here.world.repair()
        self.model.repair()
        return True

    # Comparing.

    async def check(self, what: str) -> None:
        try:
            await self.compare()
        except AssertionError as exc:
            raise AssertionError(f"after {what}: {exc}") from exc

    async def compare(self) -> None:
        stored = await self.stored()
        self.learn_labels(stored)
        self.compare_store(stored)
        self.compare_mail(stored)
        await self.compare_view()
        self.compare_begun()
        self.compare_told()

    async def stored(self) -> dict[Keyspace, dict[bytes, bytes]]:
        store = self.gru._store
        return {
            space: dict(await store.page(space, limit=100_000))
            for space in (*OWNED, Keyspace.MAIL, Keyspace.SUBSCRIPTION)
        }

    def learn_labels(self, stored: dict[Keyspace, dict[bytes, bytes]]) -> None:
        for space, read in READERS.items():
            for key, value in stored[space].items():
                seq = sequence_of(key)
                if seq not in self.labels:
                    body = read(key, value)
                    record = body if isinstance(body, WorkflowRecord) else body.record
                    label = ORDERS.decode(record.event).label
                    self.labels[seq], self.ids[label] = label, f"w{seq}"

    def compare_store(self, stored: dict[Keyspace, dict[bytes, bytes]]) -> None:
        found = {
            (space, key): value
            for space in OWNED
            for key, value in stored[space].items()
        }
        expected: dict[tuple[Keyspace, bytes], bytes] = {}
        for flow in self.model.flows.values():
            body = self.body_of(flow, stored)
            if body is not None:
                seq = int(self.ids[flow.label][1:])
                for space, key, value in entries(seq, body, holds=flow.holds):
                    assert (space, key) not in expected
                    expected[space, key] = value
        for place in found.keys() | expected.keys():
            assert place in found, f"{self.name(place)} is not stored"
            assert place in expected, f"{self.name(place)} is left over"
            there, wanted = show(place, found), show(place, expected)
            same = found[place] == expected[place]
            assert same, f"{self.name(place)}: {there} is not {wanted}"
        subscribed = {
            self.orchestration(n.name)
            for n in self.model.lines.values()
            if n.is_subscribed
        }
        keys = {key.decode() for key in stored[Keyspace.SUBSCRIPTION]}
        assert keys == subscribed

    def name(self, place: tuple[Keyspace, bytes]) -> str:
        space, key = place
        label = self.labels.get(sequence_of(key), "?")
        return f"{space.name} {key.hex()} ({label})"

    def body_of(
        self, flow: Flow, stored: dict[Keyspace, dict[bytes, bytes]]
    ) -> Body | None:
        """Return what is to stand in the store, with the times that stand there."""
        if flow.place == "ended" and flow.closed_at == -float("inf"):
            return None
        space = SPACES[flow.place]
        key = key_of(int(self.id_of(flow.label)[1:]))
        value = stored[space].get(key)
        if flow.place == "ended":
            is_over = self.model.is_over(flow)
            if value is None and (is_over or not self.model.keep):
                return None
        assert value is not None, f"{flow.label} is not in {space.name}"
        body = READERS[space](key, value)
        old = body if isinstance(body, WorkflowRecord) else body.record
        record = self.record_of(flow, old)
        if isinstance(body, QuarantineRecord):
            assert body.reason == flow.reason, flow.label
            self.near(body.quarantined_at, flow.closed_at, f"{flow.label} quarantined")
            return msgspec.structs.replace(body, record=record)
        if isinstance(body, EndedRecord):
            assert body.state == flow.reason, flow.label
            self.near(body.ended_at, flow.closed_at, f"{flow.label} ended")
            return msgspec.structs.replace(body, record=record)
        return record

    def record_of(self, flow: Flow, old: WorkflowRecord) -> WorkflowRecord:
        self.near(old.accepted_at, flow.accepted, f"{flow.label} accepted")
        if flow.since is not None:
            self.near(old.since, flow.since, f"{flow.label} since")
        if flow.until is not None:
            assert old.until is not None
            self.near(old.until, flow.until, f"{flow.label} until")
        assert old.problem.startswith(flow.problem), (old.problem, flow.problem)
        received = flow.received
        return WorkflowRecord(
            orchestration=self.orchestration(flow.line.name),
            event_type=ORDERS.type_name,
            event=ORDERS.encode(flow.order),
            context_type="" if flow.is_fresh else MEMORIES.type_name,
            context=b"" if flow.is_fresh else MEMORIES.encode(Memory(flow.trail)),
            step=flow.step,
            accepted_at=old.accepted_at,
            attempt=flow.attempt,
            key=None if flow.saved_key is None else key_bytes(flow.saved_key),
            crash_count=flow.crashes,
            state=flow.state if flow.waits_cold else "ready",
            since=0.0 if flow.since is None else old.since,
            until=None if flow.until is None else old.until,
            waits=PAYLOADS[flow.waits].type_name if flow.waits else "",
            received_type="" if received is None else PAYLOADS[received.kind].type_name,
            received=b""
            if received is None
            else payload(received.kind, received.number),
            problem=old.problem if flow.problem else "",
            is_marked=flow.is_marked,
        )

    def near(self, wall_time: float, model_time: float, what: str) -> None:
        assert_near(wall_time - BASE - self.began, model_time, what)

    def orchestration(self, name: str) -> str:
        return orchestration_id(
            component_identity(MINIONS[name]), component_identity(PIPELINES[name]), ""
        )

    def compare_mail(self, stored: dict[Keyspace, dict[bytes, bytes]]) -> None:
        found: dict[str, list[tuple[str, bytes]]] = {}
        for key, value in sorted(stored[Keyspace.MAIL].items()):
            label = self.labels.get(int.from_bytes(key[:8], "big"), "?")
            signal = decode_signal(key, value)
            found.setdefault(label, []).append((signal.type, signal.payload))
        expected = {
            flow.label: [
                (PAYLOADS[m.kind].type_name, payload(m.kind, m.number))
                for m in flow.mail
            ]
            for flow in self.model.flows.values()
            if flow.mail
        }
        assert found == expected, f"mail: {found} is not {expected}"

    async def compare_view(self) -> None:
        listed = {}
        places = [None, "done", "aborted", "cancelled", "discarded"]
        for place in places if self.model.keep else [None]:
            async for workflow in self.gru.workflows.list(state=place):
                label = self.labels[int(workflow.id[1:])]
                assert label not in listed, f"{label} is listed twice"
                listed[label] = self.seen(workflow)
        expected = {
            flow.label: self.view_of(flow)
            for flow in self.model.flows.values()
            if not (flow.place == "ended" and self.model.is_over(flow))
        }
        assert listed == expected, f"listed: {listed} is not {expected}"
        for label in self.model.flows:
            try:
                got = self.seen(await self.gru.workflows.get(self.id_of(label)))
            except KeyError:
                got = None
            assert got == expected.get(label), f"get {label}: {got}"
        for name, handle in self.handles.items():
            line = self.model.lines[name]
            cold = [
                f
                for f in self.model.flows.values()
                if f.line is line and f.place == "cold"
            ]
            assert handle.table.cold.count == len(cold), f"{name}: cold.count"
            assert handle.table.running == len(self.model.running(line)), f"{name} runs"

    def seen(self, workflow: Any) -> tuple[Any, ...]:
        context = workflow.context
        trail = context.trail if isinstance(context, Memory) else None
        return (workflow.state, workflow.step, workflow.attempt, trail)

    def view_of(self, flow: Flow) -> tuple[Any, ...]:
        trail = flow.trail if flow.line.is_known else None
        return (self.model.visible(flow), flow.step, flow.attempt, trail)

    def compare_begun(self) -> None:
        found: dict[str, list[Any]] = {}
        for run in here.world.begun:
            found.setdefault(run.label, []).append(run)
        expected: dict[str, list[Any]] = {}
        for mine in self.model.begun:
            expected.setdefault(mine.label, []).append(mine)
        for label in found.keys() | expected.keys():
            a, b = found.get(label, []), expected.get(label, [])
            fa, fb = [facts(run) for run in a], [facts(run) for run in b]
            assert fa == fb, f"runs of {label}: {fa} is not {fb}"
            for run, mine in zip(a, b, strict=True):
                assert_near(run.at - self.began, mine.at, f"run {facts(run)}")

    def compare_told(self, otherwise: str = "") -> None:
        """Compare what those have heard who wait for a workflow."""
        for label, since, told in self.waiters:
            ends = [end for name, end in self.model.ends[since:] if name == label]
            first = ends[0] if ends else otherwise
            assert told.state == first, (
                f"wait({label}): {told.state!r} is not {first!r}"
            )
        for name, results in self.results.items():
            expected = self.model.lines[name].results
            assert len(results) == len(expected), f"stops of {name}"
            for result, (finished, saved, cut) in zip(results, expected, strict=True):
                assert result.saved == saved, f"{result} of {name}"
                assert cut in (None, result.cut), f"{result} of {name}"
                assert finished in (None, result.finished), f"{result} of {name}"


READERS: dict[Keyspace, Callable[[bytes, bytes], Any]] = {
    Keyspace.RECORD: decode_record,
    Keyspace.COLD: decode_record,
    Keyspace.QUARANTINE: decode_quarantine,
    Keyspace.ENDED: decode_ended,
}
SPACES = {
    "hot": Keyspace.RECORD,
    "cold": Keyspace.COLD,
    "quarantined": Keyspace.QUARANTINE,
    "ended": Keyspace.ENDED,
}


def payload(kind: str, number: int) -> bytes:
    return PAYLOADS[kind].encode(SIGNALS[kind](number))


def facts(run: Any) -> tuple[Any, ...]:
    return (run.step, run.attempt, run.received, run.number, run.trail)


def show(
    place: tuple[Keyspace, bytes], values: dict[tuple[Keyspace, bytes], bytes]
) -> object:
    space, key = place
    read = READERS.get(space)
    return read(key, values[place]) if read is not None else values[place]


def assert_near(found: float, expected: float, what: str) -> None:
    assert abs(found - expected) < NEAR, f"{what}: {found:.6f} is not {expected:.6f}"


def check_ledger(world: World, model: Model) -> None:
    """Check what the steps have written outside, without asking how it came."""
    order = [(run.label, run.number) for run in world.begun]
    assert len(set(order)) == len(order)
    committed: dict[str, tuple[str, ...]] = {}
    for run in world.begun:
        before = committed.get(run.label, ())
        is_anew = run.trail[:1] == ("anew",)
        assert is_anew or run.trail[: len(before)] == before, f"{run} has lost a step"
        committed[run.label] = run.trail
    for line in model.lines.values():
        if line.shape.has_key:
            check_overlaps(world, model, line)


def check_overlaps(world: World, model: Model, line: Line) -> None:
    """No two steps of one key at once."""
    spans: dict[int, list[tuple[float, float, str]]] = {}
    for run in world.begun:
        flow = model.flows[run.label]
        if flow.line is line:
            end = world.left.get((run.label, run.number), (float("inf"), True))[0]
            spans.setdefault(flow.order.key, []).append((run.at, end, run.label))
    for runs in spans.values():
        for (_, end, a), (begin, _, b) in itertools.pairwise(runs):
            assert a == b or end <= begin, f"{a} and {b} ran at once"
