from __future__ import annotations

import abc
import dataclasses
import math
from collections.abc import Callable
from typing import (
    TYPE_CHECKING,
    Annotated,
    Any,
    ClassVar,
    Final,
    Generic,
    Self,
    TypeVar,
)

import attrs
import msgspec
import pytest

from minions.declare.bases import Minion, Pipeline, Resource, minion_step, resource
from minions.declare.constructor import construct
from minions.declare.outcomes import Wait
from minions.declare.specification import (
    MinionSpec,
    PipelineSpec,
    ResourceSpec,
    specify,
)
from minions.declare.steps import StepSpec
from minions.errors import ConfigError, DefinitionError, DependencyError
from minions.options import Backoff, Restart, Retry

if TYPE_CHECKING:
    from decimal import Decimal as Hidden

T = TypeVar("T")
U = TypeVar("U")


@attrs.frozen
class Quote:
    price: float


class Tick(msgspec.Struct):
    price: float


@attrs.define
class Memory:
    last: float = 0.0


class TickMemory(msgspec.Struct):
    last: float = 0.0


@dataclasses.dataclass
class Settings:
    url: str = ""


class Db(Resource):
    pass


class Log(Resource):
    pass


class Client:
    pass


class Quotes(Pipeline[Quote]):
    async def produce_event(self) -> Quote:
        return Quote(1.0)


class Trader(Minion[Quote, Memory]):
    @minion_step
    async def record(self) -> None:
        pass

    @minion_step(renamed_from="judge")
    async def decide(self) -> None:
        pass


class Careful(Trader):
    max_in_flight: ClassVar[int] = 5
    overflow = "reject"

    @minion_step
    async def check(self) -> None:
        pass

    async def record(self) -> None:
        pass

    @minion_step
    async def decide(self) -> None:
        pass

    def key(self, event: Quote) -> float:
        return event.price


class Mixed(Resource, Pipeline[Quote]):
    pass


class Abstract(Resource, abc.ABC):
    @abc.abstractmethod
    def get(self) -> int: ...


def pipeline(**names: Any) -> type:
    return type("P", (Pipeline,), names | {"__orig_bases__": (Pipeline[Quote],)})


def minion(*, step: bool = True, **names: Any) -> type:
    async def go(self: object) -> None:
        pass

    steps = {"go": minion_step(go)} if step else {}
    return type("M", (Minion,), steps | names | {"__orig_bases__": (MINION,)})


MINION = Minion[Quote, Memory]


def component(base: type = Resource, **annotations: Any) -> type:
    return type("C", (base,), {"__annotations__": annotations})


async def coroutine(self: object) -> None:
    pass


def synchronous(self: object) -> None:
    pass


async def with_argument(self: object, extra: int) -> None:
    pass


