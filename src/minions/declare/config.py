"""A component's config, from an object, a mapping or a file."""

from __future__ import annotations

import dataclasses
import difflib
import json
import os
import typing
from collections.abc import Iterator, Mapping, Sequence
from pathlib import Path
from typing import TYPE_CHECKING, Any

import attrs
import msgspec

from minions.declare.kinds import is_data, type_name
from minions.errors import ConfigError

if TYPE_CHECKING:
    from cattrs import Converter

__all__ = ["load_config"]


def load_config(
    config_type: type, source: object, converter: Converter, *, component: str
) -> Any:
    """Make a config of *config_type* from *source*.

    Args:
        config_type: The class that the component declares.
        source: An instance, a mapping, or the path of a TOML or JSON file.
        converter: Knows how to structure the types of the fields.
        component: Whose config it is, for messages.

    Raises:
        ConfigError: It does not fit; the message names file and field.
    """
    if isinstance(source, config_type):
        return source
    where = component
    data = source
    if isinstance(source, str | os.PathLike):
        path = Path(source)
        where = f"{component}: config file {path}"
        data = _read(path, where)
    if not isinstance(data, Mapping):
        raise ConfigError(
            f"{where}: expected a {config_type.__qualname__}, a mapping, or the path"
            f" of a TOML or JSON file, found {data!r}; give one of these"
        )
    for field, names in _unknown(config_type, data, ""):
        listed = ", ".join(map(repr, names)) or "no fields"
        near = difflib.get_close_matches(field.rpartition(".")[2], names, 1)
        hint = f"did you mean {near[0]!r}?" if near else "take it away"
        raise ConfigError(
            f"{where}: field {field!r}: expected one of {listed}, found an unknown key;"
            f" {hint}"
        )
    for field, expected, found in _texts_for_many(config_type, data, ""):
        raise ConfigError(
            f"{where}: field {field!r}: expected {type_name(expected)}, found"
            f" {found!r}; put it into a list"
        )
    try:
        return converter.structure(data, config_type)
    except Exception as exc:
        raise ConfigError(f"{where}: {_explain(exc, config_type, data)}") from exc


def _load_toml(text: str) -> object:
    # With the first file: most programs have none.
    import tomllib  # noqa: PLC0415  # see above

    return tomllib.loads(text)


def _read(path: Path, where: str) -> object:
    readers: dict[str, Any] = {".toml": _load_toml, ".json": json.loads}
    reader = readers.get(path.suffix.lower())
    if reader is None:
        raise ConfigError(
            f"{where}: expected a file ending in .toml or .json, found"
            f" {path.name!r}; rename it"
        )
    try:
        return reader(path.read_text(encoding="utf-8"))
    except OSError as exc:
        raise ConfigError(
            f"{where}: expected a file that can be read, found {exc.strerror}; check"
            " the path and its permissions"
        ) from exc
    except ValueError as exc:
        raise ConfigError(
            f"{where}: expected valid {path.suffix[1:].upper()}, found: {exc}; mend"
            " the file"
        ) from exc


def _unknown(tp: Any, data: object, path: str) -> Iterator[tuple[str, list[str]]]:
    """Find keys that no field takes, here and below, with the known ones."""
    if is_data(tp) and isinstance(data, Mapping):
        fields = _fields(tp)
        for key, value in data.items():
            below = f"{path}.{key}" if path else str(key)
            if key in fields:
                yield from _unknown(fields[key], value, below)
            else:
                yield below, list(fields)
    else:
        for part, value, below in _parts(tp, data, path):
            yield from _unknown(part, value, below)


_MANY = (list, tuple, set, frozenset, Sequence)


def _texts_for_many(
    tp: Any, data: object, path: str
) -> Iterator[tuple[str, Any, object]]:
    """Find text where a list is meant: taken apart it would be a list, too."""
    if isinstance(data, str):
        if tp in _MANY or typing.get_origin(tp) in _MANY:
            yield path, tp, data
    elif is_data(tp) and isinstance(data, Mapping):
        fields = _fields(tp)
        for key, value in data.items():
            below = f"{path}.{key}" if path else str(key)
            yield from _texts_for_many(fields.get(key), value, below)
    else:
        for part, value, below in _parts(tp, data, path):
            yield from _texts_for_many(part, value, below)


def _parts(tp: Any, data: object, path: str) -> list[tuple[Any, object, str]]:
    """Take a container, or a union with one class, apart into what it holds."""
    arguments = typing.get_args(tp)
    if isinstance(data, Mapping):
        if typing.get_origin(tp) in (dict, Mapping):
            return [(arguments[1], v, f"{path}.{k}") for k, v in data.items()]
        # Which class of several is meant is for the converter to say.
        classes = [argument for argument in arguments if is_data(argument)]
        return [(classes[0], data, path)] if len(classes) == 1 else []
    if isinstance(data, list | tuple) and (len(arguments) == 1 or ... in arguments):
        return [(arguments[0], v, f"{path}[{i}]") for i, v in enumerate(data)]
    return []


def _fields(tp: type) -> dict[str, Any]:
    try:
        hints: Mapping[str, Any] = typing.get_type_hints(tp)
    except Exception:  # noqa: BLE001  # the converter has better words for it
        hints = {}
    if attrs.has(tp):
        names = [f.name for f in attrs.fields(tp) if f.init]
    elif issubclass(tp, msgspec.Struct):
        names = [*tp.__struct_encode_fields__]
    else:
        names = [f.name for f in dataclasses.fields(typing.cast("Any", tp)) if f.init]
    return {name: hints.get(name, Any) for name in names}


def _explain(exc: BaseException, config_type: type, data: object) -> str:
    """Say which field it is: cattrs leaves a note at each exception on the way."""
    path = ""
    expected: Any = config_type
    found: Any = data
    while isinstance(exc, BaseExceptionGroup):
        exc = exc.exceptions[0]
        for note in getattr(exc, "__notes__", ()):
            # Notes are strings that carry more: a field's name, or an index.
            facts = getattr(note, "__dict__", {})
            step = facts.get("name", facts.get("index"))
            if step is not None:
                path += f".{step}" if "name" in facts else f"[{step}]"
                expected = facts["type"]
                found = _below(found, step)
    absent = found is _ABSENT
    shown, remedy = ("nothing", "add it") if absent else (repr(found), "change it")
    return (
        f"field {path.lstrip('.') or '(all)'!r}: expected {type_name(expected)}, found"
        f" {shown}; {remedy} ({type(exc).__name__}: {exc})"
    )


_ABSENT: Any = object()


def _below(data: Any, step: Any) -> Any:
    try:
        return data[step]
    except (KeyError, IndexError, TypeError):
        return _ABSENT
