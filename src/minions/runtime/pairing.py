"""What a minion and a pipeline have to agree on, found before anything starts."""

from __future__ import annotations

from minions.declare.specification import MinionSpec, PipelineSpec
from minions.errors import DefinitionError
from minions.runtime.codecs import Codecs, SourceCodecs
from minions.runtime.event_ids import EventIds
from minions.runtime.intake import Intake
from minions.runtime.reading import Reading
from minions.store.codec import codec_for
from minions.workflow.subscription import SubscriptionRecord
from minions.workflow.transitions import StepTable

__all__ = ["make_codecs", "pair_of", "source_codecs", "subscription_of"]


def pair_of(
    reading: Reading, minion: type, pipeline: type
) -> tuple[MinionSpec, PipelineSpec]:
    """Return the specifications of the two.

    Raises:
        DefinitionError: One is of another kind, or their events do not fit.
    """
    specs = {spec.cls: spec for spec in reading.specs.values()}
    mine, source = specs[minion], specs[pipeline]
    if not isinstance(mine, MinionSpec):
        raise DefinitionError(
            f"{mine.identity}: expected a minion as the first argument of"
            f" start_minion, found a {mine.kind}; derive it from Minion"
        )
    if not isinstance(source, PipelineSpec):
        raise DefinitionError(
            f"{source.identity}: expected a pipeline as the second argument of"
            f" start_minion, found a {source.kind}; derive it from Pipeline"
        )
    if not issubclass(source.event_type, mine.event_type):
        raise DefinitionError(
            f"{mine.identity}: expected a pipeline of {mine.event_type.__qualname__},"
            f" found that {source.identity} emits {source.event_type.__qualname__};"
            " the pipeline's event class must be the minion's or a subclass of it"
        )
    return mine, source


def make_codecs(minion: MinionSpec, pipeline: PipelineSpec, intake: Intake) -> Codecs:
    """Make how events, contexts and cursors are stored; set the intake up with it.

    Raises:
        DefinitionError: A class cannot be stored.
    """
    intake.codecs = source_codecs(
        pipeline.identity, pipeline.event_type, pipeline.cursor_type
    )
    intake.event_ids = None
    if pipeline.dedup_window:
        intake.event_ids = EventIds(
            pipeline.identity, intake.ledger, pipeline.dedup_window, pipeline.max_dedup
        )
    for cls in minion.signals:  # those that its code only names need not be signals
        codec_for(cls, component=minion.identity)
    return Codecs(
        event=intake.codecs.event,
        context=codec_for(minion.context_type, component=minion.identity),
        new_context=minion.context_type,
        steps=StepTable.of(minion.identity, minion.steps),
        signals=minion.signal_classes,
    )


def source_codecs(
    pipeline: str, event_type: type, cursor_type: type | None
) -> SourceCodecs:
    """Make how the events and positions of a pipeline are stored.

    Raises:
        DefinitionError: A class cannot be stored.
    """
    event = codec_for(event_type, component=pipeline)
    cursor = None
    if cursor_type is not None:
        cursor = codec_for(cursor_type, component=pipeline)
    return SourceCodecs(pipeline, event, event_type, cursor)


def subscription_of(
    identity: str, minion: MinionSpec, pipeline: PipelineSpec, *, name: str, order: int
) -> SubscriptionRecord:
    """Return what the store is to hold for the two."""
    return SubscriptionRecord(
        identity,
        pipeline.identity,
        minion.identity,
        name,
        order,
        minion.max_in_flight,
        minion.max_backlog,
        minion.max_unfinished,
        minion.overflow,
    )
