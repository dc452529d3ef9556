from __future__ import annotations

import dataclasses
from collections.abc import Mapping
from pathlib import Path
from typing import TYPE_CHECKING, Any

import attrs
import cattrs
import msgspec
import pytest

from minions.declare.config import load_config
from minions.errors import ConfigError

if TYPE_CHECKING:
    from decimal import Decimal


@attrs.define
class Limit:
    size: int
    seen: bool = attrs.field(default=False, init=False)


@dataclasses.dataclass
class Settings:
    url: str
    port: int = 80
    limit: Limit | None = None
    limits: list[Limit] = dataclasses.field(default_factory=list)
    named: dict[str, Limit] = dataclasses.field(default_factory=dict)
    several: tuple[Limit, ...] = ()
    pair: tuple[int, int] = (0, 0)


class Packed(msgspec.Struct):
    url: str = ""


@attrs.define
class Odd:
    value: Decimal | None = None


def load(source: object, tp: type = Settings, **options: Any) -> Any:
    return load_config(tp, source, cattrs.Converter(**options), component="app:Db")


def test_an_instance_is_taken_as_it_is() -> None:
    settings = Settings("x")

    assert load(settings) is settings


def test_a_mapping_is_structured() -> None:
    found = load(
        {
            "url": "x",
            "limit": {"size": 1},
            "limits": [{"size": 2}],
            "named": {"a": {"size": 3}},
            "several": [{"size": 4}],
            "pair": [1, 2],
        }
    )

    assert found == Settings(
        "x", 80, Limit(1), [Limit(2)], {"a": Limit(3)}, (Limit(4),), (1, 2)
    )


@pytest.mark.parametrize(
    ("name", "text"),
    [("a.toml", 'url = "x"\nport = 3'), ("a.json", '{"url": "x", "port": 3}')],
)
@pytest.mark.parametrize("kind", [str, Path])
def test_a_file_is_read(tmp_path: Path, name: str, text: str, kind: Any) -> None:
    (tmp_path / name).write_text(text)

    assert load(kind(tmp_path / name)) == Settings("x", 3)


@pytest.mark.parametrize(
    ("source", "words"),
    [
        ({"url": "x", "prot": 1}, ("'prot'", "unknown key", "did you mean 'port'")),
        ({"url": "x", "zzz": 1}, ("'zzz'", "take it away")),
        ({"url": "x", "limit": {"sise": 1}}, ("'limit.sise'", "'size'")),
        ({"url": "x", "limit": {"size": 1, "seen": 1}}, ("'limit.seen'",)),
        ({"url": "x", "limits": [{"sise": 1}]}, ("'limits[0].sise'",)),
        ({"url": "x", "named": {"a": {"sise": 1}}}, ("'named.a.sise'",)),
        ({}, ("'url'", "expected str", "found nothing", "add it")),
        (
            {"url": "x", "port": "eighty"},
            ("'port'", "expected int", "'eighty'", "change"),
        ),
        ({"url": "x", "limits": [{"size": "b"}]}, ("'limits[0].size'", "expected int")),
        ({"url": "x", "limits": 3}, ("'limits'", "found 3")),
        (3, ("expected a Settings", "3", "give one")),
    ],
)
def test_what_does_not_fit_is_refused(source: object, words: tuple[str, ...]) -> None:
    with pytest.raises(ConfigError, match="app:Db") as caught:
        load(source)

    for word in words:
        assert word in str(caught.value)


def test_notes_of_others_do_not_disturb() -> None:
    def fail(value: Any, _: object) -> Limit:
        problem = ValueError("no limit")
        problem.add_note("a note of the hook's own")
        raise problem

    converter = cattrs.Converter()
    converter.register_structure_hook(Limit, fail)

    with pytest.raises(ConfigError, match=r"'limits\[0\]'.*no limit"):
        load_config(
            Settings, {"url": "", "limits": [{}]}, converter, component="app:Db"
        )


def test_a_converter_without_detail() -> None:
    with pytest.raises(ConfigError, match=r"\(all\).*ValueError"):
        load({"url": "x", "port": "eighty"}, detailed_validation=False)


@pytest.mark.parametrize(
    ("name", "text", "word"),
    [
        ("a.yaml", "", "ending in .toml or .json"),
        ("a.toml", "url = ", "valid TOML"),
        ("a.json", "{", "valid JSON"),
        ("a.json", "[1]", "a mapping"),
        ("gone.toml", None, "No such file"),
    ],
)
def test_a_file_that_cannot_be_used(
    tmp_path: Path, name: str, text: str | None, word: str
) -> None:
    if text is not None:
        (tmp_path / name).write_text(text)

    with pytest.raises(ConfigError, match=word) as caught:
        load(tmp_path / name)

    assert str(tmp_path / name) in str(caught.value)


def test_fields_of_structs_and_of_types_that_are_hidden() -> None:
    with pytest.raises(ConfigError, match="did you mean 'url'"):
        load({"ulr": ""}, Packed)
    with pytest.raises(ConfigError, match="did you mean 'value'"):
        load({"valeu": ""}, Odd)


def test_another_mapping_will_do() -> None:
    class Given(Mapping[str, Any]):
        def __getitem__(self, key: str) -> Any:
            return {"url": "x"}[key]

        def __iter__(self) -> Any:
            return iter(["url"])

        def __len__(self) -> int:
            return 1

    assert load(Given()) == Settings("x")
