"""One step at work, and what the user's code may ask of it.

Most steps ask for their event and context only: the rest is made for those who ask.
"""

from __future__ import annotations

from datetime import UTC, datetime
from typing import Any

import msgspec

from minions.declare.binding import WorkflowInfo
from minions.runtime.desk import Desk
from minions.runtime.effects import StepPort
from minions.runtime.work import Work

__all__ = ["StepCell"]


class StepCell(msgspec.Struct, eq=False):
    """One step at work, as `WorkflowCell` says; it ends with the step."""

    minion: object
    event: Any
    context: Any
    ended: bool
    step: str
    work: Work
    desk: Desk
    received: Any = None
    """The signal that the step before has waited for."""

    open_port: StepPort | None = None
    """The runtime's side of ``self.workflow``, if anybody has needed it."""

    _info: WorkflowInfo | None = None

    @property
    def port(self) -> StepPort:
        """The runtime's side of ``self.workflow``; made when it is first needed."""
        port = self.open_port
        if port is None:
            desk = self.desk
            self.open_port = port = StepPort(self.work, desk.codecs, desk.outlets)
            port.ended = self.ended
        return port

    @property
    def workflow(self) -> WorkflowInfo:
        """The facts about the workflow; made when somebody asks for them."""
        if self._info is None:
            record = self.work.record
            self._info = WorkflowInfo(
                self.work.id,
                self.desk.table.id,
                self.step,
                record.attempt + 1,
                datetime.fromtimestamp(record.accepted_at, UTC),
                self.received,
                self.port,
            )
        return self._info

    def end(self) -> None:
        """Hear that the step has ended: nothing may be asked of it any more."""
        self.ended = True
        if self.open_port is not None:
            self.open_port.ended = True

    def following(self, step: str, received: Any) -> StepCell:
        """Make the cell of the next step, with the objects that are there."""
        return StepCell(
            self.minion,
            self.event,
            self.context,
            False,  # by position: one is made for each step
            step,
            self.work,
            self.desk,
            received,
        )

    # With the end of the step.

    def encoded(self) -> tuple[str, bytes]:
        """Return the name of the context's type, and its bytes.

        Raises:
            SnapshotError: It cannot be stored.
        """
        codec = self.desk.codecs.context
        return codec.type_name, codec.encode(self.context)
