"""Events and contexts as bytes: what comes back equals what went in."""

from __future__ import annotations

import dataclasses
import enum
import json
import math
from collections.abc import Callable
from datetime import UTC, date, datetime, time, timedelta, timezone
from decimal import Decimal
from pathlib import Path, PurePosixPath
from typing import (
    IO,
    Annotated,
    Any,
    ClassVar,
    Final,
    Generic,
    Literal,
    NewType,
    Protocol,
    Self,
    TypeVar,
)
from uuid import UUID
from zoneinfo import ZoneInfo

import attrs
import msgspec
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from minions.declare.config import load_config
from minions.errors import ConfigError, DefinitionError, SnapshotError
from minions.store.codec import codec_for, converter, to_printable


class Color(enum.Enum):
    RED = 1
    GREEN = (2, 3)


class Access(enum.Flag):
    READ = 1
    WRITE = 2


class Level(enum.IntEnum):
    LOW = 1


@attrs.frozen
class Quote:
    symbol: str
    price: float
    size: int = 1


@dataclasses.dataclass
class Trade:
    quote: Quote
    note: str | None = None
    parts: list[int] = dataclasses.field(default_factory=list)


class Tick(msgspec.Struct):
    at: int
    tags: list[str] = msgspec.field(default_factory=list)
    where: str = "here"


@attrs.define
class Node:
    value: int
    left: Node | None = None
    children: list[Node] = attrs.field(factory=list)
    named: dict[str, Node] = attrs.field(factory=dict)


Item = TypeVar("Item")
Symbol = NewType("Symbol", str)


@attrs.frozen
class Box(Generic[Item]):
    content: Item
    others: tuple[Item, ...] = ()


@attrs.frozen
class IntBox(Box[int]):
    extra: str = ""


def same(one: Any, other: Any) -> bool:
    """Equal, type included, however deep; nan equals itself."""
    return type(one) is type(other) and bool(same_value(one, other))


def same_value(one: Any, other: Any) -> Any:
    match one:
        case float():
            result = one == other or (math.isnan(one) and math.isnan(other))
        case Decimal():
            result = str(one) == str(other)
        case list() | tuple():
            result = len(one) == len(other) and all(map(same, one, other))
        case dict():
            result = same([*one.items()], [*other.items()])
        case set() | frozenset():
            result = one == other and set(map(type, one)) == set(map(type, other))
        case datetime() | time():
            kept = (one.fold, one.utcoffset()) == (other.fold, other.utcoffset())
            result = one == other and kept
        case _ if attrs.has(type(one)) or dataclasses.is_dataclass(one):
            result = same(vars_of(one), vars_of(other))
        case _:
            result = one == other
    return result


def vars_of(value: Any) -> dict[str, Any]:
    names = (
        [a.name for a in attrs.fields(type(value))]
        if attrs.has(type(value))
        else [f.name for f in dataclasses.fields(value)]
    )
    return {name: getattr(value, name) for name in names}