# what is wrong, error, and words of the message: expected, found, remedy
REFUSED: dict[str, tuple[Callable[[], object], type[Exception], tuple[str, ...]]] = {
    "an object": (lambda: 3, DefinitionError, ("expected a class", "3", "pass")),
    "no component": (
        lambda: Client,
        DefinitionError,
        ("Client", "expected a component", "none", "derive it"),
    ),
    "the base": (lambda: Minion, DefinitionError, ("expected a component",)),
    "two kinds": (lambda: Mixed, DefinitionError, ("resource and pipeline",)),
    "abstract": (lambda: Abstract, DefinitionError, ("abstract", "get", "implement")),
    "sync hook": (
        lambda: type("C", (Resource,), {"startup": synchronous}),
        DefinitionError,
        ("expected startup to be an async", "synchronous", "async def startup"),
    ),
    "sync run": (
        lambda: type("C", (Resource,), {"run": synchronous}),
        DefinitionError,
        ("run",),
    ),
    "sync shutdown": (
        lambda: type("C", (Resource,), {"shutdown": synchronous}),
        DefinitionError,
        ("shutdown",),
    ),
    "sync produce_event": (
        lambda: pipeline(produce_event=synchronous),
        DefinitionError,
        ("produce_event",),
    ),
    "hook with argument": (
        lambda: type("C", (Resource,), {"startup": with_argument}),
        DefinitionError,
        ("no arguments", "'extra'"),
    ),
    "both sources": (
        lambda: pipeline(produce_event=coroutine, run=coroutine),
        DefinitionError,
        ("expected produce_event or run", "both", "take one"),
    ),
    "cursor with produce_event": (
        lambda: pipeline(produce_event=coroutine, __minions_cursor__=int),
        DefinitionError,
        ("expected run with a cursor", "produce_event", "write"),
    ),
    "cursor type": (
        lambda: pipeline(__minions_cursor__=float),
        DefinitionError,
        ("cursor", "float", "use one"),
    ),
    "two cursor types": (
        lambda: type(
            "P",
            (Pipeline,),
            {"__minions_cursor__": int, "__orig_bases__": (Pipeline[Quote, str],)},
        ),
        DefinitionError,
        ("one cursor type", "str", "cursor=int"),
    ),
    "no event": (
        lambda: type("P", (Pipeline,), {}),
        DefinitionError,
        ("expected Pipeline[Event]", "without types", "brackets"),
    ),
    "event no data": (
        lambda: type("P", (Pipeline,), {"__orig_bases__": (Pipeline[int],)}),
        DefinitionError,
        ("event", "int", "make it such"),
    ),
    "event unresolved": (
        lambda: type("P", (Pipeline,), {"__orig_bases__": (Pipeline["Gone"],)}),  # type: ignore[name-defined]
        DefinitionError,
        ("event", "Gone"),
    ),
    "context no data": (
        lambda: (
            minion(__orig_bases__=0)
            and type(
                "M", (Minion,), {"__orig_bases__": (Minion[Quote, dict[str, int]],)}
            )
        ),
        DefinitionError,
        ("context", "dict[str, int]"),
    ),
    "context without default": (
        lambda: type("M", (Minion,), {"__orig_bases__": (Minion[Quote, Quote],)}),
        DefinitionError,
        ("default for every field", "Quote", "'price'", "give it a default"),
    ),
    "struct context without default": (
        lambda: type("M", (Minion,), {"__orig_bases__": (Minion[Quote, Tick],)}),
        DefinitionError,
        ("'price'",),
    ),
    "no steps": (
        lambda: minion(step=False),
        DefinitionError,
        ("at least one step", "none", "@minion_step"),
    ),
    "sync step": (
        lambda: minion(bad=minion_step(lambda self: None)),  # type: ignore[type-var]
        DefinitionError,
        ("step 'bad'", "async method", "lambda", "async def bad"),
    ),
    "step with argument": (
        lambda: minion(bad=minion_step(_fresh("extra"))),
        DefinitionError,
        ("step 'bad'", "no arguments", "'extra'", "self.event"),
    ),
    "static step": (
        lambda: minion(bad=minion_step(staticmethod(_fresh()))),
        DefinitionError,
        ("step 'bad'", "async method"),
    ),
    "override that is no step": (
        lambda: type("Below", (Trader,), {"decide": None}),
        DefinitionError,
        ("step 'decide'", "None"),
    ),
    "step named as a hook": (
        lambda: minion(config=minion_step(_fresh())),
        DefinitionError,
        ("'config'",),
    ),
    "former name taken": (
        lambda: minion(new=minion_step(renamed_from="go")(_fresh())),
        DefinitionError,
        ("renamed_from='go'", "'go'", "take one"),
    ),
    "former name twice": (
        lambda: minion(
            a=minion_step(renamed_from="old")(_fresh()),
            b=minion_step(renamed_from="old")(_fresh()),
        ),
        DefinitionError,
        ("renamed_from='old'", "'a'"),
    ),
    "async key": (lambda: minion(key=with_argument), DefinitionError, ("def key(",)),
    "key without event": (lambda: minion(key=synchronous), DefinitionError, ("key",)),
    "key that is none": (lambda: minion(key=3), DefinitionError, ("found 3",)),
    "restart": (
        lambda: type("C", (Resource,), {"restart": 3}),
        DefinitionError,
        ("expected restart to be a Restart", "3", "set the class attribute"),
    ),
    "bound": (lambda: minion(max_backlog=0), DefinitionError, ("at least 1", "0")),
    "bool": (lambda: minion(max_backlog=True), DefinitionError, ("True",)),
    "window below zero": (
        lambda: pipeline(dedup_window=-1),
        DefinitionError,
        ("expected dedup_window to be", "at least 0", "-1", "set the class"),
    ),
    "endless window": (
        lambda: pipeline(dedup_window=math.inf),
        DefinitionError,
        ("finite number of seconds", "inf"),
    ),
    "window of nan": (
        lambda: pipeline(dedup_window=math.nan),
        DefinitionError,
        ("found nan",),
    ),
    "true window": (
        lambda: pipeline(dedup_window=True),
        DefinitionError,
        ("found True",),
    ),
    "no ids": (
        lambda: pipeline(max_dedup=0),
        DefinitionError,
        ("expected max_dedup to be an integer of at least 1", "0"),
    ),
    "signals no tuple": (
        lambda: minion(signals=Tick),
        DefinitionError,
        ("expected signals to be a tuple of", "Tick", "set the class attribute"),
    ),
    "signals no data": (
        lambda: minion(signals=(Tick, int)),
        DefinitionError,
        ("expected signals to be a tuple of", "int"),
    ),
    "step named as an option": (
        lambda: minion(signals=minion_step(_fresh())),
        DefinitionError,
        ("expected signals to be", "function", "set the class attribute"),
    ),
    "choice": (
        lambda: minion(overflow="drop"),
        DefinitionError,
        ("'reject'", "'drop'"),
    ),
    "union": (
        lambda: component(x=Db | Log),
        DependencyError,
        ("'x'", "one resource", "Db | Log", "ambiguous", "annotate"),
    ),
    "union with data": (lambda: component(x=Db | int), DependencyError, ("Db | int",)),
    "on a pipeline": (
        lambda: component(x=Quotes),
        DependencyError,
        ("expected a resource", "pipeline Quotes", "share"),
    ),
    "on a minion": (lambda: component(x=Trader), DependencyError, ("minion Trader",)),
    "only under names": (
        lambda: component(x=Client),
        DependencyError,
        ("without a name", "'eu', 'us'", "Annotated"),
    ),
    "unknown name": (
        lambda: component(x=Annotated[Client, "euu"]),
        DependencyError,
        ("'euu'", "'eu', 'us'", "did you mean 'eu'", "gru.provide"),
    ),
    "name nothing like it": (
        lambda: component(x=Annotated[Db, "main"]),
        DependencyError,
        ("'main'", "none"),
    ),
    "two names": (
        lambda: component(x=Annotated[Client, "eu", "us"]),
        DependencyError,
        ("'eu', 'us'", "keep one"),
    ),
    "missing": (
        lambda: component(x=list[Db]),
        DependencyError,
        ("'x'", "expected a dependency", "no constructor", "gru.provide"),
    ),
    "unresolved": (
        lambda: component(x="Hidden"),
        DependencyError,
        ("'x'", "'Hidden'", "TYPE_CHECKING"),
    ),
    "attrs field": (
        lambda: attrs.define(component(x=int)),
        DependencyError,
        ("constructor arguments", "'x'", "give it a default"),
    ),
    "constructor argument": (
        lambda: type("C", (Resource,), {"__init__": with_argument}),
        DependencyError,
        ("'extra'",),
    ),
    "option as a field": (
        lambda: attrs.define(
            type("M", (minion(),), {"__annotations__": {"overflow": str}})
        ),
        DefinitionError,
        ("'overflow'", "field", "ClassVar"),
    ),
    "dependency named as a member": (
        lambda: type("M", (minion(),), {"__annotations__": {"context": Db}}),
        DefinitionError,
        ("M:", "'context'", "no dependency", "found one", "choose another name"),
    ),
    "dependency named as an option": (
        lambda: component(restart=Db),
        DefinitionError,
        ("'restart'", "no dependency", "choose another name"),
    ),
    "config no data": (
        lambda: component(config=int),
        DefinitionError,
        ("config", "int", "make it such"),
    ),
}


