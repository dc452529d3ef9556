"""How events, contexts and cursors become bytes, and objects again."""

from __future__ import annotations

import hashlib
from collections.abc import Sequence
from typing import Any

import attrs

from minions.runtime.calls import call_user_sync
from minions.runtime.work import Work
from minions.store.codec import Codec
from minions.store.port import Keyspace, Write
from minions.workflow.record import WorkflowRecord, seal, unseal
from minions.workflow.transitions import StepTable

__all__ = ["Codecs", "SourceCodecs"]


class Codecs:
    """How one orchestration's events and contexts are stored."""

    def __init__(
        self, event: Codec, context: Codec, new_context: type, steps: StepTable
    ) -> None:
        self.steps: StepTable = steps
        self.event: Codec = event
        self.context: Codec = context
        self._new_context = new_context

    def event_of(self, work: Work) -> Any:
        """Return the event as an object; decoded once."""
        if work.event is None:
            work.event = self.event.decode(work.record.event)
        return work.event

    def context_of(self, record: WorkflowRecord) -> Any:
        """Return a fresh context as the snapshot has it."""
        if record.context:
            return self.context.decode(record.context)
        return call_user_sync(self._new_context)


@attrs.frozen(eq=False)
class SourceCodecs:
    """How one pipeline's events and positions are stored."""

    pipeline: str
    event: Codec
    event_type: type
    cursor: Codec | None

    def encode(self, events: Sequence[Any]) -> list[bytes]:
        """Make the bytes of events.

        Raises:
            TypeError: One is of another class.
            SnapshotError: One cannot be stored.
        """
        for event in events:
            if type(event) is not self.event_type:
                raise TypeError(
                    f"{self.pipeline}: expected an event of class"
                    f" {self.event_type.__qualname__}, found {event!r} of"
                    f" {type(event).__module__}.{type(event).__qualname__}; emit an"
                    " instance of the pipeline's event class itself"
                )
        return [self.event.encode(event) for event in events]

    @property
    def cursor_key(self) -> bytes:
        """The key under which the position stands."""
        return hashlib.blake2b(self.pipeline.encode(), digest_size=16).digest()

    def cursor_write(self, cursor: Any) -> Write:
        """Make the write that moves the position.

        Raises:
            TypeError: The pipeline has no cursor.
            SnapshotError: The position cannot be stored.
        """
        if self.cursor is None:
            raise TypeError(
                f"{self.pipeline}: expected no cursor, found {cursor!r}; declare its"
                " type: class Name(Pipeline[Event], cursor=int)"
            )
        key = self.cursor_key
        return Keyspace.CURSOR, key, seal(key, self.cursor.encode(cursor))

    def decode_cursor(self, raw: bytes) -> Any:
        """Read a position.

        Raises:
            SnapshotError: It is damaged, or of another class.
        """
        assert self.cursor is not None
        return self.cursor.decode(unseal(self.cursor_key, raw))