TEXT = st.text(st.characters(exclude_categories=["Cs"]), max_size=8)
INTS = st.integers(-(2**63), 2**63 - 1)
ZONES = (
    st.sampled_from(
        [UTC, timezone(timedelta(hours=5, minutes=30)), ZoneInfo("Europe/Berlin")]
    )
    | st.none()
)
QUOTES = st.builds(Quote, TEXT, st.floats(), INTS)
NODES: st.SearchStrategy[Node] = st.recursive(
    st.builds(Node, INTS),
    lambda inner: st.builds(
        Node,
        INTS,
        st.none() | inner,
        st.lists(inner, max_size=2),
        st.dictionaries(TEXT, inner, max_size=2),
    ),
    max_leaves=5,
)
CASES: list[tuple[Any, st.SearchStrategy[Any]]] = [
    (bool, st.booleans()),
    (int, INTS | st.booleans()),
    (float, st.floats() | INTS),
    (str, TEXT),
    (bytes, st.binary()),
    (None, st.none()),
    (Color, st.sampled_from(Color)),
    (Access, st.sampled_from([Access.READ, Access.READ | Access.WRITE, Access(0)])),
    (Level, st.just(Level.LOW)),
    (datetime, st.datetimes(timezones=ZONES)),
    (date, st.dates()),
    (time, st.times(timezones=ZONES)),
    (timedelta, st.timedeltas()),
    (UUID, st.uuids()),
    (Decimal, st.decimals()),
    (Path, st.sampled_from([Path("/a/b"), Path("c"), Path()])),
    (PurePosixPath, st.just(PurePosixPath("x/y"))),
    (Quote, QUOTES),
    (Trade, st.builds(Trade, QUOTES, st.none() | TEXT, st.lists(INTS))),
    (Tick, st.builds(Tick, INTS, st.lists(TEXT), TEXT)),
    (Node, NODES),
    (Box[str], st.builds(Box, TEXT, st.tuples(TEXT))),
    (IntBox, st.builds(IntBox, INTS, st.tuples(INTS, INTS), TEXT)),
    (Symbol, TEXT),
    (Annotated[int, "many"], INTS),
    (Literal["a", 1, True] | None, st.sampled_from(["a", 1, True, None])),
    (Literal[Color.RED], st.just(Color.RED)),
    (list[int], st.lists(INTS)),
    (list[Quote], st.lists(QUOTES, max_size=3)),
    (tuple[int, ...], st.lists(INTS).map(tuple)),
    (tuple[int, str], st.tuples(INTS, TEXT)),
    (tuple[()], st.just(())),
    (set[date], st.sets(st.dates())),
    (frozenset[str], st.frozensets(TEXT)),
    (dict[str, float], st.dictionaries(TEXT, st.floats())),
    (dict[str, Quote], st.dictionaries(TEXT, QUOTES, max_size=3)),
    (dict[int, str], st.dictionaries(INTS, TEXT)),
    (
        dict[tuple[str, date], UUID],
        st.dictionaries(st.tuples(TEXT, st.dates()), st.uuids()),
    ),
    (Quote | None, st.none() | QUOTES),
    (int | str | None, INTS | TEXT | st.none()),
    (int | float, INTS | st.floats()),
    (float | str | datetime, st.floats() | TEXT | st.datetimes()),
    (bytes | UUID, st.binary() | st.uuids()),
    (float | date, st.floats() | st.dates()),
    (Quote | Tick | int | None, QUOTES | st.builds(Tick, INTS) | INTS | st.none()),
    (list[int] | set[int], st.lists(INTS) | st.sets(INTS)),
    (list[int | datetime | None], st.lists(INTS | st.datetimes() | st.none())),
]


@pytest.mark.parametrize(("kind", "values"), CASES, ids=str)
@settings(max_examples=30, deadline=None)
@given(data=st.data())
def test_what_comes_back_equals_what_went_in(
    kind: Any, values: st.SearchStrategy[Any], data: st.DataObject
) -> None:
    value = data.draw(values)
    codec = codec_for(kind, component="test")

    stored = codec.encode(value)

    assert same(codec.decode(stored), value)
    json.dumps(to_printable(stored), allow_nan=False)


def test_a_zone_and_a_fold_are_kept() -> None:
    zone = ZoneInfo("Europe/Berlin")
    codec = codec_for(datetime, component="test")

    for fold in (0, 1):
        value = datetime(2024, 10, 27, 2, 30, tzinfo=zone, fold=fold)
        found = codec.decode(codec.encode(value))
        assert found.tzinfo is zone
        assert (found.fold, found.utcoffset()) == (fold, value.utcoffset())


class Proto(Protocol):
    def run(self) -> None: ...


class Plain:
    pass


@pytest.mark.parametrize(
    "kind",
    [
        Any,
        object,
        Proto,
        Plain,
        IO[bytes],
        Callable[[], None],
        list,
        dict,
        list[Any],
        dict[str, object],
        Item,
        bytearray,
        complex,
        type,
        list[int] | list[str],
        str | Literal["a"],  # noqa: PYI051  # that is the point
        Literal[Color.RED, 1],
        Color | Literal[Color.RED],
    ],
    ids=str,
)
def test_what_cannot_be_stored_is_refused_by_its_class(kind: Any) -> None:
    cls: Any = attrs.make_class("Event", {"field": attrs.field(type=kind)})

    with pytest.raises(DefinitionError) as caught:
        codec_for(cls, component="app:Worker")

    message = str(caught.value)
    assert message.startswith("app:Worker: Event.field: expected a type")
    assert "found" in message


