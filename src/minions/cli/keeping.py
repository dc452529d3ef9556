"""``minions backup`` and ``fsck``."""

from __future__ import annotations

import argparse
from pathlib import Path

from minions.cli.output import answer, size
from minions.cli.place import Place, place_of
from minions.errors import StoreError
from minions.store.backup import make_backup, plan_backup
from minions.store.backups import remedy_for
from minions.store.folder import state_of
from minions.store.reading import StoreReader, look_into, open_reader, verify_file
from minions.workflow.check import check_store
from minions.workflow.layout import Keyspace
from minions.workflow.passing import Violation

__all__ = ["backup", "fsck"]

_DONE, _FAILED = 0, 1
# The pages of a running system may change under a walk.
_WALKS = 3


def backup(arguments: argparse.Namespace) -> int:
    """Copy the state folder, of a running system too."""
    place, target, compact = place_of(arguments), arguments.dest, arguments.compact
    if arguments.dry_run:
        with open_reader(place.path) as reader:
            plan = plan_backup(reader, target, compact=compact)
        said = f"would be copied to {plan.target}: at most {size(plan.size)}"
        said += f", {size(plan.room)} are free there"
    else:
        plan = make_backup(place.path, target, compact=compact)
        said = f"copied to {plan.target}"
    document = {
        "source": str(plan.source),
        "target": str(plan.target),
        "size": plan.size if arguments.dry_run else _size_of(plan.target),
        "room": plan.room,
        "compact": compact,
        "dry_run": arguments.dry_run,
    }
    answer(document, f"{plan.source}: {said}", as_json=arguments.json)
    return _DONE


def _size_of(folder: Path) -> int:
    return sum(file.stat().st_size for file in folder.iterdir())


def fsck(arguments: argparse.Namespace) -> int:
    """Check all that is stored."""
    place = place_of(arguments)
    problems, violations, entries = _check(place)
    document = {
        "path": str(place.path),
        "ok": not (problems or violations),
        "pages": problems,
        "violations": [_plain(found) for found in violations],
        "entries": entries,
    }
    lines = [f"pages: {text}" for text in problems]
    lines += [
        f"{found.space}/{found.key.hex()}: {found.found}; {found.remedy}"
        for found in violations
    ]
    count = len(problems) + len(violations)
    said = "is well" if not count else f"{count} violation{'s' * (count != 1)}"
    if not problems:
        said += f"; {sum(entries.values())} entries checked"
    lines.append(f"{place.path}: {said}")
    answer(document, "\n".join(lines), as_json=arguments.json)
    return _FAILED if count else _DONE


def _plain(violation: Violation) -> dict[str, str]:
    return {
        "keyspace": violation.space,
        "key": violation.key.hex(),
        "found": violation.found,
        "remedy": violation.remedy,
    }


def _check(place: Place) -> tuple[list[str], list[Violation], dict[str, int]]:
    """Return what is wrong with the pages, with what stands in them, and how many.

    What LMDB cannot trust it must not map: where pages are damaged, no more is read.
    """
    if state_of(look_into(place.path, data=False)) != "new":
        try:
            look_into(place.path)
        except StoreError as exc:
            return [str(exc)], [], {}
    is_walked = False
    if not place.look()[1]:
        problems = verify_file(place.path)
        # A process may have begun meanwhile, and written during the walk.
        if problems and not place.look()[1]:
            return [*problems, remedy_for(place.path)], [], {}
        is_walked = not problems
    with open_reader(place.path) as reader:
        problems = [] if is_walked else _walk(reader)
        if problems:
            return [*problems, remedy_for(place.path)], [], {}
        with reader.view() as view:
            entries = {space.value: view.count(space) for space in Keyspace}
            return [], [*check_store(view)], entries


def _walk(reader: StoreReader) -> list[str]:
    """Return what is wrong with the pages of a file that may be written meanwhile."""
    problems: list[str] = []
    for _ in range(_WALKS):
        problems = reader.verify()
        if not problems:
            break
    return problems
