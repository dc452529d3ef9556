"""Kinds: how the values of one type are stored, and read back the same.

Each kind turns a value into what MessagePack knows (nil, booleans, 64-bit integers,
floats, text, bytes, arrays, maps) and back.  It takes exactly the classes that it
declares: what comes back must equal what went in, type included.  The one freedom
is that of the type checkers, an ``int`` in a ``float`` field and a ``bool`` in
either; MessagePack tells them apart, and so they come back as they were.
"""

from __future__ import annotations

import enum
import pathlib
from collections.abc import Callable
from datetime import date, datetime, time, timedelta
from decimal import Decimal
from typing import Any
from uuid import UUID
from zoneinfo import ZoneInfo

import attrs

__all__ = [
    "NOTHING_ELSE",
    "PATHS",
    "PLAIN",
    "TEXTUAL",
    "BadValueError",
    "Kind",
    "enum_kind",
    "literal_kind",
]

NOTHING_ELSE = type(None)
_FOLD = "[fold=1]"


class BadValueError(Exception):
    """A value that its kind cannot store or read, and where it stands."""

    def __init__(
        self,
        what: str,
        *,
        where: str = "",
        remedy: str = "",
        cause: Exception | None = None,
    ) -> None:
        super().__init__(what)
        self.what = what
        self.where = where
        self.remedy = remedy
        # What a migration raised, for the one who has to mend it.
        self.cause = cause


@attrs.define(eq=False)
class Kind:
    """How the values of one type are stored."""

    name: str
    """The type, for messages."""

    classes: tuple[type, ...]
    """The classes of its values: those of its own first."""

    wire: frozenset[type]
    """The classes that MessagePack gives for a stored value."""

    own: int = 1
    """How many of the classes are its own; the others are merely taken."""

    plain: bool = False
    """A value is stored as it is, once its class is known to be right."""

    tagged: bool = False
    """In a union it needs a tag, whatever the others are."""

    tag: str = ""
    """What it is called in a union; its name if empty."""

    encode: Callable[[Any], Any] = attrs.field(default=lambda value: value)
    decode: Callable[[Any], Any] = attrs.field(default=lambda data: data)


def _plain(*classes: type, own: int = 1) -> Kind:
    kind = Kind(
        name="None" if classes[0] is NOTHING_ELSE else classes[0].__name__,
        classes=classes,
        wire=frozenset(classes),
        own=own,
        plain=True,
    )
    kind.encode = kind.decode = checker(kind)
    return kind


def checker(kind: Kind) -> Callable[[Any], Any]:
    """Make what passes a plain value on, if its class is right."""
    allowed = frozenset(kind.classes)

    def check(value: Any) -> Any:
        if type(value) not in allowed:
            raise mismatch(kind.name, value)
        return value

    return check


def mismatch(name: str, value: object) -> BadValueError:
    """Say that a value of another class was found."""
    found = type(value)
    return BadValueError(f"expected {name}, found {found.__module__}.{found.__name__}")


PLAIN: dict[Any, Kind] = {
    bool: _plain(bool),
    int: _plain(int, bool),
    float: _plain(float, int, bool),
    str: _plain(str),
    bytes: _plain(bytes),
    NOTHING_ELSE: _plain(NOTHING_ELSE),
}
"""The kinds that MessagePack has itself."""


def _textual(
    cls: type,
    wire: type,
    write: Callable[[Any], Any],
    read: Callable[[Any], Any],
) -> Kind:
    name = cls.__name__

    def encode(value: Any) -> Any:
        if type(value) is not cls:
            raise mismatch(name, value)
        return write(value)

    def decode(data: Any) -> Any:
        if type(data) is not wire:
            raise mismatch(name, data)
        try:
            return read(data)
        except (ValueError, ArithmeticError, LookupError, TypeError) as exc:
            raise BadValueError(f"expected {name}, found no such value: {exc}") from exc

    return Kind(
        name=name,
        classes=(cls,),
        wire=frozenset({wire}),
        encode=encode,
        decode=decode,
    )


