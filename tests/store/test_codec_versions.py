"""Stored data of older and newer versions of its class."""

from __future__ import annotations

import dataclasses
import enum
import itertools
import threading
from collections.abc import Callable
from types import MappingProxyType
from typing import Any, Generic, TypeVar

import attrs
import msgspec
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from minions import DefinitionError, SnapshotError, converter, migrates, schema
from minions.store.codec import Codec, codec_for, to_printable

Form = dict[str, Any]
Item = TypeVar("Item")
pack = msgspec.msgpack.encode
unpack = msgspec.msgpack.decode


@attrs.frozen
@schema(version=3)
class Price:
    """First `value` in whole euros, then `euros`, then `cents`."""

    cents: int
    currency: str = "EUR"

    @migrates(from_=1)
    @staticmethod
    def name_euros(old: Form) -> Form:
        old["euros"] = old.pop("value")
        return old

    @migrates(from_=2)
    @staticmethod
    def count_cents(old: Form) -> Form:
        old["cents"] = 100 * old.pop("euros")
        return old


@schema(version=2)
@dataclasses.dataclass(slots=True)
class Order:
    price: Price
    lines: list[str] = dataclasses.field(default_factory=list)

    @migrates(from_=1)
    @staticmethod
    def add_a_line(old: Form) -> Form:
        old["lines"].append("migrated")  # what is inside is its own, too
        return old


class Tick(msgspec.Struct, frozen=True):
    n: int


@migrates(from_=1, of=Tick)
def rename(old: Form) -> MappingProxyType[str, Any]:
    return MappingProxyType({"n": old["m"]})


schema(version=2)(Tick)


@attrs.define
@schema(version=2)
class Chain:
    """A linked list."""

    value: int
    rest: Chain | None = None

    @migrates(from_=1)
    @staticmethod
    def rename(old: Form) -> Form:
        return {"value": old["head"], "rest": old["tail"]}


@attrs.frozen
@schema(version=2)
class Box(Generic[Item]):
    content: Item

    @migrates(from_=1)
    @classmethod
    def rename(cls, old: Form) -> Form:
        return {"content": old["inside"]}


@attrs.define
class Plain:
    x: int
    price: Price | None = None


@attrs.define
class Holder:
    """Where a class may stand."""

    one: Price
    some: list[Price]
    named: dict[str, Price]
    either: Price | Tick | None
    pair: tuple[Tick, int]
    keys: dict[Tick, int]
    boxed: Box[Price]


PRICES = st.builds(Price, st.integers(-1000, 1000), st.sampled_from(["EUR", "SEK"]))
TICKS = st.builds(Tick, st.integers(0, 9))
CHAINS: st.SearchStrategy[Chain] = st.recursive(
    st.builds(Chain, st.integers(0, 9)),
    lambda inner: st.builds(Chain, st.integers(0, 9), inner),
)
HOLDERS = st.builds(
    Holder,
    PRICES,
    st.lists(PRICES, max_size=2),
    st.dictionaries(st.text(max_size=2), PRICES, max_size=2),
    st.none() | PRICES | TICKS,
    st.tuples(TICKS, st.integers(0, 9)),
    st.dictionaries(TICKS, st.integers(0, 9), max_size=2),
    st.builds(Box, PRICES),
)


def codec_of(cls: Any) -> Codec:
    return codec_for(cls, component="app:Worker")


@pytest.mark.parametrize(
    ("cls", "values"),
    [
        (Price, PRICES),
        (Order, st.builds(Order, PRICES, st.lists(st.text(max_size=2), max_size=2))),
        (Tick, TICKS),
        (Chain, CHAINS),
        (Box[int], st.builds(Box, st.integers(0, 9))),
        (Holder, HOLDERS),
    ],
    ids=str,
)
@settings(max_examples=20, deadline=None)
@given(data=st.data())
def test_versioned_data_comes_back(
    cls: Any, values: st.SearchStrategy[Any], data: st.DataObject
) -> None:
    value = data.draw(values)
    codec = codec_of(cls)

    stored = codec.encode(value)

    assert codec.decode(stored) == value
    assert codec.inspect(stored) == "fits"


@settings(max_examples=20, deadline=None)
@given(st.integers(), st.lists(st.integers(0, 9)))
def test_a_first_version_is_stored_as_ever(x: int, parts: list[int]) -> None:
    """The bytes of a class without a version, and of one with the first."""
    x %= 2**63

    @attrs.define
    class First:
        x: int
        parts: list[int]

    stored = codec_of(First).encode(First(x, parts))

    assert stored == pack({"x": x, "parts": parts})
    assert codec_of(schema(version=1)(First)).encode(First(x, parts)) == stored


