"""``minions check``: whether stored workflows would go on with the present code.

Each is read as the engine reads it when it takes a workflow up.  Nothing is started
and nothing is written; a process may be using the folder.
"""

from __future__ import annotations

import argparse
from collections.abc import Iterable, Iterator

import attrs
import msgspec
import trio

from minions.cli.operate import RefusedError
from minions.cli.output import answer, moment
from minions.cli.place import place_of
from minions.cli.plan import SystemPlan, make_plan
from minions.cli.system_file import read_system_file
from minions.errors import MinionsError, SnapshotError
from minions.identity import orchestration_id
from minions.runtime.codecs import Codecs
from minions.runtime.opening import open_gru
from minions.runtime.pairing import make_codecs, pair_of
from minions.store.memory import MemoryStore
from minions.store.reading import StoreView, open_reader
from minions.workflow.layout import Keyspace, key_of, sequence_of
from minions.workflow.passing import decode_body
from minions.workflow.record import (
    QuarantineRecord,
    SignalRecord,
    WorkflowRecord,
    decode_record,
    decode_signal,
)

__all__ = ["check"]

_DONE, _FAILED = 0, 1


@attrs.define
class Fit:
    """How the workflows of one orchestration fare."""

    started: bool
    """Whether minions.toml starts it."""

    fits: int = 0
    migrates: int = 0
    would_be_quarantined: dict[str, str] = attrs.field(factory=dict)
    """By id: why."""

    wait_in_vain: dict[str, str] = attrs.field(factory=dict)
    """By id: for which signal, that the minion no longer names."""

    quarantined: int = 0
    """Of those in quarantine: they fit, or would after a migration."""

    stay_quarantined: dict[str, str] = attrs.field(factory=dict)
    """Of those in quarantine: a redrive would bring them back there."""

    unknown: int = 0
    """Not read: nothing that minions.toml starts says how."""


def check(arguments: argparse.Namespace) -> int:
    """Say whether the stored workflows fit the code."""
    # With --store, that store, and the classes of the current folder.
    file = read_system_file(arguments.folder)
    place = place_of(arguments)
    try:
        plan = make_plan(file)
    except MinionsError as exc:
        raise RefusedError(str(exc)) from exc
    with open_reader(place.path) as reader, reader.view() as view:
        fits, idle = trio.run(_check, plan, view)
    document = {
        "path": str(place.path),
        "ok": not any(
            fit.would_be_quarantined or fit.wait_in_vain for fit in fits.values()
        ),
        "orchestrations": {name: attrs.asdict(fit) for name, fit in fits.items()},
        "not_started": idle,
    }
    answer(document, "\n".join(_lines(fits, idle)), as_json=arguments.json)
    return _DONE if document["ok"] else _FAILED


async def _check(plan: SystemPlan, view: StoreView) -> tuple[dict[str, Fit], list[str]]:
    """Return how workflows fare, and which subscriptions nothing starts."""
    known = await _codecs_of(plan)
    fits = {identity: Fit(started=True) for identity in known}
    for space in (Keyspace.RECORD, Keyspace.COLD, Keyspace.QUARANTINE):
        for key, value in view.items(space):
            seq = sequence_of(key)
            try:
                body = decode_body(space, key, value)
            except SnapshotError as exc:
                _fit(fits, "").would_be_quarantined[f"w{seq}"] = str(exc)
                continue
            held = isinstance(body, QuarantineRecord)
            record = body if isinstance(body, WorkflowRecord) else body.record
            mail = view.items(Keyspace.MAIL, key)
            _note(fits, known, (seq, record), mail, held=held)
    subscribed = [key.decode() for key, _ in view.items(Keyspace.SUBSCRIPTION)]
    return fits, [name for name in subscribed if name not in known]


def _fit(fits: dict[str, Fit], identity: str) -> Fit:
    return fits.setdefault(identity, Fit(started=False))


def _note(
    fits: dict[str, Fit],
    known: dict[str, Codecs],
    workflow: tuple[int, WorkflowRecord],
    mail: Iterable[tuple[bytes, bytes]],
    *,
    held: bool,
) -> None:
    """Add one workflow, with its signals, to how those of its kind fare."""
    seq, record = workflow
    if held and not record.orchestration:
        try:
            record = decode_record(key_of(seq), record.event)
        except SnapshotError as exc:
            _fit(fits, "").stay_quarantined[f"w{seq}"] = str(exc)
            return
    fit, codecs = _fit(fits, record.orchestration), known.get(record.orchestration)
    if codecs is None:
        fit.unknown += 1
        return
    try:
        migrates = _try(codecs, record) | _try_mail(codecs, record, mail)
    except Exception as exc:  # noqa: BLE001  # whatever a user's class raises
        said = str(exc) if isinstance(exc, MinionsError) else f"{exc!r}"
        unfit = fit.stay_quarantined if held else fit.would_be_quarantined
        unfit[f"w{seq}"] = said
        return
    if held:
        fit.quarantined += 1
    elif record.state == "waiting" and record.waits not in codecs.signal_names():
        fit.wait_in_vain[f"w{seq}"] = _unnamed(codecs, record)
    elif migrates:
        fit.migrates += 1
    else:
        fit.fits += 1


