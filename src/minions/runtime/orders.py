"""What a process that uses a state folder can be asked for over its socket.

Each order is a function of the request's fields; what it returns is the reply.
"""

from __future__ import annotations

import heapq
from collections.abc import Awaitable, Callable, Mapping
from typing import Any

import msgspec
import trio

from minions.errors import (
    AlreadyRunningError,
    DefinitionError,
    MinionsError,
    NotRunningError,
)
from minions.notices import ComponentFailed
from minions.runtime.gru import Gru
from minions.runtime.inspection import Workflow
from minions.runtime.ledger import Ledger
from minions.runtime.orchestration import Orchestration
from minions.runtime.registry import Found, Registry, seq_of
from minions.runtime.table import WorkTable
from minions.runtime.why import state_of, why
from minions.runtime.wire import VERSION
from minions.workflow.record import EndedRecord, WorkflowRecord

__all__ = ["Orders", "end_subscription"]

_MOST_ROWS = 1000


class Orders(msgspec.Struct, frozen=True, eq=False):
    """Obeys what comes over the socket of one Gru."""

    gru: Gru
    tables: Mapping[str, WorkTable]
    ledger: Ledger
    orchestrations: Mapping[str, Orchestration]
    """Those that are started, by id."""

    async def obey(self, request: Mapping[str, Any]) -> object:
        """Do what a request says; return what JSON can hold.

        Raises:
            ValueError: It makes no sense.
            MinionsError: It cannot be done.
            KeyError: There is no such workflow or subscription.
        """
        version = request.get("version")
        if version != VERSION:
            raise ValueError(
                f"expected a request of version {VERSION}, found {version!r}; use the"
                " version of minions that runs the system"
            )
        order = _ORDERS.get(str(request.get("do")))
        if order is None:
            raise ValueError(
                f"expected one of {', '.join(_ORDERS)}, found {request.get('do')!r}"
            )
        return await order(self, request)

    async def _live(self, request: Mapping[str, Any]) -> object:
        """Show some of the workflows in memory, by number."""
        after = request.get("after", 0)
        if not isinstance(after, int):
            raise ValueError(f"live: expected a number in 'after', found {after!r}")  # noqa: TRY004  # a reply, no bug
        await trio.lowlevel.checkpoint()
        found = heapq.nsmallest(
            _MOST_ROWS,
            (
                (seq, identity)
                for identity, table in self.tables.items()
                for seq in table.works
                if seq > after
            ),
        )
        now = self.ledger.now()
        return [self._row(seq, self.tables[identity], now) for seq, identity in found]

    def _row(self, seq: int, table: WorkTable, now: float) -> list[object]:
        work = table.works[seq]
        record = work.record
        state = state_of(Found(seq, table, work), record, now)
        since = record.since or record.accepted_at
        return [seq, table.id, state, record.step, record.attempt, since, record.until]

    async def _look(self, request: Mapping[str, Any]) -> object:
        """Say what a workflow waits for, if it goes on."""
        # Not through gru.workflows: that makes the user's objects.
        registry = Registry(self.ledger, self.tables)
        found = await registry.find(seq_of(_id_in(request)))
        record = found.work.record if found.work is not None else found.body
        if not isinstance(record, WorkflowRecord):
            return None
        now = self.ledger.now()
        return {
            "state": state_of(found, record, now),
            "why": why(found, record, now),
        }

    async def _wait(self, request: Mapping[str, Any]) -> object:
        """Wait for an end, or only check (``dry``) that there can be one."""
        workflow_id = _id_in(request)
        runner = await self._runner(workflow_id, dry=request.get("dry") is True)
        if request.get("dry") is True:
            return None
        if runner is None:
            workflow = await self.gru.workflows.wait(workflow_id)
        else:
            workflow = await self._wait_while_run(workflow_id, runner)
        return {"state": workflow.state, "reason": workflow.reason}

    async def _runner(self, workflow_id: str, *, dry: bool) -> Orchestration | None:
        """Return who brings a workflow to its end; ``None``: it needs nobody.

        Raises:
            NotRunningError: Nobody does.
            KeyError: There is no such workflow.
        """
        registry = Registry(self.ledger, self.tables)
        found = await registry.find(seq_of(workflow_id))
        goes_on = found.work is not None or isinstance(found.body, WorkflowRecord)
        if found.table is None or isinstance(found.body, EndedRecord):
            return None
        if not goes_on and not dry:
            return None
        runner = self.orchestrations.get(found.table.id)
        hindrance = "it is not: it was paused, or nothing has started it"
        if runner is not None:
            hindrance = self._hindrance(runner)
        if runner is None or hindrance:
            raise NotRunningError(
                f"{workflow_id}: expected that its orchestration {found.table.id} runs,"
                f" so that the workflow comes to its end, found that {hindrance}; start"
                " it, or do not wait for the workflow (redrive without --canary)"
            )
        return runner

    def _hindrance(self, runner: Orchestration) -> str:
        """Say why an orchestration does not go on by itself; empty if it does."""
        if not runner.is_live:
            return f"it is {runner.status}"
        components = self.gru.snapshot().components
        line, seen = [runner.minion_name], set[str]()
        while line:
            name = line.pop()
            component = components.get(name)
            if component is None or name in seen:
                continue
            if component.state == "failed":
                return f"{name} has failed"
            seen.add(name)
            line += component.needs
        return ""

    async def _wait_while_run(
        self, workflow_id: str, runner: Orchestration
    ) -> Workflow:
        """Wait for the end of a workflow, as long as its orchestration runs."""
        problems: list[Exception] = []
        ended: list[Workflow] = []
        async with trio.open_nursery() as nursery:

            async def check() -> None:
                try:
                    await self._runner(workflow_id, dry=False)
                except KeyError:
                    pass  # it has just ended
                except MinionsError as exc:
                    problems.append(exc)
                    nursery.cancel_scope.cancel(reason="nobody runs the workflow")

            async def heed_stop() -> None:
                await runner.over.wait()
                await check()

            async def heed_failures() -> None:
                async for notice in notices:
                    if isinstance(notice, ComponentFailed):
                        await check()

            notices = self.gru.notices()
            nursery.start_soon(heed_stop)
            nursery.start_soon(heed_failures)
            try:
                ended.append(await self.gru.workflows.wait(workflow_id))
            except (KeyError, MinionsError, trio.BusyResourceError) as exc:
                problems.append(exc)
            nursery.cancel_scope.cancel(reason="the workflow has ended")
        if ended:
            return ended[0]
        raise problems[0]

    async def _redrive(self, request: Mapping[str, Any]) -> None:
        await self.gru.workflows.redrive(_id_in(request))

    async def _discard(self, request: Mapping[str, Any]) -> None:
        await self.gru.workflows.discard(_id_in(request))

    async def _cancel(self, request: Mapping[str, Any]) -> None:
        await self.gru.workflows.cancel(_id_in(request))

    async def _forget(self, request: Mapping[str, Any]) -> object:
        dry = request.get("dry") is True
        return await end_subscription(self.gru, _id_in(request), dry=dry)


