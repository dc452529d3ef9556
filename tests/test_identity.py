from __future__ import annotations

import sys
import types

import attrs
import pytest

from minions.errors import DefinitionError
from minions.identity import (
    check_name,
    component_id,
    component_identity,
    has_component_id,
    is_local,
    orchestration_id,
    provided_identity,
)


class Client:
    class Inner:
        pass


def test_an_identity_is_module_and_qualname() -> None:
    assert component_identity(Client.Inner) == f"{__name__}:Client.Inner"


def test_a_given_id_is_not_inherited_and_survives_attrs() -> None:
    @attrs.define
    @component_id("the-client")
    class Given:
        x: int = 0

    class Below(Given):
        pass

    assert component_identity(Given) == "the-client"
    assert has_component_id(Given)
    assert not has_component_id(Below)
    assert component_identity(Below).endswith("Below")


@pytest.mark.parametrize(
    ("spec", "file", "expected"),
    [
        (types.SimpleNamespace(name="app.traders"), "/x/traders.py", "app.traders:A"),
        (None, "/x/traders.py", "traders:A"),
        (None, None, "__main__:A"),
    ],
)
def test_main_is_replaced(
    monkeypatch: pytest.MonkeyPatch, spec: object, file: str | None, expected: str
) -> None:
    main = types.ModuleType("__main__")
    main.__spec__ = spec  # type: ignore[assignment]
    if file is not None:
        main.__file__ = file
    monkeypatch.setitem(sys.modules, "__main__", main)
    cls = type("A", (), {"__module__": "__main__"})

    assert component_identity(cls) == expected


@pytest.mark.parametrize("text", ["", "a b", "a/b", "a\n", "x" * 201, 3, None, "a\0"])
def test_what_cannot_be_an_id_is_refused(text: object) -> None:
    with pytest.raises(DefinitionError, match="expected a component id"):
        component_id(text)(type("A", (), {}))  # type: ignore[arg-type]


def test_provided_under_a_name() -> None:
    assert provided_identity(Client) == f"{__name__}:Client"
    assert provided_identity(Client, "eu") == f"{__name__}:Client[eu]"
    with pytest.raises(DefinitionError, match="expected a name"):
        provided_identity(Client, "")


def test_a_class_made_in_a_function_is_local() -> None:
    class Here:
        pass

    assert is_local(Here)
    assert not is_local(Client.Inner)


@pytest.mark.parametrize(
    ("identity", "begin"),
    [
        ("app:CrossoverTrader", "crossover-trader-"),
        ("app:HTTPServer2", "http-server2-"),
        ("app:f.<locals>.Greeter", "greeter-"),
        ("my-trader", "my-trader-"),
        ("app:Ü", "minion-"),
        ("app:" + "x" * 100, "x" * 60 + "-"),
    ],
)
def test_an_orchestration_id_can_be_read(identity: str, begin: str) -> None:
    made = orchestration_id(identity, "app:Quotes", "")

    assert made.startswith(begin)
    assert len(made) == len(begin) + 16


def test_an_orchestration_id_is_the_same_for_ever() -> None:
    assert orchestration_id("app:Greeter", "app:Greetings", "") == (
        "greeter-a9f3d179f41c03e5"
    )


def test_orchestration_ids_do_not_run_into_each_other() -> None:
    triples = [
        ("a:B", "c", "d"),
        ("a:B", "cd", ""),
        ("a:B", "", "cd"),
        ("a:Bc", "", "d"),
    ]

    assert len({orchestration_id(*t)[-16:] for t in triples}) == len(triples)


def test_an_orchestration_name_is_checked() -> None:
    with pytest.raises(DefinitionError, match="a b"):
        orchestration_id("app:A", "app:B", "a b")


def test_a_good_name_comes_back() -> None:
    assert check_name("eu", what="name", owner="x") == "eu"


def test_a_bare_decorator_is_refused_where_it_stands() -> None:
    with pytest.raises(DefinitionError, match="@component_id: expected a component id"):

        @component_id  # type: ignore[arg-type]
        class Bare:
            pass


def test_only_a_class_has_an_id() -> None:
    with pytest.raises(DefinitionError, match="expected a class, found 3; put it"):
        component_id("three")(3)  # type: ignore[type-var]
