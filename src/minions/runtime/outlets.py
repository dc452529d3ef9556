"""Where the events go that steps emit: pipelines, found by their class."""

from __future__ import annotations

from typing import Any

import msgspec

from minions.declare.specification import MinionSpec, pipeline_types
from minions.errors import DefinitionError, SnapshotError, StoreFullError
from minions.identity import component_identity
from minions.runtime.intake import Call, Intake
from minions.runtime.pairing import source_codecs
from minions.runtime.subscriptions import Subscriptions
from minions.workflow.record import WorkflowRecord, encode_record

__all__ = ["OutletFinder"]


class PipelineOutlet(msgspec.Struct, frozen=True):
    """A pipeline as the target of a step."""

    intake: Intake

    def encode(self, event: Any, sender: str) -> bytes:
        """Make the bytes of an event that the minion *sender* emits.

        Raises:
            TypeError: It is of another class.
            SnapshotError: It cannot be stored.
        """
        assert self.intake.codecs is not None
        (data,) = self.intake.codecs.encode([event])
        limit = self.intake.ledger.store.max_record
        # What stands beside the event in its record is small.
        if len(data) > limit // 4 and (size := self._size(data)) > limit:
            raise SnapshotError(
                f"{sender}: self.workflow.emit to {self.intake.pipeline}: expected an"
                f" event whose record has at most {limit} bytes (max_record), found"
                f" {size}; keep large data outside the event, or raise max_record"
            )
        return data

    def _size(self, data: bytes) -> int:
        """Return the size of the largest record that holds an event."""
        assert self.intake.codecs is not None
        kind = self.intake.codecs.event.type_name
        records = [
            WorkflowRecord(table.id, kind, data, "", b"", "", 0.0)
            for table in self.intake.tables
        ]
        return max((len(encode_record(0, r)[1]) for r in records), default=0)

    def reserve_above(self, events: list[tuple[Any, bytes]]) -> Call:
        """Take places for what a step emits, above the bounds if need be.

        It never waits for room: two pipelines that feed each other would wait for
        ever.

        Raises:
            StoreFullError: A subscription is at ``max_unfinished``.
        """
        for table in self.intake.tables:
            limit = table.bounds.max_unfinished
            if table.unfinished + len(events) > limit:
                raise StoreFullError(
                    f"{table.id}: expected at most max_unfinished = {limit} workflows"
                    f" that have not ended, found {table.unfinished} and"
                    f" {len(events)} more emitted by a step; let some end, or raise it"
                )
        call = Call([e for e, _ in events], [data for _, data in events], [])
        self.intake.reserve(call, above=True)
        return call


class OutletFinder(msgspec.Struct, eq=False):
    """Finds the intakes of pipelines that this store knows."""

    _subscriptions: Subscriptions
    # What minions that were started inside gru.starting() emit to, by minion.
    _expected: dict[str, tuple[type, ...]] = msgspec.field(default_factory=dict)

    def expect(self, minion: MinionSpec, source: str) -> None:
        """Check where a minion emits to, before it starts.

        Inside ``gru.starting()`` its targets may be started after it; they are
        looked for at the end of the block.

        Raises:
            DefinitionError: A pipeline was never started or subscribed here.
        """
        targets = tuple(
            cls for cls in minion.emits_to if component_identity(cls) != source
        )
        if self._subscriptions.is_holding:
            self._expected[minion.identity] = targets
        else:
            self._check(minion.identity, targets)

    def check_expected(self) -> None:
        """Check the minions that were started inside ``gru.starting()``.

        Raises:
            DefinitionError: A pipeline was not started there, either.
        """
        expected, self._expected = self._expected, {}
        for minion, targets in expected.items():
            self._check(minion, targets)

    def _check(self, minion: str, targets: tuple[type, ...]) -> None:
        for cls in targets:
            if not self._knows(component_identity(cls)):
                raise _unknown(minion, cls)

    def _knows(self, pipeline: str) -> bool:
        intake = self._subscriptions.intakes.get(pipeline)
        return intake is not None and (bool(intake.tables) or intake.released)

    def find(self, cls: type) -> PipelineOutlet:
        """Return a pipeline as the target of a step.

        Raises:
            DefinitionError: It is none, or was never started or subscribed here.
        """
        identity = component_identity(cls) if isinstance(cls, type) else repr(cls)
        intake = self._subscriptions.intakes.get(identity)
        if intake is None or not self._knows(identity):
            raise _unknown("self.workflow.emit", cls)
        if intake.codecs is None:  # subscribed by an earlier process, not started
            # What it needs is nobody's business here: only its events are.
            intake.codecs = source_codecs(identity, *pipeline_types(cls, identity))
        return PipelineOutlet(intake)


def _unknown(who: str, cls: object) -> DefinitionError:
    name = component_identity(cls) if isinstance(cls, type) else repr(cls)
    return DefinitionError(
        f"{who}: expected to emit to a pipeline that was started or subscribed in this"
        f" store, found {name}, which never was; start an orchestration with it first,"
        " or both inside `async with gru.starting()`"
    )