def test_a_version_stands_in_the_map_of_its_class() -> None:
    value = Plain(1, Price(5))

    stored = codec_of(Plain).encode(value)

    assert to_printable(stored) == {
        "x": 1,
        "price": {"@version": 3, "cents": 5, "currency": "EUR"},
    }


OLD = {"value": 2, "currency": "SEK"}
NEW = Price(200, "SEK")


@pytest.mark.parametrize(
    ("cls", "old", "expected"),
    [
        (Price, OLD, NEW),
        (Price, {"@version": 2, "euros": 2, "currency": "SEK"}, NEW),
        (Price, {"value": 2}, Price(200)),
        (Price | None, OLD, NEW),
        (Price | Tick, ["Price", OLD], NEW),
        (Price | Tick, ["Tick", {"m": 4}], Tick(4)),
        (list[Price], [OLD, {"@version": 3, "cents": 1}], [NEW, Price(1)]),
        (dict[str, Price], {"": OLD, "@version": OLD}, {"": NEW, "@version": NEW}),
        (dict[Tick, int], [[{"m": 4}, 1]], {Tick(4): 1}),
        (frozenset[Price], [OLD, OLD], frozenset([NEW])),
        (tuple[Tick, int], [{"m": 4}, 1], (Tick(4), 1)),
        (Box[Price], {"inside": OLD}, Box(NEW)),
        (Plain, {"x": 1, "price": OLD}, Plain(1, NEW)),
        (Order, {"price": OLD, "lines": ["a"]}, Order(NEW, ["a", "migrated"])),
        (
            Chain,
            {
                "head": 1,
                "tail": {
                    "@version": 2,
                    "value": 2,
                    "rest": {"head": 3} | {"tail": None},
                },
            },
            Chain(1, Chain(2, Chain(3))),
        ),
    ],
    ids=str,
)
def test_older_data_is_migrated(cls: Any, old: object, expected: object) -> None:
    codec = codec_of(cls)
    stored = pack(old)

    found = codec.decode(stored)

    assert found == expected
    assert codec.inspect(stored) == "migrates"
    assert codec.inspect(codec.encode(found)) == "fits"


STEPS: dict[str, Callable[[Form], Form]] = {
    "add": lambda old: {**old, "x": old["x"] + 1},
    "double": lambda old: {**old, "x": old["x"] * 2},
    "note": lambda old: {**old, "log": [*old.get("log", []), old["x"]]},
    "swap": lambda old: {"x": len(old.get("log", [])), "log": [old["x"]]},
}


@settings(max_examples=50, deadline=None)
@given(
    st.lists(st.sampled_from(sorted(STEPS)), min_size=1, max_size=6),
    st.data(),
)
def test_a_chain_is_its_functions_one_after_the_other(
    names: list[str], data: st.DataObject
) -> None:
    @schema(version=len(names) + 1)
    @attrs.define
    class Data:
        x: int
        log: list[int] = attrs.field(factory=list)

    order = data.draw(st.permutations(range(len(names))))
    for i in order:
        step = STEPS[names[i]]
        migrates(from_=i + 1, of=Data)(lambda old, step=step: step(old))
    version = data.draw(st.integers(1, len(names) + 1))
    form: Form = {"x": data.draw(st.integers(-9, 9)), "log": [7]}
    mark = {"@version": version} if version > 1 else {}

    found = codec_of(Data).decode(pack({**mark, **form}))

    for name in names[version - 1 :]:
        form = STEPS[name](form)
    assert found == Data(**form)


@attrs.define
class Egg:
    hen: Hen | None = None


@attrs.define
@schema(version=2)
class Hen:
    egg: Egg

    @migrates(from_=1)
    @staticmethod
    def lay(old: Form) -> Form:
        return {"egg": old["eggs"][0]}


@pytest.mark.parametrize("cls", [Egg, Hen])
def test_classes_that_contain_each_other_are_migrated(cls: type) -> None:
    """Whichever of them is seen first."""
    inner = Hen(Egg(Hen(Egg())))
    value: Any = inner if cls is Hen else Egg(inner)
    old: Form = {"eggs": [{"hen": {"eggs": [{}]}}]}
    codec = codec_of(cls)

    assert codec.decode(codec.encode(value)) == value
    assert codec.decode(pack(old if cls is Hen else {"hen": old})) == value
    assert codec.inspect(pack({"hen": old} if cls is Egg else old)) == "migrates"


