"""Versions of data classes: where migrations may stand, and what is refused."""

from __future__ import annotations

import dataclasses
import enum
import functools
from collections.abc import AsyncIterator, Callable, Iterator
from typing import TYPE_CHECKING, Annotated, Any, Generic, TypeVar

import attrs
import msgspec
import pytest

from minions import DefinitionError, migrates, schema
from minions.declare.schema import has_schema, migrations_of

if TYPE_CHECKING:
    from decimal import Decimal as Unseen

Item = TypeVar("Item")
Form = dict[str, Any]


def trail(old: Form, name: str) -> Form:
    return {"trail": [*old.get("trail", []), name]}


@attrs.define
@schema(version=4)
class InBody:
    @migrates(from_=3)
    @staticmethod
    def _outside(old: Form) -> Form:
        return trail(old, "outside")

    @staticmethod
    @migrates(from_=2)
    def inside(old: Form) -> Form:
        return trail(old, "inside")

    @classmethod
    @migrates(from_=1)
    def of_class(cls, old: Form) -> Form:
        return trail(old, cls.__name__)


class Packed(msgspec.Struct, Generic[Item]):
    x: Item

    @migrates(from_=1)
    def plain(old: Form) -> Form:  # type: ignore[misc]  # noqa: N805
        return trail(old, "plain")


schema(version=2)(Packed)


@schema(version=3)
@dataclasses.dataclass(slots=True)
class Beside:
    x: int = 0

    @schema(version=2)
    @attrs.frozen
    class Inner:
        pass


@migrates(from_=1)
def first(old: Form) -> Beside:
    return trail(old, "first")  # type: ignore[return-value]


@migrates(from_=2)
def second(old: Form) -> Annotated[Form, Beside]:
    return trail(old, "second")


@migrates(from_=1)
def inner(old: Form) -> Annotated[Beside.Inner, "older"]:
    return trail(old, "inner")  # type: ignore[return-value]


@migrates(from_=1)
def generic(old: Form) -> Annotated[Form, Sealed[int]]:
    return trail(old, "generic")


@attrs.define
@schema(version=2)
class Sealed(Generic[Item]):
    x: Item


@attrs.define
@schema(version=3)
class Aliased:
    @migrates(from_=1)
    @staticmethod
    def older(old: Form) -> Annotated[Form, Aliased]:
        return trail(old, "older")


@migrates(from_=2, of=Aliased)
def newer(old: Form) -> Annotated[Form, Aliased]:
    return trail(old, "newer")


# Of two names, and yet one each.
also_second = second
also_older = Aliased.older


@pytest.mark.parametrize(
    ("cls", "expected"),
    [
        (InBody, ["InBody", "inside", "outside"]),
        (Packed, ["plain"]),
        (Beside, ["first", "second"]),
        (Beside.Inner, ["inner"]),
        (Sealed, ["generic"]),
        (Aliased, ["older", "newer"]),
    ],
)
def test_migrations_are_found_in_their_order(cls: type, expected: list[str]) -> None:
    form: Form = {}
    for migration in migrations_of(cls):
        form = dict(migration(form))

    assert form == {"trail": expected}


def test_migrations_stand_anywhere_if_they_name_the_class() -> None:
    @attrs.define
    class Local:
        @migrates(from_=2, of=InBody)
        @staticmethod
        def of_another(old: Form) -> Form:
            return old

    class Helper:
        @migrates(from_=1, of=Local)
        @staticmethod
        def older(old: Form) -> Form:
            return old

    @migrates(from_=2, of=Local)
    def newer(old: Form) -> Form:
        return old

    try:
        # Made anew by a decorator, it keeps what it was given.
        again = attrs.define(slots=True)(schema(version=3)(Local))
        assert migrations_of(again) == (Helper.older, newer)
        assert migrations_of(Helper) == ()
        with pytest.raises(DefinitionError, match="found two"):
            migrations_of(InBody)
    finally:
        del InBody.__minions_migrations__  # type: ignore[attr-defined]


def test_a_subclass_has_a_version_of_its_own() -> None:
    class Below(InBody):
        pass

    @schema(version=2)
    class Lowest(Below):
        older = InBody.of_class

    assert migrations_of(Below) == ()
    assert migrations_of(Lowest) == (InBody.of_class,)
    assert [has_schema(c) for c in (InBody, Below, Lowest, 3)] == [True, False] * 2


def test_the_decorators_return_what_they_got() -> None:
    class Data:
        pass

    def older(old: Form) -> Form:
        return old

    assert migrates(from_=1, of=Data)(older) is older
    assert has_schema(Data)
    assert schema(version=1)(Data) is Data
    with pytest.raises(DefinitionError, match=r"Data: @migrates\(from_=1\).*version 1"):
        migrations_of(Data)