def _write_moment(value: datetime | time) -> str:
    # ISO 8601 with the offset, then what it does not say: the zone as in RFC 9557,
    # and the fold, which tells equal wall times apart.
    text = value.isoformat()
    zone = value.tzinfo
    if zone is not None:
        if isinstance(zone, ZoneInfo) and zone.key is not None:
            text += f"[{zone.key}]"
        elif value.utcoffset() is None:
            raise BadValueError("expected a time zone with a UTC offset, found none")
    return text + _FOLD if value.fold else text


def _moment_reader(cls: Any) -> Callable[[str], Any]:
    def read(text: str) -> Any:
        if text[-1:] != "]":
            return cls.fromisoformat(text)
        fold = int(text.endswith(_FOLD))
        text, _, zone = text.removesuffix(_FOLD).partition("[")
        value = cls.fromisoformat(text)
        if zone:
            value = value.replace(tzinfo=ZoneInfo(zone[:-1]))
        return value.replace(fold=fold)

    return read


def _write_span(value: timedelta) -> list[int]:
    return [value.days, value.seconds, value.microseconds]


def _read_span(data: list[int]) -> timedelta:
    days, seconds, microseconds = data
    return timedelta(days, seconds, microseconds)


def _read_uuid(data: bytes) -> UUID:
    return UUID(bytes=data)


TEXTUAL: dict[Any, Kind] = {
    datetime: _textual(datetime, str, _write_moment, _moment_reader(datetime)),
    time: _textual(time, str, _write_moment, _moment_reader(time)),
    date: _textual(date, str, date.isoformat, date.fromisoformat),
    timedelta: _textual(timedelta, list, _write_span, _read_span),
    UUID: _textual(UUID, bytes, lambda value: value.bytes, _read_uuid),
    Decimal: _textual(Decimal, str, str, Decimal),
}
"""The kinds of the standard library that have a text, or nearly."""

# A declared Path is a PosixPath or a WindowsPath when it has a value.
_PATH_CLASSES: dict[Any, Any] = {
    pathlib.Path: type(pathlib.Path()),
    pathlib.PurePath: type(pathlib.PurePath()),
    type(pathlib.Path()): type(pathlib.Path()),
    pathlib.PurePosixPath: pathlib.PurePosixPath,
    pathlib.PureWindowsPath: pathlib.PureWindowsPath,
}
PATHS: dict[Any, Kind] = {
    declared: _textual(actual, str, str, actual)
    for declared, actual in _PATH_CLASSES.items()
}
"""Paths of the file system."""


def enum_kind(cls: type[enum.Enum]) -> Kind:
    """Store a member by its name; flags by value, since they can be combined."""
    name = cls.__name__
    flags = issubclass(cls, enum.Flag)
    members = cls.__members__

    def encode(value: Any) -> Any:
        if type(value) is not cls:
            raise mismatch(name, value)
        return value.value if flags else value.name

    def decode(data: Any) -> Any:
        try:
            return cls(data) if flags else members[data]
        except (KeyError, ValueError, TypeError) as exc:
            raise BadValueError(
                f"expected a member of {name}, found {data!r}, which it has not"
            ) from exc

    return Kind(
        name=name,
        classes=(cls,),
        wire=frozenset({int if flags else str}),
        tag=cls.__qualname__,
        encode=encode,
        decode=decode,
    )


def literal_kind(values: tuple[Any, ...]) -> Kind | None:
    """Store one of a few values; ``None`` if they are of kinds that cannot be."""
    name = f"Literal[{', '.join(map(repr, values))}]"
    classes = tuple(dict.fromkeys(map(type, values)))
    inner: Kind | None = None
    if len(classes) == 1 and issubclass(classes[0], enum.Enum):
        inner = enum_kind(classes[0])
    elif not set(classes) <= {bool, int, str, bytes}:
        return None
    allowed = {(type(value), value) for value in values}

    def check(value: Any) -> Any:
        if (type(value), value) not in allowed:
            raise BadValueError(
                f"expected one of {name}, found another {type(value).__name__}"
            )
        return value

    return Kind(
        name=name,
        classes=classes,
        own=len(classes),
        wire=inner.wire if inner else frozenset(classes),
        encode=(lambda value: inner.encode(check(value))) if inner else check,
        decode=(lambda data: check(inner.decode(data))) if inner else check,
    )
