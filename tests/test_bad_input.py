"""What bad input gets: the error, a message in four parts, and nothing touched."""

# ruff: noqa: ASYNC220, ASYNC221  # a test has the event loop to itself

from __future__ import annotations

import contextlib
import json
import shutil
import subprocess
import sys
from collections.abc import Awaitable, Callable
from functools import partial
from pathlib import Path
from typing import Annotated, Any

import attrs
import lmdb
import pytest
from trio.testing import MockClock

import minions
from minions import (
    ConfigError,
    DefinitionError,
    DependencyError,
    GruOptions,
    Minion,
    Pipeline,
    Resource,
    SnapshotError,
    StartError,
    StoreError,
    StoreFullError,
    StoreLockedError,
    StoreVersionError,
    component_id,
    minion_step,
    open_gru,
)

HERE = __name__
PROGRAMS = Path(__file__).parent / "bad_input"

Call = Callable[[], Awaitable[object]]
Prepare = Callable[["Bench"], Awaitable[Call]]


# The rows.


@attrs.frozen
class Row:
    """One bad input, and what it must get."""

    prepare: Prepare
    error: type[Exception]
    component: str
    expected: str
    found: str
    remedy: str
    needs_mount: bool = attrs.field(kw_only=True)


ROWS: dict[str, Row] = {}


def row(
    error: type[Exception], *parts: str, needs_mount: bool = False
) -> Callable[[Prepare], Prepare]:
    """Make a row of a function that returns the call to be refused."""

    def add(prepare: Prepare) -> Prepare:
        ROWS[prepare.__name__] = Row(prepare, error, *parts, needs_mount=needs_mount)
        return prepare

    return add


@attrs.frozen
class Bench:
    """What a row works with; it is put in order again at the end."""

    tmp_path: Path
    stack: contextlib.AsyncExitStack

    @property
    def folder(self) -> Path:
        """The state folder, which is not there yet."""
        return self.tmp_path / "state"

    async def refuse(self, minion: type, pipeline: type, **rest: Any) -> Call:
        """Return a start in a system that is open."""
        gru = await self.stack.enter_async_context(open_gru(self.folder))
        return partial(gru.start_minion, minion, pipeline, **rest)

    async def opening(self) -> None:
        """Open the folder."""
        async with open_gru(self.folder):
            pass

    async def use(self) -> None:
        """Make a state folder with something in it."""
        async with open_gru(self.folder) as gru:
            await gru.start_minion(Good, Outside)
            await gru.emit(Outside, Number(1))
            await gru.stop()

    def mount(self, *options: str) -> Path:
        """Put the state folder on a small file system of its own."""
        place = self.tmp_path / "mount"
        place.mkdir()
        run(["mount", "-t", "tmpfs", *options, "tmpfs", str(place)])
        self.stack.callback(run, ["umount", str(place)])
        self.folder.symlink_to(place / "state")
        return place


def run(command: list[str]) -> None:
    """Run a program of the system."""
    program = shutil.which(command[0])
    assert program
    done = subprocess.run(
        [program, *command[1:]], capture_output=True, text=True, check=False
    )
    assert done.returncode == 0, done.stderr


@pytest.fixture
def places(request: pytest.FixtureRequest, tmp_path: Path) -> None:
    """Skip the rows that need a mount where that is not allowed."""
    if not request.getfixturevalue("case").needs_mount:
        return
    if sys.platform != "linux" or not shutil.which("mount"):
        pytest.skip("no tmpfs here")
    try:
        run(["mount", "-t", "tmpfs", "tmpfs", str(tmp_path)])
    except AssertionError as exc:
        pytest.skip(f"no tmpfs can be mounted: {str(exc).splitlines()[0]}")
    run(["umount", str(tmp_path)])


def listing(folder: Path) -> dict[str, bytes] | None:
    """Return all that a folder holds; ``None``: there is none."""
    if not folder.exists():
        return None
    return {
        path.name: b"" if path.is_socket() else path.read_bytes()
        for path in sorted(folder.iterdir())
    }


# What is right, so that each row is wrong in one thing.


@attrs.frozen
class Number:
    value: int


@attrs.define
class Total:
    value: int = 0


class Outside(Pipeline[Number]):
    pass


