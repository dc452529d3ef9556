"""Folders with a system in them, and programs that run it."""

from __future__ import annotations

import importlib
import os
import shutil
import subprocess
import sys
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any

import pytest
import trio
from trio.testing import MockClock

from minions import GruOptions, open_gru
from minions.cli import main

MODULE = """
import attrs
import trio
from minions import Minion, Pipeline, Resource, minion_step


@attrs.frozen
class Line:
    text: str


@attrs.define
class Seen:
    text: str = ""


@attrs.frozen
class Settings:
    greeting: str


class Lines(Pipeline[Line]):
    count = 0

    async def produce_event(self) -> Line:
        self.count += 1
        if self.count > 2:
            raise trio.EndOfChannel
        return Line(str(self.count))


class Greeter(Minion[Line, Seen]):
    config: Settings

    @minion_step
    async def greet(self) -> None:
        print(self.config.greeting, self.event.text, flush=True)


class Plain(Minion[Line, Seen]):
    @minion_step
    async def look(self) -> None:
        pass


class Cache(Resource):
    async def startup(self) -> None:
        print("cache is up", flush=True)
"""

SYSTEM = """
[[orchestration]]
minion = "parts:Greeter"
pipeline = "parts:Lines"
config = "greeter.toml"
"""


@pytest.fixture
def folder(tmp_path: Path) -> Iterator[Path]:
    """Return a folder with a system that ends by itself; forget its module."""
    (tmp_path / "parts.py").write_text(MODULE)
    (tmp_path / "greeter.toml").write_text('greeting = "hello"')
    (tmp_path / "minions.toml").write_text(SYSTEM)
    path = sys.path[:]
    known = set(sys.modules)
    yield tmp_path
    sys.path[:] = path
    for name in set(sys.modules) - known:
        if getattr(sys.modules[name], "__file__", "").startswith(str(tmp_path)):
            del sys.modules[name]


Refusal = Callable[..., str]


@pytest.fixture
def refusal(folder: Path, capsys: pytest.CaptureFixture[str]) -> Refusal:
    """Run a command that is refused, and return what it says."""

    def refused(*arguments: str) -> str:
        listing = sorted(folder.rglob("*"))

        assert main(list(arguments)) == 2

        made = set(folder.rglob("*")) - set(listing)
        assert {p for p in made if "__pycache__" not in p.parts} == set()
        said = capsys.readouterr().err
        assert "Traceback" not in said
        return said

    return refused


class Program:
    """``minions run`` in a process of its own, read line by line."""

    def __init__(self, folder: Path) -> None:
        paths = os.environ.get("PYTHONPATH", "").split(os.pathsep)
        self.process = subprocess.Popen(
            [sys.executable, "-W", "error", "-m", "minions", "run", str(folder)],
            env={
                **os.environ,
                "PYTHONPATH": os.pathsep.join(str(Path(p).resolve()) for p in paths),
                "PYTHONUTF8": "1",
                "NO_COLOR": "1",
            },
            stdout=subprocess.PIPE,
            stderr=subprocess.PIPE,
            text=True,
        )

    def wait_line(self, text: str, *, error: bool = False) -> str:
        """Read until a line that holds *text*."""
        stream = self.process.stderr if error else self.process.stdout
        assert stream is not None
        read = []
        for line in stream:
            read.append(line)
            if text in line:
                return line
        raise AssertionError(f"{text!r} is not in {''.join(read)}")

    def end(self) -> tuple[int, str, str]:
        """Wait for the end; return code, and what was not read of both streams."""
        out, err = self.process.communicate(timeout=30)
        return self.process.returncode, out, err


@pytest.fixture
def program() -> Iterator[Callable[[Path], Program]]:
    """Start programs that do not outlive the test."""
    started: list[Program] = []

    def start(folder: Path) -> Program:
        started.append(Program(folder))
        return started[-1]

    yield start
    for one in started:
        if one.process.poll() is None:
            one.process.kill()
        one.process.communicate()


STATE_MODULE = """
import pathlib
import attrs
import trio
from minions import After, GoTo, Minion, Pipeline, Wait, minion_step


MENDED = pathlib.Path(__file__).parent / "mended"


@attrs.frozen
class Job:
    name: str
    price: float = 1.5


@attrs.define
class Notes:
    seen: str = ""


@attrs.frozen
class Go:
    note: str


class Jobs(Pipeline[Job]):
    pass


class Clerk(Minion[Job, Notes]):
    def key(self, event: Job) -> str | None:
        return event.name

    @minion_step
    async def begin(self) -> None:
        self.context.seen = self.event.name

    @minion_step
    async def work(self) -> object:
        name = self.event.name
        print("works on", name, flush=True)
        if name.startswith("fail") and not MENDED.exists():
            raise ValueError(f"no luck with {name}")
        if name == "sleep":
            return After(3600, step="last")
        if name == "wait":
            return Wait(Go, step="last")
        if name == "hang":
            await trio.sleep_forever()
        return None

    @minion_step
    async def last(self) -> None:
        print("ends", self.event.name, flush=True)
"""

STATE_SYSTEM = """
[[orchestration]]
minion = "clerks:Clerk"
pipeline = "clerks:Jobs"
"""


@pytest.fixture(scope="session")
def filled_desk(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """Return a folder whose system has a workflow in each state of the store."""
    folder = tmp_path_factory.mktemp("desk")
    (folder / "clerks.py").write_text(STATE_MODULE)
    (folder / "minions.toml").write_text(STATE_SYSTEM)
    sys.path.insert(0, str(folder))
    clerks = importlib.import_module("clerks")
    sys.path.remove(str(folder))
    del sys.modules["clerks"]

    async def fill() -> None:
        options = GruOptions(keep=1e6, durability="none")
        async with open_gru(folder / "state", options=options) as gru:
            await gru.start_minion(clerks.Clerk, clerks.Jobs)
            ids: dict[str, Any] = {}
            for name in ("ok", "fail1", "fail2", "sleep", "wait", "hang"):
                (ids[name],) = await gru.emit(clerks.Jobs, clerks.Job(name))
            for name in ("ok", "fail1", "fail2"):
                await gru.workflows.wait(ids[name])
            await trio.sleep(1)
            gru.cut_over()
            await gru.stop()

    trio.run(fill, clock=MockClock(autojump_threshold=0))
    shutil.rmtree(folder / "__pycache__", ignore_errors=True)
    return folder


@pytest.fixture
def desk(filled_desk: Path, tmp_path: Path) -> Iterator[Path]:
    """Return a copy of that folder, with a longer path than a socket may have."""
    folder = tmp_path / ("long" * 40)
    shutil.copytree(filled_desk, folder)
    path = sys.path[:]
    yield folder
    sys.path[:] = path
    sys.modules.pop("clerks", None)
