"""A quarantined workflow that a person discards is kept as long as any end."""

from __future__ import annotations

from pathlib import Path

import attrs
import pytest
import trio
from trio.testing import MockClock

from minions import GruOptions, Minion, Pipeline, minion_step, open_gru
from minions.runtime.kept import Kept
from minions.store.port import Write
from minions.workflow.record import EndedRecord


@attrs.frozen
class Number:
    value: int


@attrs.define
class Memory:
    last: int = 0


class Source(Pipeline[Number]):
    pass


@attrs.define
class Text:
    text: str = ""


class FailsAtLength(Minion[Number, Text]):
    @minion_step
    async def first(self) -> None:
        if self.event.value == 1:
            self.context.text = "x" * 5000

    @minion_step
    async def fail(self) -> None:
        raise ValueError("y" * (5000 if self.event.value == 2 else 9))


class Fails(Minion[Number, Memory]):
    @minion_step
    async def first(self) -> None:
        self.context.last = self.event.value

    @minion_step
    async def fail(self) -> None:
        raise ValueError("no")


async def test_who_is_discarded_is_kept_for_a_while(
    autojump_clock: MockClock, state: Path | None
) -> None:
    async with open_gru(state, options=GruOptions(keep=60)) as gru:
        await gru.start_minion(Fails, Source)
        (workflow,) = await gru.emit(Source, Number(1))
        assert workflow is not None
        await gru.workflows.wait(workflow)

        await gru.workflows.discard(workflow)

        found = await gru.workflows.get(workflow)
        assert (found.state, found.context) == ("discarded", Memory(1))
        assert found.reason == "failed: ValueError: no"
        assert [w.id async for w in gru.workflows.list(state="discarded")] == [workflow]
        assert (await gru.workflows.wait(workflow)).state == "discarded"
        with pytest.raises(KeyError):
            await gru.workflows.discard(workflow)
        await trio.sleep(61)
        with pytest.raises(KeyError):
            await gru.workflows.get(workflow)
        await gru.stop()


async def test_a_discard_that_never_happened_keeps_nothing(
    autojump_clock: MockClock, state: Path | None, monkeypatch: pytest.MonkeyPatch
) -> None:
    """What it had let go for its own sake stays, too."""
    async with open_gru(state, options=GruOptions(keep=60, max_kept=1)) as gru:
        await gru.start_minion(Fails, Source)
        for value in (1, 2):
            (workflow,) = await gru.emit(Source, Number(value))
            assert workflow is not None
            await gru.workflows.wait(workflow)
        first, second = [w.id async for w in gru.workflows.list(state="quarantined")]
        await gru.workflows.discard(first)
        ages = gru.workflows._ledger.kept._ages
        before = [*ages]

        with trio.CancelScope() as scope, monkeypatch.context() as patch:

            def add(kept: Kept, seq: int, ended: EndedRecord) -> list[Write]:
                writes = original(kept, seq, ended)
                scope.cancel()
                return writes

            original = Kept.add
            patch.setattr(Kept, "add", add)
            await gru.workflows.discard(second)

        assert scope.cancelled_caught
        assert [*ages] == before
        assert [w.id async for w in gru.workflows.list(state="discarded")] == [first]
        await gru.workflows.discard(second)
        assert [w.id async for w in gru.workflows.list(state="discarded")] == [second]
        await gru.stop()


@pytest.mark.parametrize(
    ("value", "kept"),
    [(1, None), (2, f"failed: ValueError: {'y' * 180}")],
    ids=["context", "message"],
)
async def test_who_is_too_large_to_be_kept_is_discarded(
    autojump_clock: MockClock, tmp_path: Path, value: int, kept: str | None
) -> None:
    """It came into quarantine when records could be larger."""
    folder = tmp_path / "state"
    async with open_gru(folder) as gru:
        await gru.start_minion(FailsAtLength, Source)
        for number in (0, value):
            (workflow,) = await gru.emit(Source, Number(number))
            assert workflow is not None
            await gru.workflows.wait(workflow)
        await gru.stop()

    options = GruOptions(keep=60, max_record=4096, max_kept=1)
    async with open_gru(folder, options=options) as gru:
        await gru.workflows.discard("w1")
        ages = [*gru.workflows._ledger.kept._ages]

        await gru.workflows.discard("w2")

        found = [(w.id, w.reason) async for w in gru.workflows.list(state="discarded")]
        if kept is None:  # nor has it let another one go
            assert found == [("w1", f"failed: ValueError: {'y' * 9}")]
            assert [*gru.workflows._ledger.kept._ages] == ages
        else:
            assert found == [("w2", kept)]
            assert len(gru.workflows._ledger.kept._ages) == 1
        assert [w async for w in gru.workflows.list(state="quarantined")] == []
        await gru.stop()