def _fresh(*extra: str) -> Any:
    if extra:

        async def step(self: object, extra: int) -> None:
            pass

        return step

    async def other(self: object) -> None:
        pass

    return other


@pytest.mark.parametrize("case", REFUSED)
def test_what_cannot_run_is_refused(case: str) -> None:
    make, error, words = REFUSED[case]
    cls: Any = make()

    with pytest.raises(DefinitionError) as caught:
        specify(cls, provided=[(Client, "eu"), (Client, "us")])

    assert type(caught.value) is error
    for word in words:
        assert word in str(caught.value)


def test_a_resource_option_cannot_be_a_field() -> None:
    cls = attrs.define(component(restart=Restart))

    with pytest.raises(DefinitionError, match="ClassVar"):
        specify(cls)


def test_steps_keep_their_places() -> None:
    spec = specify(Careful)

    assert isinstance(spec, MinionSpec)
    assert [(s.name, s.renamed_from) for s in spec.steps] == [
        ("record", None),
        ("decide", "judge"),
        ("check", None),
    ]
    assert (spec.max_in_flight, spec.overflow, spec.has_key) == (5, "reject", True)
    assert (spec.event_type, spec.context_type) == (Quote, Memory)


class Stubborn(Minion[Quote, Memory]):
    signals: ClassVar = (Tick,)

    @minion_step(retry=Retry(2), timeout=3, renamed_from="first")
    async def keeps(self) -> None:
        pass

    @minion_step(retry=Retry(2), timeout=3, renamed_from="second")
    async def replaces(self) -> None:
        pass

    @minion_step(retry=Retry(2), timeout=3)
    async def drops(self) -> None:
        pass


