"""``minions.toml``: what it may say, and reading it."""

from __future__ import annotations

import difflib
from pathlib import Path
from typing import Any, Literal

import attrs
import cattrs
import msgspec
from cattrs import BaseConverter
from cattrs.cols import list_structure_factory
from cattrs.gen import make_dict_structure_fn

from minions.declare.config import load_config
from minions.declare.hooks import OPTIONS
from minions.errors import ConfigError
from minions.options import GruOptions

__all__ = [
    "FILE_NAME",
    "ComponentTable",
    "LogTable",
    "OrchestrationTable",
    "SystemFile",
    "read_system_file",
]

FILE_NAME = "minions.toml"

# A program that nobody watches is patient, and stays for whoever comes to mend it.
_DEFAULTS = {"start_patience": 60.0, "wait_for_failed": True}


@attrs.frozen(kw_only=True)
class LogTable:
    """How the log is written."""

    format: Literal["console", "json"] = "console"
    level: Literal["debug", "info", "warning", "error", "critical"] = "info"


@attrs.frozen(kw_only=True)
class OrchestrationTable:
    """One orchestration; classes as ``module:Class``."""

    minion: str
    pipeline: str
    name: str = ""
    config: Any = None
    """A path, relative to the file, or an inline table."""


class ComponentTable(msgspec.Struct, frozen=True, rename={"path": "class"}):
    """One resource that no orchestration needs."""

    path: str


@attrs.frozen(kw_only=True)
class _File:
    state: str = "state"
    options: dict[str, Any] = attrs.field(factory=dict)
    log: LogTable = attrs.field(factory=LogTable)
    orchestration: list[OrchestrationTable] = attrs.field(factory=list)
    component: list[ComponentTable] = attrs.field(factory=list)
    config: dict[str, Any] = attrs.field(factory=dict)


@attrs.frozen(kw_only=True)
class SystemFile:
    """What a ``minions.toml`` says; paths in it start at its folder."""

    path: Path
    state: Path
    options: GruOptions
    log: LogTable
    orchestrations: tuple[OrchestrationTable, ...]
    components: tuple[ComponentTable, ...]
    configs: dict[str, Any]

    @property
    def folder(self) -> Path:
        """Where the system's modules and files are."""
        return self.path.parent


def read_system_file(folder: Path) -> SystemFile:
    """Read the file in *folder*; no class that it names is imported.

    Raises:
        ConfigError: There is none, or something in it does not fit.
    """
    path = folder.resolve() / FILE_NAME
    file = load_config(_File, path, _converter, component="the system")
    _check_state(path, file.state)
    return SystemFile(
        path=path,
        state=path.parent / file.state,
        options=_options(f"{path}: [options]", file.options),
        log=file.log,
        orchestrations=tuple(
            attrs.evolve(table, config=_from(path.parent, table.config))
            for table in file.orchestration
        ),
        components=tuple(file.component),
        configs={
            name: _from(path.parent, source) for name, source in file.config.items()
        },
    )


def _check_state(path: Path, state: str) -> None:
    # Told from here, since the check of a system does not look at its state.
    if "\0" in state or (path.parent / state).resolve() == path.parent:
        raise ConfigError(
            f"{path}: field 'state': expected the path of a folder for the state"
            f" alone, found {state!r}; name one, or leave the field out"
        )


def _options(where: str, table: dict[str, Any]) -> GruOptions:
    names = [field.name for field in attrs.fields(GruOptions)]
    for name in table:
        if name not in names:
            raise ConfigError(
                f"{where}: field {name!r}: expected one of"
                f" {', '.join(map(repr, names))}, found an unknown key;"
                f" {_hint(name, names)}"
            )
    try:
        return GruOptions(**_DEFAULTS | table)
    except ConfigError as exc:
        # It names the class of the options, which stands nowhere in the file.
        name, _, said = str(exc).removeprefix("GruOptions.").partition(": ")
        raise ConfigError(f"{where}: field {name!r}: {said}") from exc


def _hint(name: str, names: list[str]) -> str:
    owners = {n: kind for kind in ("pipeline", "minion") for n in OPTIONS[kind]}
    near = difflib.get_close_matches(name, [*names, *owners], 1)
    if not near:
        return "take it away"
    meant = f"did you mean {near[0]!r}?"
    if near[0] in names:
        return meant
    return (
        f"{meant} That is a class attribute of a {owners[near[0]]}: write it into the"
        " class"
    )


def _from(folder: Path, source: object) -> object:
    """Find a config's file where the system's file means it to be."""
    return folder / source if isinstance(source, str) else source


def _text(value: object, _kind: object) -> str:
    if not isinstance(value, str):
        raise TypeError("expected text")
    return value


def _number(value: object, _kind: object) -> Any:
    # Whether it is a number, and one that fits, GruOptions itself says.
    return value


def _table(value: object, _kind: object) -> dict[str, Any]:
    if not isinstance(value, dict):
        raise TypeError("expected a table")
    return value


def _make_tables_hook(kind: Any, converter: BaseConverter) -> Any:
    structure = list_structure_factory(kind, converter)

    def tables(value: object, kind: Any) -> Any:
        if not isinstance(value, list):
            raise TypeError("expected tables, each under a [[name]] of its own")
        return structure(value, kind)

    return tables


def _is_list(kind: Any) -> bool:
    return getattr(kind, "__origin__", None) is list


def _make_table_hook(kind: Any, converter: BaseConverter) -> Any:
    structure = make_dict_structure_fn(kind, converter)

    def table(value: object, kind: Any) -> Any:
        # Text "has" keys, too: it would pass for a table without any.
        return structure(_table(value, kind), kind)

    return table


def _component(value: object, kind: type[ComponentTable]) -> ComponentTable:
    path = value.get("class") if isinstance(value, dict) else None
    if not isinstance(path, str):
        raise TypeError('expected class = "module:Class"')
    return kind(path)


def _is_table(kind: Any) -> bool:
    return getattr(kind, "__origin__", None) is dict


# Not `minions.converter`: a hook of the user's must not change what the file means,
# and nothing here is to be made of a value of another type.
_converter = cattrs.Converter()
_converter.register_structure_hook(str, _text)
for _kind in (int, float, bool):
    _converter.register_structure_hook(_kind, _number)
_converter.register_structure_hook_func(_is_table, _table)
_converter.register_structure_hook_factory(attrs.has, _make_table_hook)
_converter.register_structure_hook(ComponentTable, _component)
_converter.register_structure_hook_factory(_is_list, _make_tables_hook)