def test_a_refused_class_deep_inside_is_named() -> None:
    inner: Any = attrs.make_class("Inner", {"handle": attrs.field(type=object)})
    outer: Any = attrs.make_class("Outer", {"x": attrs.field(type=list[inner])})

    for _ in range(2):  # nothing of the first try is remembered
        with pytest.raises(DefinitionError, match=r"Inner\.handle.*found object"):
            codec_for(outer, component="test")


@attrs.define
class Unresolved:
    x: Missing  # type: ignore[name-defined]  # noqa: F821


@dataclasses.dataclass
class WithInitVar:
    x: dataclasses.InitVar[int]


@pytest.mark.parametrize(
    ("cls", "found"),
    [(Unresolved, "cannot be resolved"), (WithInitVar, "InitVar")],
)
def test_an_annotation_that_says_nothing_is_refused(cls: type, found: str) -> None:
    with pytest.raises(DefinitionError, match=rf"{cls.__name__}\.x.*{found}"):
        codec_for(cls, component="test")


@dataclasses.dataclass
class Limited:
    x: Final[int]
    LIMIT: ClassVar[int] = 3


@attrs.define
class Branch:
    x: Final[int] = 0
    last: Self | None = None
    kids: dict[str, list[Self]] = attrs.field(factory=dict)


branch: Any = Branch  # mypy takes no Self in a generated constructor


@pytest.mark.parametrize(
    "value", [Limited(1), branch(1, branch(2), {"a": [branch(3)]})]
)
def test_class_variables_final_fields_and_self_are_understood(value: Any) -> None:
    codec = codec_for(type(value), component="test")

    assert codec.decode(codec.encode(value)) == value


@attrs.define
class Wide:
    number: int = 0
    ratio: float = 0.0
    text: str = ""
    quote: Quote | None = None
    quotes: dict[str, list[Quote]] = attrs.field(factory=dict)
    choice: Literal["a", "b"] = "a"
    both: int | datetime = 0


@attrs.frozen
class LoudQuote(Quote):
    loud: bool = True


class Text(str):
    __slots__ = ()


@pytest.mark.parametrize(
    ("value", "place", "found"),
    [
        (Wide(number=2**64), "Wide.number", "64 bits"),
        (Wide(number=-(2**63) - 1), "Wide.number", "64 bits"),
        (Wide(number=Level.LOW), "Wide.number", "Level"),
        (Wide(number=1.0), "Wide.number", "float"),  # type: ignore[arg-type]
        (Wide(ratio=Decimal(1)), "Wide.ratio", "Decimal"),  # type: ignore[arg-type]
        (Wide(text="\ud800"), "Wide.text", "surrogate"),
        (Wide(text=Text("a")), "Wide.text", "Text"),
        (Wide(quote=LoudQuote("a", 1.0)), "Wide.quote", "LoudQuote"),
        (Wide(quote=Quote("\ud800", 1)), "Quote.symbol", "surrogate"),
        (Wide(quotes={"a": [Quote("a", 1, 2**70)]}), "Quote.size", "64 bits"),
        (Wide(quotes={"a": [Quote("a", "b")]}), "Quote.price", "str"),  # type: ignore[arg-type]
        (Wide(quotes={1: []}), "Wide.quotes", "int"),  # type: ignore[dict-item]
        (Wide(choice="c"), "Wide.choice", "another str"),  # type: ignore[arg-type]
        (Wide(both="c"), "Wide.both", "str"),  # type: ignore[arg-type]
        (Quote("a", 1), "Wide", "Quote"),
        ("text", "Wide", "str"),
    ],
    ids=str,
)
def test_a_value_that_cannot_be_stored_is_named(
    value: object, place: str, found: str
) -> None:
    codec = codec_for(Wide, component="app:Worker")

    with pytest.raises(SnapshotError) as caught:
        codec.encode(value)

    message = str(caught.value)
    assert f"app:Worker: {place}: " in message
    assert found in message


