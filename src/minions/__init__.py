"""Supervised components and durable workflows in one trio process.

Public names appear here as they work; there are none yet.
"""

from __future__ import annotations

__all__: list[str] = []
