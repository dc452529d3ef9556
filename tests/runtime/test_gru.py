"""Gru at bad moments: while it stops, after its end, from two places at once."""

from __future__ import annotations

from pathlib import Path
from typing import ClassVar

import attrs
import pytest
import trio
from trio.testing import MockClock

from minions import (
    Gru,
    Minion,
    NotRunningError,
    Orchestration,
    Pipeline,
    Resource,
    StartError,
    StopResult,
    minion_step,
    open_gru,
)

log: list[object] = []


@pytest.fixture(autouse=True)
def forget() -> None:
    log.clear()


@attrs.frozen
class Number:
    value: int


@attrs.define
class Nothing:
    done: int = 0


class Outside(Pipeline[Number]):
    pass


class Slow(Minion[Number, Nothing]):
    @minion_step
    async def work(self) -> None:
        await trio.sleep(6)


class LeavesSlowly(Resource):
    async def startup(self) -> None:
        log.append("up")

    async def shutdown(self) -> None:
        await trio.sleep(3)
        log.append("down")


async def test_nothing_restarts_on_a_gru_that_stops(autojump_clock: MockClock) -> None:
    """A restart would bring up what the stop has just ended, and wait for ever."""
    async with open_gru(None) as gru, trio.open_nursery() as nursery:
        await gru.start(LeavesSlowly)
        nursery.start_soon(gru.stop)
        await trio.sleep(1)

        with pytest.raises(NotRunningError):
            await gru.restart(LeavesSlowly)

    with pytest.raises(NotRunningError):
        await gru.restart(LeavesSlowly)
    assert log == ["up", "down"]


class Ticks(Pipeline[Number]):
    async def produce_event(self) -> Number:
        log.append("produced")
        await trio.sleep(1)
        return Number(1)


class StartsSlowly(Minion[Number, Nothing]):
    async def startup(self) -> None:
        await trio.sleep(2)

    @minion_step
    async def work(self) -> None:
        log.append("worked")


async def test_a_stop_gives_up_what_is_starting(autojump_clock: MockClock) -> None:
    """No source begins behind a stop, however long that drains others."""
    async with open_gru(None) as gru, trio.open_nursery() as nursery:
        await gru.start_minion(Slow, Outside)
        await gru.emit(Outside, Number(1))
        nursery.start_soon(gru.stop)

        with pytest.raises(NotRunningError):
            await gru.start_minion(StartsSlowly, Ticks)

        assert trio.current_time() < 1
    assert log == []


async def test_behind_a_cancelled_block_all_is_known_to_have_ended(
    autojump_clock: MockClock,
) -> None:
    with trio.move_on_after(1):
        async with open_gru(None) as gru:
            orchestration = await gru.start_minion(Slow, Outside)
            await trio.sleep_forever()

    with trio.fail_after(1):
        await gru.stop()
        assert orchestration.status == "stopped"
        assert await orchestration.wait() == "stopped"
        assert await orchestration.stop() is not None


class StopsItselfLast(Minion[Number, Nothing]):
    @minion_step
    async def work(self) -> None:
        try:
            await trio.sleep_forever()
        finally:
            (orchestration,) = [o for o in log if not isinstance(o, str)]
            await orchestration.stop()  # type: ignore[attr-defined]
            log.append("asked")


async def test_a_step_may_ask_for_a_stop_while_it_is_cancelled(
    autojump_clock: MockClock,
) -> None:
    with trio.move_on_after(1):
        async with open_gru(None) as gru:
            log.append(await gru.start_minion(StopsItselfLast, Outside))
            await gru.emit(Outside, Number(1))
            await trio.sleep_forever()

    assert log[-1] == "asked"


class LeavesTheProgram(Resource):
    async def shutdown(self) -> None:
        raise SystemExit(3)


async def test_an_error_of_the_body_is_not_lost_in_a_cancellation(
    autojump_clock: MockClock,
) -> None:
    with pytest.raises(LookupError, match="mine"), trio.move_on_after(1):
        async with open_gru(None) as gru:
            await gru.start_minion(Slow, Outside)
            await gru.emit(Outside, Number(1))
            raise LookupError("mine")

    assert trio.current_time() == 1


async def test_an_exit_is_not_lost_in_a_cancellation(autojump_clock: MockClock) -> None:
    with pytest.raises(SystemExit), trio.move_on_after(1):
        async with open_gru(None) as gru:
            await gru.start(LeavesTheProgram)
            await trio.sleep_forever()


async def test_several_errors_come_out_together(autojump_clock: MockClock) -> None:
    with pytest.raises(BaseExceptionGroup) as caught:
        async with open_gru(None) as gru:
            await gru.start(LeavesTheProgram)
            raise LookupError("mine")

    kinds = [type(exc) for exc in caught.value.exceptions]
    assert kinds == [LookupError, SystemExit]