def test_an_unset_field_is_named() -> None:
    value = Wide()
    del value.number

    with pytest.raises(SnapshotError, match=r"Wide\.number: .*not set"):
        codec_for(Wide, component="test").encode(value)


def test_data_in_itself_is_refused() -> None:
    node = Node(1)
    node.children.append(node)

    with pytest.raises(SnapshotError, match="nested too deeply"):
        codec_for(Node, component="test").encode(node)


def test_deep_damage_is_found_in_linear_time() -> None:
    data: dict[str, object] = {"value": "no number"}
    for _ in range(60):
        data = {"value": 1, "left": data}

    with pytest.raises(SnapshotError, match=r"Node\.value.*builtins\.str"):
        codec_for(Node, component="test").decode(msgspec.msgpack.encode(data))


def test_fields_come_and_go() -> None:
    stored = msgspec.msgpack.encode({"symbol": "A", "price": 1.0, "gone": [1]})

    assert codec_for(Quote, component="test").decode(stored) == Quote("A", 1.0, 1)


@pytest.mark.parametrize(
    ("cls", "data", "expected"),
    [
        (Trade, {"quote": {"symbol": "A", "price": 1}}, Trade(Quote("A", 1))),
        (Tick, {"at": 1}, Tick(1)),
    ],
)
def test_defaults_are_fresh(cls: type, data: object, expected: object) -> None:
    codec = codec_for(cls, component="test")

    one, other = (codec.decode(msgspec.msgpack.encode(data)) for _ in range(2))

    assert one == other == expected
    assert vars_or_tags(one) is not vars_or_tags(other)


def vars_or_tags(value: Any) -> object:
    return value.parts if isinstance(value, Trade) else value.tags


def test_a_missing_field_without_default_is_named() -> None:
    stored = msgspec.msgpack.encode({"symbol": "A"})

    with pytest.raises(
        SnapshotError, match=r"Quote\.price: .*give the field a default"
    ):
        codec_for(Quote, component="test").decode(stored)


@pytest.mark.parametrize(
    ("kind", "data"),
    [
        (Quote, []),
        (int, "a"),
        (Color, "BLUE"),
        (Access, "x"),
        (datetime, "yesterday"),
        (datetime, "2020-01-01T00:00:00+01:00[No/Where]"),
        (UUID, b"short"),
        (Decimal, "x"),
        (timedelta, [1]),
        (list[int], ["a"]),
        (list[int], 1),
        (tuple[int, str], [1]),
        (tuple[int, str], 1),
        (dict[str, int], []),
        (dict[int, int], 1),
        (dict[int, int], [[1]]),
        (dict[tuple[int, ...], int] | None, [[[], "a"]]),
        (Quote | Tick, ["Nope", {}]),
        (Quote | Tick, {}),
        (float | date, b""),
        (Literal["a"], "b"),
    ],
    ids=str,
)
def test_stored_data_that_does_not_fit_is_refused(kind: Any, data: object) -> None:
    with pytest.raises(SnapshotError, match=r"app:Worker: .*does not fit"):
        codec_for(kind, component="app:Worker").decode(msgspec.msgpack.encode(data))


@pytest.mark.parametrize("data", [b"", b"\xc1", b"\x82\xa1"])
def test_damaged_bytes_are_refused(data: bytes) -> None:
    with pytest.raises(SnapshotError):
        codec_for(Quote, component="test").decode(data)
    with pytest.raises(SnapshotError):
        to_printable(data)


def upper(text: str) -> str:
    return text.upper()


@attrs.define
class Counting:
    _secret: int
    total: int = attrs.field(init=False, default=0)
    upper: str = attrs.field(converter=upper, default="", kw_only=True)

    def __attrs_post_init__(self) -> None:
        self._secret += 1


@attrs.define(init=False)
class Handmade:
    a: int
    b: list[int] = attrs.field(factory=list)

    def __init__(self) -> None:
        self.a, self.b = 1, []


@dataclasses.dataclass
class Hand:
    a: int
    b: int = dataclasses.field(default=2, kw_only=True)

    def __init__(self, both: int) -> None:
        self.a = self.b = both


class Keyword(msgspec.Struct, kw_only=True, frozen=True):
    a: int
    b: int = 2


