"""One step at work, and what the user's code may ask of it.

Most steps ask for their event and context only: the rest is made for those who ask.
"""

from __future__ import annotations

from datetime import UTC, datetime
from typing import Any

from minions.declare.binding import WorkflowCell, WorkflowInfo
from minions.runtime.commit import NO_EFFECTS, Effects
from minions.runtime.desk import Desk
from minions.runtime.effects import StepPort
from minions.runtime.work import Work

__all__ = ["StepCell"]


class StepCell(WorkflowCell, eq=False):
    """One step at work; it ends with the step."""

    step: str
    work: Work
    desk: Desk
    received: Any = None
    """The signal that the step before has waited for."""

    _port: StepPort | None = None
    _info: WorkflowInfo | None = None

    @property
    def port(self) -> StepPort:
        """The runtime's side of ``self.workflow``; made when it is first needed."""
        if self._port is None:
            self._port = StepPort(self.work, self.desk.codecs, self.desk.outlets)
            self._port.ended = self.ended
        return self._port

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
        if self._port is not None:
            self._port.ended = True

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

    def prepare(self) -> Effects:
        """Reserve what the commit is to hold; see :meth:`StepPort.prepare`."""
        return NO_EFFECTS if self._port is None else self._port.prepare()

    def undo(self) -> None:
        """Give all back: there was no commit."""
        if self._port is not None:
            self._port.undo()

    def settle(self) -> None:
        """Hear that the commit is on its way."""
        if self._port is not None:
            self._port.settle()
