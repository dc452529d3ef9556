"""Ids: derive, check and print them.

A component's identity names its class, an orchestration's id names a minion, a
pipeline and a name.  Both stay the same from process to process, since saved
state is found by them.
"""

from __future__ import annotations

import re
import sys
from collections.abc import Callable
from hashlib import blake2b
from pathlib import PurePath
from typing import TypeVar

from minions.errors import DefinitionError

__all__ = [
    "check_name",
    "component_id",
    "component_identity",
    "has_component_id",
    "is_local",
    "orchestration_id",
    "provided_identity",
]

ClassT = TypeVar("ClassT", bound=type)

_MARK = "__minions_id__"
_MAX_LENGTH = 200
_MAX_SLUG = 60


def check_name(text: object, *, what: str, owner: str) -> str:
    """Return *text* if it can be part of an id.

    Args:
        text: A non-empty printable string without slash or white space.
        what: What it is, for the message: "component id", "name".
        owner: Whose it is, for the message.

    Raises:
        DefinitionError: It is something else.
    """
    good = (
        isinstance(text, str)
        and 0 < len(text) <= _MAX_LENGTH
        and text.isprintable()
        and "/" not in text
        and not any(character.isspace() for character in text)
    )
    if not good:
        raise DefinitionError(
            f"{owner}: expected a {what} of 1 to {_MAX_LENGTH} printable characters"
            f" without slash or white space, found {text!r}; choose another {what}"
        )
    assert isinstance(text, str)
    return text


def component_id(text: str) -> Callable[[ClassT], ClassT]:
    """Give a class an identity that survives a move or a new name of the class.

    It counts for this class alone: a subclass has its own identity.

    Raises:
        DefinitionError: The text cannot be an id, or what it is for is no class.
    """
    if not isinstance(text, str):  # as under a bare @component_id
        check_name(text, what="component id", owner="@component_id")

    def decorate(cls: ClassT) -> ClassT:
        if not isinstance(cls, type):
            raise DefinitionError(
                f"@component_id({text!r}): expected a class, found {cls!r}; put it"
                " above a class"
            )
        check_name(text, what="component id", owner=cls.__qualname__)
        setattr(cls, _MARK, text)
        return cls

    return decorate


def has_component_id(cls: type) -> bool:
    """Say whether *cls* itself was given an id by :func:`component_id`."""
    return _MARK in vars(cls)


def component_identity(cls: type) -> str:
    """Return the id of *cls*: as given, else ``module:qualname``.

    ``__main__`` is replaced by the name under which the module can be imported,
    so that a program has the same ids however it is started.
    """
    given = vars(cls).get(_MARK)
    if isinstance(given, str):
        return given
    module = cls.__module__
    if module == "__main__":
        module = _main_name()
    return f"{module}:{cls.__qualname__}"


def _main_name() -> str:
    main = sys.modules["__main__"]
    spec = getattr(main, "__spec__", None)
    if spec is not None:
        return str(spec.name)
    file = getattr(main, "__file__", None)
    return PurePath(file).stem if file else "__main__"


def provided_identity(cls: type, name: str | None = None) -> str:
    """Return the id of what ``gru.provide(cls, ..., name)`` makes."""
    identity = component_identity(cls)
    if name is None:
        return identity
    return f"{identity}[{check_name(name, what='name', owner=identity)}]"


def is_local(cls: type) -> bool:
    """Say whether *cls* was made in a function, so that its name is no address."""
    return "<locals>" in cls.__qualname__


def orchestration_id(minion_identity: str, pipeline_identity: str, name: str) -> str:
    """Return the id of a composition: the same for the same three, for ever.

    It begins with the minion's class name, for people; the rest tells apart.

    Raises:
        DefinitionError: *name* is not empty and cannot be part of an id.
    """
    if name != "":
        check_name(name, what="name", owner=minion_identity)
    # Each part goes with its length, so that no two triples look alike.
    digest = blake2b(digest_size=8)
    for part in (minion_identity, pipeline_identity, name):
        data = part.encode("utf-8", "surrogatepass")
        digest.update(len(data).to_bytes(8, "big") + data)
    return f"{_kebab(minion_identity)}-{digest.hexdigest()}"


def _kebab(identity: str) -> str:
    last = re.split(r"[:.]", identity)[-1]
    parted = re.sub(r"(?<=[a-z0-9])(?=[A-Z])|(?<=[A-Z])(?=[A-Z][a-z])", "-", last)
    slug = re.sub(r"[^a-z0-9]+", "-", parted.lower()).strip("-")
    return slug[:_MAX_SLUG].rstrip("-") or "minion"
