"""Public names: listed, re-exported, documented, and nothing besides."""

from __future__ import annotations

import importlib
import importlib.util
import inspect
import re
from pathlib import Path
from types import ModuleType

import pytest

REFERENCE = Path(__file__).parents[1] / "docs" / "reference"
DIRECTIVE = re.compile(r"^\.\. (?:auto|py:)\w+:: +(?P<name>[\w.]+)", re.MULTILINE)
CURRENT_MODULE = re.compile(r"^\.\. (?:py:)?currentmodule:: +([\w.]+)", re.MULTILINE)
PUBLIC = ["minions", "minions.notices", "minions.store", "minions.testing"]
EXISTING = [name for name in PUBLIC if importlib.util.find_spec(name) is not None]


def documented() -> set[str]:
    """Collect the whole names that the reference describes."""
    names = set()
    for page in sorted(REFERENCE.rglob("*.rst")):
        module = ""
        for line in page.read_text(encoding="utf-8").splitlines():
            if current := CURRENT_MODULE.match(line):
                module = current.group(1) + "."
            elif found := DIRECTIVE.match(line):
                name = found["name"]
                names.add(name if name.startswith("minions") else module + name)
    return names


def public(name: str) -> tuple[ModuleType, list[str]]:
    module = importlib.import_module(name)
    listed = getattr(module, "__all__", None)
    assert listed is not None, f"{name} has no __all__"
    return module, list(listed)


@pytest.mark.parametrize("name", EXISTING)
def test_what_is_listed_is_there_once_and_in_order(name: str) -> None:
    module, listed = public(name)

    assert [n for n in listed if not hasattr(module, n)] == []
    assert len(listed) == len(set(listed))


@pytest.mark.parametrize("name", EXISTING)
def test_what_is_there_is_listed(name: str) -> None:
    """A class or function imported for use inside would look public."""
    module, listed = public(name)

    unlisted = {
        n
        for n, value in vars(module).items()
        if not n.startswith("_")
        and not inspect.ismodule(value)
        and n not in {"annotations", "TYPE_CHECKING"}
    } - set(listed)
    assert unlisted == set()


@pytest.mark.parametrize("name", EXISTING)
def test_each_public_name_is_in_the_reference(name: str) -> None:
    _, listed = public(name)

    wanted = {f"{name}.{n}" for n in listed if not n.startswith("__")}
    assert wanted - documented() == set()


def test_the_reference_describes_only_public_names() -> None:
    exported = {f"{name}.{n}" for name in EXISTING for n in public(name)[1]}
    owners = tuple(f"{n}." for n in exported)

    strangers = documented() - exported - set(EXISTING)
    assert [n for n in sorted(strangers) if not n.startswith(owners)] == []


@pytest.mark.parametrize("name", EXISTING)
def test_each_public_name_has_a_docstring(name: str) -> None:
    module, listed = public(name)

    undocumented = [
        n
        for n in listed
        if (inspect.isclass(value := getattr(module, n)) or inspect.isroutine(value))
        and not value.__doc__
    ]
    assert undocumented == []
