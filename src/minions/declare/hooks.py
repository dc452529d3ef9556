"""Which hooks a class has, and the options that it sets."""

from __future__ import annotations

import difflib
import inspect
import typing
from collections.abc import Callable, Iterator
from typing import Any, ClassVar

import msgspec

from minions.declare.kinds import ComponentKind, is_data, is_marked, kinds_of
from minions.errors import DefinitionError
from minions.options import Backoff, Restart, is_number

__all__ = ["MEMBERS", "OPTIONS", "Hooks", "hooks_of", "options_of", "parameters_of"]

MEMBERS: dict[ComponentKind, tuple[str, ...]] = {
    "resource": ("nursery",),
    "pipeline": ("nursery", "emit", "emit_many", "cursor"),
    "minion": ("nursery", "event", "context", "workflow"),
}


# How like an option a name must be to be taken for it: difflib's ratio, and letters.
_SIMILAR = 0.85
_WRONG_LETTERS = 2
# Words below this length have room for one wrong letter only.
_SHORT = 5


class _Option(msgspec.Struct, frozen=True):
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
        DefinitionError: One has a value that it cannot have, or a name that is
            nearly an option's.
    """
    _check_spelling(cls, kind, owner)
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


def _check_spelling(cls: type, kind: ComponentKind, owner: str) -> None:
    for name, value in _plain_attributes(cls):
        near = difflib.get_close_matches(name, OPTIONS[kind], 1, _SIMILAR)
        if not near or name == near[0] or not _is_typo(name, near[0]):
            continue
        option = OPTIONS[kind][near[0]]
        # A counter named `restarts` is no option, nor is a tolerance `max_error`.
        if option.accepts(value) or type(value) is type(option.default):
            raise DefinitionError(
                f"{owner}: expected options by their names, found {name} = {value!r},"
                f" which is none; did you mean {near[0]}? (If it is yours, give it a"
                " name that is less like it)"
            )


def _plain_attributes(cls: type) -> Iterator[tuple[str, object]]:
    """Find what may be meant as an option: values, no fields, no methods."""
    for base in cls.__mro__:
        if not kinds_of(base):  # ours, or another's that knows nothing of options
            continue
        notes = vars(base).get("__annotations__", {})
        for name, value in vars(base).items():
            plain = not (callable(value) or hasattr(type(value), "__get__"))
            if plain and not name.startswith("_") and _is_no_field(notes.get(name)):
                yield name, value


def _is_no_field(annotation: object) -> bool:
    if annotation is None or typing.get_origin(annotation) is ClassVar:
        return True
    text = annotation if isinstance(annotation, str) else ""
    return annotation is ClassVar or text.removeprefix("typing.").startswith("ClassVar")


def _is_typo(name: str, option: str) -> bool:
    """Say whether one is the other with at most two wrong letters.

    Word by word, so that ``min_…`` is not taken for ``max_…``, and by the first
    letters, so that ``finished`` is not taken for ``unfinished``.
    """
    words, meant = name.split("_"), option.split("_")
    if len(words) != len(meant):
        words, meant = [name], [option]
    wrong = 0
    for word, right in zip(words, meant, strict=True):
        distance = _distance(word, right)
        allowed = 1 if len(right) < _SHORT else _WRONG_LETTERS
        if word[:1] != right[:1] or distance > allowed:
            return False
        wrong += distance
    return wrong <= _WRONG_LETTERS


def _distance(left: str, right: str) -> int:
    """Count the letters to insert, take away or replace (V. I. Levenshtein, 1966)."""
    row = list(range(len(right) + 1))
    for i, a in enumerate(left, 1):
        before, row[0] = row[0], i
        for j, b in enumerate(right, 1):
            replaced = before + (a != b)
            before = row[j]
            row[j] = min(row[j] + 1, row[j - 1] + 1, replaced)
    return row[-1]


class Hooks(msgspec.Struct, frozen=True):
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