class Below(Stubborn):
    async def keeps(self) -> None:
        pass

    @minion_step(timeout=4.5)
    async def replaces(self) -> None:
        pass

    @minion_step
    async def drops(self) -> None:
        pass


def test_an_override_keeps_its_marks_or_has_those_that_it_says() -> None:
    above, below = specify(Stubborn), specify(Below)

    assert isinstance(above, MinionSpec)
    assert isinstance(below, MinionSpec)
    assert above.steps == (
        StepSpec("keeps", "first", Retry(2), 3),
        StepSpec("replaces", "second", Retry(2), 3),
        StepSpec("drops", None, Retry(2), 3),
    )
    assert below.steps == (
        StepSpec("keeps", "first", Retry(2), 3),
        StepSpec("replaces", "second", None, 4.5),
        StepSpec("drops", None, None, None),
    )
    assert specify(type("Deeper", (Below,), {})).steps == below.steps  # type: ignore[union-attr]


class Asks(Minion[Quote, Memory]):
    signals: ClassVar = (Tick, Settings)

    @minion_step
    async def ask(self: Any) -> Wait:
        await self.workflow.emit(Quote(1.0), to=Quotes)
        return Wait(Settings)


def test_the_signals_of_a_minion() -> None:
    spec = specify(Asks)

    assert isinstance(spec, MinionSpec)
    assert spec.mentioned == (Quote, Quotes, Settings)
    assert spec.emits_to == (Quotes,)
    assert spec.signals == (Tick, Settings)
    assert spec.signal_classes == (Quote, Settings, Tick)


