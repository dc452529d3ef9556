"""How events, contexts and cursors become bytes, and objects again."""

from __future__ import annotations

import hashlib
from collections.abc import Callable, Iterable, Sequence
from typing import Any

import msgspec

from minions.errors import SnapshotError
from minions.identity import component_identity
from minions.notices import FieldsDropped
from minions.runtime.calls import call_user_sync
from minions.runtime.work import Work
from minions.store.codec import Codec, codec_for
from minions.store.port import Keyspace, Write
from minions.workflow.record import WorkflowRecord, seal, unseal
from minions.workflow.transitions import StepTable

__all__ = ["Codecs", "SourceCodecs"]


class Codecs:
    """How one orchestration's events and contexts are stored."""

    def __init__(
        self,
        *,
        event: Codec,
        context: Codec,
        new_context: type,
        steps: StepTable,
        signals: Iterable[type] = (),
    ) -> None:
        self.steps: StepTable = steps
        self.event: Codec = event
        self.context: Codec = context
        self._new_context = new_context
        # By the name of the type; those that its code names or has asked for.
        self._signals = {component_identity(cls): cls for cls in signals}
        self._signal_codecs: dict[str, Codec] = {}
        self._on_dropped: Callable[[str, tuple[str, ...]], None] | None = None

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

    def tell_dropped(
        self, orchestration: str, notify: Callable[[FieldsDropped], None]
    ) -> None:
        """Tell of stored fields that classes no longer have, once each."""
        told: set[tuple[str, tuple[str, ...]]] = set()

        def tell(type_name: str, fields: tuple[str, ...]) -> None:
            if (type_name, fields) not in told:
                told.add((type_name, fields))
                notify(
                    FieldsDropped(
                        orchestration=orchestration,
                        type_name=type_name,
                        fields=fields,
                    )
                )

        self._on_dropped = tell
        for codec in (self.event, self.context, *self._signal_codecs.values()):
            codec.on_dropped = tell

    # Signals.

    def signal(self, cls: type) -> Codec:
        """Return how signals of a class are stored.

        Raises:
            DefinitionError: They cannot be.
        """
        name = component_identity(cls)
        codec = self._signal_codecs.get(name)
        if codec is None:
            codec = codec_for(cls, component=self.steps.owner)
            codec.on_dropped = self._on_dropped
            self._signal_codecs[name] = codec
            self._signals[name] = cls
        return codec

    def signal_names(self) -> list[str]:
        """Return the names of the classes of which signals may be sent."""
        return sorted(self._signals)

    def check_signal(self, payload: object) -> Codec:
        """Return how a signal is stored.

        Raises:
            TypeError: The minion names no such class.
        """
        cls = type(payload)
        if self._signals.get(component_identity(cls)) is not cls:
            known = ", ".join(self.signal_names()) or "none"
            raise TypeError(
                f"{self.steps.owner}: expected a signal of a class that a Wait or"
                f" receive of this minion names, found {payload!r} of"
                f" {component_identity(cls)}; it names {known}, and the class"
                " attribute `signals` adds to these"
            )
        return self.signal(cls)

    def received(self, record: WorkflowRecord) -> Any:
        """Return the signal that the next step finds; ``None``: there is none.

        Raises:
            SnapshotError: Its class is not known any more, or does not fit.
        """
        if not record.received_type:
            return None
        cls = self._signals.get(record.received_type)
        if cls is None:
            raise SnapshotError(
                f"{self.steps.owner}: a workflow has received a signal of"
                f" {record.received_type}; expected a class that a Wait or receive of"
                " this minion names; name it in its class attribute `signals`"
            )
        return self.signal(cls).decode(record.received)


class SourceCodecs(msgspec.Struct, frozen=True, eq=False):
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
        encode = self.event.encode
        return [encode(event) for event in events]

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
