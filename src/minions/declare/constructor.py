"""How an instance is made: which values go where, and what must be set after.

attrs and dataclass components get what they need through their constructor, any
other by attribute, before ``startup``.
"""

from __future__ import annotations

import dataclasses
import inspect
from collections.abc import Collection, Iterable, Mapping
from typing import TYPE_CHECKING, Any

import attrs
import msgspec

from minions.declare.annotations import Declared, Unresolved, declared_attributes
from minions.declare.dependencies import Dependency, Provided, dependency_in
from minions.declare.kinds import init_of, is_data, required_arguments, type_name
from minions.errors import ConfigError, DefinitionError, DependencyError

if TYPE_CHECKING:
    from minions.declare.specification import ComponentSpec

__all__ = ["ConfigSlot", "Wiring", "construct", "wiring_of"]


class ConfigSlot(msgspec.Struct, frozen=True):
    """Where a component takes its ``config``."""

    type: type
    parameter: str | None
    """The constructor's argument, or ``None``: the attribute is set afterwards."""

    has_default: bool
    """Whether the component can do without being given one."""


class Wiring(msgspec.Struct, frozen=True):
    """What an instance is given, and what it has to set for itself."""

    dependencies: tuple[Dependency, ...]
    config: ConfigSlot | None
    own: tuple[str, ...]
    """Attributes that must be there when the constructor has returned."""


class _Field(msgspec.Struct, frozen=True):
    parameter: str | None
    has_default: bool


def _fields(cls: type) -> dict[str, _Field]:
    """Return the attrs or dataclass fields, as the actual constructor takes them."""
    arguments = _arguments(cls)
    found: dict[str, _Field] = {}
    if attrs.has(cls):
        for field in attrs.fields(cls):
            alias = field.alias if field.init and field.alias in arguments else None
            found[field.name] = _Field(alias, field.default is not attrs.NOTHING)
    elif dataclasses.is_dataclass(cls):
        missing = dataclasses.MISSING
        for entry in dataclasses.fields(cls):
            default = entry.default is not missing or (
                entry.default_factory is not missing
            )
            name = entry.name if entry.init and entry.name in arguments else None
            found[entry.name] = _Field(name, default)
    return found


def _arguments(cls: type) -> Mapping[str, inspect.Parameter]:
    return inspect.signature(init_of(cls)).parameters


def wiring_of(
    cls: type, *, owner: str, provided: Provided, reserved: Collection[str]
) -> Wiring:
    """Find out what instances of *cls* are given.

    Args:
        cls: The component.
        owner: Its identity, for messages.
        provided: What is provided from elsewhere: class and name.
        reserved: Names of options and members, which cannot be fields.

    Raises:
        DependencyError: A dependency is unclear, missing or unresolved.
        DefinitionError: An option is a field, or the config is no data class.
    """
    fields = _fields(cls)
    _refuse_reserved(fields, owner, reserved)
    dependencies: list[Dependency] = []
    config: ConfigSlot | None = None
    own: list[str] = []
    for declared in declared_attributes(cls).values():
        field = fields.get(declared.name) or _Field(None, has_default=False)
        if declared.initvar and declared.name in _arguments(cls):
            field = _Field(declared.name, has_default=declared.has_default)
        has_default = field.has_default or declared.has_default
        if isinstance(declared.type, Unresolved):
            if not has_default:
                raise _unresolved(declared, declared.type, owner)
            continue
        dependency = dependency_in(
            declared, field.parameter, owner=owner, provided=provided
        )
        if dependency is not None:
            _refuse_reserved([declared.name], owner, reserved)
            dependencies.append(dependency)
        elif declared.name == "config":
            config = _config(
                declared, field.parameter, has_default=has_default, owner=owner
            )
        elif not has_default and not declared.initvar:
            own.append(declared.name)
    wiring = Wiring(tuple(dependencies), config, tuple(own))
    _refuse_missing(cls, wiring, owner)
    return wiring


def _refuse_reserved(
    names: Iterable[str], owner: str, reserved: Collection[str]
) -> None:
    for name in names:
        if name in reserved:
            raise DefinitionError(
                f"{owner}: expected {name!r} to be no field and no dependency, since a"
                " component has an option or a member of that name, found one; write"
                " an option as a plain class attribute or annotate it with ClassVar,"
                f" or choose another name than {name!r}"
            )


