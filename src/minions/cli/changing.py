"""``minions redrive``, ``discard``, ``cancel`` and ``forget``: changes by hand.

They go through the process that uses the state folder; without one, the command
opens the folder as that process would, and does the same.
"""

from __future__ import annotations

import argparse
import contextlib
from collections.abc import AsyncIterator
from typing import Protocol

import attrs
import trio

from minions.cli.operate import RefusedError
from minions.cli.output import answer
from minions.cli.place import Place, place_of
from minions.cli.portrait import portrait_of
from minions.cli.rows import Row, stored_rows
from minions.control import ControlError, Owner
from minions.errors import MinionsError, NotRunningError
from minions.runtime.gru import Gru
from minions.runtime.opening import open_gru
from minions.runtime.orders import end_subscription
from minions.runtime.registry import seq_of
from minions.store.reading import StoreView, open_reader
from minions.workflow.layout import Keyspace

__all__ = ["cancel", "discard", "forget", "redrive"]

_DONE, _FAILED = 0, 1
_NOWHERE = "none of this id"
_PAST = {"redrive": "redriven", "discard": "discarded", "cancel": "cancelled"}


class Hands(Protocol):
    """Who changes something in a state folder."""

    async def change(self, do: str, identity: str) -> None:
        """Redrive, discard or cancel a workflow."""

    async def check(self, workflow_id: str) -> None:
        """See that there is somebody who brings a workflow to its end."""

    async def wait(self, workflow_id: str) -> str:
        """Return the state in which a workflow has ended."""

    async def forget(self, identity: str) -> int:
        """End a subscription; return how many workflows stay."""


@attrs.frozen
class RemoteHands:
    """Asks the process that uses the folder.

    The calls block: nothing else runs in this event loop, and Ctrl-C interrupts.
    """

    _owner: Owner

    async def change(self, do: str, identity: str) -> None:
        """See :class:`Hands`."""
        await trio.lowlevel.checkpoint()
        self._owner.ask(do, id=identity)

    async def check(self, workflow_id: str) -> None:
        """See :class:`Hands`."""
        await trio.lowlevel.checkpoint()
        try:
            self._owner.ask("wait", id=workflow_id, dry=True)
        except ControlError as exc:
            # What is gone, or cannot be read, is for the redrive to say.
            if exc.kind not in {"KeyError", "SnapshotError", "CorruptRecordError"}:
                raise

    async def wait(self, workflow_id: str) -> str:
        """See :class:`Hands`."""
        await trio.lowlevel.checkpoint()
        try:
            return str(self._owner.ask("wait", id=workflow_id)["state"])
        except ControlError as exc:
            if exc.kind != "KeyError":
                raise
            return "ended"  # before we asked, and it is not kept

    async def forget(self, identity: str) -> int:
        """See :class:`Hands`."""
        await trio.lowlevel.checkpoint()
        return int(self._owner.ask("forget", id=identity))


@attrs.frozen
class OwnHands:
    """Changes a folder that this process has opened; nothing runs in it."""

    _gru: Gru

    async def change(self, do: str, identity: str) -> None:
        """See :class:`Hands`."""
        workflows = self._gru.workflows
        calls = {
            "redrive": workflows.redrive,
            "discard": workflows.discard,
            "cancel": workflows.cancel,
        }
        await calls[do](identity)

    async def check(self, workflow_id: str) -> None:
        """See :class:`Hands`."""
        raise NotRunningError(f"{workflow_id}: nothing runs in this process")

    async def wait(self, workflow_id: str) -> str:
        """See :class:`Hands`."""
        return (await self._gru.workflows.wait(workflow_id)).state

    async def forget(self, identity: str) -> int:
        """See :class:`Hands`."""
        return await end_subscription(self._gru, identity)


@contextlib.asynccontextmanager
async def _hands(place: Place, owner: Owner | None) -> AsyncIterator[Hands]:
    if owner is not None:
        yield RemoteHands(owner)
        return
    async with open_gru(place.path, options=place.options_to_open()) as gru:
        yield OwnHands(gru)


@attrs.define
class Report:
    """What was done to which workflows."""

    dry_run: bool
    left: list[str]
    """Not touched, or not yet."""

    done: list[str] = attrs.field(factory=list)
    failed: dict[str, str] = attrs.field(factory=dict)
    """By id: why it could not be done."""

    unsure: list[str] = attrs.field(factory=list)
    """Asked for, without a reply."""

    quarantined_again: list[str] = attrs.field(factory=list)
    """Of the canaries."""


