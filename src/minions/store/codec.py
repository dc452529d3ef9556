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
from collections.abc import Iterable
from typing import Any, get_origin

import attrs
import msgspec

from minions.errors import SnapshotError
from minions.identity import component_identity
from minions.store.codec_compile import Compiler, name_of
from minions.store.codec_kinds import BadValueError, Kind
from minions.store.converter import converter

__all__ = ["Codec", "codec_for", "converter", "to_printable"]

_pack = msgspec.msgpack.Encoder().encode
_unpack = msgspec.msgpack.Decoder().decode
_compiler = Compiler(converter)


@attrs.define(eq=False, repr=False)
class Codec:
    """Turns the values of one type into bytes, and back; see :func:`codec_for`."""

    type: Any
    component: str
    type_name: str
    """The name under which the type is stored: ``module:qualname``."""

    _kind: Kind

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

        Fields that the class no longer has are dropped; those that it has got since
        take their default.

        Raises:
            SnapshotError: The bytes are damaged, or do not fit the class any more.
        """
        try:
            return self._kind.decode(_unpack(data))
        except BadValueError as exc:
            place, what = exc.where or self._kind.name, exc.what
            error: Exception = exc
        except Exception as exc:  # noqa: BLE001  # whatever a user's class raises
            place, what = self._kind.name, f"{type(exc).__name__}: {exc}"
            error = exc
        raise SnapshotError(
            f"{self.component}: {place}: the stored data does not fit: {what}; make"
            " the class fit, or discard the workflow"
        ) from error

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
        DefinitionError: The class, or a field in it, cannot be stored; the message
            names class, field and type.
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