def test_a_class_with_code_of_its_own_comes_back_as_it_was() -> None:
    value = Counting(1, upper="x")
    value.total = 5
    value.upper = "lower by hand"
    hand = Handmade()
    hand.b.append(3)

    for made in (value, hand, Hand(4), Keyword(a=1, b=3)):
        codec = codec_for(type(made), component="test")
        assert codec.decode(codec.encode(made)) == made


CALLS: list[str] = []


@attrs.define
class Watched:
    a: int

    def __setattr__(self, name: str, value: Any) -> None:
        CALLS.append(f"set {name}")
        object.__setattr__(self, name, value)


@dataclasses.dataclass
class Allocated:
    a: int

    def __new__(cls, *_: Any, **__: Any) -> Self:
        CALLS.append("new")
        return object.__new__(cls)


class Meta(type):
    def __call__(cls, *args: Any, **kwargs: Any) -> Any:
        CALLS.append("call")
        return super().__call__(*args, **kwargs)


@attrs.define
class WithMeta(metaclass=Meta):
    a: int


@attrs.define
class Checked:
    a: int = attrs.field(validator=lambda *_: CALLS.append("check"))


@attrs.define
class Finished:
    a: int

    def __attrs_post_init__(self) -> None:
        CALLS.append("finish")


@dataclasses.dataclass
class AlsoFinished:
    a: int

    def __post_init__(self) -> None:
        CALLS.append("finish")


@attrs.define
class Oops(Exception):  # noqa: N818
    a: int


@pytest.mark.parametrize(
    ("cls", "called"),
    [
        (Watched, ["set a"]),
        (Allocated, ["new"]),
        (WithMeta, ["call"]),
        (Checked, ["check"]),
        (Finished, ["finish"]),
        (AlsoFinished, ["finish"]),
        (Oops, []),
    ],
)
def test_what_a_class_does_when_it_is_made_is_done(cls: Any, called: list[str]) -> None:
    codec = codec_for(cls, component="test")
    stored = codec.encode(cls(1))
    CALLS.clear()

    found = codec.decode(stored)

    assert (type(found), found.a, CALLS) == (cls, 1, called)


def test_an_exception_comes_back_with_its_arguments() -> None:
    codec = codec_for(Oops, component="test")

    assert codec.decode(codec.encode(Oops(1))).args == (1,)


@attrs.frozen(cache_hash=True)
class Hashed:
    a: int


@attrs.define(unsafe_hash=True, cache_hash=True)
class HashedToo:
    a: int


def test_a_hash_that_is_kept_can_be_computed() -> None:
    codec = codec_for(HashedToo, component="test")

    assert hash(codec.decode(codec.encode(HashedToo(1)))) == hash(HashedToo(1))


@attrs.frozen(slots=False)
class Loosely(Quote):
    a: int = 0


@attrs.define(on_setattr=attrs.setters.frozen)
class Hooked:
    a: int
    b: int = attrs.field(init=False, default=2)


@dataclasses.dataclass(frozen=True, slots=True)
class Fixed:
    a: int
    b: int = dataclasses.field(init=False, default=2)


@pytest.mark.parametrize(
    "value", [Hashed(1), LoudQuote("a", 1.0), Loosely("a", 1.0), Hooked(1), Fixed(1)]
)
def test_a_frozen_class_comes_back_whole_and_frozen(value: Any) -> None:
    codec = codec_for(type(value), component="test")

    found = codec.decode(codec.encode(value))

    assert found == value
    assert repr(found) == repr(value)
    assert isinstance(value, Hooked) or hash(found) == hash(value)
    name = attrs.fields(type(value))[0].name if attrs.has(type(value)) else "a"
    with pytest.raises(AttributeError):
        setattr(found, name, 5)


class Priced(Quote):
    """Below an attrs class, with a constructor of its own."""

    def __init__(self) -> None:
        super().__init__("ABC", 1.5, 2)


def test_a_subclass_with_a_constructor_of_its_own_comes_back() -> None:
    codec = codec_for(Priced, component="test")

    back = codec.decode(codec.encode(Priced()))

    assert (type(back), back) == (Priced, Priced())


