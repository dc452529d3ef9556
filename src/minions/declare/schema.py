"""The version of a data class, and what turns its older forms into the newer.

A version is stored with every object of its class, so that a migration is chosen
by what was written and never by what the data looks like.  Each class declares its
own: a subclass has other fields than its base, and so other forms.
"""

from __future__ import annotations

import inspect
import sys
import typing
from collections.abc import Callable, Iterator, Mapping
from types import FunctionType, MethodType
from typing import Any, TypeVar, get_args, get_origin

import msgspec

from minions.errors import DefinitionError

__all__ = ["Migration", "has_schema", "migrates", "migrations_of", "schema"]

ClassT = TypeVar("ClassT", bound=type)
FunctionT = TypeVar(
    "FunctionT",
    bound="Callable[..., Any] | staticmethod[..., Any] | classmethod[Any, ..., Any]",
)
Migration = Callable[[Mapping[str, Any]], Mapping[str, Any]]

_VERSION_MARK = "__minions_schema__"
_MIGRATION_MARK = "__minions_migrates__"
# The functions that name the class with `of`, on the class itself.
_FOREIGN_MARK = "__minions_migrations__"
_WRAPPERS = (staticmethod, classmethod)


class _Mark(msgspec.Struct, frozen=True):
    from_: int
    of: type | None


def schema(version: int) -> Callable[[ClassT], ClassT]:
    """Declare the version of a data class; 1 without it.

    Raise it together with a change that a default cannot bridge (another name,
    type or meaning of a field), and write a :func:`migrates` for each older version.
    It counts for this class alone: a subclass has a version of its own.  It may
    stand above or below the decorator that makes the data class.

    Args:
        version: A whole number from 1.

    Raises:
        DefinitionError: The version is none, what it is for is no class, or the
            class has one already.
    """
    if not _is_version(version):
        raise DefinitionError(
            f"@schema: expected a whole number from 1 as version, found {version!r};"
            " write @schema(version=2)"
        )

    def decorate(cls: ClassT) -> ClassT:
        if not isinstance(cls, type):
            raise DefinitionError(
                f"@schema(version={version}): expected a class, found {cls!r}; put it"
                " above a data class"
            )
        if _VERSION_MARK in vars(cls):
            raise DefinitionError(
                f"{cls.__qualname__}: expected one @schema, found a second with"
                f" version={version}; take one away"
            )
        _set_mark(cls, _VERSION_MARK, version)
        return cls

    return decorate


def migrates(from_: int, *, of: type | None = None) -> Callable[[FunctionT], FunctionT]:
    """Turn the form that a data class had in an older version into the next.

    The function takes a mapping of the stored fields by name, in plain data (see
    :doc:`/reference/formats`), which is its own to change, and returns a mapping in
    the form of version ``from_ + 1``.  Older data passes through one function after
    the other.  It may run more than once for the same data, and shall depend on
    nothing else.  If it raises, the workflow is quarantined.

    It stands in the body of its class, as a function of one argument, a static or
    a class method of any name.  Or it stands in the module of the class and names
    it as what it returns: ``-> Memory`` or ``-> Annotated[dict[str, Any], Memory]``.
    Or it stands anywhere and names it with *of*.

    Args:
        from_: The version that it takes.
        of: The class, if the place of the function does not tell.

    Raises:
        DefinitionError: The version is none, *of* is no class, what it is for is no
            plain function, or nothing tells its class.
    """
    if not _is_version(from_):
        raise DefinitionError(
            f"@migrates: expected a whole number from 1 as from_, found {from_!r};"
            " write @migrates(from_=1)"
        )
    if of is not None and not isinstance(of, type):
        raise DefinitionError(
            f"@migrates(from_={from_}): expected a class as of, found {of!r}; name"
            " the data class"
        )

    def decorate(function: FunctionT) -> FunctionT:
        inner = _inner(function)
        _check_function(inner, from_, of)
        setattr(inner, _MIGRATION_MARK, _Mark(from_, of))
        if of is not None:
            known = vars(of).get(_FOREIGN_MARK, ())
            _set_mark(of, _FOREIGN_MARK, (*known, function))
        return function

    return decorate


def has_schema(cls: object) -> bool:
    """Say whether *cls* itself was given a version, or migrations."""
    return isinstance(cls, type) and not vars(cls).keys().isdisjoint(
        {_VERSION_MARK, _FOREIGN_MARK}
    )


