"""Events, contexts and cursors as bytes, and back.

The bytes are MessagePack: a class is a map of its fields by name, so that fields
may come and go; a union of what looks alike is a tag and a value.  They can be
printed without the user's classes (:func:`to_printable`).

Rejected: cattrs' own MessagePack support (loses ``nan``, changes tuples and unions
silently, fails on ``UUID``, ``Decimal``, ``timedelta``); pickle (never: it runs
code, and ties the data to it).

Source:
    MessagePack: https://github.com/msgpack/msgpack/blob/master/spec.md
"""

from __future__ import annotations

import math
from collections.abc import Callable, Iterable
from typing import Any, Literal, get_origin

import attrs
import msgspec

from minions.errors import SnapshotError
from minions.identity import component_identity
from minions.store.codec_classes import CheckKind
from minions.store.codec_compile import Compiler, name_of
from minions.store.codec_kinds import BadValueError, Kind
from minions.store.codec_versions import pending, take_notes
from minions.store.converter import converter

__all__ = ["Codec", "codec_for", "converter", "to_printable"]

_pack = msgspec.msgpack.Encoder().encode
_unpack = msgspec.msgpack.Decoder().decode
_compiler = Compiler(converter)
_checker = Compiler(converter, of_class=CheckKind)


@attrs.define(eq=False, repr=False)
class Codec:
    """Turns the values of one type into bytes, and back; see :func:`codec_for`."""

    type: Any
    component: str
    type_name: str
    """The name under which the type is stored: ``module:qualname``."""

    _kind: Kind

    # The kind's function, one look-up nearer.
    _decode: Callable[[Any], Any] = attrs.field(init=False)

    on_dropped: Callable[[str, tuple[str, ...]], None] | None = None
    """Is told of stored fields that a class no longer has.

    Called at the end of a :meth:`decode` that succeeds, once for each class, with
    the name of its type and those of the fields.
    """

    def __attrs_post_init__(self) -> None:
        self._decode = self._kind.decode

    def encode(self, value: Any) -> bytes:
        """Make the bytes of a value.

        Raises:
            SnapshotError: It cannot be stored: an integer beyond 64 bits, text that
                UTF-8 cannot hold, an object of another class than declared.
        """
        try:
            return _pack(self._kind.encode(value))
        except Exception as exc:
            raise self._unstorable(value, exc) from exc

    def decode(self, data: bytes) -> Any:
        """Make the value that *data* was made from.

        Older versions of a class are migrated.  Fields that the class no longer has
        are dropped, and told to :attr:`on_dropped`; those that it has got since take
        their default.

        Raises:
            SnapshotError: The bytes are damaged, do not fit the class any more, or
                are of a newer version of it; or a migration raised.
        """
        try:
            return self._decode(_unpack(data))
        except BaseException as exc:
            take_notes()  # nothing came of it
            if isinstance(exc, Exception):  # whatever a user's class raises
                raise self._unreadable(exc) from _cause_of(exc)
            raise
        finally:
            if pending:
                self._tell()

    def inspect(self, data: bytes) -> Literal["fits", "migrates"]:
        """Say what :meth:`decode` would do with *data*, without making the value.

        Migrations run, and hooks on the converter.  No data class is instantiated:
        what its validators and its ``__post_init__`` say of the values is not asked.
        Nobody is told of dropped fields.

        Raises:
            SnapshotError: It would fail.
            DefinitionError: Since the codec was made, a hook has been registered with
                which the class cannot be stored.
        """
        kind = _checker.compile(self.type, component=self.component)
        try:
            kind.decode(_unpack(data))
        except Exception as exc:  # noqa: BLE001  # as in decode()
            raise self._unreadable(exc) from _cause_of(exc)
        finally:
            notes = take_notes()
        return "migrates" if notes is not None and notes.migrated else "fits"

    def _tell(self) -> None:
        notes = take_notes()
        if notes is not None and self.on_dropped is not None:
            for type_name, fields in notes.dropped.items():
                self.on_dropped(type_name, tuple(fields))

    def _unreadable(self, exc: Exception) -> SnapshotError:
        place, what, remedy = self._kind.name, f"{type(exc).__name__}: {exc}", ""
        if isinstance(exc, BadValueError):
            place, what, remedy = exc.where or place, exc.what, exc.remedy
        elif isinstance(exc, RecursionError):
            what = "the data is nested too deeply"
        return SnapshotError(
            f"{self.component}: {place}: the stored data does not fit: {what};"
            f" {remedy or 'make the class fit'}, or discard the workflow"
        )

    def _unstorable(self, value: Any, exc: Exception) -> SnapshotError:
        bad = exc if isinstance(exc, BadValueError) else _find(self._kind, value, exc)
        return SnapshotError(
            f"{self.component}: {bad.where or self._kind.name}: a value cannot be"
            f" stored: {bad.what}; store a value of the declared type, or declare"
            " the type of the value"
        )

    def __repr__(self) -> str:
        return f"<Codec of {self.type_name}>"


