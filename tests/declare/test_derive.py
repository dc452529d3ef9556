from __future__ import annotations

import abc
import functools
import gc
import weakref
from collections.abc import Callable
from typing import Any, final

import attrs
import pytest

from minions.declare.bases import Resource
from minions.declare.derive import guarded, original
from minions.errors import DefinitionError
from minions.identity import component_id, component_identity


def wrap(function: Callable[..., Any]) -> Callable[..., Any]:
    @functools.wraps(function)
    async def wrapped(*args: Any, **kwargs: Any) -> Any:
        return "wrapped", await function(*args, **kwargs)

    return wrapped


def make(cls: type) -> type[Any]:
    derived = guarded(cls, wrap)
    assert derived is not None
    return derived


class Base(Resource):
    async def inherited(self) -> int:
        return 1

    async def hidden(self) -> int:
        return 0


class Oracle(Base):
    """The user's words."""

    hidden = None  # type: ignore[assignment]

    async def price(self) -> int:
        return 2

    async def startup(self) -> int:
        return 3

    async def _private(self) -> int:
        return 4

    def sync(self) -> int:
        return 5

    @staticmethod
    async def static() -> int:
        return 6

    @classmethod
    async def of_class(cls) -> int:
        return 7

    @property
    def attribute(self) -> int:
        return 8

    async def __aenter__(self) -> int:
        return 9


async def test_public_coroutine_methods_are_wrapped_and_nothing_else() -> None:
    derived = make(Oracle)
    it: Any = derived()

    assert issubclass(derived, Oracle)
    assert await it.price() == ("wrapped", 2)
    assert await it.inherited() == ("wrapped", 1)
    assert it.hidden is None
    assert [await it.startup(), await it._private(), it.sync()] == [3, 4, 5]
    assert [await it.static(), await it.of_class(), it.attribute] == [6, 7, 8]
    assert await it.__aenter__() == 9


def test_the_derived_class_keeps_its_names_and_is_made_once() -> None:
    derived = make(Oracle)

    assert guarded(Oracle, wrap) is derived
    assert guarded(Oracle, lambda f: f) is not derived
    assert derived.__name__ == "Oracle"
    assert derived.__qualname__ == Oracle.__qualname__
    assert derived.__module__ == Oracle.__module__
    assert derived.__doc__ == "The user's words."
    assert component_identity(derived) == component_identity(Oracle)
    assert original(derived) is Oracle
    assert original(Oracle) is Oracle


def test_it_has_no_state_and_keeps_metaclass_slots_and_id() -> None:
    @component_id("slotted")
    @attrs.frozen
    class Slotted(abc.ABC):  # noqa: B024  # for its metaclass
        x: int = 3

    derived: Any = make(Slotted)

    assert type(derived) is abc.ABCMeta
    assert component_identity(derived) == "slotted"
    assert not hasattr(derived(), "__dict__")
    assert attrs.asdict(derived(4)) == {"x": 4}


def test_class_arguments_are_kept_and_not_asked_for_again() -> None:
    class Table(Resource):
        name = ""

        def __init_subclass__(cls, *, name: str, **kwargs: Any) -> None:
            super().__init_subclass__(**kwargs)
            cls.name = name

    class Orders(Table, name="orders"):
        pass

    derived: Any = make(Orders)

    assert derived.name == "orders"


class Refusing(type):
    def __new__(cls, name: str, bases: Any, names: Any) -> Refusing:
        if any(isinstance(base, Refusing) for base in bases):
            raise DefinitionError("do not derive")
        return super().__new__(cls, name, bases, names)


class Unwilling(metaclass=Refusing):
    pass


@final
class Last:
    pass


@pytest.mark.parametrize("cls", [bool, Unwilling, Last])
def test_a_class_that_cannot_be_derived_from(cls: type) -> None:
    assert guarded(cls, wrap) is None


def test_a_class_goes_with_what_was_derived_from_it() -> None:
    """A system that defines its classes in a function may run for ever."""

    def use() -> weakref.ref[type]:
        class Local(Resource):
            async def price(self) -> int:
                return 2

        assert make(Local)().price
        return weakref.ref(Local)

    gone = use()
    gc.collect()

    assert gone() is None


def test_what_is_set_on_the_type_of_an_instance_stays() -> None:
    """The derived class goes with the user's own, not with its last instance."""

    class Counting(Resource):
        count = 0

        def __init__(self) -> None:
            type(self).count += 1

    make(Counting)()
    gc.collect()

    assert make(Counting)().count == 2


def test_a_class_made_anew_from_another_is_derived_from_itself() -> None:
    """As decorators do that add slots: they copy the namespace."""

    class First:
        x: int = 1

        async def price(self) -> int:
            return 2

    derived = make(First)
    second = type("Second", (), dict(vars(First)))

    assert make(second) is not derived
    assert original(make(second)) is second
    assert make(second) is make(second)


class Fixed(type):
    def __setattr__(cls, name: str, value: object) -> None:
        raise AttributeError(name)

    def __eq__(cls, other: object) -> bool:
        return True

    __hash__ = None  # type: ignore[assignment]


class Rigid(metaclass=Fixed):
    pass


@pytest.mark.parametrize("cls", [Rigid, Exception])
def test_a_class_that_takes_no_attributes_is_derived_from_once(cls: type) -> None:
    assert make(cls) is make(cls)
    assert original(make(cls)) is cls