def test_a_class_without_its_constructor_takes_defaults() -> None:
    stored = msgspec.msgpack.encode({"a": 7})

    assert codec_for(Handmade, component="test").decode(stored).b == []
    assert codec_for(Hand, component="test").decode(stored).b == 2


@attrs.frozen
class Positive:
    n: int = attrs.field(validator=attrs.validators.gt(0))


def test_a_class_that_refuses_its_data_is_named() -> None:
    stored = msgspec.msgpack.encode({"n": -1})

    with pytest.raises(SnapshotError, match=r"Positive: .*refused"):
        codec_for(Positive, component="test").decode(stored)


def test_tags_survive_a_third_member() -> None:
    stored = codec_for(Quote | Tick, component="test").encode(Tick(1))

    assert codec_for(Node | Tick | Quote, component="test").decode(stored) == Tick(1)
    assert to_printable(stored) == ["Tick", {"at": 1, "tags": [], "where": "here"}]


class Money:
    def __init__(self, cents: int) -> None:
        self.cents = cents

    def __eq__(self, other: object) -> bool:
        return isinstance(other, Money) and other.cents == self.cents

    __hash__ = None  # type: ignore[assignment]


def test_a_users_hook_makes_a_type_storable() -> None:
    cls: Any = attrs.make_class("Bill", {"sum": attrs.field(type=Money)})
    with pytest.raises(DefinitionError, match="found Money"):
        codec_for(cls, component="test")

    converter.register_unstructure_hook(Money, lambda money: money.cents)
    converter.register_structure_hook(Money, lambda cents, _: Money(cents))
    codec = codec_for(cls, component="test")

    assert to_printable(codec.encode(cls(Money(5)))) == {"sum": 5}
    assert codec.decode(codec.encode(cls(Money(5)))) == cls(Money(5))
    with pytest.raises(SnapshotError, match=r"Bill\.sum: .*found builtins\.int"):
        codec.encode(cls(5))


class Coin(Money):
    pass


@attrs.define
class Purse:
    coin: Coin
    count: int | None = None


def test_a_predicate_that_takes_classes_alone_counts_for_them() -> None:
    """cattrs, too, takes one that raises for one that does not fit."""
    converter.register_unstructure_hook_func(
        lambda kind: issubclass(kind, Coin), lambda coin: coin.cents
    )
    converter.register_structure_hook_func(
        lambda kind: issubclass(kind, Coin), lambda cents, _: Coin(cents)
    )
    codec = codec_for(Purse, component="test")

    assert codec.decode(codec.encode(Purse(Coin(5), 1))) == Purse(Coin(5), 1)


@attrs.frozen
class Point:
    x: int
    y: int


def test_a_users_hook_wins_over_ours() -> None:
    line = list[Point]
    before = codec_for(line, component="test").encode([Point(1, 2)])

    converter.register_unstructure_hook(Point, lambda p: f"{p.x},{p.y}")
    converter.register_structure_hook(
        Point, lambda text, _: Point(*map(int, text.split(",")))
    )
    codec = codec_for(line, component="test")

    assert to_printable(before) == [{"x": 1, "y": 2}]
    assert to_printable(codec.encode([Point(1, 2)])) == ["1,2"]
    assert codec.decode(codec.encode([Point(1, 2)])) == [Point(1, 2)]
    with pytest.raises(SnapshotError, match=r"Point raised"):
        codec.decode(msgspec.msgpack.encode([7]))


class Loose(msgspec.Struct):
    x: Missing  # type: ignore[name-defined]  # noqa: F821


def test_an_annotation_of_a_struct_that_cannot_be_resolved_is_named() -> None:
    with pytest.raises(DefinitionError, match=r"Loose\.x.*cannot be resolved"):
        codec_for(Loose, component="test")


def test_members_of_one_name_are_told_apart_by_their_modules() -> None:
    twin: Any = attrs.make_class("Quote", {"n": attrs.field(type=int)})
    twin.__module__ = "elsewhere"
    codec = codec_for(Quote | twin, component="test")

    assert codec.decode(codec.encode(twin(1))) == twin(1)
    assert codec.decode(codec.encode(Quote("a", 1.0))) == Quote("a", 1.0)
    other: Any = attrs.make_class("Quote", {"n": attrs.field(type=int)})
    other.__module__ = __name__
    with pytest.raises(DefinitionError, match="have the same name; rename one"):
        codec_for(Quote | other, component="test")