def test_defaults_of_a_minion() -> None:
    spec = specify(Trader)

    assert isinstance(spec, MinionSpec)
    assert spec.kind == "minion"
    assert (spec.max_in_flight, spec.max_backlog) == (1000, 10_000)
    assert (spec.max_unfinished, spec.overflow) == (10_000_000, "wait")
    assert (spec.on_failure, spec.key_on_quarantine) == ("quarantine", "release")
    assert (spec.has_key, spec.restart, spec.on_exhausted) == (False, Restart(), None)
    assert (spec.signals, spec.signal_classes) == ((), ())
    assert (spec.steps[0].retry, spec.steps[0].timeout) == (None, None)


class Named(Minion["Quote", "Memory"]):
    @minion_step
    async def go(self) -> None:
        pass


class Between(Minion[T, Memory], Generic[U, T]):
    @minion_step
    async def go(self) -> None:
        pass


class Mixin:
    pass


class Swapped(Mixin, Between[int, Tick]):
    pass


class Bare(Between):  # type: ignore[type-arg]
    pass


def test_types_are_found_through_generic_classes_and_strings() -> None:
    assert getattr(specify(Swapped), "event_type", None) is Tick
    assert getattr(specify(Named), "context_type", None) is Memory
    with pytest.raises(DefinitionError, match="event"):
        specify(Bare)
    with pytest.raises(DefinitionError, match="without types"):
        specify(type("Deep", (type("M", (Minion,), {}),), {"__orig_bases__": ()}))
    with pytest.raises(DefinitionError, match="without types"):
        specify(type("Deep", (type("M", (Minion,), {}),), {}))


def test_a_cursor_by_keyword_survives_attrs() -> None:
    @attrs.define
    class Lines(Pipeline[Quote], cursor=int):
        async def run(self) -> None:
            pass

    class Below(Lines):
        pass

    for cls in (Lines, Below):
        spec = specify(cls)
        assert isinstance(spec, PipelineSpec)
        assert (spec.cursor_type, spec.source) == (int, "run")


def test_a_cursor_by_argument() -> None:
    class Lines(Pipeline[Quote, Settings]):
        max_errors = 3
        error_backoff = Backoff(base=1.0)

    spec = specify(Lines)

    assert isinstance(spec, PipelineSpec)
    assert (spec.cursor_type, spec.source) == (Settings, "outside")
    assert (spec.max_errors, spec.error_backoff) == (3, Backoff(base=1.0))


def test_a_pipeline_without_cursor() -> None:
    spec = specify(Quotes)

    assert isinstance(spec, PipelineSpec)
    assert (spec.cursor_type, spec.source, spec.max_errors) == (None, "produce", 10)
    assert (spec.dedup_window, spec.max_dedup) == (86400.0, 1_000_000)
    assert spec.error_backoff == Backoff()


@resource
class Server:
    def restart(self) -> None:
        """No option: the class is its user's alone."""

    async def startup(self, nursery: object) -> None:
        pass

    async def shutdown(self) -> None:
        pass


class Managed(Resource):
    async def __aenter__(self) -> None: ...

    async def __aexit__(self, *exc: object) -> None: ...

    async def startup(self) -> None: ...


class Classy(Resource):
    @classmethod
    async def startup(cls) -> None: ...

    @staticmethod
    async def run() -> None: ...


def test_hooks() -> None:
    server, managed, classy = specify(Server), specify(Managed), specify(Classy)

    assert isinstance(server, ResourceSpec)
    assert (server.startup_takes_nursery, server.restart) == (True, Restart())
    assert (server.has_startup, server.has_run, server.has_shutdown) == (1, 0, 1)
    assert managed.is_context_manager
    assert not managed.has_startup
    assert classy.has_startup
    assert classy.has_run