def refuse(*_: Any) -> None:
    raise ValueError("not today")


@attrs.define
@schema(version=2)
class Deep:
    x: int

    @migrates(from_=1)
    @staticmethod
    def fetch(old: Form) -> Form:
        return {"x": old["deep"][0].pop("x")}


@attrs.define
class Strict:
    deep: Deep
    no: int = attrs.field(validator=refuse)


def test_a_function_that_is_run_again_sees_the_same_data() -> None:
    """What is wrong is found by reading all once more."""
    stored = pack({"deep": {"deep": [{"x": 1}]}, "no": 1})

    with pytest.raises(SnapshotError, match=r"Strict: .*refused .*not today"):
        codec_of(Strict).decode(stored)


def test_what_a_migration_keeps_for_itself_is_not_shared() -> None:
    defaults = ["a"]

    @attrs.define
    @schema(version=2)
    class Data:
        items: list[str]

    migrates(from_=1, of=Data)(lambda old: {"items": defaults})
    codec = codec_of(Data)

    codec.decode(pack({})).items.append("b")

    assert codec.decode(pack({})) == Data(["a"])


def test_a_mark_that_a_migration_returns_is_not_its_business() -> None:
    @attrs.define
    @schema(version=3)
    class Data:
        x: int

    migrates(from_=1, of=Data)(lambda old: {**old, "@version": 7})
    migrates(from_=2, of=Data)(lambda old: {"x": len(old)})

    assert codec_of(Data).decode(pack({"y": 1})) == Data(1)


@pytest.mark.parametrize(
    ("cls", "data", "place", "newer"),
    [
        (Price, {"@version": 4, "cents": 1, "currency": ""}, "Price", 4),
        (Tick, {"@version": 3, "n": 1}, "Tick", 3),
        (Plain, {"@version": 2, "x": 1, "price": None}, "Plain", 2),
        (Plain, {"@version": 2, "x": 1}, "Plain", 2),
        (Plain, {"x": 1, "price": {"@version": 9}}, "Price", 9),
        (list[Tick], [{"@version": 3, "n": 1}], "Tick", 3),
    ],
)
def test_newer_data_is_refused(cls: Any, data: Form, place: str, newer: int) -> None:
    codec = codec_of(cls)

    for read in (codec.decode, codec.inspect):
        with pytest.raises(
            SnapshotError,
            match=rf"app:Worker: {place}: .*was written by a newer version of the"
            rf" class: .* found {newer}; run the newer program again",
        ):
            read(pack(data))


@pytest.mark.parametrize("version", [0, -1, True, "2", 1.5, None, [1]])
def test_a_version_that_is_none_is_refused(version: object) -> None:
    stored = pack({"@version": version, "x": 1})

    with pytest.raises(SnapshotError, match=r"Plain: .*expected a version from 1 to 1"):
        codec_of(Plain).decode(stored)


@attrs.define
@schema(version=3)
class Fragile:
    x: int
    y: int = 0

    @migrates(from_=1)
    @staticmethod
    def first(old: Form) -> Any:
        return eval(old["do"])  # noqa: S307  # the tests' own lines

    @migrates(from_=2)
    @staticmethod
    def second(old: Form) -> Any:
        return old


@pytest.mark.parametrize(
    ("do", "found", "cause"),
    [
        (
            "1 / 0",
            "from version 1 raised ZeroDivisionError: division",
            ZeroDivisionError,
        ),
        ("old['gone']", "from version 1 raised KeyError: 'gone'", KeyError),
        ("old.clear()", "expected a mapping .* version 1, found NoneType", None),
        ("[('x', 1)]", "expected a mapping .* version 1, found list", None),
        ("{'x': 1, 'y': object()}", r"\.y: .*expected int, found .*object", None),
        ("{'y': 1}", r"\.x: .*give the field a default", None),
    ],
)
@pytest.mark.parametrize("cls", [Fragile, list[Fragile]], ids=str)
def test_a_migration_that_fails_is_named(
    cls: Any, do: str, found: str, cause: type | None
) -> None:
    codec = codec_of(cls)
    stored = pack({"do": do} if cls is Fragile else [{"do": do}])

    for read in (codec.decode, codec.inspect):
        with pytest.raises(SnapshotError, match=rf"app:Worker: Fragile.*{found}") as e:
            read(stored)
        assert cause is None or type(e.value.__cause__) is cause


class Stop(BaseException):
    pass


