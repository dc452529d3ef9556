"""What a step does besides its context: signals that it takes, events that it emits.

Both become true with the commit that ends the step, and with no other: a step that
fails, is interrupted or tried again has taken and emitted nothing.
"""

from __future__ import annotations

import math
from collections.abc import Callable, Mapping, Sequence
from typing import Any, Protocol

import trio

from minions.declare.kinds import is_data, type_name
from minions.errors import DefinitionError, NotRunningError
from minions.runtime.codecs import Codecs
from minions.runtime.commit import NO_EFFECTS, Effects
from minions.runtime.work import Mail, Work
from minions.store.port import Keyspace, Write
from minions.workflow.layout import mail_key

__all__ = ["Outlet", "Outlets", "StepPort", "check_signal_class"]


class Outgoing(Protocol):
    """Events that have their places in the tables of a pipeline."""

    writes: list[Write]

    def accepted(self) -> None:
        """Hear that the writes are on disk."""

    def withdraw(self) -> None:
        """Give the places back."""


class Outlet(Protocol):
    """A pipeline as the target of a step."""

    def encode(self, event: Any, sender: str) -> bytes:
        """Make the bytes of an event; raises ``TypeError`` and ``SnapshotError``."""

    def reserve_above(self, events: list[tuple[Any, bytes]]) -> Outgoing:
        """Take places above the bounds; raises ``StoreFullError``."""


_NOWHERE: Mapping[str, int] = {}

Outlets = Callable[[type], Outlet]
"""Finds a pipeline by its class; raises ``DefinitionError``."""


def check_signal_class(owner: str, kind: object) -> None:
    """Refuse to receive what is no data class.

    Raises:
        DefinitionError: It is none.
    """
    if not is_data(kind):
        raise DefinitionError(
            f"{owner}: self.workflow.receive: expected the class of a signal, found"
            f" {type_name(kind)}; give an attrs, dataclass or msgspec.Struct class"
        )


class StepPort:
    """The runtime's side of ``self.workflow`` in one step.

    Most steps need none.
    """

    __slots__ = (
        "_codecs",
        "_looked",
        "_outlets",
        "_reserved",
        "_sent",
        "_taken",
        "_work",
        "ended",
    )

    def __init__(self, work: Work, codecs: Codecs, outlets: Outlets) -> None:
        self._work = work
        self._codecs = codecs
        self._outlets = outlets
        self._taken: Sequence[Mail] = ()
        # By type: the place in the mail, which only grows while the step runs, at
        # which the first one may stand that was not taken.
        self._looked: Mapping[str, int] = _NOWHERE
        self._sent: dict[Outlet, list[tuple[Any, bytes]]] | None = None
        self._reserved: Sequence[Outgoing] = ()
        self.ended: bool = False

    async def receive(
        self,
        kind: type,
        timeout: float | None,  # noqa: ASYNC109  # of the contract
    ) -> Any:
        """Take the oldest signal of a class; see ``WorkflowInfo.receive``."""
        self._check_open("receive")
        check_signal_class(self._codecs.steps.owner, kind)
        codec = self._codecs.signal(kind)
        await trio.lowlevel.checkpoint()
        # One that is there is taken with any timeout, 0 too.
        with trio.move_on_after(math.inf if timeout is None else timeout):
            while self.wants(codec.type_name) is None and not self.ended:
                await self._work.wait_mail()
        self._check_open("receive")
        mail = self.wants(codec.type_name)
        if mail is None:
            return None
        self.take(mail)
        return codec.decode(mail.payload)

    async def emit(self, event: Any, to: type) -> None:
        """Keep an event until the step ends; see ``WorkflowInfo.emit``."""
        self._check_open("emit")
        await trio.lowlevel.checkpoint()
        outlet = self._outlets(to)
        if self._sent is None:
            self._sent = {}
        data = outlet.encode(event, self._codecs.steps.owner)
        self._sent.setdefault(outlet, []).append((event, data))

    def _check_open(self, member: str) -> None:
        if self.ended:
            raise NotRunningError(
                f"{self._work.id}: self.workflow.{member}: expected a step that runs,"
                " found that it has ended; call it before the step returns"
            )

    # With the end of the step.

    def wants(self, type_name: str) -> Mail | None:
        """Return the oldest signal of a type that the step has not taken."""
        mails = self._work.mail
        place = self._looked.get(type_name, 0)
        while place < len(mails) and mails[place].type != type_name:
            place += 1
        self._looked = {**self._looked, type_name: place}
        return mails[place] if place < len(mails) else None

    def take(self, mail: Mail) -> None:
        """Take what :meth:`wants` has returned, once the step has ended well."""
        self._looked = {**self._looked, mail.type: self._looked[mail.type] + 1}
        self._taken = [*self._taken, mail]

    def prepare(self) -> Effects:
        """Reserve what the commit is to hold, or nothing.

        Raises:
            StoreFullError: A subscription is at ``max_unfinished``.
        """
        if not self._taken and self._sent is None:
            return NO_EFFECTS
        writes: list[Write] = [
            (Keyspace.MAIL, mail_key(self._work.seq, mail.number), None)
            for mail in self._taken
        ]
        try:
            for outlet, events in (self._sent or {}).items():
                outgoing = outlet.reserve_above(events)
                self._reserved = [*self._reserved, outgoing]
                writes += outgoing.writes
        except BaseException:
            self.undo()
            raise
        return Effects(writes, self._done)

    def undo(self) -> None:
        """Give all back: there was no commit."""
        for outgoing in reversed(self._reserved):
            outgoing.withdraw()
        self._reserved = ()

    def _done(self) -> None:
        for outgoing in self._reserved:
            outgoing.accepted()

    def settle(self) -> None:
        """Forget the signals that were taken: the commit is on its way."""
        if self._taken:
            taken = {mail.number for mail in self._taken}
            self._work.mail = [m for m in self._work.mail if m.number not in taken]