class LeavesAtOnce(Resource):
    async def startup(self) -> None:
        raise SystemExit(3)


async def test_an_exit_comes_out_alone_if_the_rest_follows_from_it(
    autojump_clock: MockClock,
) -> None:
    """The body's call is refused since Gru stops: that is no error of its own."""
    with pytest.raises(SystemExit):
        async with open_gru(None) as gru:
            await gru.start(LeavesAtOnce)


class UpAtSecondTry(Pipeline[Number]):
    tries: ClassVar[int] = 0

    async def startup(self) -> None:
        UpAtSecondTry.tries += 1
        if UpAtSecondTry.tries == 1:
            raise OSError("not yet")


class StopsSlowly(Minion[Number, Nothing]):
    @minion_step
    async def work(self) -> None:
        log.append(f"worked for {self.workflow.orchestration_id}")

    async def shutdown(self) -> None:
        await trio.sleep(2)


@pytest.mark.parametrize("name", ["", "another"])
async def test_a_start_may_follow_a_failed_one_at_once(
    name: str, autojump_clock: MockClock
) -> None:
    """The minion of the failed start still shuts down; the new one has its own work."""
    UpAtSecondTry.tries = 0
    async with open_gru(None) as gru:
        with pytest.raises(StartError, match="not yet"):
            await gru.start_minion(StopsSlowly, UpAtSecondTry)

        orchestration = await gru.start_minion(StopsSlowly, UpAtSecondTry, name=name)

        (workflow,) = await gru.emit(UpAtSecondTry, Number(1))
        assert workflow is not None
        with trio.fail_after(5):
            assert (await gru.workflows.wait(workflow)).state == "done"
        await gru.stop()
    assert log == [f"worked for {orchestration.id}"]


class StopsBadly(Minion[Number, Nothing]):
    @minion_step
    async def work(self) -> None:
        (orchestration,) = log
        assert isinstance(orchestration, Orchestration)
        await orchestration.stop("halt")  # type: ignore[arg-type]


async def test_a_wrong_stop_concerns_nobody_but_who_asks(
    autojump_clock: MockClock,
) -> None:
    async with open_gru(None) as gru:
        orchestration = await gru.start_minion(StopsBadly, Outside)
        log.append(orchestration)
        (workflow,) = await gru.emit(Outside, Number(1))
        assert workflow is not None

        assert (await gru.workflows.wait(workflow)).state == "quarantined"

        for grace in ("2", -1, float("nan")):
            with pytest.raises(ValueError, match="at least 0 seconds"):
                await orchestration.stop(grace=grace)  # type: ignore[arg-type]
        assert orchestration.status == "running"
        await gru.stop()


class AsksAnother(Minion[Number, Nothing]):
    @minion_step
    async def ask(self) -> None:
        (other,) = (gru for gru in log if isinstance(gru, Gru))
        orchestration = await other.start_minion(AsksAnother, Ticks)
        await other.start_minion(Slow, Outside)
        (workflow,) = await other.emit(Outside, Number(1))
        assert workflow == self.workflow.id
        log.append((await other.workflows.wait(workflow)).state)
        await other.stop()
        log.append(await orchestration.wait())


async def test_a_step_may_wait_for_what_another_gru_does(
    autojump_clock: MockClock,
) -> None:
    """Both have a workflow w1, and a component of the same name."""
    async with open_gru(None) as mine, open_gru(None) as other:
        log.append(other)
        await mine.start_minion(AsksAnother, Outside)
        (workflow,) = await mine.emit(Outside, Number(1))
        assert workflow is not None

        ended = await mine.workflows.wait(workflow)

        assert ended.state == "done", ended.reason
        assert log[-2:] == ["done", "stopped"]
        await mine.stop()


class NeverEnds(Minion[Number, Nothing]):
    @minion_step
    async def work(self) -> None:
        await trio.sleep_forever()


async def test_who_waits_for_a_workflow_hears_of_the_stop(
    state: Path | None, autojump_clock: MockClock
) -> None:
    """Else the body would wait behind the stop, and its block would never end."""
    async with open_gru(state) as gru, trio.open_nursery() as nursery:
        await gru.start_minion(NeverEnds, Outside)
        (workflow,) = await gru.emit(Outside, Number(1))
        assert workflow is not None
        nursery.start_soon(gru.stop)

        with trio.fail_after(60), pytest.raises(NotRunningError, match="is saved"):
            await gru.workflows.wait(workflow)
        with pytest.raises(NotRunningError, match="is saved"):
            await gru.workflows.wait(workflow)


