"""``minions ls``, ``show``, ``why`` and ``stats``: looks at a state folder.

All of an answer is read from the store at one moment; what only the process knows
(who runs, who queues) is asked of it after that moment, if it runs.
"""

from __future__ import annotations

import argparse
import contextlib
import json
from collections import Counter
from collections.abc import Iterable, Iterator

import attrs

from minions.cli.operate import RefusedError
from minions.cli.output import answer, iso, moment, size, table, write
from minions.cli.place import Place, place_of
from minions.cli.portrait import Portrait, portrait_of
from minions.cli.rows import HOT, Row, merged_with_live, stored_rows
from minions.control import ControlError
from minions.runtime.registry import seq_of
from minions.store.reading import StoreView, open_reader
from minions.workflow.layout import Keyspace

__all__ = ["ls", "show", "stats", "why"]

_DONE = 0


def ls(arguments: argparse.Namespace) -> int:
    """List workflows."""
    place = place_of(arguments)
    owner, is_used = place.look()
    counts: Counter[str] = Counter()
    with open_reader(place.path) as reader, reader.view() as view:
        rows = stored_rows(view, arguments.state)
        if owner is not None and arguments.state in {None, *HOT}:
            rows = merged_with_live(rows, owner)
        chosen = _counted(rows, arguments, counts)
        if arguments.json:
            write(_streamed(chosen, counts, is_used=is_used))
            return _DONE
        # Columns are as wide as their widest cell, wherever that stands.
        kept = [*chosen]
    write(_listing(kept, counts))
    return _DONE


def _counted(
    rows: Iterable[Row], arguments: argparse.Namespace, counts: Counter[str]
) -> Iterator[Row]:
    """Choose the rows that are meant, and count them by their states."""
    for row in rows:
        if arguments.state in (None, row.state) and (
            arguments.orchestration in (None, row.orchestration)
        ):
            counts[row.state] += 1
            yield row


def _streamed(
    rows: Iterable[Row], counts: Counter[str], *, is_used: bool
) -> Iterator[str]:
    """Make one JSON document, line by line: there may be a million rows."""
    yield '{\n  "workflows": ['
    last = ""
    for row in rows:
        if last:
            yield f"{last},"
        last = f"    {json.dumps(_plain(row))}"
    yield last
    yield "  ],"
    yield f'  "counts": {json.dumps(_sorted(counts))},'
    yield f'  "running": {json.dumps(is_used)}\n}}'


def _sorted(counts: Counter[str]) -> dict[str, int]:
    return dict(sorted(counts.items()))


def _plain(row: Row) -> dict[str, object]:
    return {
        "id": row.id,
        "orchestration": row.orchestration,
        "state": row.state,
        "step": row.step,
        "attempt": row.attempt,
        "since": iso(row.since),
        "until": iso(row.until),
        "reason": row.reason,
    }


def _listing(rows: list[Row], counts: Counter[str]) -> Iterator[str]:
    if not rows:
        yield "no workflows"
        return
    heads = ("ID", "ORCHESTRATION", "STATE", "STEP", "ATTEMPT", "SINCE", "UNTIL")
    yield from table(heads, _Lines(rows))
    yield ", ".join(f"{count} {state}" for state, count in _sorted(counts).items())


@attrs.frozen
class _Lines:
    """Rows as text, made each time that they are gone through: they may be many."""

    _rows: list[Row]

    def __iter__(self) -> Iterator[tuple[str, ...]]:
        for row in self._rows:
            yield (
                row.id,
                row.orchestration or "?",
                row.state,
                row.step or "-",
                str(row.attempt),
                moment(row.since) or "-",
                moment(row.until) or "-",
            )


def show(arguments: argparse.Namespace) -> int:
    """Show all that is known of one workflow."""
    portrait = _portrait(place_of(arguments), arguments.id)
    document = attrs.asdict(portrait)
    lines = [
        f"{name}: {_text(value)}"
        for name, value in document.items()
        if value not in (None, "", (), 0) or name in {"step", "attempt"}
    ]
    answer(document, "\n".join(lines), as_json=arguments.json)
    return _DONE


