"""Frozen facts about what the runtime did.

The runtime emits each fact once; the log, ``gru.notices()`` and the snapshot
read them.  A notice holds text and numbers only, never a user's object and
never a traceback object, so that keeping one keeps nothing alive.
"""

from __future__ import annotations

import traceback

import attrs

__all__ = [
    "ComponentBackoff",
    "ComponentCrashed",
    "ComponentDraining",
    "ComponentEnded",
    "ComponentFailed",
    "ComponentNotice",
    "ComponentReleased",
    "ComponentStarting",
    "ComponentStuck",
    "ComponentUp",
    "CrashLeaf",
    "CrashReport",
    "EventsRejected",
    "FieldsDropped",
    "Notice",
    "NoticesLost",
    "ShutdownFailed",
    "SourceFailed",
    "StartFailed",
    "StoreMigrated",
    "StoreRecovered",
    "StoreTrouble",
    "SubscriptionsWaiting",
    "WorkflowDiscarded",
    "WorkflowInterrupted",
    "WorkflowNotice",
    "WorkflowQuarantined",
    "WorkflowRetrying",
    "leaves_of",
    "report_of",
]


@attrs.frozen
class CrashLeaf:
    """One exception of a crash, as text."""

    type: str
    message: str


@attrs.frozen
class CrashReport:
    """A crash as flat leaves: groups are taken apart, the traceback is text."""

    leaves: tuple[CrashLeaf, ...]
    traceback: str

    def __str__(self) -> str:
        return "; ".join(
            f"{leaf.type}: {leaf.message}" if leaf.message else leaf.type
            for leaf in self.leaves
        )


def leaves_of(exc: BaseException) -> list[BaseException]:
    """Take exception groups apart, however deep."""
    leaves: list[BaseException] = []
    waiting = [exc]
    while waiting:
        found = waiting.pop()
        if isinstance(found, BaseExceptionGroup):
            waiting.extend(reversed(found.exceptions))
        else:
            leaves.append(found)
    return leaves


def report_of(exc: BaseException) -> CrashReport:
    """Turn an exception into text; its own ``__str__`` may fail."""
    try:
        text = "".join(traceback.format_exception(exc))
    except BaseException:  # noqa: BLE001  # a user's __str__ that raises
        text = "".join(traceback.format_tb(exc.__traceback__))
    return CrashReport(tuple(_leaf(leaf) for leaf in leaves_of(exc)), text)


def _leaf(exc: BaseException) -> CrashLeaf:
    kind = type(exc)
    name = kind.__qualname__
    if kind.__module__ != "builtins":
        name = f"{kind.__module__}.{name}"
    try:
        message = str(exc)
    except BaseException as error:  # noqa: BLE001  # a user's __str__ that raises
        message = f"<its text raised {type(error).__qualname__}>"
    return CrashLeaf(name, message)


@attrs.frozen(kw_only=True)
class Notice:
    """Base of all notices."""


@attrs.frozen(kw_only=True)
class ComponentNotice(Notice):
    """A fact about one life of one component."""

    component: str
    """Its name."""

    epoch: int
    """The number of its life, from 1; 0: it has had none yet."""


@attrs.frozen(kw_only=True)
class ComponentStarting(ComponentNotice):
    """All that it needs is up; its ``startup`` begins."""


@attrs.frozen(kw_only=True)
class ComponentUp(ComponentNotice):
    """Its ``startup`` has returned."""


@attrs.frozen(kw_only=True)
class ComponentDraining(ComponentNotice):
    """It takes no new work; ``cause`` is the chain that led to it."""

    cause: str


@attrs.frozen(kw_only=True)
class ComponentReleased(ComponentNotice):
    """Its ``shutdown`` has ended, or its ``startup`` never returned."""


@attrs.frozen(kw_only=True)
class ComponentCrashed(ComponentNotice):
    """Its own code raised; reported once per crash.

    ``during_drain`` says that it was going already, for another cause.
    """

    report: CrashReport
    during_drain: bool
    cause: str


