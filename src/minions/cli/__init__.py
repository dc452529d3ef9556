"""The command line; what it does with a system, a program can do through Gru."""

from __future__ import annotations

from minions.cli.command import main

__all__ = ["main"]