def _unresolved(declared: Declared, found: Unresolved, owner: str) -> DependencyError:
    return DependencyError(
        f"{owner}: attribute {declared.name!r}: expected an annotation that can be"
        f" evaluated, found {found.text!r} ({found.reason}); import it outside of"
        " TYPE_CHECKING, define it at the top of the module, or give a default"
    )


def _config(
    declared: Declared, parameter: str | None, *, has_default: bool, owner: str
) -> ConfigSlot:
    tp = declared.type
    optional = [arg for arg in getattr(tp, "__args__", ()) if arg is not type(None)]
    if len(optional) == 1 and type(None) in tp.__args__:
        tp = optional[0]
    if not is_data(tp):
        raise DefinitionError(
            f"{owner}: expected config to be an attrs, dataclass or msgspec.Struct"
            f" class, found {type_name(declared.type)}; make it such a class"
        )
    return ConfigSlot(tp, parameter, has_default)


def _refuse_missing(cls: type, wiring: Wiring, owner: str) -> None:
    """Refuse what nobody gives: an argument, or an attribute of a bare class."""
    given = {d.parameter for d in wiring.dependencies}
    given.add(wiring.config.parameter if wiring.config else None)
    lacking = [name for name in required_arguments(cls) if name not in given]
    remedy = (
        "give it a default, annotate it with a resource, or call gru.provide for its"
        " type before the start"
    )
    if lacking:
        raise DependencyError(
            f"{owner}: expected constructor arguments that are dependencies, config or"
            f" have a default, found {lacking[0]!r}, which is none; {remedy}"
        )
    makers = inspect.getattr_static(cls, "__new__"), init_of(cls)
    plain = makers == (vars(object)["__new__"], object.__init__)
    if wiring.own and plain:
        raise _unset(owner, wiring.own[0], "no constructor that sets it")


def _unset(owner: str, name: str, found: str) -> DependencyError:
    return DependencyError(
        f"{owner}: attribute {name!r}: expected a dependency, config, a default or a"
        f" value set by the constructor, found {found}; give it a default, annotate it"
        " with a resource, or call gru.provide for its type before the start"
    )


def construct(
    spec: ComponentSpec,
    dependencies: Mapping[str, object],
    config: object = None,
    *,
    cls: type | None = None,
) -> Any:
    """Make an instance with all that it is given.

    Exceptions of the user's constructor come out as they are.

    Args:
        spec: The component.
        dependencies: By attribute; one that is wanted may be absent or ``None``.
        config: The loaded config, or ``None`` to leave the default.
        cls: The class to make an instance of: a subclass of the specified one.

    Raises:
        ConfigError: A config is expected and not given, or the other way round.
        DependencyError: The constructor left an annotated attribute unset.
    """
    arguments: dict[str, object] = {}
    later: dict[str, object] = {}
    for dependency in spec.dependencies:
        optional = dependency.optional
        name = dependency.attribute
        value = dependencies.get(name) if optional else dependencies[name]
        if dependency.parameter is None:
            later[name] = value
        else:
            arguments[dependency.parameter] = value
    if _takes(spec, config):
        assert spec.config is not None
        if spec.config.parameter is None:
            later["config"] = config
        else:
            arguments[spec.config.parameter] = config
    instance = (cls or spec.cls)(**arguments)
    for name, value in later.items():
        _assign(spec.identity, instance, name, value)
    for name in spec.own:
        if not hasattr(instance, name):
            raise _unset(spec.identity, name, "it unset after the constructor")
    return instance


def _takes(spec: ComponentSpec, config: object) -> bool:
    if spec.config is None and config is not None:
        raise ConfigError(
            f"{spec.identity}: expected no config, found {type(config).__name__};"
            " declare `config: Settings` on the class or give none"
        )
    if spec.config is None or (config is None and spec.config.has_default):
        return False
    if config is None:
        raise ConfigError(
            f"{spec.identity}: expected a config of type"
            f" {spec.config.type.__qualname__}, found none; give one before the"
            " start, or give the attribute a default"
        )
    return True


def _assign(owner: str, instance: object, name: str, value: object) -> None:
    frozen = (attrs.exceptions.FrozenInstanceError, dataclasses.FrozenInstanceError)
    try:
        try:
            setattr(instance, name, value)
        except frozen:
            object.__setattr__(instance, name, value)
    except AttributeError as exc:
        raise DefinitionError(
            f"{owner}: expected an attribute {name!r} that can be set, found none"
            f" ({exc}); add it to __slots__, or make it a field"
        ) from exc
