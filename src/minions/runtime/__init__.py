"""What runs a resource, a pipeline, a minion; and Gru, who nests them."""

from __future__ import annotations
