"""The house rules that a machine can hold."""

from __future__ import annotations

import ast
import re
import shutil
import subprocess
from collections.abc import Iterator
from pathlib import Path

import pytest

ROOT = Path(__file__).parents[1]
SOURCE = ROOT / "src" / "minions"
MODULES = sorted(SOURCE.rglob("*.py"))

# Imports point down only: a module may import from its own layer and below.
LAYERS = [
    {"errors", "identity", "notices", "options"},
    {"declare", "graph", "restart", "retry", "workflow"},
    {"store", "supervise"},
    {"runtime"},
    {"cli", "control", "observe", "sources", "testing", "web"},
]
# Re-exports from every layer but the edges; starts the command line.
FACADE = {"minions"}
ENTRY = {"minions.__main__"}
# Decisions know no clock and do no I/O; that they use trio's types is no harm.
PURE = LAYERS[0] | LAYERS[1]
IMPURE = {"asyncio", "lmdb", "os", "random", "socket", "threading", "time", "trio"}
# What is imported for its types alone, by module.
HARMLESS = {
    "declare/config.py": {"os"},  # `PathLike` tells a file from a mapping
}
# Shields without a deadline, by module, each explained where it stands.
SHIELDS = {
    "supervise/runner.py": 3,  # the runner's own scope; the guard; the held frame
    "store/group_commit.py": 1,  # the writer, ended by its closing mark
    "supervise/group.py": 1,  # the watchdog's, ended by the group
    "supervise/opening.py": 1,  # the wait for all runners
}
# What breaks a rule of size, by "module:name", and why.
LARGE = {
    "store/group_commit.py:QueuedStore": "queue, writer, trouble: never split by await",
    "runtime/gru.py:Gru": "the façade: each call is documented and handed on",
    "supervise/runner.py:Runner": "one life from beginning to end, in order of events",
    "supervise/group.py:Group": "one table: what its owner and its runners ask of it",
}
# Long names that are others': what overrides a method has its name.
FOREIGN_NAMES = {
    "register_unstructure_hook_factory",
    "register_structure_hook_factory",
}
# Folders that name somebody's machine.
MACHINE_PATH = re.compile(r"/(?:root|home|work|Users|opt|mnt)/\w")

Function = ast.FunctionDef | ast.AsyncFunctionDef


def part_of(module: str) -> str:
    return module.removeprefix("minions.").partition(".")[0]


def layer_of(module: str) -> int:
    layers = [i for i, layer in enumerate(LAYERS) if part_of(module) in layer]
    assert layers, f"{module} has no place in LAYERS"
    return layers[0]


def place_of(path: Path) -> str:
    return path.relative_to(SOURCE).as_posix()


def name_of(path: Path) -> str:
    parts = path.relative_to(SOURCE.parent).with_suffix("").parts
    return ".".join(parts).removesuffix(".__init__")


def tree_of(path: Path) -> ast.Module:
    return ast.parse(path.read_text(encoding="utf-8"))


def imports_of(tree: ast.AST) -> Iterator[str]:
    for node in ast.walk(tree):
        if isinstance(node, ast.Import):
            yield from (alias.name for alias in node.names)
        elif isinstance(node, ast.ImportFrom):
            assert node.level == 0, "imports are absolute"
            module = node.module or ""
            if module == "minions":
                yield from (f"minions.{alias.name}" for alias in node.names)
            else:
                yield module


class DropTypeChecking(ast.NodeTransformer):
    """Leaves what runs: imports for a type checker only are gone."""

    def visit_If(self, node: ast.If) -> ast.AST | list[ast.stmt]:
        if ast.unparse(node.test).endswith("TYPE_CHECKING"):
            return node.orelse
        return self.generic_visit(node)


def methods_of(node: ast.ClassDef) -> list[Function]:
    return [n for n in node.body if isinstance(n, Function)]


def code_lines(node: Function | ast.ClassDef) -> int:
    """Count the lines of a definition without its own docstring."""
    documented = ast.get_docstring(node, clean=False) or ""
    return (node.end_lineno or 0) - node.lineno + 1 - documented.count("\n")


def positional(node: Function, *, bound: bool) -> int:
    """Count the parameters that a caller may give by position."""
    names = [a.arg for a in node.args.posonlyargs + node.args.args]
    return len(names) - (bound and names[:1] in (["self"], ["cls"]))


