"""What a step by itself receives and emits: the test's side of ``self.workflow``."""

from __future__ import annotations

from collections.abc import Iterable
from typing import Any

import attrs
import trio

from minions.declare.bases import Pipeline
from minions.declare.hooks import options_of
from minions.declare.kinds import is_data, type_name
from minions.declare.mentions import mentioned_classes
from minions.declare.specification import pipeline_types
from minions.errors import DefinitionError, NotRunningError
from minions.identity import component_identity
from minions.runtime.effects import check_signal_class
from minions.runtime.pairing import source_codecs
from minions.store.codec import codec_for

__all__ = ["Inbox", "check_signal", "signal_classes"]


def signal_classes(cls: type, owner: str) -> tuple[type, ...]:
    """Return the classes whose instances Gru would take as signals to a minion."""
    named = (mentioned for mentioned in mentioned_classes(cls) if is_data(mentioned))
    listed: tuple[type, ...] = options_of(cls, "minion", owner)["signals"]
    return tuple(dict.fromkeys((*named, *listed)))


@attrs.define(eq=False)
class Inbox:
    """The port of one step that :func:`minions.testing.run_step` runs."""

    _owner: str
    _signals: list[Any]
    sent: list[tuple[Any, type]] = attrs.field(factory=list)
    ended: bool = False

    @classmethod
    def of(cls, owner: str, known: Iterable[type], signals: Iterable[Any]) -> Inbox:
        """Make one that holds *signals*.

        Raises:
            TypeError: The minion names no such class.
        """
        held = [*signals]
        for signal in held:
            check_signal(owner, known, signal)
        return cls(owner, held)

    async def receive(
        self,
        kind: type,
        timeout: float | None,  # noqa: ASYNC109  # of the contract
    ) -> Any:
        """Take the oldest signal of a class; see ``WorkflowInfo.receive``."""
        self._check_open("receive")
        check_signal_class(self._owner, kind)
        codec_for(kind, component=self._owner)
        # Nobody sends anything meanwhile: it is over at once, however long it is.
        await trio.lowlevel.checkpoint()
        for index, signal in enumerate(self._signals):
            if type(signal) is kind:
                return self._signals.pop(index)
        if timeout is not None:
            return None
        raise NotRunningError(
            f"{self._owner}: self.workflow.receive: expected a signal of"
            f" {component_identity(kind)}, found none left, so that the step would wait"
            " for ever; give run_step another one in signals, or receive with a timeout"
        )

    async def emit(self, event: Any, to: type) -> None:
        """Keep an event until the step ends; see ``WorkflowInfo.emit``."""
        self._check_open("emit")
        await trio.lowlevel.checkpoint()
        if not (isinstance(to, type) and issubclass(to, Pipeline)):
            raise DefinitionError(
                f"{self._owner}: self.workflow.emit: expected a pipeline as to, found"
                f" {type_name(to)}; give the class of one"
            )
        name = component_identity(to)
        source_codecs(name, *pipeline_types(to, name)).encode([event])
        self.sent.append((event, to))

    def _check_open(self, member: str) -> None:
        if self.ended:
            raise NotRunningError(
                f"{self._owner}: self.workflow.{member}: expected a step that runs,"
                " found that it has ended; call it before the step returns"
            )


def check_signal(owner: str, known: Iterable[type], signal: object) -> None:
    """Refuse what Gru would not take as a signal.

    Raises:
        TypeError: The minion names no such class.
    """
    classes = [*known]
    if not any(type(signal) is cls for cls in classes):
        names = ", ".join(sorted(map(component_identity, classes))) or "none"
        raise TypeError(
            f"{owner}: expected a signal of a class that a Wait or receive of this"
            f" minion names, found {signal!r}; it names {names}, and the class"
            " attribute `signals` adds to these"
        )
