"""Notices name the step, also the first one."""

from __future__ import annotations

import attrs
import pytest
import trio
from trio.testing import MockClock, wait_all_tasks_blocked

from minions import Minion, Pipeline, Retry, minion_step, open_gru
from minions.notices import WorkflowNotice


@attrs.frozen
class Number:
    value: int


@attrs.define
class Memory:
    last: str = ""


class Source(Pipeline[Number]):
    pass


class Fails(Minion[Number, Memory]):
    @minion_step
    async def begin(self) -> None:
        raise ValueError


class Discards(Fails):
    on_failure = "discard"


class Retries(Fails):
    @minion_step(retry=Retry(max_attempts=2))
    async def begin(self) -> None:
        raise ValueError


class Hangs(Fails):
    @minion_step
    async def begin(self) -> None:
        await trio.sleep_forever()


@pytest.mark.parametrize(
    ("minion", "told"),
    [
        (Fails, ["WorkflowQuarantined"]),
        (Discards, ["WorkflowDiscarded"]),
        (Retries, ["WorkflowRetrying", "WorkflowQuarantined"]),
        (Hangs, ["WorkflowInterrupted"]),
    ],
)
async def test_notices_name_the_first_step(
    autojump_clock: MockClock, minion: type[Fails], told: list[str]
) -> None:
    found: list[WorkflowNotice] = []
    async with trio.open_nursery() as nursery, open_gru(None) as gru:

        async def listen() -> None:
            notices = gru.notices()
            found.extend([n async for n in notices if isinstance(n, WorkflowNotice)])

        nursery.start_soon(listen)
        await wait_all_tasks_blocked()
        orchestration = await gru.start_minion(minion, Source)
        await gru.emit(Source, Number(1))
        await trio.sleep(10)
        await orchestration.stop("cutover")
        await gru.stop()

    assert [type(notice).__name__ for notice in found] == told
    assert {notice.step for notice in found} == {"begin"}
