"""One life of a component, from startup to shutdown, and who leans on it.

Every edge of the dependency graph is a lease: the dependent's incarnation is
in its dependency's ``lessees`` from before its own startup until after its own
shutdown.  A dependency begins to release only when nobody is left there.
"""

from __future__ import annotations

import math
from collections.abc import Callable, Iterator
from typing import Protocol, TypeAlias

import msgspec
import trio

from minions.errors import InternalError
from minions.supervise.cause import Cause, CauseKind
from minions.supervise.life import Life

__all__ = ["Gauge", "Incarnation", "Lessee"]


class Lessee(Protocol):
    """Who holds a lease: a dependent's incarnation, or a borrower."""

    # Whether it should have left by now, and no state of a component says so.
    overdue: bool

    def begin_drain(self, cause: Cause) -> None:
        """Begin to leave; synchronous, idempotent, keeps the first cause."""

    def harden(self) -> None:
        """Finish nothing any more; synchronous and idempotent."""


class Gauge(msgspec.Struct, eq=False):
    """A count with a wait for zero."""

    count: int = 0
    _zero: trio.Event | None = None

    def up(self) -> None:
        """Add one."""
        self.count += 1

    def down(self) -> None:
        """Take one away, and wake who waits if it was the last."""
        self.count -= 1
        if self.count == 0 and self._zero is not None:
            self._zero.set()
            self._zero = None

    async def wait_zero(self) -> None:
        """Return when the count is zero; a checkpoint in any case."""
        while self.count:
            if self._zero is None:
                self._zero = trio.Event()
            await self._zero.wait()
        await trio.lowlevel.checkpoint()


