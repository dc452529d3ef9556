"""How a class is made, and how it annotates: each gets what it needs.

The cells are written as source, since postponed annotations are a property of a
module; the same text is run with and without them.
"""

from __future__ import annotations

import sys
import types

import pytest

from minions.declare.constructor import construct
from minions.declare.specification import ResourceSpec, specify
from minions.declare.system import ProvidedSpec, specify_all

HEAD = """
import dataclasses
from typing import Annotated, Optional
import attrs
from minions.declare.bases import Resource, resource

class Oracle(Resource): pass
class Cache(Resource): pass
class Client: pass
"""
# decorator, bases, and the body beside the annotations
KINDS = {
    "plain": ("", "Resource", ""),
    "attrs.define": ("@attrs.define", "Resource", ""),
    "attrs.frozen": ("@attrs.frozen", "Resource", ""),
    "dataclass": ("@dataclasses.dataclass", "Resource", ""),
    "context manager": (
        "",
        "Resource",
        (
            "    async def __aenter__(self): return self\n"
            "    async def __aexit__(self, *exc): pass\n"
        ),
    ),
    "@resource": ("@resource", "object", ""),
    "provided": ("", "Resource", ""),
}
STYLES = ["own", "inherited", "postponed"]
CELLS = [(kind, style) for kind in KINDS for style in STYLES]


def source_of(kind: str, style: str) -> str:
    decorator, bases, body = KINDS[kind]
    oracle = "Annotated[Client, 'eu']" if kind == "provided" else "Oracle"
    fields = f"    _oracle: {oracle}\n    cache: Cache | None = None\n"
    begin = "from __future__ import annotations\n" if style == "postponed" else ""
    if style == "inherited":
        classes = (
            f"{decorator}\nclass Base({bases}):\n{fields}{body}\n"
            f"{decorator}\nclass Subject(Base):\n    other: Optional[Cache] = None\n"
        )
    else:
        classes = (
            f"{decorator}\nclass Subject({bases}):\n{fields}"
            f"    other: Optional[Cache] = None\n{body}"
        )
    return begin + HEAD + classes


@pytest.fixture
def module(kind: str, style: str, monkeypatch: pytest.MonkeyPatch) -> types.ModuleType:
    made = types.ModuleType(f"cell_{abs(hash((kind, style)))}")
    monkeypatch.setitem(sys.modules, made.__name__, made)
    code = compile(source_of(kind, style), made.__name__, "exec", dont_inherit=True)
    exec(code, vars(made))  # noqa: S102  # a text of this module
    return made


@pytest.mark.parametrize(("kind", "style"), CELLS)
def test_a_component_gets_what_it_needs(
    kind: str, style: str, module: types.ModuleType
) -> None:
    cls = module.Subject
    provided = [(module.Client, "eu")]

    spec = specify(cls, provided=provided)

    needed = module.Client if kind == "provided" else module.Oracle
    assert isinstance(spec, ResourceSpec)
    assert [(d.attribute, d.cls, d.optional) for d in spec.dependencies] == [
        ("_oracle", needed, False),
        ("cache", module.Cache, True),
        ("other", module.Cache, True),
    ]
    declared = kind in ("attrs.define", "attrs.frozen", "dataclass")
    assert all((d.parameter is not None) == declared for d in spec.dependencies)
    assert spec.is_context_manager == (kind == "context manager")

    oracle, cache = needed(), module.Cache()
    made = construct(spec, {"_oracle": oracle, "cache": cache})

    assert made._oracle is oracle
    assert made.cache is cache
    assert made.other is None


@pytest.mark.parametrize(("kind", "style"), CELLS)
def test_a_system_is_found_from_its_roots(
    kind: str, style: str, module: types.ModuleType
) -> None:
    name = module.__name__
    found = specify_all([module.Subject], [(module.Client, "eu")])

    needed = f"{name}:Client[eu]" if kind == "provided" else f"{name}:Oracle"
    assert list(found)[-1] == f"{name}:Subject"
    assert set(found) == {needed, f"{name}:Cache", f"{name}:Subject"}
    assert isinstance(found[needed], ProvidedSpec) == (kind == "provided")