def test_the_name_of_a_type_says_where_it_is() -> None:
    assert codec_for(Quote, component="t").type_name == f"{__name__}:Quote"
    assert codec_for(int, component="t").type_name == "int"
    assert "Quote" in repr(codec_for(Quote, component="t"))


def test_what_json_lacks_is_printed_as_text() -> None:
    stored = msgspec.msgpack.encode([math.nan, math.inf, b"\x01\xff", {1: None}])

    assert to_printable(stored) == ["nan", "inf", "0x01ff", {"1": None}]


@attrs.frozen
class Settings:
    at: datetime
    every: timedelta
    path: Path
    limit: Decimal


def test_the_converter_structures_configs() -> None:
    config = {"at": "2024-01-01", "every": 1.5, "path": "a", "limit": "0.1"}

    found = converter.structure(config, Settings)

    assert found == Settings(
        datetime(2024, 1, 1),  # noqa: DTZ001  # naive on purpose
        timedelta(seconds=1.5),
        Path("a"),
        Decimal("0.1"),
    )


class Nested(msgspec.Struct):
    size: int = 1


class Packed(msgspec.Struct, rename="camel"):
    base_url: str
    nested: Nested | None = None


@attrs.frozen
class Typed:
    flag: bool = False
    count: int = 0
    ratio: float = 0.0
    text: str = ""
    level: Level = Level.LOW
    many: int | str = 0
    limit: float | None = None
    packed: Packed | None = None


@pytest.mark.parametrize(
    "given",
    [
        {"flag": True, "count": 2, "ratio": 0.5, "text": "a", "level": Level.LOW},
        {"many": "a"},
        {"many": 3, "limit": 0.5},
    ],
)
def test_values_of_a_config_keep_their_types(given: dict[str, Any]) -> None:
    assert converter.structure(given, Typed) == Typed(**given)


def test_an_integer_will_do_for_a_float_of_a_config() -> None:
    found = converter.structure({"ratio": 3, "limit": 3}, Typed)

    assert (type(found.ratio), type(found.limit)) == (float, float)


def test_a_struct_is_a_config() -> None:
    given = {"baseUrl": "x", "nested": {"size": 2}}

    assert converter.structure(given, Packed) == Packed("x", Nested(2))
    found = converter.structure({"packed": {"baseUrl": "x"}}, Typed)
    assert found == Typed(packed=Packed("x"))
    assert converter.structure({"packed": found.packed}, Typed) == found


@pytest.mark.parametrize(
    ("cls", "source", "words"),
    [
        (Typed, {"flag": "false"}, ("'flag'", "expected bool", "'false'")),
        (Typed, {"flag": 1}, ("'flag'", "expected bool")),
        (Typed, {"count": 1.5}, ("'count'", "expected int", "1.5")),
        (Typed, {"count": True}, ("'count'", "expected int", "True")),
        (Typed, {"count": "5"}, ("'count'", "expected int", "'5'")),
        (Typed, {"ratio": "nan"}, ("'ratio'", "expected float")),
        (Typed, {"text": None}, ("'text'", "expected str", "None")),
        (Typed, {"level": 7}, ("'level'", "expected Level", "7")),
        (Typed, {"many": 1.5}, ("'many'", "expected int | str", "1.5")),
        (Packed, {}, ("'baseUrl'", "expected str", "nothing", "add it")),
        (Packed, {"baseUrl": 3}, ("'baseUrl'", "expected str", "found 3")),
        (Packed, {"baseUrl": "", "nested": {"size": "x"}}, ("'nested.size'", "'x'")),
        (Packed, {"baseUrl": "", "nested": 3}, ("'nested'", "a mapping for Nested")),
    ],
)
def test_a_config_is_not_bent_to_fit(
    cls: type, source: dict[str, Any], words: tuple[str, ...]
) -> None:
    with pytest.raises(ConfigError, match="app:Db: field") as caught:
        load_config(cls, source, converter, component="app:Db")

    for word in words:
        assert word in str(caught.value)
