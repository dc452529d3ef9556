"""What the lives of one orchestration's minion work with."""

from __future__ import annotations

from contextvars import Context

import msgspec

from minions.runtime.codecs import Codecs
from minions.runtime.effects import Outlets
from minions.runtime.ledger import Ledger
from minions.runtime.table import WorkTable

__all__ = ["Desk"]


class Desk(msgspec.Struct, frozen=True, eq=False):
    """What the lives of one orchestration's minion work with."""

    table: WorkTable
    ledger: Ledger
    codecs: Codecs
    outlets: Outlets
    context: Context
    """In which its workflows start."""
