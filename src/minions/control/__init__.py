"""Asks a process that uses a state folder to change something in it."""

from __future__ import annotations

from minions.control.client import ControlError, Owner, find_owner

__all__ = ["ControlError", "Owner", "find_owner"]
