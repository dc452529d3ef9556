"""Every error that Minions raises on purpose.

The class says whose fault it is; the message says which component, what was
expected, what was found and what to do.  Exceptions of user code are never
wrapped: they appear as themselves, or as ``__cause__``.
"""

from __future__ import annotations

__all__ = [
    "AbortWorkflow",
    "AlreadyRunningError",
    "ComponentBroken",
    "ConfigError",
    "DefinitionError",
    "DependencyError",
    "DependencyLost",
    "InternalError",
    "MinionsError",
    "NotRunningError",
    "RestartLimitError",
    "SnapshotError",
    "StartError",
    "StoreError",
    "StoreFullError",
    "StoreLockedError",
    "StoreVersionError",
]


class MinionsError(Exception):
    """Base of all errors that Minions raises on purpose."""


class DefinitionError(MinionsError):
    """A class cannot run as it is declared.

    Raised before anything starts, and nothing on disk is touched.
    """


class DependencyError(DefinitionError):
    """The dependencies of a class form a cycle, or one is missing or unclear."""


class ConfigError(DefinitionError):
    """A configuration does not fit the class that it is meant for."""


class StartError(MinionsError):
    """A component did not come up, or a system must not begin as it stands.

    ``__cause__`` is the exception of the component's ``startup``, if there was one.
    """


class AlreadyRunningError(MinionsError):
    """The same minion, pipeline and name run already in this Gru."""


class NotRunningError(MinionsError):
    """What was asked for exists only while something runs that does not run now.

    For example ``self.event`` outside a step, or a start on a Gru that stops.
    """


class ComponentBroken(MinionsError):  # noqa: N818  # a word of the contract
    """Raise it in a resource's method to say that the resource is beyond use.

    The component whose method raises it crashes, once per epoch, and is
    restarted with its dependents.  Its callers see :class:`DependencyLost`.
    """


class DependencyLost(MinionsError):  # noqa: N818  # a word of the contract
    """A call went into a component that has crashed.

    A step need not handle it: a step that loses a dependency is interrupted
    and runs again after the restart.
    """


class RestartLimitError(MinionsError):
    """A component crashed more often than its restart intensity allows."""


class StoreError(MinionsError):
    """The store could not be opened, read or written."""


class StoreLockedError(StoreError):
    """Another process, or another Gru of this one, uses the state folder."""


class StoreFullError(StoreError):
    """There is no room: on the disk, or below ``max_unfinished``."""


class StoreVersionError(StoreError):
    """The state folder has a format that this version does not know."""


class SnapshotError(StoreError):
    """A value cannot be stored, or a stored one cannot be read."""


class InternalError(MinionsError):
    """A bug in Minions.  Please report it with its traceback."""


class AbortWorkflow(Exception):  # noqa: N818  # not an error: an end on purpose
    """Raise it in a step to end the workflow on purpose.

    The end is ``aborted``; nothing is quarantined and nothing is tried again.
    """