def breaches(path: Path) -> Iterator[tuple[str, str]]:
    """Yield each name of a module that is too large, with what is too large."""
    tree = tree_of(path)
    methods = {
        id(method)
        for node in ast.walk(tree)
        if isinstance(node, ast.ClassDef)
        for method in methods_of(node)
    }
    for node in ast.walk(tree):
        if isinstance(node, ast.ClassDef):
            if node.end_lineno is not None and code_lines(node) > 250:
                yield node.name, f"{code_lines(node)} lines"
            if len(methods_of(node)) > 15:
                yield node.name, f"{len(methods_of(node))} methods"
        elif isinstance(node, Function):
            if code_lines(node) > 40:
                yield node.name, f"{code_lines(node)} lines"
            if (count := positional(node, bound=id(node) in methods)) > 4:
                yield node.name, f"{count} positional parameters"


def names_in(path: Path) -> Iterator[str]:
    yield from name_of(path).split(".")
    for node in ast.walk(tree_of(path)):
        if isinstance(node, Function | ast.ClassDef):
            yield node.name
        elif isinstance(node, ast.arg):
            yield node.arg
        elif isinstance(node, ast.Name) and isinstance(node.ctx, ast.Store):
            yield node.id
        elif isinstance(node, ast.Attribute) and isinstance(node.ctx, ast.Store):
            yield node.attr


@pytest.mark.parametrize("path", MODULES, ids=name_of)
def test_imports_point_down(path: Path) -> None:
    name = name_of(path)
    if name in ENTRY:
        return
    layer = layer_of("runtime") if name in FACADE else layer_of(name)
    for imported in imports_of(tree_of(path)):
        if imported.startswith("minions."):
            assert layer_of(imported) <= layer, f"{name} imports {imported}"


@pytest.mark.parametrize("path", MODULES, ids=name_of)
def test_decisions_know_no_trio_and_no_clock(path: Path) -> None:
    if part_of(name_of(path)) in PURE:
        running = DropTypeChecking().visit(tree_of(path))
        roots = {name.partition(".")[0] for name in imports_of(running)}
        assert not (IMPURE & roots) - HARMLESS.get(place_of(path), set())


@pytest.mark.parametrize("path", MODULES, ids=name_of)
def test_nothing_is_larger_than_the_rule(path: Path) -> None:
    found = [
        f"{name}: {what}"
        for name, what in breaches(path)
        if f"{place_of(path)}:{name}" not in LARGE
    ]

    assert path.read_text(encoding="utf-8").count("\n") <= 400
    assert found == []


def test_each_exception_is_still_needed() -> None:
    """An exception whose reason has gone goes too."""
    needed = {f"{place_of(p)}:{name}" for p in MODULES for name, _ in breaches(p)}

    assert set(LARGE) == needed & set(LARGE)
    assert set(SHIELDS) <= {place_of(p) for p in MODULES}


@pytest.mark.parametrize("path", MODULES, ids=name_of)
def test_names_are_short(path: Path) -> None:
    long = {name for name in names_in(path) if len(name) > 30}

    assert long - FOREIGN_NAMES == set()


@pytest.mark.parametrize("path", MODULES, ids=name_of)
def test_a_shield_has_a_deadline(path: Path) -> None:
    bare = 0
    for node in ast.walk(tree_of(path)):
        if isinstance(node, ast.Call):
            # `shield=shield` hands on what its caller decided, under these rules.
            given = {k.arg: ast.unparse(k.value) for k in node.keywords}
            timed = re.search(r"(move_on|fail)_(after|at)$", ast.unparse(node.func))
            has_deadline = timed or given.keys() & {"deadline", "relative_deadline"}
            bare += given.get("shield") == "True" and not has_deadline
        elif isinstance(node, ast.Assign):
            names = [t.attr for t in node.targets if isinstance(t, ast.Attribute)]
            bare += "shield" in names and ast.unparse(node.value) == "True"
    assert bare == SHIELDS.get(place_of(path), 0)


@pytest.mark.parametrize("path", MODULES, ids=name_of)
def test_every_module_says_what_it_is_for(path: Path) -> None:
    assert ast.get_docstring(tree_of(path))


def tracked_files() -> list[Path]:
    git = shutil.which("git")
    if git is None or not (ROOT / ".git").exists():
        pytest.skip("not a git checkout")
    listed = subprocess.run(
        [git, "ls-files", "-z", "--cached", "--others", "--exclude-standard"],
        cwd=ROOT,
        capture_output=True,
        check=True,
        text=True,
    )
    return [ROOT / name for name in listed.stdout.split("\0") if name]


def test_no_file_names_a_machine() -> None:
    found = []
    for path in tracked_files():
        try:
            text = path.read_text(encoding="utf-8")
        except (UnicodeDecodeError, FileNotFoundError, IsADirectoryError):
            continue  # a picture; deleted in the work tree; a link to a folder
        found += [f"{path.name}: {m.group()}" for m in MACHINE_PATH.finditer(text)]

    assert found == []
