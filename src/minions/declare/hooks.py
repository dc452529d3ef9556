"""Which hooks a class has, and the options that it sets."""

from __future__ import annotations

import inspect
from collections.abc import Callable
from typing import Any

import attrs

from minions.declare.kinds import ComponentKind, is_data, is_marked
from minions.errors import DefinitionError
from minions.options import Backoff, Restart, is_number

__all__ = ["MEMBERS", "OPTIONS", "Hooks", "hooks_of", "options_of", "parameters_of"]

MEMBERS: dict[ComponentKind, tuple[str, ...]] = {
    "resource": ("nursery",),
    "pipeline": ("nursery", "emit", "emit_many", "cursor"),
    "minion": ("nursery", "event", "context", "workflow"),
}


@attrs.frozen
class _Option:
    default: Any
    expected: str
    accepts: Callable[[object], bool]


def _one_of(*allowed: str | None) -> _Option:
    text = " or ".join(map(repr, allowed))
    return _Option(allowed[0], text, lambda value: value in allowed)


def _count(default: int) -> _Option:
    return _Option(
        default,
        "an integer of at least 1",
        lambda value: isinstance(value, int) and value is not True and value >= 1,
    )


def _instance(default: object) -> _Option:
    kind = type(default)
    return _Option(default, f"a {kind.__name__}", lambda v: isinstance(v, kind))


def _seconds(default: float) -> _Option:
    return _Option(
        default,
        "a finite number of seconds of at least 0",
        lambda value: is_number(value, 0),
    )


_COMMON = {
    "restart": _instance(Restart()),
    "on_exhausted": _one_of(None, "stop"),
}
OPTIONS: dict[ComponentKind, dict[str, _Option]] = {
    "resource": _COMMON,
    "pipeline": {
        **_COMMON,
        "error_backoff": _instance(Backoff()),
        "max_errors": _count(10),
        "dedup_window": _seconds(86400.0),
        "max_dedup": _count(1_000_000),
    },
    "minion": {
        **_COMMON,
        "key_on_quarantine": _one_of("release", "hold"),
        "max_in_flight": _count(1000),
        "max_backlog": _count(10_000),
        "max_unfinished": _count(10_000_000),
        "overflow": _one_of("wait", "reject"),
        "on_failure": _one_of("quarantine", "discard"),
        "signals": _Option(
            (),
            "a tuple of attrs, dataclass or msgspec.Struct classes",
            lambda value: isinstance(value, tuple) and all(map(is_data, value)),
        ),
    },
}


def options_of(cls: type, kind: ComponentKind, owner: str) -> dict[str, Any]:
    """Return all options of a component, with their defaults.

    Raises:
        DefinitionError: One has a value that it cannot have.
    """
    values: dict[str, Any] = {}
    for name, option in OPTIONS[kind].items():
        value = inspect.getattr_static(cls, name, option.default)
        if not option.accepts(value):
            # A marked class is the user's alone: `restart` may be a method there.
            if is_marked(cls) and callable(value):
                value = option.default
            else:
                raise DefinitionError(
                    f"{owner}: expected {name} to be {option.expected}, found"
                    f" {value!r}; set the class attribute to such a value"
                )
        values[name] = value
    return values


@attrs.frozen
class Hooks:
    """The hooks of a component."""

    is_context_manager: bool
    has_startup: bool
    has_run: bool
    has_shutdown: bool
    startup_takes_nursery: bool


def hooks_of(cls: type, owner: str) -> Hooks:
    """Return the hooks that *cls* or its bases define.

    An async context manager is entered instead: it has no startup and shutdown.

    Raises:
        DefinitionError: A hook is not an async method, or takes arguments.
    """
    manager = hasattr(cls, "__aenter__") and hasattr(cls, "__aexit__")
    nursery = False
    found = {"run": has_async_method(cls, "run", owner)}
    for name in ("startup", "shutdown"):
        wanted = ("nursery",) if name == "startup" and is_marked(cls) else ()
        present = not manager and has_async_method(cls, name, owner, wanted)
        found[name] = present
        if present and wanted:
            nursery = "nursery" in parameters_of(cls, name)
    return Hooks(manager, found["startup"], found["run"], found["shutdown"], nursery)


def has_async_method(
    cls: type, name: str, owner: str, wanted: tuple[str, ...] = ()
) -> bool:
    """Say whether *cls* has an async method, taking no arguments but *wanted*.

    Raises:
        DefinitionError: It has something else of that name.
    """
    if inspect.getattr_static(cls, name, None) is None:
        return False
    if not inspect.iscoroutinefunction(getattr(cls, name)):
        raise DefinitionError(
            f"{owner}: expected {name} to be an async method, found"
            f" {inspect.getattr_static(cls, name)!r}; write `async def {name}(self)`"
        )
    extra = [p for p in parameters_of(cls, name) if p not in wanted]
    if extra:
        raise DefinitionError(
            f"{owner}: expected {name} to take no arguments, found"
            f" {', '.join(map(repr, extra))}; write `async def {name}(self)`"
        )
    return True


def parameters_of(cls: type, name: str) -> list[str]:
    """Return the parameters of a method, without ``self`` and ``*args``."""
    signature = inspect.signature(getattr(cls, name), follow_wrapped=False)
    parameters = list(signature.parameters.values())
    static = inspect.getattr_static(cls, name)
    bound = isinstance(static, staticmethod | classmethod)
    if (
        not bound
        and parameters
        and parameters[0].kind is not inspect.Parameter.VAR_POSITIONAL
    ):
        parameters = parameters[1:]
    return [
        p.name for p in parameters if p.kind not in (p.VAR_POSITIONAL, p.VAR_KEYWORD)
    ]
