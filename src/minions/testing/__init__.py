"""Helps for testing components."""

from __future__ import annotations

from minions.testing.steps import run_step

__all__ = ["run_step"]
