"""Which classes the code of a minion names.

Two questions must be answered before any of that code runs.  A signal whose
class no ``Wait`` and no ``receive`` of the minion names is a ``TypeError`` for
its sender; and ``self.workflow.emit(event, to=Target)`` to a pipeline that this
store has never seen is refused when the minion starts.

The compiler has answered half of it: a function carries the names that it uses
and the variables that it closes over.  Here these are looked up where the
function would look them up itself.  Nothing is run or parsed, no attribute is
computed, and annotations count for nothing.

It is a hint about names, not an analysis of what happens to them.  It finds too
much: a class that is named for another purpose.  And it finds too little: what
a function outside the class names, what a function imports when it runs, what
is computed.  For signals the option ``signals`` fills that gap.
"""

from __future__ import annotations

import functools
from collections.abc import Iterable, Iterator
from types import CodeType, FunctionType, ModuleType
from typing import Any, Generic

import msgspec

from minions.declare.bases import Minion, Pipeline
from minions.declare.kinds import is_data, kinds_of
from minions.declare.outcomes import After, Done, GoTo, Wait

__all__ = ["emit_targets", "mentioned_classes"]

_OURS = (object, Generic, Minion)
_OUTCOMES = (GoTo, After, Wait, Done)


def mentioned_classes(cls: type) -> tuple[type, ...]:
    """Return the data classes and pipelines that the functions of *cls* name.

    Inherited functions count, and so do overridden ones.  Each class stands there
    once, in the order of the code, inherited code first.
    """
    named = (value for piece in _pieces_of(cls) for value in piece.named)
    return _once(v for v in named if _is_pipeline(v) or _is_signal(v))


def emit_targets(cls: type) -> tuple[type, ...]:
    """Return the pipelines that are named where *cls* emits to one.

    That is a piece of code that uses the name ``emit`` and passes a ``to=``.
    ``gru.emit`` is given the pipeline in another way, and does not count.
    """
    pieces = (piece for piece in _pieces_of(cls) if piece.emits)
    return _once(v for piece in pieces for v in piece.named if _is_pipeline(v))


def _once(classes: Iterable[Any]) -> tuple[type, ...]:
    return tuple(dict.fromkeys(classes))


def _is(value: object, *kinds: type) -> bool:
    # Not isinstance(): that asks the value for its class, which may run its code.
    return issubclass(type(value), kinds)


def _is_pipeline(value: Any) -> bool:
    return _is(value, type) and issubclass(value, Pipeline) and value is not Pipeline


def _is_signal(value: Any) -> bool:
    # An attrs component, and what a step returns, are data by their form alone.
    return (
        _is(value, type)
        and is_data(value)
        and not kinds_of(value)
        and not any(value is outcome for outcome in _OUTCOMES)
    )


class _Piece(msgspec.Struct, frozen=True):
    """One piece of code, and the values that its names stand for."""

    code: CodeType
    named: list[Any]

    @property
    def emits(self) -> bool:
        code = self.code
        names = (*code.co_names, *code.co_freevars, *code.co_varnames)
        # The names of keyword arguments are a constant of the code that gives them.
        keywords = (const for const in code.co_consts if isinstance(const, tuple))
        return "emit" in names and any("to" in names for names in keywords)


def _pieces_of(cls: type) -> Iterator[_Piece]:
    todo = [
        function
        for base in reversed(cls.__mro__)
        if base not in _OURS
        for value in vars(base).values()
        for function in _functions_in(value)
    ]
    known = set(todo)
    for function in todo:
        cells = dict(_cells_of(function))
        # A decorator without functools.wraps keeps the method in a cell alone.
        held = (vars(function).get("__wrapped__"), *cells.values())
        kept = [inner for value in held for inner in _functions_in(value)]
        todo += (f for f in dict.fromkeys(kept) if f not in known)
        known.update(kept)
        given = [*(function.__defaults__ or ())]
        given += (function.__kwdefaults__ or {}).values()
        yield _Piece(function.__code__, given)
        names = _Names(cls, function.__globals__)
        yield from names.pieces_in(function.__code__, cells)


def _functions_in(value: Any) -> Iterator[FunctionType]:
    """Yield the functions in an attribute of a class, decorators taken off."""
    if _is(value, property):
        for part in (value.fget, value.fset, value.fdel):
            yield from _functions_in(part)
    elif _is(value, staticmethod, classmethod):
        yield from _functions_in(value.__func__)
    elif _is(value, functools.cached_property, functools.partialmethod):
        yield from _functions_in(value.func)
    elif _is(value, FunctionType):
        yield value


def _cells_of(function: FunctionType) -> Iterator[tuple[str, Any]]:
    names = function.__code__.co_freevars
    for name, cell in zip(names, function.__closure__ or (), strict=True):
        try:
            yield name, cell.cell_contents
        except ValueError:  # empty: its variable is not set yet, or not any more
            continue


class _Names(msgspec.Struct, frozen=True):
    """What names stand for in one function of a minion."""

    owner: type
    space: dict[str, Any]

    def pieces_in(self, code: CodeType, cells: dict[str, Any]) -> Iterator[_Piece]:
        """Yield *code*, and what is written inside it."""
        yield _Piece(code, self.named_by(code, cells))
        # A variable that this code makes hides one of the same name outside.
        within = {n: value for n, value in cells.items() if n not in code.co_cellvars}
        for const in code.co_consts:
            # Newer interpreters put annotations into a function of that name.
            if isinstance(const, CodeType) and const.co_name != "__annotate__":
                yield from self.pieces_in(const, within)

    def named_by(self, code: CodeType, cells: dict[str, Any]) -> list[Any]:
        """Return the values of the names in *code*, as far as they are known."""
        found = [cells[name] for name in code.co_freevars if name in cells]
        found += [self.space[name] for name in code.co_names if name in self.space]
        # Of `feeds.Quote`, `Order.Cancel` and `self.Cancel` the code has the names
        # one by one, so that each is tried on all modules and classes among them.
        holders = [self.owner, *(v for v in found if _is(v, ModuleType, type))]
        for holder in holders:
            members = _members_of(holder)
            values = [members[name] for name in code.co_names if name in members]
            found += values
            holders += (
                value
                for value in values
                if _is(value, ModuleType, type)
                and not any(value is holder for holder in holders)
            )
        return [value.type if _is(value, Wait) else value for value in found]


def _members_of(holder: Any) -> dict[str, Any]:
    if _is(holder, type):
        bases = (vars(base) for base in reversed(holder.__mro__))
        return {name: value for names in bases for name, value in names.items()}
    # Not vars(): a module that is loaded when it is first used would load.
    members: dict[str, Any] = object.__getattribute__(holder, "__dict__")
    return members