def test_what_is_no_exception_passes_a_migration() -> None:
    @attrs.define
    @schema(version=2)
    class Data:
        plain: Plain
        x: int = 0

    @migrates(from_=1, of=Data)
    def interrupted(old: Form) -> Form:
        raise Stop

    told: list[object] = []
    codec = codec_of(tuple[Plain, Data])
    codec.on_dropped = lambda *what: told.append(what)
    stored = pack([{"x": 1, "gone": 1}, {}])

    for read in (codec.decode, codec.inspect):
        with pytest.raises(Stop):
            read(stored)

    # Nothing is left over for the next one.
    other = codec_of(Plain)
    other.on_dropped = codec.on_dropped
    other.decode(pack({"x": 1, "price": None}))
    assert told == []


class Dropped:
    """Keeps what a codec tells."""

    def __init__(self, codec: Codec) -> None:
        self.told: list[tuple[str, tuple[str, ...]]] = []
        codec.on_dropped = lambda name, fields: self.told.append((name, fields))


PLAIN = f"{__name__}:Plain"
PRICE = f"{__name__}:Price"


@pytest.mark.parametrize(
    ("cls", "data", "told"),
    [
        (Plain, {"x": 1, "price": None}, []),
        (Plain, {"x": 1}, []),
        (Plain, {"x": 1, "price": None, "b": 1, "a": 2}, [(PLAIN, ("b", "a"))]),
        (Plain, {"x": 1, "gone": 1}, [(PLAIN, ("gone",))]),
        (Plain, {"x": 1, "@version": 1, "price": None}, []),
        (Plain, {"x": 1, 7: 1}, [(PLAIN, ("7",))]),
        (Price, {**OLD, "gone": 1}, [(PRICE, ("gone",))]),
        (Price, {"@version": 3, "cents": 1, "currency": "", "a": 1}, [(PRICE, ("a",))]),
        (
            Plain,
            {"x": 1, "gone": 1, "price": {"value": 1, "old": 1}},
            [(PLAIN, ("gone",)), (PRICE, ("old",))],
        ),
        (list[Plain], [{"x": 1, "a": 1}, {"x": 1, "b": 1}], [(PLAIN, ("a", "b"))]),
    ],
    ids=str,
)
def test_dropped_fields_are_told_of_once(cls: Any, data: object, told: object) -> None:
    codec = codec_of(cls)
    dropped = Dropped(codec)

    codec.inspect(pack(data))
    assert dropped.told == []
    codec.decode(pack(data))

    assert dropped.told == told


def test_nobody_needs_to_listen() -> None:
    assert codec_of(Plain).decode(pack({"x": 1, "gone": 1})) == Plain(1)


def test_data_that_is_refused_tells_of_nothing() -> None:
    codec = codec_of(list[Plain])
    dropped = Dropped(codec)

    with pytest.raises(SnapshotError):
        codec.decode(pack([{"x": 1, "gone": 1}, {"x": "text"}]))
    with pytest.raises(SnapshotError):
        codec.inspect(pack([{"x": 1, "gone": 1}, {"x": "text"}]))
    codec.decode(pack([{"x": 1}]))

    assert dropped.told == []


def test_what_another_thread_drops_is_not_told_here() -> None:
    here, there = codec_of(Plain), codec_of(Plain)
    told_here, told_there = Dropped(here), Dropped(there)

    @attrs.define
    @schema(version=2)
    class Meanwhile:
        x: int = 0

    @migrates(from_=1, of=Meanwhile)
    def switch(old: Form) -> Form:
        thread = threading.Thread(target=there.decode, args=[pack({"x": 1, "t": 1})])
        thread.start()
        thread.join()
        return {}

    mixed = codec_of(tuple[Plain, Meanwhile])
    mixed.on_dropped = here.on_dropped
    mixed.decode(pack([{"x": 1, "h": 1}, {}]))

    assert told_here.told == [(PLAIN, ("h",))]
    assert told_there.told == [(PLAIN, ("t",))]


@attrs.define(init=False)
class Made:
    """Counts its instances."""

    x: int
    y: list[int] = attrs.field(factory=list)

    def __init__(self) -> None:
        raise NotImplementedError


made = itertools.count()


@dataclasses.dataclass(frozen=True)
class Effective:
    x: int = 0
    price: Price | None = None

    def __post_init__(self) -> None:
        next(made)


def test_an_inspection_makes_nothing() -> None:
    codec = codec_of(dict[Effective, set[Effective]])
    before = next(made)

    found = [
        codec.inspect(pack([[{"x": 1, "price": price}, [{}]]]))
        for price in (None, OLD, {"@version": 3, "cents": 1})
    ]

    assert found == ["fits", "migrates", "fits"]
    assert next(made) == before + 1
    assert codec_of(Made).inspect(pack({"x": 1})) == "fits"


