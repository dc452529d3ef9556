"""What the fields of a data class are: attrs, dataclass or ``msgspec.Struct``."""

from __future__ import annotations

import dataclasses
import inspect
import sys
import types
import typing
from collections.abc import Callable, Iterator, Mapping
from functools import partial
from typing import Any, TypeVar, get_args, get_origin

import attrs
import msgspec

__all__ = ["Field", "Shape", "UnusableError", "is_data_class", "shape_of"]


_FACTORY: Any = type(attrs.Factory(list))
# Where a frozen class's `__setattr__` comes from, which does nothing but refuse.
_FREEZERS = {attrs.frozen(type("Frozen", (), {})).__setattr__.__code__.co_filename}


class UnusableError(Exception):
    """A class or field cannot be stored, and why."""

    def __init__(self, what: str, *, field: str = "") -> None:
        super().__init__(what)
        self.what = what
        self.field = field


class Field(msgspec.Struct, frozen=True):
    """One field: its type, and how the constructor takes it."""

    name: str
    hint: Any
    alias: str
    init: bool
    kw_only: bool
    default: Callable[[Any], Any] | None
    """Makes the default of an instance, or ``None`` if it has none."""


class Shape(msgspec.Struct, frozen=True):
    """A data class as it is stored."""

    cls: Any
    fields: tuple[Field, ...]
    constructor: bool
    """Whether the class is made by calling it, with its own generated method."""

    restore: bool
    """Whether its own code runs in there, so that fields must be set again."""

    set_field: Callable[[Any, str, Any], None]

    setters: tuple[Callable[[Any, Any], None] | None, ...] | None = None
    """By field, what sets it in an instance made without the constructor, ``None`` for
    an assignment; ``None`` for all if the constructor does more than to set them."""


def is_data_class(cls: object) -> bool:
    """Say whether *cls* is an attrs, dataclass or Struct class."""
    return isinstance(cls, type) and (
        issubclass(cls, msgspec.Struct)
        or attrs.has(cls)
        or dataclasses.is_dataclass(cls)
    )


def shape_of(kind: Any) -> Shape:
    """Describe a data class, or a generic one with its arguments.

    Raises:
        UnusableError: A field's annotation cannot be resolved, or it is none that
            is kept.
    """
    cls: Any = get_origin(kind) or kind
    bindings = _bindings_of(kind)
    if issubclass(cls, msgspec.Struct):
        return _struct_shape(cls, bindings)
    if attrs.has(cls):
        return _attrs_shape(cls, bindings)
    return _dataclass_shape(cls, bindings)


def _attrs_shape(cls: Any, bindings: Mapping[Any, Any]) -> Shape:
    found: Any = attrs.fields(cls)
    fields = tuple(
        Field(
            name=a.name,
            hint=_hint_of(cls, a.name, bindings, fallback=a.type),
            alias=a.alias,
            init=a.init,
            kw_only=a.kw_only,
            default=_attrs_default(a.default),
        )
        for a in found
    )
    own_code = any(a.converter is not None for a in found) or any(
        hasattr(cls, name) for name in ("__attrs_post_init__", "__attrs_pre_init__")
    )
    # A class below that attrs did not make may have one of its own.
    constructor = (
        not hasattr(cls, "__attrs_init__")
        and getattr(cls.__init__, "__code__", None) is not None
        and cls.__init__.__code__.co_filename.startswith("<attrs generated")
    )
    checked = any(a.validator is not None for a in found)
    bare = constructor and not own_code and not checked
    return Shape(
        cls=cls,
        fields=fields,
        constructor=constructor,
        restore=own_code,
        set_field=object.__setattr__,
        setters=_setters_of(cls, fields) if bare else None,
    )


def _setters_of(
    cls: Any, fields: tuple[Field, ...]
) -> tuple[Callable[[Any, Any], None] | None, ...] | None:
    """Return what sets the fields of an instance made without its constructor.

    ``None`` if anything else could happen while one is made: in a metaclass, in a
    method of the user's, or by attrs, which may have to prepare a cached hash.
    """
    metaclass: Any = type(cls)
    if (
        metaclass is not type
        or cls.__new__ is not object.__new__
        or "_attrs_cached_hash" in cls.__init__.__code__.co_consts
        or "_attrs_cached_hash" in cls.__init__.__code__.co_names
    ):
        return None
    if cls.__setattr__ is object.__setattr__:
        return (None,) * len(fields)
    # Frozen: only the slots themselves are quicker than the constructor.
    code = getattr(cls.__setattr__, "__code__", None)
    slots = [inspect.getattr_static(cls, field.name, None) for field in fields]
    if code is None or code.co_filename not in _FREEZERS:
        return None
    if not all(isinstance(slot, types.MemberDescriptorType) for slot in slots):
        return None
    return tuple(slot.__set__ for slot in slots)


def _attrs_default(default: Any) -> Callable[[Any], Any] | None:
    if default is attrs.NOTHING:
        return None
    if not isinstance(default, _FACTORY):
        return lambda _: default
    factory = default.factory
    return factory if default.takes_self else lambda _: factory()


