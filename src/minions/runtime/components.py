"""The components of one Gru: added with their users, stopped after them."""

from __future__ import annotations

import math
from collections import Counter
from collections.abc import Callable, Iterable, Mapping
from contextvars import Context

import attrs
import trio

from minions.declare.specification import MinionSpec, PipelineSpec, ResourceSpec
from minions.declare.system import ProvidedSpec, Spec
from minions.errors import (
    DependencyError,
    MinionsError,
    NotRunningError,
    StartError,
)
from minions.identity import provided_identity
from minions.notices import ComponentFailed, Notice, StartFailed, report_of
from minions.runtime.lives import ComponentLife, ProvidedLife
from minions.runtime.reading import Reader, Reading
from minions.supervise import (
    Group,
    Incarnation,
    Life,
    Member,
    Plan,
    State,
    check_wait,
)

__all__ = ["Components", "blocker_of"]

Make = Callable[[Incarnation], Life]


class Components:
    """What runs, and who needs it."""

    def __init__(self, group: Group, context: Context, *, durable: bool) -> None:
        self.group: Group = group
        # What is started belongs to Gru and inherits no variables of its starter.
        self.context: Context = context
        self.specs: dict[str, Spec] = {}
        self.reader: Reader = Reader(self.specs, durable=durable)
        self.closing = False
        """Set when a stop is asked for: what starts then is given up."""
        self._failed_starts: Counter[str] = Counter()
        # How often a start has failed or a component has.
        self._troubles = 0
        # Which have failed, or had.
        self._failed: set[str] = set()
        # By name, how many components here would like to have it.
        self._wishes: Counter[str] = Counter()
        # What the roots need, in all, until a component comes or goes.
        self._needed: tuple[tuple[str, ...], dict[str, None]] | None = None
        self._changed = trio.Event()

    def poke(self) -> None:
        """Wake who waits for any change."""
        self._changed.set()

    async def wait_change(self) -> None:
        """Wait for the next change."""
        if self._changed.is_set():
            self._changed = trio.Event()
        await self._changed.wait()

    def heed(self, notice: Notice) -> None:
        """Listen to the notices of the group."""
        if isinstance(notice, StartFailed):
            self._failed_starts[notice.component] += 1
            self._troubles += 1
        elif isinstance(notice, ComponentFailed):
            self._failed.add(notice.component)
            self._troubles += 1
        self.poke()

    def add_resources(self, reading: Reading) -> None:
        """Start the resources that were read, needed ones first."""
        for identity, spec in reading.specs.items():
            if isinstance(spec, ProvidedSpec):
                self.add(identity, spec, self._provided_maker(spec))
            elif isinstance(spec, ResourceSpec):
                self.add(identity, spec, self._maker(spec, reading.configs[identity]))

    def add_provided(self, cls: type, name: str) -> None:
        """Start what is provided under a name.

        Raises:
            DependencyError: Nothing is.
        """
        identity = provided_identity(cls, name)
        if (cls, name) not in self.reader.provided:
            raise DependencyError(
                f"{identity}: expected something provided under this name, found"
                f" nothing; call gru.provide({cls.__qualname__}, ..., name={name!r})"
            )
        spec = ProvidedSpec(cls=cls, name=name, identity=identity)
        self.add(identity, spec, self._provided_maker(spec))

    def _maker(self, spec: ResourceSpec, config: object) -> Make:
        return lambda incarnation: ComponentLife(self.group, spec, incarnation, config)

    def _provided_maker(self, spec: ProvidedSpec) -> Make:
        factory = self.reader.provided[spec.cls, spec.name]
        return lambda incarnation: ProvidedLife(incarnation, factory)

    def add(self, name: str, spec: Spec, make: Make) -> Member:
        """Add a component to the group, or use the one that is there."""
        member = self.group.members.get(name)
        if member is not None:
            if member.state is State.STOPPED or not member.wanted:
                # It comes back as what it is now: of another orchestration, or config.
                member.plan = attrs.evolve(member.plan, make=make)
                self._revive(member)
            return member
        optional = tuple(d.key for d in spec.dependencies if d.optional)
        needed = tuple(d.key for d in spec.dependencies if not d.optional)
        plan = Plan(name=name, make=make, needs=needed, wants=optional)
        if isinstance(spec, ResourceSpec | PipelineSpec | MinionSpec):
            plan = Plan(
                name=name,
                make=make,
                needs=needed,
                wants=optional,
                restart=spec.restart,
                on_exhausted=spec.on_exhausted,
            )
        self.specs[name] = spec
        self._wishes.update(plan.wants)
        self._needed = None
        return self.context.copy().run(self.group.add, plan)

    def _revive(self, member: Member) -> None:
        if member.state is not State.FAILED and self.group.stopping is None:
            member.wanted = True
            if not member.running:
                self.group.restart(member.name)

    async def wait_started(self, name: str, patience: float) -> None:
        """Wait until a component that was added is up.

        Raises:
            StartError: It, or something that it needs, did not come up.
            NotRunningError: A stop is asked for.
            trio.BusyResourceError: It waits, directly or not, for the component
                whose startup or shutdown asks.
        """
        over_at = trio.current_time() + patience
        before = Counter(self._failed_starts)
        group = self.group
        target = group.members.get(name)
        if target is not None and target.state is not State.UP:
            check_wait(group.members, target)
        seen: tuple[int, bool] | None = None
        while True:
            target = group.members.get(name)
            stopping = self.closing or group.stopping is not None
            if stopping or target is None or not target.wanted:
                raise NotRunningError(
                    f"{name}: expected to come up, found that it was stopped while it"
                    " started; start it again, in another Gru if this one stops"
                )
            if target.state is State.UP:
                return
            now_seen = self._troubles, trio.current_time() >= over_at
            if now_seen != seen:
                seen = now_seen
                self._check_startable(name, before, over=now_seen[1])
            # Once it is over, only a change tells more.
            with trio.move_on_at(math.inf if now_seen[1] else over_at):
                await self.wait_change()

    def _check_startable(self, name: str, before: Counter[str], *, over: bool) -> None:
        for needed in _down_under(self.group.members, name):
            member = self.group.members[needed]
            tried = self._failed_starts[needed] > before[needed]
            if member.state is State.FAILED or (tried and over):
                raise _start_error(name, member) from member.last_failure

    def closure(self, names: Iterable[str], *, wants: bool = True) -> dict[str, None]:
        """Return *names* and all that they need, directly or not."""
        found: dict[str, None] = {}
        waiting = [name for name in names if name in self.group.members]
        while waiting:
            name = waiting.pop()
            if name not in found:
                found[name] = None
                plan = self.group.members[name].plan
                needed = plan.needs + (plan.wants if wants else ())
                waiting.extend(n for n in needed if n in self.group.members)
        return found

    def collect(self, roots: Iterable[str]) -> None:
        """Stop what no root needs any more, and forget what has stopped."""
        members, key = self.group.members, tuple(roots)
        if self._needed is None or self._needed[0] != key:
            self._needed = key, self.closure(key)
        needed = self._needed[1]
        if len(needed) == len(members):
            return
        for name in reversed([name for name in members if name not in needed]):
            member = members[name]
            if member.wanted:
                self.group.stop(name)
            if not (member.running or member.dependents or self._wishes[name]):
                self.group.discard(name)
                self.specs.pop(name, None)
                self._failed_starts.pop(name, None)
                self._failed.discard(name)
                self._wishes.subtract(member.plan.wants)
                self._needed = None

    def is_hopeless(self, name: str) -> bool:
        """Say whether a component waits, at the end, for one that has failed."""
        members = self.group.members
        if not any(members[n].state is State.FAILED for n in self._failed):
            return False
        seen: set[str] = set()
        waiting = [name]
        while waiting:
            member = members.get(waiting.pop())
            if member is None or member.name in seen:
                continue
            seen.add(member.name)
            if member.state is State.FAILED:
                return True
            if member.state is State.WAITING:
                waiting.extend(member.plan.needs)
        return False


def _down_under(members: Mapping[str, Member], name: str) -> dict[str, None]:
    """Return what is not up of a component and all that it needs.

    Nothing is looked at below what is up: that leases all that it needs.  So to start
    a long chain, one after the other, costs the same for each.
    """
    found: dict[str, None] = {}
    waiting = [name]
    while waiting:
        name = waiting.pop()
        if name not in found and members[name].state is not State.UP:
            found[name] = None
            waiting.extend(n for n in members[name].plan.needs if n in members)
    return found


def _start_error(name: str, member: Member) -> MinionsError:
    through = "" if member.name == name else f" (which {name} needs)"
    failure = member.last_failure
    found = str(member.cause) if failure is None else str(report_of(failure))
    return StartError(
        f"{member.name}{through}: expected to come up, found {found}; mend the cause,"
        " or give it time with GruOptions(start_patience=...)"
    )


def blocker_of(components: Components, name: str) -> str:
    """Name what is down of all that a component needs; empty if nothing is."""
    members = components.group.members
    for needed in reversed(components.closure([name], wants=False)):
        state = members[needed].state
        if needed != name and state not in {State.UP, State.WAITING}:
            return f"{needed} ({state.value})"
    return ""