def codec_for(cls: Any, *, component: str) -> Codec:
    """Make the codec of a class of events, contexts or cursors.

    Args:
        cls: An attrs, dataclass or Struct class, or any type that a field may have.
        component: Whose it is, for messages.

    Raises:
        DefinitionError: The class, or a field in it, cannot be stored, or its
            versions and migrations do not fit together; the message names class,
            field and type.
    """
    kind = _compiler.compile(cls, component=component)
    named = cls if isinstance(cls, type) and get_origin(cls) is None else None
    if named is None or named.__module__ == "builtins":
        return Codec(cls, component, name_of(cls), kind)
    return Codec(cls, component, component_identity(named), kind)


def to_printable(data: bytes) -> object:
    """Make what JSON can show of stored bytes, without the user's classes.

    Bytes become hexadecimal text, and the numbers that JSON lacks become text.

    Raises:
        SnapshotError: The bytes are damaged.
    """
    try:
        return _printable(_unpack(data))
    except (msgspec.DecodeError, RecursionError) as exc:
        raise SnapshotError(
            f"the stored data is no MessagePack: {exc}; discard the workflow, or"
            " restore the state folder from a copy"
        ) from exc


def _printable(value: Any) -> object:
    if isinstance(value, dict):
        return {str(_printable(k)): _printable(v) for k, v in value.items()}
    if isinstance(value, list):
        return [_printable(part) for part in value]
    if isinstance(value, bytes):
        return f"0x{value.hex()}"
    if isinstance(value, float) and not math.isfinite(value):
        return str(value)
    return value if isinstance(value, bool | int | float | str | None) else str(value)


def _cause_of(exc: Exception) -> Exception:
    cause = exc.cause if isinstance(exc, BadValueError) else None
    return exc if cause is None else cause


def _find(kind: Kind, value: Any, exc: Exception) -> BadValueError:
    """Find the value that MessagePack refused, by trying the parts."""
    if isinstance(exc, RecursionError):
        what = "expected data that ends, found it nested too deeply, or in itself"
    elif isinstance(exc, OverflowError):
        what = "expected an integer of 64 bits, found a larger int"
    elif isinstance(exc, UnicodeEncodeError):
        what = "expected text, found a str with a lone surrogate"
    else:
        what = f"{type(exc).__name__}: {exc}"
    where = "" if isinstance(exc, RecursionError) else _place(kind, value)
    return BadValueError(what, where=where)


def _place(kind: Kind, value: Any) -> str:
    """Name the innermost field that cannot be packed."""
    classes = _compiler.classes()

    def search(value: Any) -> str | None:
        found = classes.get(type(value))
        if found is not None and found.shape is not None:
            for field, part in zip(found.shape.fields, found.kinds, strict=True):
                inner = getattr(value, field.name)
                if not _packs(part, inner):
                    return search(inner) or f"{found.name}.{field.name}"
            return None
        return next((place for part in _parts(value) if (place := search(part))), None)

    return search(value) or kind.name


def _parts(value: Any) -> Iterable[Any]:
    if isinstance(value, dict):
        return [*value, *value.values()]
    return value if isinstance(value, list | tuple | set | frozenset) else ()


def _packs(kind: Kind, value: Any) -> bool:
    try:
        _pack(kind.encode(value))
    except Exception:  # noqa: BLE001  # the question is whether
        return False
    return True
