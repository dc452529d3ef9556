"""What a step's commit holds besides its snapshot."""

from __future__ import annotations

from collections.abc import Callable, Sequence

import msgspec

from minions.runtime.work import Mail, Work, nothing
from minions.store.port import Keyspace, Write
from minions.workflow.layout import mail_key
from minions.workflow.record import WorkflowRecord

__all__ = ["NO_EFFECTS", "Effects", "Saving"]


class Effects(msgspec.Struct, frozen=True, eq=False):
    """What a step's commit holds besides its snapshot."""

    writes: Sequence[Write] = ()
    done: Callable[[], None] = nothing
    """Called when the commit is on disk."""

    def and_taken(self, seq: int, mail: Mail) -> Effects:
        """Return these, and a signal that was taken."""
        gone: Write = (Keyspace.MAIL, mail_key(seq, mail.number), None)
        return Effects([*self.writes, gone], self.done)


NO_EFFECTS = Effects()


class Saving(msgspec.Struct, eq=False):
    """A snapshot on its way to the disk."""

    _work: Work
    _record: WorkflowRecord
    _effects: Effects
    _then: Callable[[Work], None]

    def done(self) -> None:
        """Hear that it is on disk."""
        if self._work.record is self._record:
            self._work.saved = True
        if self._effects is not NO_EFFECTS:
            self._effects.done()
        self._then(self._work)
