"""The durable subscriptions: which orchestration claims which pipeline's events.

A subscription is no dependency: the store stands between pipeline and minion.  It
outlives the process, so that events are accepted for an orchestration that is not
started yet.
"""

from __future__ import annotations

from collections.abc import Callable, Container

from minions.errors import StartError
from minions.notices import Notice, SubscriptionsWaiting
from minions.runtime.intake import Intake
from minions.runtime.ledger import Ledger
from minions.runtime.restore import Restored
from minions.runtime.table import WorkTable
from minions.runtime.work import Bounds, nothing
from minions.store.port import Keyspace
from minions.workflow.subscription import SubscriptionRecord, encode_subscription

__all__ = ["Subscriptions"]


class Subscriptions:
    """The tables of work, the intakes of pipelines, and who subscribes to whom."""

    def __init__(
        self, ledger: Ledger, notify: Callable[[Notice], None], poke: Callable[[], None]
    ) -> None:
        self._ledger = ledger
        self._notify = notify
        self._poke = poke
        # By orchestration; also those that are not started.
        self.tables: dict[str, WorkTable] = {}
        self.intakes: dict[str, Intake] = {}
        # What the store holds, by orchestration.
        self.records: dict[str, SubscriptionRecord] = {}
        # How many blocks of gru.starting() are open.
        self._blocks = 0
        self._held = False

    def make_table(self, identity: str, bounds: Bounds) -> WorkTable:
        """Make the table of an orchestration."""
        return WorkTable(identity, bounds, nothing, self._poke)

    def table(self, identity: str, bounds: Bounds) -> WorkTable:
        """Return the table of an orchestration; a new one has these bounds."""
        table = self.tables.get(identity)
        if table is None:
            table = self.tables[identity] = self.make_table(identity, bounds)
        return table

    def intake(self, pipeline: str) -> Intake:
        """Return the intake of a pipeline."""
        intake = self.intakes.get(pipeline)
        if intake is None:
            intake = Intake(pipeline, self._ledger, self._notify, held=self._held)
            self.intakes[pipeline] = intake
        return intake

    def attach(self, restored: Restored) -> None:
        """Take over the subscriptions that the store holds."""
        for record, table in restored:
            self.records[record.orchestration] = record
            self._connect(self.intake(record.pipeline), table)

    def _connect(self, intake: Intake, table: WorkTable) -> None:
        if table not in intake.tables:
            intake.tables.append(table)
        table.on_room = intake.moved
        table.is_exhausted = intake.exhausted

    async def load_cursor(self, intake: Intake) -> None:
        """Read the position that was last committed, before the source begins."""
        codecs = intake.codecs
        if codecs is None or codecs.cursor is None or intake.position is not None:
            return
        raw = await self._ledger.store.read(Keyspace.CURSOR, codecs.cursor_key)
        if raw is not None and intake.position is None:
            codecs.decode_cursor(raw)  # one that cannot be read is found here
            intake.position = raw

    async def subscribe(self, record: SubscriptionRecord) -> None:
        """Commit a subscription; it gets events from the next one on."""
        identity = record.orchestration
        if self.records.get(identity) != record:
            key, value = encode_subscription(record)
            await self._ledger.store.write([(Keyspace.SUBSCRIPTION, key, value)])
            self.records[identity] = record
        self._connect(self.intake(record.pipeline), self.tables[identity])

    async def unsubscribe(self, identity: str) -> None:
        """End a subscription; what was accepted for it stays."""
        key = identity.encode()
        await self._ledger.store.write([(Keyspace.SUBSCRIPTION, key, None)])
        record = self.records.pop(identity, None)
        if record is None:
            return
        intake = self.intakes[record.pipeline]
        table = self.tables[identity]
        if table in intake.tables:
            intake.tables.remove(table)
        intake.moved()
        self._poke()

    def next_order(self) -> int:
        """Return a place behind all subscriptions of the store."""
        return max((r.order for r in self.records.values()), default=0) + 1

    # Holding sources.

    @property
    def is_holding(self) -> bool:
        """Whether a block of gru.starting() is open."""
        return self._blocks > 0

    def hold(self) -> None:
        """Begin a block of gru.starting()."""
        self._blocks += 1
        self._held = True
        for intake in self.intakes.values():
            intake.held = True

    def unhold(self, *, well: bool) -> None:
        """End one; after one that ended ill the sources stay held."""
        self._blocks -= 1
        if well and not self._blocks:
            self._held = False
            for intake in self.intakes.values():
                intake.held = False
                intake.moved()

    def check_all_started(self, started: Container[str]) -> None:
        """Refuse to begin while the store holds a subscription that is not started.

        Raises:
            StartError: There are some; the message lists them.
        """
        for intake in self.intakes.values():
            waiting = _missing(intake, started) if intake.released else []
            if waiting:
                raise StartError(
                    f"{intake.pipeline}: expected every subscription to it to be"
                    f" started, found that nobody starts {', '.join(waiting)}; start"
                    f" it, or `minions forget {waiting[0]}`"
                )

    def release(self, intake: Intake, started: Container[str]) -> None:
        """Let a source begin, unless it is held; name who is not there to hear it."""
        waiting = _missing(intake, started)
        if waiting and not intake.held:
            self._notify(
                SubscriptionsWaiting(
                    component=intake.pipeline, orchestrations=tuple(waiting)
                )
            )
        intake.released = True
        intake.moved()
        self._poke()


def _missing(intake: Intake, started: Container[str]) -> list[str]:
    return [table.id for table in intake.tables if table.id not in started]
