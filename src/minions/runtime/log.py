"""Writes each notice to the standard library's logging, with fields.

As a library we configure nothing: who runs us decides where it goes.  The fields are
attributes of the record, where structlog finds them as well; structlog itself would
add nothing here, and half as much again to the time of ``import minions``.  Nor may
it be imported with the first notice: that is one of trouble, which no import outlives
when files cannot be opened, and the run loop would stand still meanwhile.
"""

from __future__ import annotations

import logging

import attrs

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

_log = logging.getLogger("minions.runtime")
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
        _log.error(_sentence(words, fields), extra=fields)
    elif isinstance(notice, _WARNINGS):
        _log.warning(_sentence(words, fields), extra=fields)
    else:
        _log.info(words, extra=fields)


def _words(name: str) -> str:
    return "".join(f" {c.lower()}" if c.isupper() else c for c in name).strip()


def _sentence(words: str, fields: dict[str, object]) -> str:
    """Say it in one line: who configures no logging sees nothing else."""
    who = next((str(fields[key]) for key in _WHO if key in fields), "")
    what = next((str(fields[key]) for key in _WHAT if fields.get(key)), "")
    return ": ".join(part for part in (words, who, what) if part)
