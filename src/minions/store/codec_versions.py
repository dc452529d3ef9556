"""Stored data of other versions of a class, and fields that it no longer has.

The version stands in the class's own map, under a key that no field can have, and
only if it is not 1.  Data that has exactly the fields of the class in its version
never comes here: the number of its entries tells, and that is all that the usual
case pays.
"""

from __future__ import annotations

import threading
from collections.abc import Mapping, Sequence
from typing import Any

import attrs
import msgspec

from minions.declare.schema import Migration
from minions.identity import component_identity
from minions.store.codec_kinds import BadValueError, mismatch

__all__ = ["VERSION_KEY", "Notes", "Versions", "pending", "take_notes"]

VERSION_KEY = "@version"


@attrs.define
class Notes:
    """What is worth telling of the data that one thread decodes now."""

    migrated: bool = False
    dropped: dict[str, dict[str, None]] = attrs.field(factory=dict)
    """The names of the fields, in order and each once, by the type's name."""


pending: dict[int, Notes] = {}
"""By thread; empty unless there is something to tell.

The functions that decode are made once for all codecs, so that they cannot be told
whose data it is.  They note it here, and the codec that called takes it.
"""


def take_notes() -> Notes | None:
    """Return what was noted in this thread, once."""
    return pending.pop(threading.get_ident(), None)


def _note() -> Notes:
    return pending.setdefault(threading.get_ident(), Notes())


class Versions(msgspec.Struct, frozen=True):
    """The versions of one class, and the fields that it has now."""

    cls: type
    name: str
    """The class, for messages."""

    fields: frozenset[str]
    migrations: Sequence[Migration]

    @property
    def current(self) -> int:
        """The version of the class."""
        return len(self.migrations) + 1

    def adapt(self, data: Any) -> dict[str, Any]:
        """Return data in the form of today, and note what had to be done for it.

        Done again with what it returned, it does nothing.

        Raises:
            BadValueError: It is no map, is of a later version, or a migration failed.
        """
        if type(data) is not dict:
            raise mismatch(self.name, data)
        version = data.get(VERSION_KEY, 1)
        if type(version) is not int or version < 1:
            raise BadValueError(
                f"expected a version from 1 to {self.current}, found {version!r}",
                where=self.name,
            )
        if version > self.current:
            raise BadValueError(
                f"it was written by a newer version of the class: expected version"
                f" {self.current} or an older one, found {version}",
                where=self.name,
                remedy="run the newer program again",
            )
        form: dict[str, Any] = data
        if version < self.current:
            form = self._migrate(form, version)
            _note().migrated = True
        unknown = [key for key in form if key not in self.fields and key != VERSION_KEY]
        if unknown:
            dropped = _note().dropped.setdefault(component_identity(self.cls), {})
            dropped.update(dict.fromkeys(map(str, unknown)))
        return form

    def _migrate(self, data: dict[str, Any], version: int) -> dict[str, Any]:
        # Copies, however deep: what fails later is read again from the same data,
        # and a list that a function returns may be its module's own.
        form: dict[str, Any] = _copied(data)
        form.pop(VERSION_KEY, None)
        for from_ in range(version, self.current):
            form = self._step(form, from_)
        newest: dict[str, Any] = _copied(form)
        newest[VERSION_KEY] = self.current
        return newest

    def _step(self, form: dict[str, Any], from_: int) -> dict[str, Any]:
        try:
            made = self.migrations[from_ - 1](form)
            newer = dict(made) if isinstance(made, Mapping) else None
        except Exception as exc:
            raise BadValueError(
                f"the migration from version {from_} raised"
                f" {type(exc).__name__}: {exc}",
                where=self.name,
                remedy="mend the migration and redrive the workflow",
                cause=exc,
            ) from exc
        if newer is None:
            raise BadValueError(
                f"expected a mapping from the migration from version {from_}, found"
                f" {type(made).__name__}",
                where=self.name,
                remedy="return the newer form",
            )
        newer.pop(VERSION_KEY, None)
        return newer


def _copied(value: Any) -> Any:
    if type(value) is dict:
        return {key: _copied(part) for key, part in value.items()}
    if type(value) is list:
        return [_copied(part) for part in value]
    return value
