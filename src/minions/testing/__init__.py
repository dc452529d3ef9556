"""Helps for testing components; needs hypothesis."""

from __future__ import annotations