def migrations_of(cls: type) -> tuple[Migration, ...]:
    """Return what leads from each older version of a class to the next, from 1 on.

    The class's version is one more than there are.

    Raises:
        DefinitionError: A version has none or two, or there is one from the class's
            own version or a later one.
    """
    version: int = vars(cls).get(_VERSION_MARK, 1)
    found: dict[int, Migration] = {}
    for from_, function in _functions_of(cls):
        place = f"{cls.__qualname__}: @migrates(from_={from_})"
        if from_ >= version:
            raise DefinitionError(
                f"{place}: expected a version below the class's, found that it has"
                f" version {version}; raise it with @schema(version={from_ + 1})"
            )
        if from_ in found:
            raise DefinitionError(
                f"{place}: expected one function, found two; give each version one"
            )
        _check_signature(function, place)
        found[from_] = function
    for from_ in range(1, version):
        if from_ not in found:
            raise DefinitionError(
                f"{cls.__qualname__}: expected a migration from each version below"
                f" {version}, found none from {from_}; write one with"
                f" @migrates(from_={from_}, of={cls.__name__})"
            )
    return tuple(found[from_] for from_ in range(1, version))


def _is_version(value: object) -> bool:
    return type(value) is int and value >= 1


def _set_mark(cls: type, mark: str, value: object) -> None:
    try:
        setattr(cls, mark, value)
    except (AttributeError, TypeError) as exc:
        raise DefinitionError(
            f"{cls.__qualname__}: expected a data class, found a class that takes no"
            f" version ({exc}); use an attrs, dataclass or Struct class"
        ) from exc


def _inner(function: Any) -> Any:
    return function.__func__ if isinstance(function, _WRAPPERS) else function


def _check_function(function: Any, from_: int, of: type | None) -> None:
    place = f"@migrates(from_={from_})"
    if not isinstance(function, FunctionType):
        raise DefinitionError(
            f"{place}: expected a function, found {function!r}; put it above a"
            " function of one argument"
        )
    if (
        inspect.iscoroutinefunction(function)
        or inspect.isgeneratorfunction(function)
        or inspect.isasyncgenfunction(function)
    ):
        raise DefinitionError(
            f"{place}: expected a plain function, found that {function.__qualname__}"
            " is async or a generator; return the mapping"
        )
    if hasattr(function, _MIGRATION_MARK):
        raise DefinitionError(
            f"{place}: expected one mark, found a second on {function.__qualname__};"
            " write a function for each version"
        )
    outer, _, _ = function.__qualname__.rpartition(".")
    in_class = outer != "" and not outer.endswith("<locals>")
    at_top = outer == "" and "return" in function.__annotations__
    if of is None and not in_class and not at_top:
        raise DefinitionError(
            f"{place}: expected to be told the class of {function.__qualname__}, found"
            f" neither a class around it nor of; write @migrates(from_={from_},"
            " of=TheClass)"
        )


def _check_signature(function: Migration, place: str) -> None:
    try:
        inspect.signature(function).bind({})
    except TypeError as exc:
        raise DefinitionError(
            f"{place}: expected a function of one argument, found another ({exc});"
            " take the older form, and nothing else (no self: a static method)"
        ) from exc


def _functions_of(cls: type) -> Iterator[tuple[int, Migration]]:
    own = vars(cls)
    module = sys.modules.get(cls.__module__)
    for value in _marked(own):
        mark = _mark_of(value)
        if mark.of is None:
            yield mark.from_, _bound(value, cls)
    for value in own.get(_FOREIGN_MARK, ()):
        yield _mark_of(value).from_, _bound(value, cls)
    for value in _marked(vars(module) if module is not None else {}):
        mark = _mark_of(value)
        if mark.of is None and _names(value, cls):
            yield mark.from_, value


def _bound(value: Any, cls: type) -> Migration:
    # A bound method has no `__get__` of its own; that of its function would unbind it.
    if isinstance(value, MethodType):
        return value
    function: Migration = value.__get__(None, cls)
    return function


def _marked(namespace: Mapping[str, Any]) -> Iterator[Any]:
    """Yield the migrations in a namespace, those of two names once."""
    seen = set()
    for value in tuple(namespace.values()):
        # By the very type: what stands in a user's module may answer to anything.
        if not issubclass(type(value), (FunctionType, MethodType, *_WRAPPERS)):
            continue
        if hasattr(_inner(value), _MIGRATION_MARK) and id(_inner(value)) not in seen:
            seen.add(id(_inner(value)))
            yield value


def _mark_of(value: Any) -> _Mark:
    mark: _Mark = getattr(_inner(value), _MIGRATION_MARK)
    return mark


def _names(function: Any, cls: type) -> bool:
    """Say whether a function of a module names the class as what it returns."""
    if "." in function.__qualname__:
        return False  # of a class's body, under a name of its own here
    holder = type("Holder", (), {})
    try:
        holder.__annotations__ = {"return": function.__annotations__.get("return")}
        hint = typing.get_type_hints(
            holder, function.__globals__, {}, include_extras=True
        )["return"]
    except Exception as exc:
        raise DefinitionError(
            f"{cls.__module__}.{function.__qualname__}: expected @migrates to find the"
            f" class that the function returns, found an annotation that cannot be"
            f" resolved ({exc}); name the class with of"
        ) from exc
    candidates = [hint]
    if get_origin(hint) is typing.Annotated:
        candidates = [get_args(hint)[0], *hint.__metadata__]
    return any(found is cls or get_origin(found) is cls for found in candidates)
