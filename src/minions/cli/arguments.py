"""What can be written behind ``minions``."""

from __future__ import annotations

import argparse
import importlib.metadata
import sys
from pathlib import Path
from typing import Any

from minions.cli.state_arguments import add_state_commands

__all__ = ["read_arguments"]

_CODES = """\
exit codes:
  0          ended, or stopped in order
  1          failed
  2          wrong usage, or refused before anything started
  130, 143   after a second or third Ctrl-C or SIGTERM
"""


class _ShowVersion(argparse.Action):
    """Looks the version up only when it is asked for."""

    def __call__(self, parser: argparse.ArgumentParser, *_: Any) -> None:
        try:
            version = importlib.metadata.version("trio-minions")
        except importlib.metadata.PackageNotFoundError:
            version = "of a source folder that is not installed"
        sys.stdout.write(f"minions {version}\n")
        parser.exit()


def read_arguments(argv: list[str] | None) -> argparse.Namespace:
    """Read the arguments; ``command`` is the one that was named.

    Raises:
        SystemExit: They make no sense, or ask for help.
    """
    parser = argparse.ArgumentParser(
        prog="minions",
        description="Run a system of supervised components and durable workflows.",
        epilog=_CODES,
        formatter_class=argparse.RawDescriptionHelpFormatter,
        allow_abbrev=False,
    )
    parser.add_argument(
        "--version", nargs=0, action=_ShowVersion, help="show the version and exit"
    )
    commands = parser.add_subparsers(dest="command", required=True, metavar="COMMAND")
    run = commands.add_parser(
        "run",
        help="run the system that a minions.toml declares",
        description="Run the system that FOLDER/minions.toml declares.",
        allow_abbrev=False,
    )
    run.add_argument("folder", nargs="?", default=".", type=Path, metavar="FOLDER")
    run.add_argument(
        "--check",
        action="store_true",
        help="only validate: start nothing, touch no state",
    )
    add_state_commands(commands)
    return parser.parse_args(argv)
