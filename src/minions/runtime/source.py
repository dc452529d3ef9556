"""What runs a pipeline.

``produce_event`` is called while there is room and does not wait for its commit:
the event is handed to the store's writer, and the next call begins.
"""

from __future__ import annotations

from collections.abc import Iterable
from typing import Any

import trio

from minions.declare.specification import PipelineSpec
from minions.errors import DependencyLost
from minions.notices import SourceFailed, leaves_of, report_of
from minions.restart import BackoffState
from minions.runtime.calls import call_user, work_for
from minions.runtime.event_ids import check_ids
from minions.runtime.intake import Intake
from minions.runtime.lives import ComponentLife
from minions.supervise import Cause, CauseKind, Group, Incarnation, RunEnd

__all__ = ["PipelineLife"]

# Calls of produce_event after which others get their turn, though it never waits.
_CALLS_IN_A_ROW = 64


class PipelineLife(ComponentLife):
    """One incarnation of a pipeline."""

    def __init__(
        self,
        group: Group,
        spec: PipelineSpec,
        incarnation: Incarnation,
        *,
        config: object,
        intake: Intake,
    ) -> None:
        super().__init__(group, spec, incarnation, config)
        self._spec = spec
        self._intake = intake

    @property
    def cursor(self) -> Any:
        """The position that was last committed; each time a new object."""
        codecs, position = self._intake.codecs, self._intake.position
        if codecs is None or position is None:
            return None
        return codecs.decode_cursor(position)

    async def emit(
        self, event: Any, *, cursor: Any = None, event_id: str | None = None
    ) -> tuple[str | None, ...]:
        """Accept one event; see ``Pipeline.emit``."""
        await self._check_open()
        (ids,) = await self._intake.emit([event], cursor, [event_id])
        return ids

    async def emit_many(
        self,
        events: Iterable[Any],
        *,
        cursor: Any = None,
        event_ids: Iterable[str | None] | None = None,
    ) -> tuple[tuple[str | None, ...], ...]:
        """Accept many events in one commit; see ``Pipeline.emit_many``."""
        await self._check_open()
        accepted = list(events)
        ids = [None] * len(accepted) if event_ids is None else list(event_ids)
        check_ids(self._intake.pipeline, ids, len(accepted))
        return await self._intake.emit(accepted, cursor, ids)

    async def _check_open(self) -> None:
        if not self.incarnation.acquired or self.incarnation.cause is not None:
            await trio.lowlevel.checkpoint_if_cancelled()
            raise trio.ClosedResourceError(
                f"{self.incarnation}: emit() works from when startup has returned"
                " until the pipeline begins to stop"
            )

    def begin_drain(self, cause: Cause) -> None:
        """End at once: a source's drain is never soft."""
        for scope in self.incarnation.run_scopes:
            scope.cancel(reason=str(cause))
        # Nothing depends on a pipeline, so its tasks need not outlive its run: an
        # emit of theirs that waits is cancelled, too.
        self.incarnation.host_scope.cancel(reason=str(cause))
        if cause.kind in {CauseKind.STOP, CauseKind.CANCELLED}:
            self._intake.refuse_waiting()

    @trio.lowlevel.enable_ki_protection
    async def run(self) -> RunEnd:
        """Emit events until the source is exhausted."""
        await self._intake.wait_begin()
        work_for(self.incarnation)
        if self._spec.source == "outside":
            await trio.sleep_forever()
        elif self._spec.source == "run":
            await call_user(self.value.run)
        else:
            await self._produce()
        self._intake.exhaust()
        return RunEnd.ENDED

    async def _produce(self) -> None:
        produce = self.value.produce_event
        intake = self._intake
        backoff = BackoffState(self._spec.error_backoff)
        calls = 0
        while True:
            calls += 1
            if calls % _CALLS_IN_A_ROW == 0:
                await trio.lowlevel.checkpoint()
            if not intake.has_room():
                await intake.wait_room()
            try:
                # No checkpoint between the two: what was returned is accepted.
                intake.accept_nowait(await call_user(produce))
            except trio.EndOfChannel:
                return
            except trio.Cancelled:
                raise
            except Exception as exc:
                if any(isinstance(leaf, trio.Cancelled) for leaf in leaves_of(exc)):
                    raise
                await self._failed(exc, backoff)
            else:
                backoff.clear()

    async def _failed(self, exc: Exception, backoff: BackoffState) -> None:
        """Note an error of the source and wait; too many in a row are a crash."""
        lost = all(isinstance(leaf, DependencyLost) for leaf in leaves_of(exc))
        delay = backoff.next_delay(self.group.random, bounded=not lost)
        if lost:
            backoff.failures -= 1
        self.group.notify(
            SourceFailed(
                component=self.incarnation.name,
                epoch=self.incarnation.epoch,
                report=report_of(exc),
                errors_in_a_row=backoff.failures,
                delay=delay,
            )
        )
        if backoff.failures >= self._spec.max_errors:
            raise exc
        await trio.sleep(delay)