class HoldsItsKey(Minion[Number, Nothing]):
    key_on_quarantine = "hold"

    def key(self, _event: Number) -> int:
        return 1

    @minion_step
    async def work(self) -> None:
        raise ValueError("on purpose")


async def test_no_drain_waits_for_what_waits_for_a_person(
    state: Path | None, autojump_clock: MockClock
) -> None:
    """What queues behind a quarantined workflow cannot end in a drain."""
    async with open_gru(state) as gru:
        orchestration = await gru.start_minion(HoldsItsKey, Outside)
        (workflow,) = await gru.emit(Outside, Number(1))
        await gru.emit(Outside, Number(2))
        assert workflow is not None
        await gru.workflows.wait(workflow)
        began = trio.current_time()

        assert await orchestration.stop() == StopResult(finished=0, saved=1, cut=0)
        await gru.start_minion(HoldsItsKey, Outside)
        await gru.stop()

        assert trio.current_time() - began < 1


class OnPurpose(BaseException):
    pass


class HasABadKey(Minion[Number, Nothing]):
    raises: ClassVar[BaseException] = OnPurpose()

    def key(self, _event: Number) -> int:
        raise self.raises

    @minion_step
    async def work(self) -> None: ...


async def test_a_base_exception_of_a_key_quarantines(
    state: Path | None, autojump_clock: MockClock
) -> None:
    HasABadKey.raises = OnPurpose()
    async with open_gru(state) as gru:
        await gru.start_minion(HasABadKey, Outside)
        (workflow,) = await gru.emit(Outside, Number(1))
        assert workflow is not None

        ended = await gru.workflows.wait(workflow)

        assert ended.state == "quarantined"
        assert "OnPurpose" in ended.reason
        await gru.stop()


async def test_an_exit_of_a_key_stops_in_order(
    folder: Path, autojump_clock: MockClock
) -> None:
    HasABadKey.raises = SystemExit(3)
    with pytest.raises(SystemExit):
        async with open_gru(folder) as gru:
            await gru.start(LeavesSlowly)
            await gru.start_minion(HasABadKey, Outside)
            await gru.emit(Outside, Number(1))

    assert log == ["up", "down"]
    async with open_gru(folder) as gru:
        assert (await gru.workflows.get("w1")).state == "ready"


class EndsAtOnce(Pipeline[Number]):
    async def produce_event(self) -> Number:
        log.append("asked")
        raise trio.EndOfChannel

    async def shutdown(self) -> None:
        await trio.sleep(2)


async def test_a_source_that_is_ending_begins_anew_for_a_new_user(
    autojump_clock: MockClock,
) -> None:
    async with open_gru(None) as gru:
        await gru.start_minion(Slow, EndsAtOnce)
        await trio.sleep(1)

        second = await gru.start_minion(Slow, EndsAtOnce, name="second")

        assert await second.wait() == "ended"
    assert log == ["asked", "asked"]


class ThreeNumbers(Pipeline[Number]):
    count = 0

    async def produce_event(self) -> Number:
        self.count += 1
        if self.count > 3:
            raise trio.EndOfChannel
        return Number(self.count)


class Notes(Minion[Number, Nothing]):
    @minion_step
    async def note(self) -> None:
        log.append(self.event.value)


async def test_a_source_begins_again_with_the_commit_of_a_start(
    folder: Path, autojump_clock: MockClock
) -> None:
    """Not before, though it ran before: nobody would get its first events."""
    async with open_gru(folder) as gru:
        first = await gru.start_minion(Notes, ThreeNumbers)
        await first.wait()
        await gru.start_minion(Notes, ThreeNumbers)

    assert sorted(map(str, log)) == list("112233")


class Unable(Notes):
    async def startup(self) -> None:
        await trio.sleep(1)
        raise OSError("on purpose")


class EndsSlowly(ThreeNumbers):
    async def shutdown(self) -> None:
        await trio.sleep(2)


async def test_a_failed_start_holds_no_source_of_others(
    autojump_clock: MockClock,
) -> None:
    async with open_gru(None) as gru:
        first = await gru.start_minion(Slow, EndsSlowly)
        with pytest.raises(StartError):
            await gru.start_minion(Unable, EndsSlowly)

        assert await first.wait() == "ended"


async def test_notices_are_heard_from_the_call_on(autojump_clock: MockClock) -> None:
    """Also if the first look comes later, and even behind the end."""
    async with open_gru(None) as gru:
        notices = gru.notices()
        await gru.start(LeavesSlowly)
        await gru.stop()

    heard = [type(notice).__name__ async for notice in notices]
    assert heard[0] == "ComponentStarting"
    assert heard[-1] == "ComponentEnded"
