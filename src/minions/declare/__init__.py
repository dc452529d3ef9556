"""From the user's class to a specification: no trio, no clock."""

from __future__ import annotations

__all__: list[str] = []
