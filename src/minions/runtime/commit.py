"""What a step's commit holds besides its snapshot."""

from __future__ import annotations

from collections.abc import Callable, Sequence

import attrs

from minions.runtime.work import Mail, nothing
from minions.store.port import Keyspace, Write
from minions.workflow.layout import mail_key

__all__ = ["NO_EFFECTS", "Effects"]


@attrs.frozen(eq=False)
class Effects:
    """What a step's commit holds besides its snapshot."""

    writes: Sequence[Write] = ()
    done: Callable[[], None] = nothing
    """Called when the commit is on disk."""

    def and_taken(self, seq: int, mail: Mail) -> Effects:
        """Return these, and a signal that was taken."""
        gone: Write = (Keyspace.MAIL, mail_key(seq, mail.number), None)
        return Effects([*self.writes, gone], self.done)


NO_EFFECTS = Effects()
