"""Writes each notice to the standard library's logging, with fields.

As a library we configure nothing: who runs us decides where it goes.
"""

from __future__ import annotations

import logging

import attrs
import structlog

from minions.notices import (
    ComponentBackoff,
    ComponentCrashed,
    ComponentFailed,
    ComponentStuck,
    CrashReport,
    EventsRejected,
    Notice,
    ShutdownFailed,
    SourceFailed,
    StartFailed,
    StoreMigrated,
    StoreTrouble,
    SubscriptionsWaiting,
    WorkflowDiscarded,
    WorkflowQuarantined,
    WorkflowRetrying,
)

__all__ = ["log_notice"]

_log: structlog.stdlib.BoundLogger = structlog.wrap_logger(
    logging.getLogger("minions.runtime"),
    processors=[
        structlog.stdlib.filter_by_level,
        structlog.stdlib.render_to_log_kwargs,
    ],
    wrapper_class=structlog.stdlib.BoundLogger,
    context_class=dict,
    cache_logger_on_first_use=True,
)
_ERRORS = (
    ComponentCrashed,
    ComponentFailed,
    ComponentStuck,
    StoreTrouble,
    WorkflowQuarantined,
)
_WARNINGS = (
    ComponentBackoff,
    EventsRejected,
    ShutdownFailed,
    SourceFailed,
    StartFailed,
    StoreMigrated,
    SubscriptionsWaiting,
    WorkflowDiscarded,
    WorkflowRetrying,
)

_WHO = ("workflow", "component", "orchestration")
_WHAT = ("error", "cause", "reason", "stage")


def log_notice(notice: Notice) -> None:
    """Write one notice: a sentence, and its facts as fields."""
    fields: dict[str, object] = {}
    for field in attrs.fields(type(notice)):
        value = getattr(notice, field.name)
        if isinstance(value, CrashReport):
            fields["error"] = str(value)
            fields["traceback"] = value.traceback
        elif value is not None:
            fields[field.name] = value
    fields["notice"] = type(notice).__name__
    words = _words(type(notice).__name__)
    if isinstance(notice, _ERRORS):
        _log.error(_sentence(words, fields), **fields)
    elif isinstance(notice, _WARNINGS):
        _log.warning(_sentence(words, fields), **fields)
    else:
        _log.info(words, **fields)


def _words(name: str) -> str:
    return "".join(f" {c.lower()}" if c.isupper() else c for c in name).strip()


def _sentence(words: str, fields: dict[str, object]) -> str:
    """Say it in one line: who configures no logging sees nothing else."""
    who = next((str(fields[key]) for key in _WHO if key in fields), "")
    what = next((str(fields[key]) for key in _WHAT if fields.get(key)), "")
    return ": ".join(part for part in (words, who, what) if part)
