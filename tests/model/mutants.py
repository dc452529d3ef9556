"""Defects made by hand: the search must find each of them."""

from __future__ import annotations

from collections.abc import Callable
from typing import Any

import msgspec
import pytest
import trio
from tests.model.play import MEMORIES

from minions.runtime import ends, ledger, waker
from minions.runtime.ends import Ends
from minions.runtime.judging import Judge
from minions.runtime.keys import KeyQueues
from minions.runtime.ledger import Ledger
from minions.runtime.redriving import Hand
from minions.runtime.table import WorkTable
from minions.store.port import Keyspace, Write
from minions.workflow import stored
from minions.workflow.layout import mail_key, time_of
from minions.workflow.record import WorkflowRecord
from minions.workflow.suspects import marked

__all__ = ["MUTANTS"]

Patch = pytest.MonkeyPatch


def a_retry_keeps_the_context(patch: Patch) -> None:
    raised = Judge.raised

    async def mutant(self: Judge, work: Any, cell: Any, exc: BaseException) -> None:
        work.record = msgspec.structs.replace(
            work.record,
            context_type=MEMORIES.type_name,
            context=MEMORIES.encode(cell.context),
        )
        await raised(self, work, cell, exc)

    patch.setattr(Judge, "raised", mutant)


def a_failed_step_has_taken_its_signal(patch: Patch) -> None:
    raised = Judge.raised

    async def mutant(self: Judge, work: Any, cell: Any, exc: BaseException) -> None:
        writes: list[Write] = [
            (Keyspace.MAIL, mail_key(work.seq, mail.number), None)
            for mail in cell.port._taken
        ]
        cell.port.settle()
        self._ledger.store.write_nowait(writes)
        await raised(self, work, cell, exc)

    patch.setattr(Judge, "raised", mutant)


def an_end_leaves_its_key(patch: Patch) -> None:
    def mutant(seq: int, before: Any, after: Any) -> list[Write]:
        writes = stored.difference(seq, before, after)
        return [w for w in writes if after is not None or w[0] is not Keyspace.KEY]

    patch.setattr(ends, "difference", mutant)


def a_signal_leaves_the_timer(patch: Patch) -> None:
    def mutant(seq: int, before: Any, after: Any) -> list[Write]:
        writes = stored.difference(seq, before, after)
        record = after[0] if after is not None else None
        if isinstance(record, WorkflowRecord) and record.received_type:
            return [w for w in writes if w[0] is not Keyspace.TIMER]
        return writes

    patch.setattr(ledger, "difference", mutant)


def a_cancel_leaves_the_mail(patch: Patch) -> None:
    end = Ends.end

    def mutant(self: Ends, table: Any, work: Any, **options: Any) -> None:
        if options["state"] == "cancelled":
            work.mail = ()
        end(self, table, work, **options)

    patch.setattr(Ends, "end", mutant)


def a_redrive_keeps_the_attempts(patch: Patch) -> None:
    edited = Hand._edited

    def mutant(self: Hand, table: Any, old: Any, step: Any, context: Any) -> Any:
        record = edited(self, table, old, step, context)
        return msgspec.structs.replace(record, attempt=old.attempt)

    patch.setattr(Hand, "_edited", mutant)


def who_sleeps_wakes_early(patch: Patch) -> None:
    # Whoever is behind another one in the line of those that sleep.
    patch.setattr(waker, "time_of", lambda key: time_of(key) - 1)


def who_sleeps_lets_its_key_go(patch: Patch) -> None:
    cool = WorkTable.cool

    def mutant(self: WorkTable, work: Any) -> None:
        cool(self, work)
        self.release_key(work.seq, work.key)

    patch.setattr(WorkTable, "cool", mutant)


def who_is_interrupted_keeps_its_key(patch: Patch) -> None:
    forget = KeyQueues.forget

    def mutant(self: KeyQueues, unfinished: Any) -> list[Any]:
        firsts = [queue.first for queue in self._queues.values()]
        before = [work.holds for work in firsts]
        for work in firsts:
            work.holds = True
        queued = forget(self, unfinished)
        for work, holds in zip(firsts, before, strict=True):
            work.holds = holds
        return queued

    patch.setattr(KeyQueues, "forget", mutant)


def an_interruption_is_an_attempt(patch: Patch) -> None:
    interrupted = Judge.interrupted

    def mutant(self: Judge, work: Any, exc: BaseException | None) -> None:
        if not work.is_cancelled:
            record = msgspec.structs.replace(
                work.record, attempt=work.record.attempt + 1
            )
            work.record = record
        interrupted(self, work, exc)

    patch.setattr(Judge, "interrupted", mutant)


def a_mark_forgets_the_key(patch: Patch) -> None:
    async def mutant(self: Ledger, work: Any) -> None:
        saved = trio.Event()
        self.save(work, marked(work.record), then=lambda _: saved.set())
        await saved.wait()

    patch.setattr(Ledger, "mark", mutant)


def no_quarantine_holds_its_key(patch: Patch) -> None:
    quarantine = Ends.quarantine

    def mutant(self: Ends, table: Any, work: Any, **options: Any) -> None:
        quarantine(self, table, work, **{**options, "hold_key": False})

    patch.setattr(Ends, "quarantine", mutant)


MUTANTS: tuple[Callable[[Patch], None], ...] = (
    a_retry_keeps_the_context,
    a_failed_step_has_taken_its_signal,
    an_end_leaves_its_key,
    a_signal_leaves_the_timer,
    a_cancel_leaves_the_mail,
    a_redrive_keeps_the_attempts,
    who_sleeps_wakes_early,
    who_sleeps_lets_its_key_go,
    who_is_interrupted_keeps_its_key,
    an_interruption_is_an_attempt,
    a_mark_forgets_the_key,
    no_quarantine_holds_its_key,
)