Order = Callable[[Orders, Mapping[str, Any]], Awaitable[object]]

_ORDERS: dict[str, Order] = {
    "cancel": Orders._cancel,  # noqa: SLF001  # all of this class
    "discard": Orders._discard,  # noqa: SLF001
    "forget": Orders._forget,  # noqa: SLF001
    "live": Orders._live,  # noqa: SLF001
    "look": Orders._look,  # noqa: SLF001
    "redrive": Orders._redrive,  # noqa: SLF001
    "wait": Orders._wait,  # noqa: SLF001
}


def _id_in(request: Mapping[str, Any]) -> str:
    found = request.get("id")
    if not isinstance(found, str):
        raise ValueError(f"{request.get('do')}: expected text in 'id', found {found!r}")  # noqa: TRY004  # a reply, no bug
    return found


async def end_subscription(gru: Gru, identity: str, *, dry: bool = False) -> int:
    """End a subscription that nobody has started; return how many workflows stay.

    Args:
        gru: Whose.
        identity: The orchestration's id.
        dry: Only check whether it can be ended.

    Raises:
        AlreadyRunningError: Its orchestration runs.
        DefinitionError: There is none of this id.
    """
    seen = gru.snapshot().orchestrations
    idle = {name: o.unfinished for name, o in seen.items() if o.status == "not started"}
    if identity in seen and identity not in idle and dry:
        raise AlreadyRunningError(
            f"{identity}: expected an orchestration that is not started, found that it"
            f" is {seen[identity].status}"
        )
    try:
        if identity not in idle or not dry:
            await gru.forget(identity)
    except KeyError:
        # Without a pipeline it has ended its subscription, and has workflows still.
        there = [
            name if name in idle else f"{name} ({o.status})"
            for name, o in seen.items()
            if o.pipeline
        ]
        raise DefinitionError(
            f"{identity}: expected the id of a subscription, found none of this name;"
            f" there are: {', '.join(there) or 'none'}"
        ) from None
    return idle.get(identity, 0)
