"""Which classes a minion's code names: found without running it."""

from __future__ import annotations

import functools
import importlib.util
import sys
from collections.abc import Callable
from types import ModuleType
from typing import TYPE_CHECKING, Any

import attrs
import msgspec
import pytest

from minions.declare.bases import Minion, Pipeline, Resource, minion_step
from minions.declare.mentions import emit_targets, mentioned_classes
from minions.declare.outcomes import After, Done, GoTo, Wait

if TYPE_CHECKING:
    from pathlib import Path


@attrs.frozen
class Event:
    pass


@attrs.define
class Memory:
    last: int = 0


@attrs.frozen
class Cancel:
    pass


class Amend(msgspec.Struct):
    pass


@attrs.frozen
class Outer:
    @attrs.frozen
    class Inner:
        pass


class Plain:
    pass


class Quotes(Pipeline[Event]):
    pass


@attrs.define
class Trades(Pipeline[Event]):
    pass


@attrs.define
class Client(Resource):
    pass


class Base(Minion[Event, Memory]):
    pass


WAIT = Wait(Amend)
KINDS = (Cancel, Amend)
feeds = ModuleType("feeds")
feeds.parts = ModuleType("feeds.parts")  # type: ignore[attr-defined]
feeds.parts.Cancel = Cancel
feeds.Quotes = Quotes  # type: ignore[attr-defined]
feeds.parts.feeds = feeds  # modules may name each other


def outside(minion: Any) -> Any:
    return minion.workflow.emit(Amend(), to=Trades)


def named(function: Any) -> list[type]:
    return list(mentioned_classes(type("M", (Base,), {"step": function})))


def wrapped(step: Callable[..., Any]) -> Callable[..., Any]:
    @functools.wraps(step)
    async def wrapper(self: Any) -> Any:
        return Amend, await step(self)

    return wrapper


def hidden(step: Callable[..., Any]) -> Callable[..., Any]:
    async def wrapper(self: Any) -> Any:
        return await step(self)

    return wrapper


def test_each_class_once_in_the_order_of_the_code() -> None:
    class Worker(Base):
        @minion_step
        async def first(self: Any) -> Wait:
            await self.workflow.receive(Amend)
            return Wait(Cancel)

        @minion_step
        async def second(self) -> Any:
            return (Wait(Amend), Quotes, Event, Cancel)

    assert mentioned_classes(Worker) == (Amend, Cancel, Quotes, Event)


def test_only_data_and_pipelines_count() -> None:
    async def step(self: Any) -> Any:
        names = (Plain, Client, Pipeline, Minion, Resource, int, GoTo, Done, After)
        return Wait, names, functools.partial, Trades

    assert named(step) == [Trades]


def test_a_component_is_no_signal_although_it_is_data() -> None:
    @attrs.define
    class Worker(Base):
        client: Client

        async def step(self) -> None:
            super().__init__()
            print(Client, Worker)

    assert mentioned_classes(Worker) == ()


def test_inherited_and_overridden_code_counts_first() -> None:
    class Mixin:
        async def ask(self) -> None:
            print(Outer)

    class Above(Base):
        async def step(self) -> Any:
            return Cancel

    class Below(Above, Mixin):
        async def step(self) -> Any:
            return Amend

    assert mentioned_classes(Below) == (Outer, Cancel, Amend)
    assert mentioned_classes(type("M", (Minion, Mixin), {})) == (Outer,)


async def with_lambda(self: Any) -> Any:
    return lambda: lambda: Cancel


async def with_comprehension(self: Any) -> Any:
    return [Cancel for _ in range(3)]


async def with_nested_function(self: Any) -> Any:
    async def inner() -> Any:
        async def innermost() -> Any:
            return Wait(Cancel)

        return innermost

    return inner


async def with_nested_class(self: Any) -> Any:
    class Local:
        kind = Cancel

    return Local


async def with_match(self: Any) -> Any:
    match self.workflow.received:
        case Cancel():
            return Done()


async def with_default(self: Any, one: Any = Cancel) -> Any: ...


async def with_keyword_default(self: Any, *, one: Any = Cancel) -> Any: ...


async def with_nested_default(self: Any) -> Any:
    return lambda one=Cancel: one


async def with_module(self: Any) -> Any:
    return feeds.parts.Cancel


@pytest.mark.parametrize(
    "function",
    [
        with_lambda,
        with_comprehension,
        with_nested_function,
        with_nested_class,
        with_match,
        with_default,
        with_keyword_default,
        with_nested_default,
        with_module,
    ],
)
def test_wherever_it_is_written(function: Any) -> None:
    assert named(function) == [Cancel]


DECORATED: dict[str, Callable[[Any], Any]] = {
    "static": staticmethod,
    "class": classmethod,
    "getter": property,
    "setter": lambda f: property(None, f),
    "deleter": lambda f: property(None, None, f),
    "cached": functools.cached_property,
    "partial": functools.partialmethod,
    "hidden": hidden,
    "static and hidden twice": lambda f: staticmethod(hidden(hidden(f))),
}


@pytest.mark.parametrize("by", DECORATED)
def test_whatever_decorates_it(by: str) -> None:
    assert named(DECORATED[by](with_lambda)) == [Cancel]


def test_a_wait_made_before_names_its_class() -> None:
    async def step(self: Any) -> Wait:
        return WAIT

    assert named(step) == [Amend]


def test_a_class_inside_a_class() -> None:
    async def dotted(self: Any) -> Any:
        return Outer.Inner

    async def own(self: Any) -> Any:
        return self.Reply

    worker = type("M", (Base,), {"Reply": Cancel, "Other": Amend, "step": own})

    assert named(dotted) == [Outer, Outer.Inner]
    assert mentioned_classes(worker) == (Cancel,)
    assert mentioned_classes(type("Below", (worker,), {"Reply": Amend})) == (Amend,)


