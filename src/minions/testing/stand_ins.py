"""Stand-ins: resources that start, call what they need, and look around."""

from __future__ import annotations

import math
from typing import Any, ClassVar

import attrs
import trio

from minions.declare.bases import Resource
from minions.errors import DependencyLost
from minions.identity import component_id, component_identity
from minions.notices import ComponentCrashed, ComponentStarting, Notice
from minions.options import Backoff, Restart
from minions.supervise import Group
from minions.testing.acting import Misfortune
from minions.testing.trials import StandIn

__all__ = ["Watch", "make_stand_ins"]

# Between two rounds of calls; a call takes longer than that.
_PAUSE = 0.03
_ANSWER = 0.1


@attrs.define(eq=False)
class Watch:
    """What is observed while a trial runs."""

    notices: list[Notice] = attrs.field(factory=list)
    raised: list[str] = attrs.field(factory=list)
    # What stand-ins saw amiss.
    amiss: list[str] = attrs.field(factory=list)
    epochs: dict[str, int] = attrs.field(factory=dict)
    crashed: set[tuple[str, int]] = attrs.field(factory=set)
    # Calls into what had crashed, that failed as they should.
    refused: int = 0
    cancelled_at: float = math.inf
    group: Group | None = None
    # What each component needs and wants, as far as it has started.
    needs: dict[str, tuple[str, ...]] = attrs.field(factory=dict)
    wants: dict[str, tuple[str, ...]] = attrs.field(factory=dict)

    def heed(self, notice: Notice) -> None:
        """Listen to the notices of the Gru."""
        self.notices.append(notice)
        if isinstance(notice, ComponentStarting):
            self.epochs[notice.component] = notice.epoch
            assert self.group is not None
            plan = self.group.members[notice.component].plan
            self.needs[plan.name], self.wants[plan.name] = plan.needs, plan.wants
        elif isinstance(notice, ComponentCrashed):
            self.crashed.add((notice.component, notice.epoch))

    def edges(self) -> dict[str, tuple[str, ...]]:
        """Return what each component needs or wants."""
        return {name: needs + self.wants[name] for name, needs in self.needs.items()}

    async def misfortune(self, name: str) -> None:
        """Crash as a task of a component's nursery; its text is unique."""
        text = f"misfortune {len(self.raised)} in {name}"
        self.raised.append(text)
        raise Misfortune(text)


class _StandIn(Resource):
    """Calls all that it needs while it runs, and once more when it shuts down."""

    restart: ClassVar[Restart] = Restart(backoff=Backoff(base=0.1, cap=0.5))
    stand_in: ClassVar[StandIn]
    needed: ClassVar[tuple[str, ...]]
    watch: ClassVar[Watch]

    async def startup(self) -> None:
        name = component_identity(type(self))
        # For this instance alone: calls must know in which life they arrive.
        self.life = (name, self.watch.epochs[name])
        await trio.sleep(self.stand_in.startup)

    async def answer(self) -> None:
        """Take a while."""
        await trio.sleep(_ANSWER)

    async def run(self) -> None:
        async with trio.open_nursery() as nursery:
            for name in self.needed:
                nursery.start_soon(self._ask_again_and_again, getattr(self, name))
            await trio.sleep_forever()

    async def _ask_again_and_again(self, other: _StandIn) -> None:
        while True:
            await trio.sleep(_PAUSE)
            await self._ask(other)

    async def _ask(self, other: _StandIn) -> None:
        """Call another: what has crashed refuses, without the clock moving."""
        began, lost = trio.current_time(), other.life in self.watch.crashed
        call = f"a call from {self.life} into {other.life}"
        try:
            await other.answer()
        except DependencyLost:
            self.watch.refused += 1
            if not lost:
                self.watch.amiss.append(f"{call} was refused, which had not crashed")
            if trio.current_time() != began:
                self.watch.amiss.append(f"{call} was refused late")
        else:
            if lost:
                self.watch.amiss.append(f"{call} went through, which had crashed")

    async def shutdown(self) -> None:
        for name in self.needed:
            other = getattr(self, name)
            try:
                await other.answer()
            except DependencyLost:
                self.watch.amiss.append(f"{self.life} could not shut down by {other}")
        await trio.sleep(self.stand_in.shutdown)


def make_stand_ins(stand_ins: tuple[StandIn, ...], watch: Watch) -> list[type]:
    """Make a class for each, with its needs as annotated attributes."""
    made: list[type] = []
    for number, stand_in in enumerate(stand_ins):
        needed: dict[str, Any] = {f"need{n}": made[n] for n in stand_in.needs}
        used = {f"used{n}": cls for n, cls in enumerate(stand_in.uses)}
        namespace = {
            "__module__": __name__,
            "__annotations__": needed | used,
            "stand_in": stand_in,
            "needed": tuple(needed),
            "watch": watch,
        }
        cls = type(f"StandIn{number}", (_StandIn,), namespace)
        made.append(component_id(f"stand-in-{number}")(cls))
    return made