def _text(value: object) -> str:
    if isinstance(value, dict | list):
        return json.dumps(value, indent=2, ensure_ascii=False)
    text = str(value)
    return "\n" + text.rstrip("\n") if "\n" in text else text


def why(arguments: argparse.Namespace) -> int:
    """Say what a workflow waits for."""
    portrait = _portrait(place_of(arguments), arguments.id)
    document = {"id": portrait.id, "state": portrait.state, "why": portrait.why}
    answer(document, f"{portrait.id} {portrait.why}", as_json=arguments.json)
    return _DONE


def _portrait(place: Place, workflow_id: str) -> Portrait:
    """Return what is known of a workflow.

    Raises:
        RefusedError: There is none of this id.
    """
    try:
        seq = seq_of(workflow_id)
    except KeyError:
        raise RefusedError(
            f"{workflow_id}: expected the id of a workflow, such as w17; `minions ls`"
            " lists them"
        ) from None
    owner, _ = place.look()
    with open_reader(place.path) as reader, reader.view() as view:
        portrait = portrait_of(view, seq)
    if portrait is None:
        raise RefusedError(
            f"{workflow_id}: expected a workflow of {place.path}, found none: it has"
            " ended and is not kept, or never was; `minions ls` lists them"
        )
    if owner is not None and portrait.state == "ready":
        # It has ended since, or its process has.
        with contextlib.suppress(ControlError):
            live = owner.ask("look", id=workflow_id)
            if live is not None:
                portrait = attrs.evolve(portrait, **live)
    return portrait


def stats(arguments: argparse.Namespace) -> int:
    """Say what the store holds, and what it takes."""
    place = place_of(arguments)
    _, is_used = place.look()
    with open_reader(place.path) as reader:
        with reader.view() as view:
            file = reader.statistics(view)
            entries = {space.value: view.count(space) for space in Keyspace}
            states = _states(view)
        mark = reader.mark
    document = {
        "path": str(place.path),
        "format": mark["format"],
        "durability": mark["durability"],
        "state": mark["state"],
        "holder": place.holder() if is_used else None,
        **attrs.asdict(file),
        "entries": entries,
        "states": states,
    }
    answer(document, _summary(document), as_json=arguments.json)
    return _DONE


def _states(view: StoreView) -> dict[str, dict[str, object]]:
    """Return how many are in each state, and since when the oldest is."""
    counts: Counter[str] = Counter()
    oldest: dict[str, float] = {}
    for state in (None, "done"):
        for row in stored_rows(view, state):
            counts[row.state] += 1
            if row.since is not None:
                oldest[row.state] = min(row.since, oldest.get(row.state, row.since))
    return {
        state: {"count": counts[state], "oldest": iso(oldest.get(state))}
        for state in sorted(counts)
    }


def _summary(document: dict[str, object]) -> str:
    said = dict(document)
    entries, states = said.pop("entries"), said.pop("states")
    holder = said.pop("holder")
    assert isinstance(entries, dict)
    assert isinstance(states, dict)
    said["holder"] = "none"
    if isinstance(holder, dict):
        said["holder"] = (
            f"process {holder['pid']} on {holder['host']} since {holder['started']}"
        )
    for name in ("size", "used"):
        count = said[name]
        assert isinstance(count, int)
        said[name] = size(count)
    if said["oldest_reader"] is None:
        said["oldest_reader"] = "none"
        del said["reader_lag"]
    lines = [(name.replace("_", " "), str(value)) for name, value in said.items()]
    lines += [(f"entries in {name}", str(n)) for name, n in entries.items() if n]
    lines += [
        (state, f"{found['count']}, the oldest since {found['oldest'] or 'unknown'}")
        for state, found in states.items()
    ]
    width = max(len(name) for name, _ in lines)
    return "\n".join(f"{name.ljust(width)}  {value}" for name, value in lines)