@pytest.mark.parametrize("version", [0, -1, True, 2.0, "2", None, InBody])
def test_a_version_is_a_whole_number_from_1(version: Any) -> None:
    with pytest.raises(DefinitionError, match=r"@schema: expected .*write"):
        schema(version)
    with pytest.raises(DefinitionError, match=r"@migrates: expected .*write"):
        migrates(version)


@pytest.mark.parametrize("cls", [1, "Data", trail, list[int], int])
def test_only_a_users_class_has_a_version(cls: Any) -> None:
    with pytest.raises(DefinitionError, match=r"expected a (data )?class, found"):
        schema(version=2)(cls)
    with pytest.raises(DefinitionError, match=r"expected a (data )?class"):
        migrates(from_=1, of=cls)(lambda old: old)


def test_a_class_has_one_version() -> None:
    with pytest.raises(DefinitionError, match=r"Twice: expected one @schema.*3"):

        @schema(version=3)
        @attrs.define
        @schema(version=2)
        class Twice:
            pass


async def asynchronous(old: Form) -> InBody: ...  # type: ignore[empty-body]


def generator(old: Form) -> Iterator[InBody]:
    yield InBody()


async def both(old: Form) -> AsyncIterator[InBody]:
    yield InBody()


class Method:
    def method(self, old: Form) -> Form:
        return old


def unnamed(old):  # type: ignore[no-untyped-def]  # noqa: ANN001, ANN201
    return old


@pytest.mark.parametrize(
    ("function", "found"),
    [
        (asynchronous, "async"),
        (generator, "generator"),
        (both, "generator"),
        (Method().method, "expected a function"),
        (functools.partial(trail, name=""), "expected a function"),
        (InBody, "expected a function"),
        (InBody.inside, "a second on InBody.inside"),
        (unnamed, "neither a class around it nor of"),
        (lambda old: old, "neither a class around it nor of"),
    ],
)
def test_what_cannot_migrate_is_refused_where_it_stands(
    function: Any, found: str
) -> None:
    with pytest.raises(DefinitionError, match=rf"@migrates\(from_=1\): .*{found}"):
        migrates(from_=1)(function)


def data(version: int, *migrations: tuple[int, Callable[..., Any]]) -> type:
    """Make a data class with the migrations in its body."""
    body = {
        f"m{i}": migrates(from_=from_, of=None)(body_function(function))
        for i, (from_, function) in enumerate(migrations)
    }
    return schema(version=version)(attrs.define(type("Data", (), body)))


def body_function(function: Callable[..., Any]) -> Callable[..., Any]:
    @functools.wraps(function)
    def wrapper(*args: Any) -> Any:
        return function(*args)

    wrapper.__qualname__ = "Data.function"
    return wrapper


def keep(old: Form) -> Form:
    return old


@pytest.mark.parametrize(
    ("version", "migrations", "found"),
    [
        (2, [], "found none from 1"),
        (4, [(1, keep), (3, keep)], "found none from 2"),
        (3, [(1, keep)], "found none from 2"),
        (3, [(2, keep)], "found none from 1"),
        (2, [(1, keep), (1, trail)], r"from_=1\): .*found (two|another)"),
        (2, [(1, keep), (1, keep)], "found two"),
        (2, [(1, keep), (2, keep)], r"from_=2\): .*it has version 2"),
        (1, [(1, keep)], r"from_=1\): .*it has version 1"),
        (2, [(1, Method.method)], "of one argument"),
        (2, [(1, lambda *, old: old)], "of one argument"),
        (10**30, [], "found none from 1"),
    ],
)
def test_a_chain_that_is_not_whole_is_refused(
    version: int, migrations: list[tuple[int, Any]], found: str
) -> None:
    cls = data(version, *migrations)

    with pytest.raises(DefinitionError, match=f"Data: .*{found}"):
        migrations_of(cls)


@schema(version=2)
@attrs.define
class Hidden:
    pass


def test_an_annotation_that_cannot_be_resolved_is_named(
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    @migrates(from_=1, of=None)
    @body_function
    def unseen(old: Form) -> Unseen:
        raise NotImplementedError

    unseen.__qualname__ = "unseen"
    monkeypatch.setitem(globals(), "unseen", unseen)

    with pytest.raises(
        DefinitionError, match=r"unseen: .*cannot be resolved.* with of"
    ):
        migrations_of(Hidden)


class Touchy:
    """Answers to nothing that is asked of it."""

    def __getattribute__(self, name: str) -> Any:
        raise RuntimeError(name)


def test_what_else_stands_in_a_module_is_left_alone(
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    monkeypatch.setitem(globals(), "touchy", Touchy())

    assert len(migrations_of(Beside)) == 2


def test_an_enum_takes_its_mark_to_be_refused_later() -> None:
    @schema(version=2)
    class Color(enum.Enum):
        RED = 1

    assert has_schema(Color)
