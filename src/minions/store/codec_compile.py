"""From a type to its kind, once per type."""

from __future__ import annotations

import enum
import types
import typing
from collections.abc import Callable
from typing import Any, get_args, get_origin

from minions.declare.schema import has_schema, migrations_of
from minions.errors import DefinitionError
from minions.store.codec_classes import ClassKind
from minions.store.codec_containers import (
    dict_kind,
    optional_kind,
    sequence_kind,
    tuple_kind,
    union_kind,
)
from minions.store.codec_fields import UnusableError, is_data_class, shape_of
from minions.store.codec_kinds import (
    NOTHING_ELSE,
    PATHS,
    PLAIN,
    TEXTUAL,
    BadValueError,
    Kind,
    enum_kind,
    literal_kind,
    mismatch,
)
from minions.store.converter import HookConverter

__all__ = ["Compiler", "name_of"]

_KNOWN = {**PLAIN, **TEXTUAL, **PATHS, None: PLAIN[NOTHING_ELSE]}
_SEQUENCES = (list, set, frozenset)
_REMEDY = (
    "declare a type that Minions stores, or register hooks for it on minions.converter"
)


def name_of(kind: Any) -> str:
    """Print a type for a message."""
    if isinstance(kind, type) and not get_args(kind):
        return kind.__qualname__
    return str(kind).replace("typing.", "")


class Compiler:
    """Make kinds, and remember them."""

    def __init__(
        self, converter: HookConverter, *, of_class: type[ClassKind] = ClassKind
    ) -> None:
        self._converter = converter
        self._of_class = of_class
        self._version = converter.version
        self._known: dict[Any, Kind] = {}
        # Those of the class that is being compiled; kept only if all went well.
        self._begun: dict[Any, ClassKind] = {}

    def classes(self) -> dict[type, ClassKind]:
        """Return the kinds of all data classes known."""
        return {
            kind.classes[0]: kind
            for kind in self._known.values()
            if isinstance(kind, ClassKind)
        }

    def compile(self, kind: Any, *, component: str) -> Kind:
        """Return the kind of a type.

        Raises:
            DefinitionError: It, or a type in it, cannot be stored, or the versions
                of a class are wrong.
        """
        if self._version != self._converter.version:
            self._version = self._converter.version
            self._known.clear()
        known = self._known.get(kind) if _is_hashable(kind) else None
        if known is not None:
            return known
        self._begun = {}
        try:
            made = self._make(kind)
        except UnusableError as exc:
            place = exc.field or name_of(kind)
            raise DefinitionError(
                f"{component}: {place}: expected a type that can be stored, {exc.what}"
            ) from exc
        except DefinitionError as exc:
            raise DefinitionError(f"{component}: {exc}") from exc
        self._known.update(self._begun)
        if _is_hashable(kind):
            self._known[kind] = made
        return made

    def _make(self, kind: Any) -> Kind:  # noqa: PLR0911  # a table of cases
        if self._converter.has_hook(kind):
            return self._hooked(kind)
        kind = _strip(kind)
        if self._converter.has_hook(kind):
            return self._hooked(kind)
        if not _is_hashable(kind):
            raise _refuse(kind)
        known = _KNOWN.get(kind) or self._begun.get(kind) or self._known.get(kind)
        if known is not None:
            return known
        origin, arguments = get_origin(kind), get_args(kind)
        if is_data_class(origin or kind):
            return self._class(kind)
        if has_schema(kind):
            raise _misplaced(kind, "no attrs, dataclass or Struct class")
        if isinstance(kind, type) and issubclass(kind, enum.Enum):
            return enum_kind(kind)
        if origin in {typing.Union, types.UnionType}:
            return self._union(arguments)
        if origin is typing.Literal:
            return _literal(kind, arguments)
        return self._container(kind, origin, arguments)

    def _container(self, kind: Any, origin: Any, arguments: tuple[Any, ...]) -> Kind:
        if origin in _SEQUENCES and len(arguments) == 1:
            return sequence_kind(origin, self._make(arguments[0]))
        if origin is dict:
            key, value = arguments
            return dict_kind(self._make(key), self._make(value))
        if origin is tuple:
            if arguments[-1:] == (...,):
                return sequence_kind(tuple, self._make(arguments[0]))
            return tuple_kind([self._make(part) for part in arguments])
        raise _refuse(kind)

    def _union(self, arguments: tuple[Any, ...]) -> Kind:
        members = [self._make(part) for part in arguments if part is not NOTHING_ELSE]
        nullable = len(members) < len(arguments)
        made = members[0] if len(members) == 1 else union_kind(members)
        return optional_kind(made) if nullable else made

    def _class(self, kind: Any) -> Kind:
        cls = get_origin(kind) or kind
        name = name_of(kind)
        made = self._begun[kind] = self._of_class(cls, name)
        try:
            shape = shape_of(kind)
        except UnusableError as exc:
            place = f"{name}.{exc.field}" if exc.field else name
            raise UnusableError(exc.what, field=place) from exc
        kinds = []
        for field in shape.fields:
            try:
                kinds.append(self._make(field.hint))
            except UnusableError as exc:
                place = exc.field or f"{name}.{field.name}"
                raise UnusableError(exc.what, field=place) from exc
        made.complete(shape, kinds, migrations_of(cls))
        return made

    def _hooked(self, kind: Any) -> Kind:
        if has_schema(kind):
            raise _misplaced(kind, "hooks on minions.converter, which say its form")
        converter, name = self._converter, name_of(kind)
        classes = (kind,) if isinstance(kind, type) else ()

        def encode(value: Any) -> Any:
            if classes and not isinstance(value, classes):
                raise mismatch(name, value)
            return converter.unstructure(value, kind)

        def decode(data: Any) -> Any:
            return converter.structure(data, kind)

        return Kind(
            name=name,
            classes=classes,
            wire=frozenset(),
            tagged=True,
            tag=name,
            encode=_guard(encode, name),
            decode=_guard(decode, name),
        )


def _guard(function: Callable[[Any], Any], name: str) -> Callable[[Any], Any]:
    def guarded(value: Any) -> Any:
        try:
            return function(value)
        except BadValueError:
            raise
        except Exception as exc:
            raise BadValueError(
                f"the hook for {name} raised {type(exc).__name__}: {exc}"
            ) from exc

    return guarded


def _strip(kind: Any) -> Any:
    """Take off what says nothing about the value: NewType, Annotated, Final."""
    while True:
        if get_origin(kind) in {typing.Annotated, typing.Final}:
            kind = get_args(kind)[0]
        elif isinstance(kind, typing.NewType):
            kind = kind.__supertype__
        elif type(kind).__name__ == "TypeAliasType":
            kind = kind.__value__
        else:
            return kind


def _literal(kind: Any, arguments: tuple[Any, ...]) -> Kind:
    values = tuple(value for value in arguments if value is not None)
    made = literal_kind(values) if values else PLAIN[NOTHING_ELSE]
    if made is None:
        raise _refuse(kind)
    return made if len(values) == len(arguments) else optional_kind(made)


def _refuse(kind: Any) -> UnusableError:
    return UnusableError(f"found {name_of(kind)}; {_REMEDY}")


def _misplaced(cls: type, found: str) -> DefinitionError:
    return DefinitionError(
        f"{cls.__qualname__}: expected @schema and @migrates for a data class alone,"
        f" found {found}; take them away"
    )


def _is_hashable(kind: Any) -> bool:
    try:
        hash(kind)
    except TypeError:
        return False
    return True
