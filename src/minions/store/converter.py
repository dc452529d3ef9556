"""The converter that users register hooks on, and that structures configs."""

from __future__ import annotations

from collections.abc import Callable, Mapping
from datetime import date, datetime, time, timedelta
from decimal import Decimal
from functools import partial
from pathlib import Path
from typing import Any, get_type_hints
from uuid import UUID

import cattrs
import msgspec
from cattrs import AttributeValidationNote, ClassValidationError
from cattrs.strategies import configure_union_passthrough

from minions.declare.kinds import required_arguments

__all__ = ["HookConverter", "converter"]


class HookConverter(cattrs.Converter):
    """A cattrs converter that knows which types have hooks of the user's.

    A hook counts for the very type that it was registered for, or for those that
    its predicate names.
    """

    def __init__(self, **options: Any) -> None:
        self._hooked: list[Callable[[Any], Any]] = []
        self.version: int = 0
        super().__init__(**options)
        self.forget_hooks()

    def forget_hooks(self) -> None:
        """Count what is registered so far as ours."""
        self._hooked.clear()

    def has_hook(self, kind: Any) -> bool:
        """Say whether the user registered a hook for this type."""
        return any(_fits(matches, kind) for matches in self._hooked)

    def _note(self, matches: Callable[[Any], Any]) -> None:
        self._hooked.append(matches)
        self.version += 1

    def register_unstructure_hook(self, cls: Any = None, func: Any = None) -> Any:
        """Register how a type is turned into plain data."""
        if func is not None:  # the decorator calls again, with the type
            self._note(lambda kind: kind == cls)
        return super().register_unstructure_hook(cls, func)

    def register_unstructure_hook_func(self, check_func: Any, func: Any) -> None:
        """Register how types that fit a predicate are turned into plain data."""
        self._note(check_func)
        super().register_unstructure_hook_func(check_func, func)

    def register_unstructure_hook_factory(
        self, predicate: Any, factory: Any = None
    ) -> Any:
        """Register what makes the hooks for types that fit a predicate."""
        self._note(predicate)
        return super().register_unstructure_hook_factory(predicate, factory)

    def register_structure_hook(self, cl: Any, func: Any = None) -> Any:
        """Register how a type is made from plain data."""
        if func is not None:
            self._note(lambda kind: kind == cl)
        return super().register_structure_hook(cl, func)

    def register_structure_hook_func(self, check_func: Any, func: Any) -> None:
        """Register how types that fit a predicate are made from plain data."""
        self._note(check_func)
        super().register_structure_hook_func(check_func, func)

    def register_structure_hook_factory(
        self, predicate: Any, factory: Any = None
    ) -> Any:
        """Register what makes the hooks for types that fit a predicate."""
        self._note(predicate)
        return super().register_structure_hook_factory(predicate, factory)


def _fits(matches: Callable[[Any], Any], kind: Any) -> bool:
    try:
        return bool(matches(kind))
    except Exception:  # noqa: BLE001  # as cattrs: issubclass() refuses list[int]
        return False


_SCALARS = (bool, int, float, str)


def _register_config_types(target: HookConverter) -> None:
    # What TOML and JSON have no form for, or cattrs no hook.  Snapshots do not come
    # this way: see codec_kinds.
    for kind in (datetime, date, time):
        target.register_structure_hook(kind, _parse_iso)
    target.register_structure_hook(timedelta, _parse_seconds)
    for made in (UUID, Decimal, Path):
        target.register_structure_hook(made, _parse_text)
    # cattrs calls the type: bool("false") is True, int(1.5) is 1, str(None) "None".
    for scalar in _SCALARS:
        target.register_structure_hook(scalar, _parse_scalar)
    configure_union_passthrough(bool | int | float | str | None, target)
    target.register_structure_hook_func(_is_struct, partial(_parse_struct, target))


def _parse_scalar(value: Any, kind: Any) -> Any:
    if kind not in _SCALARS:  # cattrs asks for the classes below, too: an IntEnum
        return kind(value)
    if type(value) is kind:
        return value
    if kind is float and type(value) is int:
        return float(value)
    raise TypeError(f"expected {kind.__name__}, found {value!r}")


def _is_struct(kind: Any) -> bool:
    return isinstance(kind, type) and issubclass(kind, msgspec.Struct)


def _parse_struct(target: cattrs.Converter, value: Any, kind: Any) -> Any:
    """Make a Struct, and say which fields do not fit as cattrs does."""
    if isinstance(value, kind):
        return value
    if not isinstance(value, Mapping):
        raise TypeError(f"expected a mapping for {kind.__qualname__}, found {value!r}")
    hints = get_type_hints(kind, include_extras=True)
    required = required_arguments(kind)
    found: dict[str, Any] = {}
    wrong: list[Exception] = []
    names = kind.__struct_fields__, kind.__struct_encode_fields__
    for name, key in zip(*names, strict=True):
        try:
            if key in value or name in required:
                found[name] = target.structure(value[key], hints[name])
        except Exception as exc:  # noqa: BLE001  # gathered, as cattrs does
            text = f"Structuring class {kind.__qualname__} @ attribute {name}"
            exc.add_note(AttributeValidationNote(text, key, hints[name]))
            wrong.append(exc)
    if wrong:
        raise ClassValidationError(f"While structuring {kind.__name__}", wrong, kind)
    return kind(**found)


def _parse_iso(value: Any, kind: Any) -> Any:
    if type(value) is kind:
        return value
    if not isinstance(value, str):
        raise TypeError(f"expected a {kind.__name__}, found {value!r}")
    return kind.fromisoformat(value)


def _parse_seconds(value: Any, kind: Any) -> Any:
    if isinstance(value, kind):
        return value
    if isinstance(value, bool) or not isinstance(value, int | float):
        raise TypeError(f"expected a number of seconds, found {value!r}")
    return kind(seconds=value)


def _parse_text(value: Any, kind: Any) -> Any:
    if isinstance(value, kind):
        return value
    if isinstance(value, bool) or not isinstance(value, int | float | str | Path):
        raise TypeError(f"expected text for a {kind.__name__}, found {value!r}")
    return kind(str(value))


converter: HookConverter = HookConverter()
"""Register hooks here for types of your own.

A hook for a type wins over what Minions does for that very type, in events,
contexts, configs and cursors.  Register both directions, before the first start.
"""

_register_config_types(converter)
converter.forget_hooks()