@dataclasses.dataclass(frozen=True)
class Frozen(Resource):
    db: dataclasses.InitVar[Db]
    later: Log = dataclasses.field(init=False)
    seen: list[Db] = dataclasses.field(default_factory=list)
    config: Settings | None = None

    def __post_init__(self, db: Db) -> None:
        self.seen.append(db)


def test_init_variables_and_late_fields_of_a_frozen_class() -> None:
    spec = specify(Frozen)
    db, log, config = Db(), Log(), Settings("x")

    made = construct(spec, {"db": db, "later": log}, config)

    assert [(d.attribute, d.parameter) for d in spec.dependencies] == [
        ("db", "db"),
        ("later", None),
    ]
    assert (made.seen, made.later, made.config) == ([db], log, config)


@attrs.frozen
class Private(Resource):
    _db: Db
    config: Settings
    _log: Final[Annotated[Log | None, 3]] = attrs.field(alias="journal")
    number: int = 3


def test_private_names_go_by_their_alias() -> None:
    spec = specify(Private)
    db = Db()

    made = construct(spec, {"_db": db}, Settings())

    assert [d.parameter for d in spec.dependencies] == ["db", "journal"]
    assert (made._db, made._log) == (db, None)
    assert spec.config is not None
    assert (spec.config.parameter, spec.config.has_default) == ("config", False)
    with pytest.raises(ConfigError, match=r"expected a config of type Settings"):
        construct(spec, {"_db": db})


class Plain(Resource):
    config: Settings
    version: ClassVar[int]
    other: "ClassVar[Hidden]"  # noqa: UP037
    shown: Hidden = None  # type: ignore[assignment]
    size: int
    db: Db

    def __init__(self, *, sets: bool = True) -> None:
        if sets:
            self.size = 3


class Unset(Plain):
    def __init__(self) -> None:
        super().__init__(sets=False)


class Slotted(Resource):
    __slots__ = ("db",)
    db: Db
    log: Log


def test_a_plain_class_is_given_attributes() -> None:
    spec = specify(Plain)
    db, config = Db(), Settings()

    class Below(Plain):
        pass

    made = construct(spec, {"db": db}, config, cls=Below)

    assert type(made) is Below
    assert (made.db, made.config, spec.own) == (db, config, ("size",))


def test_an_attribute_that_the_constructor_left_unset() -> None:
    with pytest.raises(DependencyError, match=r"'size'.*unset after the constructor"):
        construct(specify(Unset), {"db": Db()}, Settings())


class MadeInNew(Resource):
    value: int

    def __new__(cls) -> Self:
        made = super().__new__(cls)
        made.value = 3
        return made


def test_an_attribute_may_be_set_by_new() -> None:
    assert construct(specify(MadeInNew), {}).value == 3


def test_no_room_for_a_dependency() -> None:
    # Resource has no slots, and this class has no __dict__.
    with pytest.raises(DefinitionError, match="__slots__"):
        construct(specify(Slotted), {"db": Db(), "log": Log()})


def test_a_config_that_nobody_takes() -> None:
    with pytest.raises(ConfigError, match="expected no config"):
        construct(specify(Db), {}, Settings())
    assert isinstance(construct(specify(Db), {}), Db)


def test_struct_contexts() -> None:
    class Ticker(Minion[Tick, TickMemory]):
        @minion_step
        async def go(self) -> None:
            pass

    assert getattr(specify(Ticker), "context_type", None) is TickMemory


class Silent(Plain):
    db: ClassVar[Db] = Db()  # type: ignore[misc]


def test_a_class_variable_hides_what_was_inherited() -> None:
    assert specify(Silent).dependencies == ()


class Alias:
    """Stands for what `type X = Db` makes on newer interpreters."""

    __value__ = Db


def test_a_type_alias_is_looked_through() -> None:
    cls = type("C", (Resource,), {"__annotations__": {"db": Annotated[Alias(), 1]}})

    assert [d.cls for d in specify(cls).dependencies] == [Db]
