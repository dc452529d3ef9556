"""What can be written behind the commands on a state folder."""

from __future__ import annotations

import argparse
import contextlib
from pathlib import Path
from typing import Any

__all__ = ["STATES", "add_state_commands"]

STATES = (
    "ready",
    "running",
    "queued",
    "parked",
    "sleeping",
    "retrying",
    "waiting",
    "quarantined",
    "damaged",
    "done",
    "aborted",
    "cancelled",
    "discarded",
)
"""What ``--in`` takes; ``damaged``: its record cannot be read."""


def add_state_commands(commands: Any) -> None:
    """Add all commands on a state folder to the parsers of commands."""
    listed = _add(commands, "ls", "list workflows")
    listed.add_argument("--in", dest="state", choices=STATES, metavar="STATE")
    _add_orchestration(listed)
    _add_id(_add(commands, "show", "show all that is known of a workflow"))
    _add_id(_add(commands, "why", "say what a workflow waits for"))
    _add_redrive(commands)
    discard = _add_change(commands, "discard", "end quarantined workflows for good")
    _add_id_or_all(discard)
    _add_id(_add_change(commands, "cancel", "end a workflow, whatever it does"))
    forget = _add_change(
        commands, "forget", "end the subscription of one that will not come back"
    )
    forget.add_argument("id", metavar="ID", help="the orchestration's id")
    backup = _add_change(commands, "backup", "copy the state, of a running system too")
    backup.add_argument("dest", type=Path, metavar="DEST", help="must not exist")
    backup.add_argument("--compact", action="store_true", help="leave out free pages")
    _add(commands, "fsck", "check all that is stored")
    _add(commands, "stats", "say what the store holds, and what it takes")
    _add(commands, "check", "say whether the stored workflows fit the code")


def _add(commands: Any, name: str, text: str) -> argparse.ArgumentParser:
    description = f"{text[0].upper()}{text[1:]}."
    made: argparse.ArgumentParser = commands.add_parser(
        name, help=text, description=description, allow_abbrev=False
    )
    where = made.add_mutually_exclusive_group()
    where.add_argument(
        "--folder",
        default=".",
        type=Path,
        help="where minions.toml names the store (default: the current folder)",
    )
    where.add_argument("--store", type=Path, metavar="DIR", help="the state folder")
    made.add_argument("--json", action="store_true", help="write one JSON document")
    return made


def _add_change(commands: Any, name: str, text: str) -> argparse.ArgumentParser:
    made = _add(commands, name, text)
    made.add_argument(
        "--dry-run", action="store_true", help="only say what would be done"
    )
    return made


def _add_redrive(commands: Any) -> None:
    redrive = _add_change(commands, "redrive", "send quarantined workflows on again")
    _add_id_or_all(redrive)
    redrive.add_argument(
        "--rate", type=_rate, metavar="N", help="at most N in a second"
    )
    redrive.add_argument(
        "--canary",
        type=_count,
        metavar="N",
        help="send N on first, and the others only if all of these end well",
    )


def _add_id(parser: argparse.ArgumentParser) -> None:
    parser.add_argument("id", metavar="ID", help="the workflow's id, such as w17")


def _add_orchestration(parser: argparse.ArgumentParser) -> None:
    parser.add_argument("--orchestration", metavar="ID", help="only of this one")


def _add_id_or_all(parser: argparse.ArgumentParser) -> None:
    which = parser.add_mutually_exclusive_group(required=True)
    which.add_argument("id", nargs="?", metavar="ID", help="such as w17")
    which.add_argument("--all", action="store_true", help="all quarantined ones")
    _add_orchestration(parser)
    parser.add_argument(
        "--reason", metavar="WORD", help="with --all: only these, such as failed"
    )


def _rate(text: str) -> float:
    with contextlib.suppress(ValueError):
        if 0 < (number := float(text)) < float("inf"):
            return number
    raise argparse.ArgumentTypeError(f"expected a number above 0, found {text!r}")


def _count(text: str) -> int:
    with contextlib.suppress(ValueError):
        if (number := int(text)) >= 1:
            return number
    raise argparse.ArgumentTypeError(
        f"expected a whole number of at least 1, found {text!r}"
    )