class Good(Minion[Number, Total]):
    @minion_step
    async def add(self) -> None:
        self.context.value += self.event.value


class AlsoGood(Good):
    pass


# Classes.


class NoComponent:
    pass


@row(
    DefinitionError,
    f"{HERE}:NoComponent",
    "expected a component",
    "found a class that is none",
    "derive it from Resource, Pipeline or Minion",
)
async def no_component(bench: Bench) -> Call:
    return await bench.refuse(NoComponent, Outside)


@attrs.frozen
class Anything:
    handle: Any


class AnythingPipeline(Pipeline[Anything]):
    pass


class AnythingMinion(Minion[Anything, Total]):
    @minion_step
    async def add(self) -> None:
        pass


@row(
    DefinitionError,
    f"{HERE}:AnythingPipeline: Anything.handle",
    "expected a type that can be stored",
    "found Any",
    "declare a type that Minions stores",
)
async def event_type_that_cannot_be_stored(bench: Bench) -> Call:
    return await bench.refuse(AnythingMinion, AnythingPipeline)


@row(
    SnapshotError,
    f"{HERE}:Outside: Number.value",
    "expected an integer of 64 bits",
    "found a larger int",
    "store a value of the declared type",
)
async def value_that_cannot_be_stored(bench: Bench) -> Call:
    gru = await bench.stack.enter_async_context(open_gru(bench.folder))
    await gru.start_minion(Good, Outside)
    bench.stack.push_async_callback(gru.stop)
    return partial(gru.emit, Outside, Number(2**70))


@attrs.frozen
class Text:
    text: str


class TextPipeline(Pipeline[Text]):
    pass


class TextMinion(Minion[Text, Total]):
    @minion_step
    async def add(self) -> None:
        pass


@row(
    SnapshotError,
    "store, record",
    "expected a record of at most 1024 bytes",
    "found 2",
    "raise max_record",
)
async def value_that_is_too_large(bench: Bench) -> Call:
    options = GruOptions(max_record=1024)
    gru = await bench.stack.enter_async_context(open_gru(bench.folder, options=options))
    await gru.start_minion(TextMinion, TextPipeline)
    bench.stack.push_async_callback(gru.stop)
    return partial(gru.emit, TextPipeline, Text("x" * 2000))


@attrs.define
class Demanding:
    value: int


class DemandingMinion(Minion[Number, Demanding]):
    @minion_step
    async def add(self) -> None:
        pass


@row(
    DefinitionError,
    f"{HERE}:DemandingMinion",
    "expected a default for every field of its context Demanding",
    "found 'value' without one",
    "give it a default",
)
async def context_without_defaults(bench: Bench) -> Call:
    return await bench.refuse(DemandingMinion, Outside)


class Stepless(Minion[Number, Total]):
    pass


@row(
    DefinitionError,
    f"{HERE}:Stepless",
    "expected at least one step",
    "found none",
    "put @minion_step above an async method",
)
async def no_steps(bench: Bench) -> Call:
    return await bench.refuse(Stepless, Outside)


class Greedy(Minion[Number, Total]):
    @minion_step  # type: ignore[type-var]
    async def add(self, amount: int) -> None:
        pass


@row(
    DefinitionError,
    f"{HERE}:Greedy",
    "expected step 'add' to take no arguments",
    "found 'amount'",
    "use self.event and self.context",
)
async def step_with_arguments(bench: Bench) -> Call:
    return await bench.refuse(Greedy, Outside)


class Synchronous(Minion[Number, Total]):
    @minion_step  # type: ignore[type-var]
    def add(self) -> None:
        pass


@row(
    DefinitionError,
    f"{HERE}:Synchronous",
    "expected step 'add' to be an async method",
    "found <function Synchronous.add",
    "write `async def add(self)`",
)
async def synchronous_step(bench: Bench) -> Call:
    return await bench.refuse(Synchronous, Outside)


class TwoSources(Pipeline[Number]):
    async def produce_event(self) -> Number:
        return Number(1)

    async def run(self) -> None:
        pass


@row(
    DefinitionError,
    f"{HERE}:TwoSources",
    "expected produce_event or run",
    "found both",
    "take one of them away",
)
async def produce_event_and_run(bench: Bench) -> Call:
    return await bench.refuse(Good, TwoSources)


