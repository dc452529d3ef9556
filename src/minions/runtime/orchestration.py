"""One running composition of a minion, a pipeline and a name."""

from __future__ import annotations

from collections.abc import Awaitable, Callable
from typing import TYPE_CHECKING, Literal, get_args

import attrs
import trio

from minions.runtime.calls import caller_in
from minions.supervise import State

if TYPE_CHECKING:
    from minions.runtime.intake import Intake
    from minions.runtime.table import WorkTable
    from minions.supervise import Group

__all__ = ["Orchestration", "StopMode", "StopResult"]

Phase = Literal["starting", "live", "draining", "ended", "stopped"]
StopMode = Literal["drain", "pause", "cutover"]


@attrs.frozen
class StopResult:
    """What a stop has done with the workflows that were unfinished."""

    finished: int
    """They ended in time."""

    saved: int
    """They stand in the store, at their last snapshot."""

    cut: int
    """Of those saved, the ones whose step was interrupted."""


def _check_stop(identity: str, mode: object, grace: object) -> None:
    # Here, where it concerns nobody but who asks.
    if mode not in get_args(StopMode):
        raise ValueError(
            f'{identity}: expected mode "drain", "pause" or "cutover", found {mode!r};'
            " name one of these"
        )
    if grace is None:
        return
    if not isinstance(grace, int | float) or not grace >= 0:
        raise ValueError(
            f"{identity}: expected a grace of at least 0 seconds, found {grace!r}; set"
            " it to such a number"
        )


class Orchestration:
    """A handle; made by ``gru.start_minion``."""

    def __init__(
        self,
        orchestration_id: str,
        *,
        minion: str,
        pipeline: str,
        group: Group,
        intake: Intake,
        table: WorkTable,
        stop: Callable[[Orchestration, StopMode, float | None], Awaitable[StopResult]],
        ask: Callable[[Callable[[], Awaitable[object]]], None],
    ) -> None:
        self.id: str = orchestration_id
        """Deterministic: made of the identities of minion and pipeline and the name."""
        self.minion_name: str = minion
        self.pipeline_name: str = pipeline
        self.intake: Intake = intake
        self.table: WorkTable = table
        self.phase: Phase = "starting"
        # While it starts: all that it will need.
        self.held: tuple[str, ...] = ()
        # Set when its minion has gone; and when its end is known to all.
        self.gone: trio.Event = trio.Event()
        self.over: trio.Event = trio.Event()
        self.draining: trio.CancelScope = trio.CancelScope()
        self.result: StopResult = StopResult(0, 0, 0)
        self._group = group
        self._stop = stop
        self._ask = ask

    @property
    def status(self) -> str:
        """Return what it is doing.

        ``starting``, ``running``, ``draining``, ``waiting``, ``failed``, ``ended`` or
        ``stopped``.
        """
        if self.phase != "live":
            return self.phase
        members = self._group.members
        pair = [members.get(name) for name in (self.minion_name, self.pipeline_name)]
        states = [member.state for member in pair if member is not None]
        if State.FAILED in states:
            return "failed"
        if (
            states
            and states[0] is State.UP
            and (self.intake.exhausted or states[-1] is State.UP)
        ):
            return "running"
        return "waiting"

    @property
    def is_live(self) -> bool:
        """Whether it holds its components."""
        return self.phase in {"starting", "live", "draining"}

    async def stop(
        self, mode: StopMode = "drain", *, grace: float | None = None
    ) -> StopResult | None:
        """Stop it; the pipeline and resources that nobody else uses stop, too.

        ``drain`` unsubscribes, lets what was accepted end, and cuts over.  What
        waits for a time or a signal stays saved.  ``pause`` lets the running steps
        end, and cuts over.  Both take at most *grace* seconds (the option's without
        it).  ``cutover`` interrupts at once.  ``pause`` and ``cutover`` keep the
        subscription: events are accepted meanwhile, up to ``max_backlog``.

        Returns ``None`` when one of its own steps asks: then it only asks.

        Raises:
            ValueError: There is no such mode, or the grace is no number of seconds.
        """
        _check_stop(self.id, mode, grace)
        if self._is_inside():
            self._ask(lambda: self._stop(self, mode, grace))
            return None
        return await self._stop(self, mode, grace)

    async def wait(self) -> str:
        """Wait until it has ended or was stopped; return which.

        Raises:
            trio.BusyResourceError: One of its own steps or hooks waits for it.
        """
        if self._is_inside():
            raise trio.BusyResourceError(
                f"{self.id}: expected a wait from outside, found one from inside the"
                " orchestration, which would never end"
            )
        await self.over.wait()
        return self.phase

    def _is_inside(self) -> bool:
        incarnation = caller_in(self._group)
        return incarnation is not None and incarnation.name in {
            self.minion_name,
            self.pipeline_name,
        }

    def __repr__(self) -> str:
        return f"<Orchestration {self.id} {self.status}>"