def redrive(arguments: argparse.Namespace) -> int:
    """Send quarantined workflows on again."""
    return _change("redrive", arguments, rate=arguments.rate, canary=arguments.canary)


def discard(arguments: argparse.Namespace) -> int:
    """End quarantined workflows for good."""
    return _change("discard", arguments)


def cancel(arguments: argparse.Namespace) -> int:
    """End a workflow, whatever it does."""
    return _change("cancel", arguments)


def _change(
    do: str,
    arguments: argparse.Namespace,
    *,
    rate: float | None = None,
    canary: int | None = None,
) -> int:
    place = place_of(arguments)
    owner = place.owner()
    if canary is not None and owner is None:
        raise RefusedError(
            f"{place.path}: expected a process that runs the system, to see how the"
            " first ones fare (--canary), found none; start it, or go without"
        )
    ids = _chosen(do, arguments, place)
    report = Report(arguments.dry_run, ids)
    try:
        if ids and not arguments.dry_run:
            trio.run(_do_all, (place, owner), do, report, (rate, canary))
    finally:
        _say(do, report, single=not _is_all(arguments), as_json=arguments.json)
    if report.failed and not _is_all(arguments):
        said = next(iter(report.failed.values()))
        if _NOWHERE in said and _state_of(arguments.id, place):
            _check_one(do, arguments.id, place)
        raise RefusedError(said)
    return _FAILED if report.failed or report.quarantined_again else _DONE


def _is_all(arguments: argparse.Namespace) -> bool:
    return bool(getattr(arguments, "all", False))


def _chosen(do: str, arguments: argparse.Namespace, place: Place) -> list[str]:
    """Return the ids that are to be changed.

    Raises:
        RefusedError: A dry run finds that the one is not to be changed; or the store
            knows no such orchestration.
    """
    if not _is_all(arguments):
        if getattr(arguments, "reason", None) or getattr(
            arguments, "orchestration", None
        ):
            raise RefusedError(
                f"{do} {arguments.id}: expected --orchestration and --reason with"
                " --all only; take them away"
            )
        if arguments.dry_run:
            _check_one(do, arguments.id, place)
        return [arguments.id]
    with open_reader(place.path) as reader, reader.view() as view:
        rows = [*stored_rows(view, "quarantined")]
        if arguments.orchestration not in {None, *(row.orchestration for row in rows)}:
            _check_known(do, arguments.orchestration, view)
    return [row.id for row in rows if _is_meant(row, arguments)]


def _check_known(do: str, identity: str, view: StoreView) -> None:
    """Refuse the id of an orchestration that has left nothing in the store."""
    known = dict.fromkeys(key.decode() for key, _ in view.items(Keyspace.SUBSCRIPTION))
    if identity in known:
        return
    # Of one that was forgotten only its workflows are left.
    known |= dict.fromkeys(row.orchestration for row in stored_rows(view))
    if identity not in known:
        there = ", ".join(filter(None, known)) or "none"
        raise RefusedError(
            f"{do} --orchestration {identity}: expected the id of an orchestration,"
            f" found none of this name; there are: {there}"
        )


def _is_meant(row: Row, arguments: argparse.Namespace) -> bool:
    return arguments.orchestration in (None, row.orchestration) and (
        arguments.reason in (None, row.reason)
    )


def _state_of(workflow_id: str, place: Place) -> str:
    """Return the state in which a workflow stands in the store; empty: in none."""
    try:
        seq = seq_of(workflow_id)
    except KeyError:
        return ""
    with open_reader(place.path) as reader, reader.view() as view:
        portrait = portrait_of(view, seq)
    return portrait.state if portrait is not None else ""


def _check_one(do: str, workflow_id: str, place: Place) -> None:
    state = _state_of(workflow_id, place) or "not there"
    wanted = state == "quarantined" if do != "cancel" else state in _UNFINISHED
    if not wanted:
        what = "one that goes on" if do == "cancel" else "a quarantined one"
        raise RefusedError(
            f"{workflow_id}: expected {what} to {do}, found that it is {state};"
            " `minions ls` lists them"
        )


_UNFINISHED = {"ready", "sleeping", "retrying", "waiting"}