class CursorProducer(Pipeline[Number, int]):
    async def produce_event(self) -> Number:
        return Number(1)


@row(
    DefinitionError,
    f"{HERE}:CursorProducer",
    "expected run with a cursor",
    "found produce_event",
    "write `async def run(self)`",
)
async def cursor_with_produce_event(bench: Bench) -> Call:
    return await bench.refuse(Good, CursorProducer)


class OnPipeline(Good):
    source: Outside


@row(
    DependencyError,
    f"{HERE}:OnPipeline: attribute 'source'",
    "expected a resource",
    "found the pipeline Outside",
    "share a resource with it",
)
async def dependency_on_a_pipeline(bench: Bench) -> Call:
    return await bench.refuse(OnPipeline, Outside)


class Hen(Resource):
    egg: Egg


class Egg(Resource):
    hen: Hen


class OnCycle(Good):
    hen: Hen


@row(
    DependencyError,
    f"{HERE}:Hen",
    "expected dependencies without a cycle",
    f"found {HERE}:Hen → {HERE}:Egg → {HERE}:Hen",
    "take one of these dependencies away",
)
async def dependency_cycle(bench: Bench) -> Call:
    return await bench.refuse(OnCycle, Outside)


class Client:
    """A class of another library, that nobody marked."""


class OnNobody(Good):
    client: Client


@row(
    DependencyError,
    f"{HERE}:OnNobody: attribute 'client'",
    "expected a dependency",
    "found no constructor that sets it",
    "call gru.provide for its type before the start",
)
async def missing_dependency(bench: Bench) -> Call:
    return await bench.refuse(OnNobody, Outside)


class OnUnknownName(Good):
    client: Annotated[Client, "eu"]


@row(
    DependencyError,
    f"{HERE}:OnUnknownName: attribute 'client'",
    "expected a Client provided under the name 'eu'",
    "found these names: 'us'",
    "call gru.provide(Client, ..., name='eu') first",
)
async def dependency_of_a_name_that_is_not_there(bench: Bench) -> Call:
    gru = await bench.stack.enter_async_context(open_gru(bench.folder))
    gru.provide(Client, lambda: contextlib.nullcontext(Client()), name="us")
    return partial(gru.start_minion, OnUnknownName, Outside)


class OneThing(Resource):
    pass


class OtherThing(Resource):
    pass


class OnEither(Good):
    thing: OneThing | OtherThing


@row(
    DependencyError,
    f"{HERE}:OnEither: attribute 'thing'",
    "expected one resource",
    "found several types (OneThing | OtherThing), which is ambiguous",
    "annotate it with one of them",
)
async def ambiguous_dependency(bench: Bench) -> Call:
    return await bench.refuse(OnEither, Outside)


@attrs.define
class WithField(Minion[Number, Total]):
    limit: int

    @minion_step
    async def add(self) -> None:
        pass


@row(
    DependencyError,
    f"{HERE}:WithField",
    "expected constructor arguments that are dependencies, config or have a default",
    "found 'limit', which is none",
    "give it a default",
)
async def field_that_is_neither_dependency_nor_config(bench: Bench) -> Call:
    return await bench.refuse(WithField, Outside)


def make_local() -> type:
    class Local(Good):
        pass

    return Local


@row(
    DefinitionError,
    f"{HERE}:make_local.<locals>.Local",
    "expected an identity that the next process finds again",
    "found a minion that is defined in a function",
    'put @component_id("...") above it',
)
async def local_class_without_an_id(bench: Bench) -> Call:
    return await bench.refuse(make_local(), Outside)


@component_id("twin")
class FirstTwin(Resource):
    pass


@component_id("twin")
class SecondTwin(Resource):
    pass


class OnTwins(Good):
    first: FirstTwin
    second: SecondTwin


@row(
    DefinitionError,
    "twin: ",
    "expected one class of this identity",
    f"found two: {HERE}.FirstTwin and {HERE}.SecondTwin",
    "put another @component_id above one of them",
)
async def duplicate_identities(bench: Bench) -> Call:
    return await bench.refuse(OnTwins, Outside)


class OnFirstTwin(Good):
    first: FirstTwin


class OnSecondTwin(Good):
    second: SecondTwin