@pytest.mark.parametrize(
    ("cls", "data"),
    [
        (Price, {"value": "text"}),
        (Plain, {}),
        (Plain, {"x": "text"}),
        (Plain, []),
        (Plain, 5),
        (Made, {"y": []}),
        (list[Plain], {}),
        (Price | Tick, ["Nope", {}]),
    ],
    ids=str,
)
def test_an_inspection_refuses_what_decoding_refuses(cls: Any, data: object) -> None:
    codec = codec_of(cls)

    with pytest.raises(SnapshotError) as decoded:
        codec.decode(pack(data))
    with pytest.raises(SnapshotError) as inspected:
        codec.inspect(pack(data))

    assert str(inspected.value) == str(decoded.value)


def test_damaged_bytes_are_refused_by_an_inspection() -> None:
    with pytest.raises(SnapshotError, match="does not fit"):
        codec_of(Plain).inspect(b"\xc1")


@attrs.define
class Link:
    rest: Link | None = None
    added: int = 0


@pytest.mark.parametrize("depth", [600, 5000])
@pytest.mark.parametrize(
    ("cls", "last"),
    [(Chain, {"head": 1, "tail": None}), (Link, {"added": 1, "rest": None})],
)
def test_what_is_too_deep_is_refused(cls: type, last: Form, depth: int) -> None:
    """The deeper it is, the earlier it is found."""
    codec, end = codec_of(cls), pack(last)

    for read in (codec.decode, codec.inspect):
        with pytest.raises(
            SnapshotError, match=r"(Chain|Link): .* fit: .*nested too deeply"
        ):
            read(end[:-1] * depth + end)


def test_a_field_that_is_new_costs_no_more_the_deeper_it_is_missing() -> None:
    """Reading the inner ones twice at each level would take 2**60 steps."""
    data: Form | None = None
    for _ in range(60):
        data = {"rest": data, "gone": 1}

    found = codec_of(Link).decode(pack(data))

    depth = 0
    while found is not None:
        found, depth = found.rest, depth + 1
    assert depth == 60


@attrs.define
class Nothing:
    pass


@pytest.mark.parametrize("data", [[], "", 5, None, b""], ids=repr)
def test_a_class_without_fields_is_a_map_too(data: object) -> None:
    codec = codec_of(Nothing)

    assert codec.decode(pack({})) == Nothing()
    with pytest.raises(SnapshotError, match="expected Nothing, found"):
        codec.decode(pack(data))


@schema(version=2)
class Color(enum.Enum):
    RED = 1


@schema(version=2)
class Money:
    pass


@schema(version=2)
@attrs.define
class Gap:
    pass


class Hooked(Money):
    pass


def test_a_chain_that_is_not_whole_is_refused_with_the_codec() -> None:
    @attrs.define
    class Outer:
        gap: list[Gap]

    for cls in (Gap, Outer, Gap | None):
        with pytest.raises(
            DefinitionError, match=r"^app:Worker: Gap: .*found none from 1; write"
        ):
            codec_of(cls)


def test_versions_are_for_data_classes() -> None:
    with pytest.raises(DefinitionError, match=r"app:Worker: Color: .*no attrs"):
        codec_of(list[Color])
    with pytest.raises(DefinitionError, match=r"app:Worker: Money: .*no attrs"):
        codec_of(Money)

    schema(version=2)(Hooked)
    converter.register_unstructure_hook(Hooked, lambda _: 1)
    converter.register_structure_hook(Hooked, lambda *_: Hooked())
    with pytest.raises(DefinitionError, match=r"app:Worker: Hooked: .*hooks on"):
        codec_of(Hooked)


@attrs.define
class Extended(Plain):
    y: int = 0


@attrs.frozen
class Discount(Price):
    percent: int = 0


def test_a_subclass_begins_with_its_first_version() -> None:
    codec = codec_of(Discount)

    stored = codec.encode(Discount(1, percent=5))

    assert to_printable(stored) == {"cents": 1, "currency": "EUR", "percent": 5}
    assert codec.decode(stored) == Discount(1, percent=5)
    assert codec.inspect(stored) == "fits"


def test_versioned_data_is_printed_without_its_class() -> None:
    stored = pack({"@version": 7, "field": {"@version": 2, "data": b"\x01"}})

    assert to_printable(stored) == {
        "@version": 7,
        "field": {"@version": 2, "data": "0x01"},
    }