async def _do_all(
    where: tuple[Place, Owner | None],
    do: str,
    report: Report,
    pace: tuple[float | None, int | None],
) -> None:
    (rate, canary), ids = pace, list(report.left)
    first = ids[:canary] if canary is not None else []
    async with _hands(*where) as hands:
        for workflow_id in first:
            await hands.check(workflow_id)
        sender = _Sender(hands, do, report, rate)
        await sender.send(first)
        for workflow_id in [name for name in first if name in report.done]:
            if await hands.wait(workflow_id) == "quarantined":
                report.quarantined_again.append(workflow_id)
        if first and (report.failed or report.quarantined_again):
            return
        await sender.send(ids[len(first) :])


@attrs.define
class _Sender:
    """Changes one workflow after the other."""

    _hands: Hands
    _do: str
    _report: Report
    _rate: float | None
    _sent: int = 0

    async def send(self, ids: list[str]) -> None:
        """Change these; note what could not be done.

        Raises:
            ControlError: The process has ended, or does not answer.
        """
        report = self._report
        for workflow_id in ids:
            if self._sent and self._rate is not None:
                await trio.sleep(1 / self._rate)
            self._sent += 1
            report.left.remove(workflow_id)
            report.unsure.append(workflow_id)
            try:
                await self._hands.change(self._do, workflow_id)
            except (KeyError, MinionsError, ControlError) as exc:
                if isinstance(exc, ControlError) and not exc.kind:
                    raise
                report.failed[workflow_id] = _reason(self._do, workflow_id, exc)
            else:
                report.done.append(workflow_id)
            report.unsure.remove(workflow_id)


def _reason(do: str, workflow_id: str, exc: Exception) -> str:
    said = str(exc.args[0]) if isinstance(exc, KeyError) else str(exc)
    kind = exc.kind if isinstance(exc, ControlError) else type(exc).__name__
    if kind != "KeyError":
        return said
    what = "one that goes on" if do == "cancel" else "a quarantined one"
    found = _NOWHERE if said == workflow_id else said
    return f"{workflow_id}: expected {what} to {do}, found {found}; see `minions ls`"


def _say(do: str, report: Report, *, single: bool, as_json: bool) -> None:
    past = _PAST[do]
    lines = [f"{name}: {past}" for name in report.done]
    lines += [f"{n}: was quarantined again" for n in report.quarantined_again]
    if not single:
        lines += [f"{name}: failed: {said}" for name, said in report.failed.items()]
    lines += [f"{name}: may have been {past}" for name in report.unsure]
    if report.dry_run:
        lines += [f"{name}: would be {past}" for name in report.left]
    elif report.left:
        lines.append(f"not {past}: {len(report.left)} more")
    if not lines and not single:
        lines.append("no quarantined workflow fits")
    answer(attrs.asdict(report), "\n".join(lines), as_json=as_json)


def forget(arguments: argparse.Namespace) -> int:
    """End the subscription of an orchestration that will not come back."""
    place = place_of(arguments)
    owner, identity = place.owner(), arguments.id
    if not arguments.dry_run:
        saved = trio.run(_forget, place, owner, identity)
    elif owner is not None:
        saved = owner.ask("forget", id=identity, dry=True)
    else:
        saved = _would_forget(place, identity)
    stay = "workflow stays" if saved == 1 else "workflows stay"
    kept = f"; {saved} unfinished {stay} in the store" if saved else ""
    what = "would be forgotten" if arguments.dry_run else "forgotten"
    document = {"id": identity, "dry_run": arguments.dry_run, "unfinished": saved}
    answer(document, f"{identity}: {what}{kept}", as_json=arguments.json)
    return _DONE


async def _forget(place: Place, owner: Owner | None, identity: str) -> int:
    problem = ""
    async with _hands(place, owner) as hands:
        try:
            return await hands.forget(identity)
        except MinionsError as exc:
            problem = str(exc)
    raise RefusedError(f"{place.path}: {problem}")


def _would_forget(place: Place, identity: str) -> int:
    with open_reader(place.path) as reader, reader.view() as view:
        known = [key.decode() for key, _ in view.items(Keyspace.SUBSCRIPTION)]
        rows = [r for r in stored_rows(view) if r.orchestration == identity]
    if identity not in known:
        raise RefusedError(
            f"{place.path}: {identity}: expected the id of a subscription, found none"
            f" of this name; there are: {', '.join(known) or 'none'}"
        )
    return sum(row.state != "quarantined" for row in rows)