@row(
    DefinitionError,
    "twin: ",
    "expected one class of this identity in a Gru",
    f"found two: {HERE}.SecondTwin, while {HERE}.FirstTwin runs",
    "put another @component_id above one of them",
)
async def duplicate_identities_one_after_the_other(bench: Bench) -> Call:
    gru = await bench.stack.enter_async_context(open_gru(bench.folder))
    await gru.start_minion(OnFirstTwin, Outside)
    bench.stack.push_async_callback(gru.stop)
    return partial(gru.start_minion, OnSecondTwin, Outside)


@attrs.frozen
class Settings:
    limit: int = 1


class Configured(Good):
    config: Settings


@row(
    ConfigError,
    f"{HERE}:Configured: config file",
    "configured.toml: field 'limit': expected int",
    "found 'many'",
    "change it",
)
async def config_that_does_not_fit(bench: Bench) -> Call:
    file = bench.tmp_path / "configured.toml"
    file.write_text('limit = "many"\n')
    return await bench.refuse(Configured, Outside, config=file)


# State folders.


@row(
    StoreVersionError,
    "/state: ",
    "expected a state folder of format 2",
    "found format 3",
    "open it with the version of minions that wrote it",
)
async def folder_of_a_newer_format(bench: Bench) -> Call:
    await bench.use()
    mark = bench.folder / "minions.json"
    mark.write_text(json.dumps({**json.loads(mark.read_text()), "format": 3}))
    return bench.opening


@row(
    StoreVersionError,
    "/state/data.mdb: ",
    "expected LMDB's data format 1",
    "found",
    "open it with the version of minions that wrote it",
)
async def data_file_of_a_newer_format(bench: Bench) -> Call:
    await bench.use()
    (bench.folder / "data.mdb").unlink()
    lmdb.open(str(bench.folder), lib_version=1, lock=False).close()
    return bench.opening


@row(
    StoreError,
    "/state: ",
    "expected an empty folder or a state folder of minions",
    "found 1 entries and no minions.json: it belongs to another program",
    "name another folder",
)
async def folder_of_another_program(bench: Bench) -> Call:
    bench.folder.mkdir()
    (bench.folder / "notes.txt").write_text("mine")
    return bench.opening


@row(
    StoreLockedError,
    "/state: ",
    "expected a state folder that nobody uses",
    "found it locked by process",
    "end that one first, or name another folder",
)
async def folder_locked_by_another_process(bench: Bench) -> Call:
    program = [sys.executable, str(PROGRAMS / "hold_folder.py"), str(bench.folder)]
    holder = subprocess.Popen(program, stdin=-1, stdout=-1, text=True)
    bench.stack.enter_context(holder)
    assert holder.stdout
    assert holder.stdout.readline() == "open\n"
    return bench.opening


@row(
    StoreLockedError,
    "/state: ",
    "expected a state folder that nobody uses",
    "(this process)",
    "end that one first, or name another folder",
)
async def folder_locked_by_the_same_process(bench: Bench) -> Call:
    await bench.stack.enter_async_context(open_gru(bench.folder))
    return bench.opening


@row(
    StartError,
    "also-good-",
    "expected every subscription to it to be started",
    "found that nobody starts also-good-",
    "start it, or `minions forget also-good-",
)
async def folder_with_a_subscription_that_nobody_starts(bench: Bench) -> Call:
    async with open_gru(bench.folder) as gru:
        await gru.start_minion(Good, Outside)
        await gru.start_minion(AlsoGood, Outside)
        await gru.stop()
    again = await bench.stack.enter_async_context(open_gru(bench.folder))
    bench.stack.push_async_callback(again.stop)

    async def start_one_of_two() -> None:
        async with again.starting():
            await again.start_minion(Good, Outside)

    return start_one_of_two


@row(
    StoreError,
    "/state: ",
    "expected a folder that can be written",
    "found: Read-only file system",
    "make this one writable",
    needs_mount=True,
)
async def folder_on_a_read_only_mount(bench: Bench) -> Call:
    mount = bench.mount()
    await bench.use()
    run(["mount", "-o", "remount,ro", str(mount)])
    return bench.opening


