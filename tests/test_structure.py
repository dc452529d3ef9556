"""The house rules that a machine can hold."""

from __future__ import annotations

import ast
from collections.abc import Iterator
from pathlib import Path

import pytest

ROOT = Path(__file__).parents[1]
SOURCE = ROOT / "src" / "minions"
MODULES = sorted(SOURCE.rglob("*.py"))

# Imports point down only: a module may import from its own layer and below.
LAYERS = [
    {"errors", "notices", "options"},
    {"restart"},
    {"supervise"},
    {"testing"},
]
# Decisions know no clock and do no I/O.
PURE = {"errors", "notices", "options", "restart"}
# Shields without a deadline, by module, each explained where it stands.
SHIELDS = {
    "supervise/runner.py": 2,  # the runner's own scope; the held frame
    "supervise/group.py": 1,  # the watchdog's, ended by the group
    "supervise/opening.py": 1,  # the wait for all runners
}
# Too large for the rule, and why.
LARGE_CLASSES = {
    "Runner": "one life from its beginning to its end, in the order of events",
    "Group": "the table is one thing: what its owner and what its runners ask of it",
}


def part_of(module: str) -> str:
    return module.removeprefix("minions.").partition(".")[0]


def layer_of(module: str) -> int:
    return next(i for i, layer in enumerate(LAYERS) if part_of(module) in layer)


def name_of(path: Path) -> str:
    parts = path.relative_to(SOURCE.parent).with_suffix("").parts
    return ".".join(parts).removesuffix(".__init__")


def imports_of(path: Path) -> Iterator[str]:
    for node in ast.walk(ast.parse(path.read_text())):
        if isinstance(node, ast.Import):
            yield from (alias.name for alias in node.names)
        elif isinstance(node, ast.ImportFrom):
            assert node.level == 0, "imports are absolute"
            yield node.module or ""


@pytest.mark.parametrize("path", MODULES, ids=name_of)
def test_imports_point_down(path: Path) -> None:
    if path == SOURCE / "__init__.py":
        return
    layer = layer_of(name_of(path))
    for imported in imports_of(path):
        if imported.startswith("minions."):
            assert layer_of(imported) <= layer, f"{name_of(path)} imports {imported}"


@pytest.mark.parametrize("path", MODULES, ids=name_of)
def test_decisions_know_no_trio_and_no_clock(path: Path) -> None:
    if part_of(name_of(path)) in PURE:
        assert not {"trio", "time", "os", "asyncio"} & set(imports_of(path))


@pytest.mark.parametrize("path", MODULES, ids=name_of)
def test_sizes(path: Path) -> None:
    text = path.read_text()
    assert text.count("\n") <= 400
    for node in ast.walk(ast.parse(text)):
        if isinstance(node, ast.FunctionDef | ast.AsyncFunctionDef):
            length = (node.end_lineno or 0) - node.lineno + 1
            documented = ast.get_docstring(node, clean=False) or ""
            assert length - documented.count("\n") <= 40, node.name
            assert len(node.args.posonlyargs + node.args.args) <= 5, node.name
            assert len(node.name) <= 30, node.name
        elif isinstance(node, ast.ClassDef) and node.name not in LARGE_CLASSES:
            methods = [
                n
                for n in node.body
                if isinstance(n, ast.FunctionDef | ast.AsyncFunctionDef)
            ]
            assert len(methods) <= 15, node.name


@pytest.mark.parametrize("path", MODULES, ids=name_of)
def test_a_shield_has_a_deadline(path: Path) -> None:
    bare = 0
    for node in ast.walk(ast.parse(path.read_text())):
        if isinstance(node, ast.Call):
            keywords = {keyword.arg for keyword in node.keywords}
            name = ast.unparse(node.func)
            bare += name == "trio.CancelScope" and keywords == {"shield"}
    expected = SHIELDS.get(path.relative_to(SOURCE).as_posix(), 0)
    assert bare == expected


def test_every_module_says_what_it_is_for() -> None:
    for path in MODULES:
        assert ast.get_docstring(ast.parse(path.read_text())), path
