"""A real system whose steps do what a script in their event tells them."""

from __future__ import annotations

from collections.abc import Callable
from random import Random
from typing import Any, ClassVar, cast

import attrs
import trio
from tests.model.scripts import BACKOFF, RETRIES, TIMEOUTS, Act, Order

from minions import (
    AbortWorkflow,
    After,
    Backoff,
    Done,
    GoTo,
    Minion,
    Pipeline,
    Resource,
    Restart,
    Retry,
    Wait,
    minion_step,
)
from minions.declare.outcomes import Outcome

__all__ = [
    "MINIONS",
    "PIPELINES",
    "SIGNALS",
    "Begun",
    "Echo",
    "Fixed",
    "Memory",
    "Ping",
    "Pong",
    "World",
    "Wrong",
    "here",
]


@attrs.frozen
class Ping:
    number: int


@attrs.frozen
class Pong:
    number: int


@attrs.frozen
class Wrong:
    number: int


SIGNALS: dict[str, type[Any]] = {"Ping": Ping, "Pong": Pong, "Wrong": Wrong}


@attrs.define
class Memory:
    trail: tuple[str, ...] = ()
    number: int = 0


class Fixed(Random):
    """Draws the longest delay, and permits evenly."""

    def random(self) -> float:
        return 1.0

    def uniform(self, a: float, b: float) -> float:
        return 1.0


@attrs.frozen
class Begun:
    """One run of a step, as it was seen from inside."""

    label: str
    step: str
    attempt: int
    received: str
    number: int
    trail: tuple[str, ...]
    at: float


@attrs.define(eq=False)
class World:
    """What stands outside of the system: it survives every end of it."""

    begun: list[Begun] = attrs.field(factory=list)
    # How each run was left, by workflow and number: when, and whether cancelled.
    left: dict[tuple[str, int], tuple[float, bool]] = attrs.field(factory=dict)
    counts: dict[str, int] = attrs.field(factory=dict)
    crashes: dict[str, trio.Event] = attrs.field(factory=dict)
    is_broken: bool = False
    repaired: trio.Event = attrs.field(factory=trio.Event)

    def crash(self, name: str) -> None:
        self.crashes.pop(name).set()

    def repair(self) -> None:
        self.is_broken = False
        self.repaired.set()
        self.repaired = trio.Event()


@attrs.define
class Here:
    world: World = attrs.field(factory=World)


here = Here()
RESTART = Restart(max_restarts=10_000, backoff=Backoff(BACKOFF, 1, BACKOFF))


class Crashing:
    """A component that crashes when the world says so."""

    async def run(self) -> None:
        event = here.world.crashes[type(self).__name__] = trio.Event()
        await event.wait()
        raise RuntimeError("crashed on purpose")


class Needed(Crashing, Resource):
    restart = RESTART

    async def startup(self) -> None:
        while here.world.is_broken:
            await here.world.repaired.wait()


class PlainSource(Pipeline[Order]):
    pass


class KeyedSource(Pipeline[Order]):
    pass


class HoldsSource(Pipeline[Order]):
    pass


class DropsSource(Pipeline[Order]):
    pass


class Echo(Pipeline[Order]):
    pass


def retry_of(step: str) -> Retry:
    attempts, base, factor = RETRIES[step]
    return Retry(max_attempts=attempts, base=base, factor=factor, jitter="none")


ERRORS: dict[str, Callable[[], Exception]] = {
    "fail": lambda: ValueError("no luck"),
    "fail in a group": lambda: ExceptionGroup("", [ValueError("no luck"), OSError()]),
    "bug": lambda: TypeError("no luck"),
    "bug in a group": lambda: ExceptionGroup("", [ValueError("no luck"), NameError()]),
    "abort": lambda: ExceptionGroup("", [AbortWorkflow("enough")]),
}
OUTCOMES: dict[str, Callable[[Act], Outcome]] = {
    "goto": lambda act: GoTo(act.step or "two"),
    "nowhere": lambda act: GoTo("nowhere"),
    "after": lambda act: After(act.seconds or 0.0, act.step),
    "wait": lambda act: Wait(SIGNALS[act.kind], act.seconds, act.step),
    "done": lambda act: Done(),
}


class Scripted(Crashing, Minion[Order, Memory]):
    restart = RESTART
    signals: ClassVar[tuple[type, ...]] = (Ping, Pong)

    @minion_step(retry=retry_of("one"))
    async def one(self) -> Outcome:
        return await self.perform("one")

    @minion_step(timeout=TIMEOUTS["two"])
    async def two(self) -> Outcome:
        return await self.perform("two")

    @minion_step(retry=retry_of("three"), timeout=TIMEOUTS["three"])
    async def three(self) -> Outcome:
        return await self.perform("three")

    async def perform(self, step: str) -> Outcome:
        world, label = here.world, self.event.label
        number = world.counts[label] = world.counts.get(label, 0) + 1
        script = self.event.script
        act = script[number - 1] if number <= len(script) else Act()
        world.begun.append(
            Begun(
                label,
                step,
                self.workflow.attempt,
                "" if self.workflow.received is None else str(self.workflow.received),
                number,
                self.context.trail,
                trio.current_time(),
            )
        )
        self.context.trail = (*self.context.trail, f"{step}{number}")
        try:
            outcome = await self.follow(act, label, number)
        except trio.Cancelled:
            world.left[label, number] = (trio.current_time(), True)
            raise
        except BaseException:
            world.left[label, number] = (trio.current_time(), False)
            raise
        world.left[label, number] = (trio.current_time(), False)
        return outcome

    async def follow(self, act: Act, label: str, number: int) -> Outcome:
        if act.tell:
            await self.workflow.emit(Order(f"{label}>{number}"), to=Echo)
        if act.hear:
            kind = SIGNALS[act.hear]
            heard = await self.workflow.receive(kind, timeout=act.limit)
            self.context.trail = (*self.context.trail, f"heard {heard}")
        if act.pause:
            await trio.sleep(act.pause)
        return await self.end(act)

    async def end(self, act: Act) -> Outcome:
        if act.end == "stay":
            await trio.sleep_forever()
        make_error = ERRORS.get(act.end)
        if make_error is not None:
            raise make_error()
        if act.end == "unstorable":
            self.context.number = 2**70
        if act.end == "nonsense":
            return cast("Outcome", 42)
        make = OUTCOMES.get(act.end)
        return make(act) if make is not None else None


class Plain(Scripted):
    needed: Needed


class Keyed(Scripted):
    needed: Needed

    def key(self, event: Order) -> int:
        return event.key


class Holds(Scripted):
    key_on_quarantine = "hold"

    def key(self, event: Order) -> int:
        return event.key


class Drops(Scripted):
    on_failure = "discard"

    def key(self, event: Order) -> int:
        return event.key


class Echoes(Scripted):
    pass


MINIONS: dict[str, type] = {
    cls.__name__: cls for cls in (Plain, Keyed, Holds, Drops, Echoes)
}
PIPELINES: dict[str, type] = {
    "Plain": PlainSource,
    "Keyed": KeyedSource,
    "Holds": HoldsSource,
    "Drops": DropsSource,
    "Echoes": Echo,
}
