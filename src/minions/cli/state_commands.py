"""The commands on a state folder, by name."""

from __future__ import annotations

import argparse
from collections.abc import Callable

from minions.cli.changing import cancel, discard, forget, redrive
from minions.cli.fitting import check
from minions.cli.keeping import backup, fsck
from minions.cli.looking import ls, show, stats, why

__all__ = ["COMMANDS"]

COMMANDS: dict[str, Callable[[argparse.Namespace], int]] = {
    "backup": backup,
    "cancel": cancel,
    "check": check,
    "discard": discard,
    "forget": forget,
    "fsck": fsck,
    "ls": ls,
    "redrive": redrive,
    "show": show,
    "stats": stats,
    "why": why,
}
"""Each returns the exit code."""