def _unnamed(codecs: Codecs, record: WorkflowRecord) -> str:
    """Say why nobody can send the signal that a workflow waits for."""
    known = ", ".join(codecs.signal_names()) or "none"
    until = "for ever" if record.until is None else f"until {moment(record.until)} UTC"
    return (
        f"{codecs.steps.owner}: it waits {until} for a signal of {record.waits};"
        " expected a class that a Wait or receive of this minion names, found that it"
        f" names {known}, so that the signal cannot be sent; name the class in its"
        " attribute `signals`, or cancel the workflow"
    )


def _try(codecs: Codecs, record: WorkflowRecord) -> bool:
    """Make of a snapshot what the engine makes of it; say whether it migrates.

    Raises:
        SnapshotError: The step is gone, or something does not fit.
    """
    steps = codecs.steps
    if steps.find(record.step) is None:
        raise SnapshotError(
            f"{steps.owner}: its snapshot goes on at step {record.step!r}; expected"
            f" one of {', '.join(steps.names)}; bring the step back, or name it in"
            " renamed_from"
        )
    stored = [(codecs.event, record.event)]
    if record.context:
        stored.append((codecs.context, record.context))
    migrates = [codec.inspect(data) == "migrates" for codec, data in stored]
    codecs.event.decode(record.event)
    codecs.context_of(record)
    return any(migrates) | _try_signal(codecs, record)


def _try_mail(
    codecs: Codecs, record: WorkflowRecord, mail: Iterable[tuple[bytes, bytes]]
) -> bool:
    """Read the signals that wait for a workflow; say whether one migrates.

    Raises:
        SnapshotError: One does not fit, or is of a class that is not known any more.
    """
    migrates = False
    for key, value in mail:
        try:
            signal = decode_signal(key, value)
        except SnapshotError:  # the engine passes it over, and `minions fsck` tells
            continue
        try:
            migrates |= _try_signal(codecs, _with(record, signal))
        except Exception as exc:
            said = str(exc) if isinstance(exc, MinionsError) else repr(exc)
            raise SnapshotError(
                f"a signal of {signal.type} waits for it since"
                f" {moment(signal.sent_at)} UTC: {said}"
            ) from exc
    return migrates


def _with(record: WorkflowRecord, signal: SignalRecord) -> WorkflowRecord:
    """Return a workflow as it is when it has received a signal."""
    return msgspec.structs.replace(
        record, received_type=signal.type, received=signal.payload
    )


def _try_signal(codecs: Codecs, record: WorkflowRecord) -> bool:
    """Read the signal that a workflow has received; say whether it migrates."""
    payload = codecs.received(record)
    if payload is None:
        return False
    return codecs.signal(type(payload)).inspect(record.received) == "migrates"


async def _codecs_of(plan: SystemPlan) -> dict[str, Codecs]:
    """Return how the workflows of each orchestration are stored, by its id."""
    found: dict[str, Codecs] = {}
    async with open_gru(MemoryStore(), options=plan.file.options) as gru:
        for cls, source in plan.configs:
            gru.configure(cls, source)
        reader, intakes = gru._components.reader, gru._subscriptions  # noqa: SLF001
        for start in plan.starts:
            configs = {start.minion: start.config} if start.config is not None else {}
            reading = reader.read([start.minion, start.pipeline], configs)
            mine, source = pair_of(reading, start.minion, start.pipeline)
            identity = orchestration_id(mine.identity, source.identity, start.name)
            intake = intakes.intake(source.identity)
            found[identity] = make_codecs(mine, source, intake)
    return found


def _lines(fits: dict[str, Fit], idle: list[str]) -> Iterator[str]:
    for identity, fit in fits.items():
        said = [f"{fit.fits} fit", f"{fit.migrates} migrate"]
        said += [f"{len(fit.would_be_quarantined)} would be quarantined"]
        if fit.wait_in_vain:
            said.append(f"{len(fit.wait_in_vain)} wait in vain")
        if fit.quarantined or fit.stay_quarantined:
            said.append(
                f"of those in quarantine {fit.quarantined} fit and"
                f" {len(fit.stay_quarantined)} do not"
            )
        if fit.unknown:
            said.append(f"{fit.unknown} not read: minions.toml does not start it")
        yield f"{identity or 'not readable'}: {', '.join(said)}"
        for name, text in (fit.would_be_quarantined | fit.wait_in_vain).items():
            yield f"  {name}: {text}"
        for name, text in fit.stay_quarantined.items():
            yield f"  {name} (in quarantine): {text}"
    for identity in idle:
        yield (
            f"{identity}: subscribed, but minions.toml does not start it; start it, or"
            f" `minions forget {identity}`"
        )