def _dataclass_shape(cls: Any, bindings: Mapping[Any, Any]) -> Shape:
    for name, kind in _annotations_of(cls):
        if isinstance(kind, dataclasses.InitVar):
            raise UnusableError(
                "found an InitVar, which no instance keeps; make it a field",
                field=name,
            )
    fields = tuple(
        Field(
            name=f.name,
            hint=_hint_of(cls, f.name, bindings),
            alias=f.name,
            init=f.init,
            kw_only=f.kw_only is True,
            default=_plain_default(f, dataclasses.MISSING),
        )
        for f in dataclasses.fields(cls)
    )
    constructor = (
        cls.__dataclass_params__.init
        and getattr(cls.__init__, "__code__", None) is not None
        and cls.__init__.__code__.co_filename == "<string>"
    )
    own_code = hasattr(cls, "__post_init__")
    return Shape(
        cls=cls,
        fields=fields,
        constructor=constructor,
        restore=own_code,
        set_field=object.__setattr__,
        setters=_setters_of(cls, fields) if constructor and not own_code else None,
    )


def _struct_shape(cls: Any, bindings: Mapping[Any, Any]) -> Shape:
    defaults = dict(_struct_defaults(cls))
    fields = tuple(
        Field(
            name=name,
            hint=_hint_of(cls, name, bindings),
            alias=name,
            init=True,
            # By name in any case: the class's signature, which tells the others,
            # raises NameError if one of its annotations cannot be resolved.
            kw_only=True,
            default=defaults.get(name),
        )
        for name in cls.__struct_fields__
    )
    return Shape(
        cls=cls,
        fields=fields,
        constructor=cls.__init__ is msgspec.Struct.__init__,
        restore=hasattr(cls, "__post_init__"),
        set_field=msgspec.structs.force_setattr,
    )


def _struct_defaults(cls: Any) -> Iterator[tuple[str, Callable[[Any], Any]]]:
    # Aligned with the end of the fields; a factory stands in an object of its own.
    defaults = cls.__struct_defaults__
    names = cls.__struct_fields__[len(cls.__struct_fields__) - len(defaults) :]
    for name, default in zip(names, defaults, strict=True):
        if default is msgspec.NODEFAULT:
            continue
        factory = getattr(default, "factory", None)
        if type(default).__module__ == "msgspec._core" and factory is not None:
            yield name, partial(_call, factory)
        else:
            yield name, partial(_constant, default)


def _call(factory: Callable[[], Any], _: Any) -> Any:
    return factory()


def _constant(default: Any, _: Any) -> Any:
    return default


def _plain_default(field: Any, missing: object) -> Callable[[Any], Any] | None:
    if field.default is not missing:
        default = field.default
        return lambda _: default
    if field.default_factory is not missing:
        factory = field.default_factory
        return lambda _: factory()
    return None


def _annotations_of(cls: type) -> Iterator[tuple[str, Any]]:
    for base in reversed(cls.__mro__):
        for name, annotation in inspect.get_annotations(base).items():
            yield name, _resolve(base, name, annotation)


def _hint_of(
    cls: type, name: str, bindings: Mapping[Any, Any], *, fallback: Any = None
) -> Any:
    for base in cls.__mro__:
        annotations = inspect.get_annotations(base)
        if name in annotations:
            hint = _resolve(base, name, annotations[name])
            return _substitute(_without_self(hint, cls), bindings)
    if fallback is None:
        raise UnusableError("found no annotation; annotate it", field=name)
    return _resolve(cls, name, fallback)


def _resolve(owner: type, name: str, annotation: Any) -> Any:
    # One by one, so that the message can say which one; only a class may have
    # class variables and final fields.
    holder = type(owner.__name__, (), {"__annotations__": {name: annotation}})
    module = sys.modules.get(owner.__module__)
    names = {**vars(owner), owner.__name__: owner}
    try:
        return typing.get_type_hints(holder, vars(module) if module else {}, names)[
            name
        ]
    except Exception as exc:
        raise UnusableError(
            f"found an annotation that cannot be resolved ({exc}); import what it"
            " names where the module can see it when it runs",
            field=name,
        ) from exc


def _without_self(hint: Any, cls: type) -> Any:
    """Put the class in the place of ``Self``, however deep."""
    if hint is typing.Self:
        return cls
    arguments = get_args(hint)
    inner = tuple(_without_self(part, cls) for part in arguments)
    if all(new is old for new, old in zip(inner, arguments, strict=True)):
        return hint
    if get_origin(hint) in {typing.Union, types.UnionType}:
        return typing.Union[inner]  # noqa: UP007  # made of what was found
    return (
        hint.copy_with(inner) if hasattr(hint, "copy_with") else hint.__origin__[inner]
    )


def _bindings_of(kind: Any) -> dict[Any, Any]:
    """Say what stands for each type variable in a generic class and its bases."""
    origin = get_origin(kind) or kind
    parameters = getattr(origin, "__parameters__", ())
    bindings: dict[Any, Any] = dict(zip(parameters, get_args(kind), strict=False))
    for base in getattr(origin, "__orig_bases__", ()):
        source = get_origin(base)
        if source is None or source in {typing.Generic, typing.Protocol}:
            continue
        arguments = tuple(_substitute(arg, bindings) for arg in get_args(base))
        if getattr(source, "__parameters__", ()):
            bindings = {**_bindings_of(source[arguments]), **bindings}
    return bindings


def _substitute(hint: Any, bindings: Mapping[Any, Any]) -> Any:
    if isinstance(hint, TypeVar):
        return bindings.get(hint, hint)
    parameters = getattr(hint, "__parameters__", ())
    if not parameters or isinstance(hint, type):
        return hint
    return hint[tuple(bindings.get(p, p) for p in parameters)]