@row(
    StoreError,
    "/state: ",
    "expected a folder that can be written",
    "found: Read-only file system",
    "make this one writable",
    needs_mount=True,
)
async def new_folder_on_a_read_only_mount(bench: Bench) -> Call:
    bench.mount("-o", "ro")
    return bench.opening


def fill(mount: Path) -> None:
    """Write until nothing more fits."""
    with (
        contextlib.suppress(OSError),
        (mount / "filler").open("wb", buffering=0) as file,
    ):
        while file.write(bytes(4096)):
            pass


@row(
    StoreFullError,
    "/state: ",
    "expected room on the disk",
    "found none",
    "free some",
    needs_mount=True,
)
async def folder_on_a_full_disk(bench: Bench) -> Call:
    mount = bench.mount("-o", "size=1m")
    await bench.use()
    fill(mount)
    return bench.opening


@row(
    StoreFullError,
    "/state: ",
    "expected room on the disk",
    "found none",
    "free some",
    needs_mount=True,
)
async def new_folder_on_a_full_disk(bench: Bench) -> Call:
    mount = bench.mount("-o", "size=64k")
    fill(mount)
    return bench.opening


@row(
    StoreError,
    "/state/data.mdb: ",
    "expected a sound data file",
    "found a damaged one",
    "restore the state folder from a copy of it",
)
async def truncated_data_file(bench: Bench) -> Call:
    await bench.use()
    data = bench.folder / "data.mdb"
    data.write_bytes(data.read_bytes()[: data.stat().st_size // 2])

    async def open_in_a_child() -> None:
        """Let a crash, if it comes to one, be the child's."""
        program = [sys.executable, str(PROGRAMS / "open_folder.py"), str(bench.folder)]
        child = subprocess.run(program, capture_output=True, text=True, check=True)
        name, message = json.loads(child.stdout)
        error: type[Exception] = getattr(minions, name)
        raise error(message)

    return open_in_a_child


# The command line.


@attrs.define
class RefusedByCommandError(Exception):
    """What the command line said, with exit code 2."""

    message: str

    def __str__(self) -> str:
        return self.message


async def run_with(text: str, bench: Bench, *flags: str) -> Call:
    (bench.tmp_path / "minions.toml").write_text(text)

    async def run_in_a_child() -> None:
        command = [sys.executable, "-m", "minions", "run", *flags, str(bench.tmp_path)]
        child = subprocess.run(command, capture_output=True, text=True, check=False)
        assert (child.returncode, child.stdout) == (2, "")
        raise RefusedByCommandError(child.stderr)

    return run_in_a_child


@row(
    RefusedByCommandError,
    "minions.toml: field 'orchestraton'",
    "expected one of 'state', ",
    "found an unknown key",
    "did you mean 'orchestration'?",
)
async def unknown_table_in_minions_toml(bench: Bench) -> Call:
    return await run_with("[[orchestraton]]\n", bench)


@row(
    RefusedByCommandError,
    "minions.toml: [options]: field 'durabilty'",
    "expected one of 'durability'",
    "found an unknown key",
    "did you mean 'durability'?",
)
async def unknown_option_in_minions_toml(bench: Bench) -> Call:
    return await run_with('[options]\ndurabilty = "none"\n', bench)


@row(
    RefusedByCommandError,
    "minions.toml: field 'stat'",
    "expected one of 'state', ",
    "found an unknown key",
    "did you mean 'state'?",
)
async def unknown_key_in_minions_toml_that_is_checked(bench: Bench) -> Call:
    return await run_with('stat = "state"\n', bench, "--check")


# The test.


@pytest.mark.parametrize("case", ROWS.values(), ids=ROWS.keys())
async def test_bad_input_is_refused_and_nothing_is_touched(
    case: Row, places: None, tmp_path: Path, autojump_clock: MockClock
) -> None:
    """The message names the component, what was expected and found, and a remedy."""
    async with contextlib.AsyncExitStack() as stack:
        bench = Bench(tmp_path, stack)
        call = await case.prepare(bench)
        before = listing(bench.folder)

        with pytest.raises(case.error) as caught:
            await call()

        assert listing(bench.folder) == before

    assert type(caught.value) is case.error
    message = str(caught.value)
    parts = [case.component, case.expected, case.found, case.remedy]
    assert [part for part in parts if part not in message] == [], message