def test_closures() -> None:
    @attrs.frozen
    class Local:
        pass

    async def step(self: Any) -> Any:
        return lambda: lambda: Local

    assert named(step) == [Local]


def test_a_module_may_be_imported_in_a_function() -> None:
    local = feeds

    async def step(self: Any) -> Any:
        return local.Quotes

    assert named(step) == [Quotes]


def test_an_inner_variable_hides_an_outer_one() -> None:
    target: Any = Quotes

    async def step(self: Any) -> Any:
        def inner() -> Any:
            target = self.targets[0]
            return lambda: self.workflow.emit(Event(), to=target)

        return inner, target

    async def other(self: Any) -> Any:
        target = Trades
        return lambda: self.workflow.emit(Event(), to=target)

    assert named(step) == [Quotes, Event]
    assert emit_targets(type("M", (Base,), {"step": step})) == ()
    assert named(other) == [Trades, Event]


def test_an_empty_cell_is_passed_over() -> None:
    async def step(self: Any) -> Any:
        return Late, Cancel

    assert named(step) == [Cancel]
    Late = Amend  # noqa: N806  # a class
    assert named(step) == [Amend, Cancel]


def test_a_decorated_method_and_what_decorates_it() -> None:
    def registered(self: Any) -> Any:
        return Outer

    registered.__wrapped__ = with_lambda  # type: ignore[attr-defined]

    assert named(wrapped(with_lambda)) == [Amend, Cancel]
    assert named(registered) == [Outer, Cancel]


def test_functions_that_hold_each_other_have_an_end() -> None:
    def one() -> Any:
        return two, Cancel

    def two() -> Any:
        return one, Amend

    one.__wrapped__ = one  # type: ignore[attr-defined]

    assert named(one) == [Cancel, Amend]


def test_what_is_not_found() -> None:
    """The option ``signals`` is for these."""

    async def step(self: Any) -> Any:
        from collections import Counter  # noqa: PLC0415

        await outside(self)
        kind: Cancel | Counter[str] = KINDS[0]()
        return globals()["Cancel"], kind

    assert named(step) == []


def test_annotations_do_not_count() -> None:
    async def step(self: Any, one: Cancel) -> Amend:
        two: Cancel = one

        def inner(three: Cancel) -> Amend | None:
            return None

        return inner, two  # type: ignore[return-value]

    assert named(step) == []


def test_evaluated_annotations_of_a_method_do_not_count() -> None:
    namespace: dict[str, Any] = {"Cancel": Cancel}
    exec("async def step(self, one: Cancel) -> Cancel: ...", namespace)  # noqa: S102

    assert named(namespace["step"]) == []


class Touchy:
    """Stands for a proxy: whoever looks at it runs its code."""

    def __getattribute__(self, name: str) -> Any:
        raise AssertionError(name)


touchy = Touchy()


def test_nothing_is_run() -> None:
    held = touchy

    async def step(self: Any) -> Any:
        return touchy.Missing, held.Missing

    worker = type("M", (Base,), {"step": step, "other": touchy})

    assert mentioned_classes(worker) == ()


def test_a_module_that_loads_when_used_is_not_loaded(tmp_path: Path) -> None:
    (tmp_path / "lazy.py").write_text("raise SystemExit")
    spec = importlib.util.spec_from_file_location("lazy", tmp_path / "lazy.py")
    assert spec is not None
    assert spec.loader is not None
    loader = importlib.util.LazyLoader(spec.loader)
    lazy: Any = importlib.util.module_from_spec(spec)
    loader.exec_module(lazy)

    async def step(self: Any) -> Any:
        return lazy.Missing

    assert named(step) == []


def test_the_targets_of_emits() -> None:
    class Worker(Base):
        async def one(self: Any) -> Any:
            await self.workflow.emit(Event(), to=feeds.Quotes)
            return Cancel

        async def two(self: Any) -> Any:
            emit = self.workflow.emit
            return [lambda: emit(Event(), to=Trades)]

    assert emit_targets(Worker) == (Quotes, Trades)
    assert emit_targets(type("Below", (Worker,), {})) == (Quotes, Trades)


def test_a_target_may_be_bound_before() -> None:
    async def step(self: Any) -> Any:
        return functools.partial(self.workflow.emit, to=Quotes)

    async def by_default(self: Any, target: Any = Trades) -> Any:
        await self.workflow.emit(Event(), to=target)

    async def by_variable(self: Any, *, emit: Any) -> Any:
        await emit(Event(), to=Quotes)

    assert emit_targets(type("M", (Base,), {"step": step})) == (Quotes,)
    assert emit_targets(type("M", (Base,), {"step": by_default})) == (Trades,)
    assert emit_targets(type("M", (Base,), {"step": by_variable})) == (Quotes,)


def test_a_pipeline_that_is_no_target() -> None:
    """A false one would keep its minion from starting."""
    gru: Any = None

    async def through_gru(self: Any) -> None:
        await gru.emit(Quotes, Event())

    async def elsewhere(self: Any) -> Any:
        await self.workflow.emit(Event(), to=self.target)
        return lambda: Quotes

    async def sends(self: Any) -> None:
        await self.mail.send("hello", to=Quotes)

    for step in (through_gru, elsewhere, sends):
        assert emit_targets(type("M", (Base,), {"step": step})) == ()
        assert named(step)


def test_the_modules_of_a_minion_are_left_as_they_are() -> None:
    before = set(sys.modules)

    named(with_module)

    assert set(sys.modules) == before
