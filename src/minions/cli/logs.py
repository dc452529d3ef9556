"""Where the log goes: standard error, as lines for people or as JSON.

All that is logged, by Minions, by components and by libraries, goes the same way,
through the standard library's ``logging``.  What is logged in a hook or step gets
fields that say whose it is.
"""

from __future__ import annotations

import contextlib
import logging
import os
import sys
from collections.abc import Iterator
from typing import TYPE_CHECKING

import attrs
import structlog

from minions.cli.system_file import LogTable
from minions.declare.binding import current_workflow
from minions.runtime.calls import caller
from minions.runtime.process import to_stderr

if TYPE_CHECKING:
    from structlog.typing import EventDict, Processor, WrappedLogger

__all__ = ["Voice", "logging_to_stderr"]

_log = logging.getLogger("minions.cli")


@attrs.frozen
class Voice:
    """Speaks to whoever watches the program, without a log's clutter.

    Where the log is JSON, what is said is a record of it: every line is JSON then.
    """

    as_records: bool

    def tell(self, text: str) -> None:
        """Say how it goes."""
        if self.as_records:
            _log.info(text)
        else:
            to_stderr(text)

    def complain(self, text: str) -> None:
        """Say why it ends."""
        if self.as_records:
            _log.error(text)
        else:
            to_stderr(f"minions: {text}")


@contextlib.contextmanager
def logging_to_stderr(table: LogTable) -> Iterator[Voice]:
    """Log as *table* says, until the block ends.

    Yields what speaks to people meanwhile.
    """
    handler = logging.StreamHandler(sys.stderr)
    handler.setFormatter(_formatter(table))
    root = logging.getLogger()
    handlers, level = root.handlers[:], root.level
    root.handlers[:] = [handler]
    root.setLevel(table.level.upper())
    logging.captureWarnings(capture=True)
    structlog.configure(
        processors=[
            structlog.stdlib.filter_by_level,
            structlog.stdlib.PositionalArgumentsFormatter(),
            *_fields(),
            structlog.stdlib.ProcessorFormatter.wrap_for_formatter,
        ],
        wrapper_class=structlog.stdlib.BoundLogger,
        logger_factory=structlog.stdlib.LoggerFactory(),
    )
    try:
        yield Voice(as_records=table.format == "json")
    finally:
        structlog.reset_defaults()
        logging.captureWarnings(capture=False)
        root.handlers[:] = handlers
        root.setLevel(level)


def _fields() -> list[Processor]:
    return [
        structlog.contextvars.merge_contextvars,
        structlog.stdlib.add_log_level,
        structlog.stdlib.add_logger_name,
        _add_place,
    ]


def _formatter(table: LogTable) -> logging.Formatter:
    if table.format == "json":
        timestamp = structlog.processors.TimeStamper(fmt="iso", utc=True)
        render: list[Processor] = [
            structlog.processors.StackInfoRenderer(),
            structlog.processors.format_exc_info,
            structlog.processors.JSONRenderer(),
        ]
    else:
        timestamp = structlog.processors.TimeStamper(fmt="%H:%M:%S", utc=False)
        colors = sys.stderr.isatty() and "NO_COLOR" not in os.environ
        render = [
            structlog.processors.StackInfoRenderer(),
            _below_the_line,
            structlog.dev.ConsoleRenderer(
                colors=colors,
                # A rich traceback would show local variables: payloads, passwords.
                exception_formatter=structlog.dev.plain_traceback,
            ),
        ]
    return structlog.stdlib.ProcessorFormatter(
        foreign_pre_chain=[structlog.stdlib.ExtraAdder(), *_fields()],
        processors=[
            timestamp,
            structlog.stdlib.ProcessorFormatter.remove_processors_meta,
            *render,
        ],
    )


def _add_place(_logger: WrappedLogger, _method: str, event: EventDict) -> EventDict:
    """Say on whose behalf this is logged; a notice says itself whom it is about."""
    if str(event.get("logger", "")).startswith("minions."):
        return event
    if (incarnation := caller()) is not None:
        event.setdefault("component", incarnation.name)
        event.setdefault("epoch", incarnation.epoch)
    cell = current_workflow.get(None)
    if cell is not None and not cell.ended:
        event.setdefault("orchestration", cell.workflow.orchestration_id)
        event.setdefault("workflow", cell.workflow.id)
        event.setdefault("step", cell.workflow.step)
    return event


def _below_the_line(
    _logger: WrappedLogger, _method: str, event: EventDict
) -> EventDict:
    """Let text of many lines follow the line it belongs to."""
    for name, place in (("traceback", "exception"), ("stacks", "stack")):
        if isinstance(event.get(name), str) and place not in event:
            event[place] = event.pop(name).rstrip("\n")
    return event