class Incarnation(msgspec.Struct, eq=False):
    """One life of a component."""

    name: str
    epoch: int
    # What it leases, by name.  Wanted ones that were not there are not in it.
    needs: dict[str, Incarnation]
    # Told synchronously when the drain begins, before the dependents are.
    on_drain: Callable[[Incarnation], None]

    life: Life | None = None
    cause: Cause | None = None
    acquired: bool = False
    # Set while its own shutdown runs: calls into what crashed go through then.
    releasing: bool = False
    # The exception of a crash of its own; the first one is the cause.
    crash: BaseException | None = None
    # The first one that came while it drained for something else.
    late_crash: BaseException | None = None
    nursery: trio.Nursery | None = None

    # Cancelled to end a start; shielded off by `guard` once it is acquired.
    start_scope: trio.CancelScope = msgspec.field(default_factory=trio.CancelScope)
    # Its deadline is the end of the grace of release.
    guard: trio.CancelScope = msgspec.field(default_factory=trio.CancelScope)
    host_scope: trio.CancelScope = msgspec.field(default_factory=trio.CancelScope)
    run_scopes: list[trio.CancelScope] = msgspec.field(default_factory=list)

    # When the drain began, by trio's clock.
    drained_at: float = math.inf
    # Around the wait for what is worth finishing.
    soft_scope: trio.CancelScope = msgspec.field(default_factory=trio.CancelScope)
    drain_asked: trio.Event = msgspec.field(default_factory=trio.Event)
    nursery_open: trio.Event = msgspec.field(default_factory=trio.Event)
    # Insertion-ordered, told apart by identity.
    lessees: dict[int, Lessee] = msgspec.field(default_factory=dict)
    leases: Gauge = msgspec.field(default_factory=Gauge)
    # Runners placed in this incarnation's nursery.
    runners: Gauge = msgspec.field(default_factory=Gauge)
    # The tasks of `run` and of `self.nursery`.
    works: Gauge = msgspec.field(default_factory=Gauge)
    frame: trio.Nursery | None = None
    runner_task: trio.lowlevel.Task | None = None
    # As a lessee its state tells.
    overdue: bool = False

    def __str__(self) -> str:
        return f"{self.name}#{self.epoch}"

    @property
    def crashed(self) -> bool:
        """Whether it drains because its own code has failed."""
        return self.cause is not None and self.cause.kind is CauseKind.CRASH

    @property
    def broken(self) -> bool:
        """Whether its own code has failed: calls into it must fail, too."""
        return self.crashed or self.late_crash is not None

    def has_broken_need(self) -> bool:
        """Say whether something that it needs, directly or not, is broken."""
        seen: dict[int, Incarnation] = {}
        waiting = [*self.needs.values()]
        while waiting:
            need = waiting.pop()
            if need.broken:
                return True
            if id(need) not in seen:
                seen[id(need)] = need
                waiting.extend(need.needs.values())
        return False

    def tasks(self) -> list[trio.lowlevel.Task]:
        """Return its runner and the tasks of its own, without runners placed in it."""
        found = [self.runner_task] if self.runner_task is not None else []
        prefix = f"{self}/"
        nurseries = [self.frame] if self.frame is not None else []
        while nurseries:
            nursery = nurseries.pop()
            for task in nursery.child_tasks:
                if nursery is not self.frame or task.name.startswith(prefix):
                    found.append(task)
                    nurseries.extend(task.child_nurseries)
        return found

    def admit(self, lessee: Lessee) -> None:
        """Grant a lease; only to a component that is up."""
        if self.cause is not None or not self.acquired:
            raise InternalError(f"{self} granted a lease while it was not up")
        self.lessees[id(lessee)] = lessee
        self.leases.up()

    def leave(self, lessee: Lessee) -> None:
        """Take a lease back."""
        del self.lessees[id(lessee)]
        self.leases.down()

    @trio.lowlevel.enable_ki_protection
    def begin_drain(self, cause: Cause) -> None:
        """Begin to end; synchronous and idempotent, the first cause is kept.

        Unpublishes first, then tells what runs in it, then its dependents, and
        only then wakes its own runner.  A later cause that is hard ends a drain
        that was soft until then.
        """
        if self.cause is not None:
            if cause.hard:
                self.harden()
            return
        # Depth first, without recursion: there is no bound on the length of a chain.
        path = [self._unpublish(cause)]
        while path:
            incarnation, passed, lessees = path[-1]
            lessee = next(lessees, None)
            if lessee is None:
                incarnation._wake_runner()  # noqa: SLF001  # another of its class
                path.pop()
            elif isinstance(lessee, Incarnation) and lessee.cause is None:
                path.append(lessee._unpublish(passed))  # noqa: SLF001  # likewise
            else:
                lessee.begin_drain(passed)

    def _unpublish(self, cause: Cause) -> _Cascade:
        """Begin its own drain; return who is to be told, and what."""
        self.cause = cause
        self.drained_at = trio.current_time()
        self.on_drain(self)
        if self.acquired and self.life is not None:
            self.life.begin_drain(cause)
        passed = cause.passed_on(self.name, self.epoch)
        return self, passed, iter([*self.lessees.values()])

    def _wake_runner(self) -> None:
        if not self.acquired:
            self.start_scope.cancel(reason=f"{self} drains: {self.cause}")
        self.drain_asked.set()

    @trio.lowlevel.enable_ki_protection
    def harden(self) -> None:
        """End a soft drain of it and of its dependents; the first cause stays.

        What they would finish may wait for something that has crashed, or has no
        time any more.
        """
        waiting: list[Lessee] = [self]
        while waiting:
            lessee = waiting.pop()
            if not isinstance(lessee, Incarnation):
                lessee.harden()
            elif lessee.cause is not None and not lessee.soft_scope.cancel_called:
                lessee.end_soft_drain()
                if lessee.acquired and lessee.life is not None:
                    lessee.life.cut()
                waiting.extend(reversed(lessee.lessees.values()))

    def end_soft_drain(self) -> None:
        """Wait no longer for what was worth finishing."""
        self.soft_scope.cancel(reason=f"{self} is cut over")


# One that drains, what its dependents hear, and those that have not heard it yet.
_Cascade: TypeAlias = tuple[Incarnation, Cause, Iterator[Lessee]]