@attrs.frozen(kw_only=True)
class StartFailed(ComponentNotice):
    """Its ``startup`` raised or took too long; not charged."""

    report: CrashReport


@attrs.frozen(kw_only=True)
class ShutdownFailed(ComponentNotice):
    """Its ``shutdown`` raised or was cut off; it counts as released."""

    report: CrashReport


@attrs.frozen(kw_only=True)
class ComponentBackoff(ComponentNotice):
    """It starts again after ``delay`` seconds; ``charged`` to its budget or not."""

    delay: float
    charged: bool


@attrs.frozen(kw_only=True)
class ComponentFailed(ComponentNotice):
    """It will not be started again without an operator."""

    cause: str


@attrs.frozen(kw_only=True)
class ComponentEnded(ComponentNotice):
    """It has stopped, because it was asked to or because its source is exhausted."""

    cause: str


@attrs.frozen(kw_only=True)
class ComponentStuck(ComponentNotice):
    """It overran its grace; ``stacks`` shows where its tasks are."""

    stage: str
    stacks: str


@attrs.frozen(kw_only=True)
class SourceFailed(ComponentNotice):
    """``produce_event`` raised; it is called again after ``delay`` seconds."""

    report: CrashReport
    errors_in_a_row: int
    delay: float


@attrs.frozen(kw_only=True)
class SubscriptionsWaiting(Notice):
    """A pipeline began although these subscriptions to it are not started."""

    component: str
    orchestrations: tuple[str, ...]


@attrs.frozen(kw_only=True)
class EventsRejected(Notice):
    """A subscription at its bound let events go, as its ``overflow`` says."""

    orchestration: str
    count: int
    total: int


@attrs.frozen(kw_only=True)
class WorkflowNotice(Notice):
    """A fact about one workflow."""

    orchestration: str
    workflow: str
    step: str
    """The step at which it stands; empty if that is not known: its record cannot be
    read, or stands at the first step and its orchestration was not started yet."""


@attrs.frozen(kw_only=True)
class WorkflowQuarantined(WorkflowNotice):
    """A workflow cannot go on, and waits for a person."""

    reason: str
    report: CrashReport


@attrs.frozen(kw_only=True)
class WorkflowDiscarded(WorkflowNotice):
    """A workflow failed, and its class says ``on_failure = "discard"``."""

    reason: str
    report: CrashReport


@attrs.frozen(kw_only=True)
class WorkflowInterrupted(WorkflowNotice):
    """A step lost what it needs, or its grace; it runs again when the minion is up."""

    report: CrashReport | None


@attrs.frozen(kw_only=True)
class WorkflowRetrying(WorkflowNotice):
    """An attempt has failed; the step is tried again after ``delay`` seconds."""

    attempt: int
    """How many attempts have failed."""

    delay: float
    report: CrashReport


@attrs.frozen(kw_only=True)
class FieldsDropped(Notice):
    """Stored data had fields that its class has no longer; they are not kept.

    Told once per orchestration, class and fields.
    """

    orchestration: str
    type_name: str
    """The name of the class."""

    fields: tuple[str, ...]


@attrs.frozen(kw_only=True)
class StoreTrouble(Notice):
    """The store cannot commit; it tries again, and acknowledges nothing meanwhile."""

    error: str


@attrs.frozen(kw_only=True)
class StoreMigrated(Notice):
    """A state folder of an older format was brought to the present one."""

    old: int
    """The format that it had."""

    new: int
    """The format that it has."""

    copy: str
    """The folder as it was before; it is yours to delete."""


@attrs.frozen(kw_only=True)
class StoreRecovered(Notice):
    """The store commits again."""


@attrs.frozen(kw_only=True)
class NoticesLost(Notice):
    """A reader was too slow: ``count`` older notices were dropped for it."""

    count: int
