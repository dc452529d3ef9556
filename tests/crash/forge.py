"""Runs many children from one interpreter that has imported everything.

It forks before any store is open and before any trio run, so that a child costs
milliseconds instead of the start of an interpreter.  As a program it reads one life
per line from its standard input, and writes how the process of that life has ended.
"""

from __future__ import annotations

import faulthandler
import json
import os
import subprocess
import sys
import traceback
from collections.abc import Iterator
from contextlib import ExitStack, contextmanager
from pathlib import Path
from typing import NoReturn

import msgspec

from planned import Fate, main
from plans import write_plan

KILLED = (-9, -14)
"""By itself, or by the time."""


def _fork(plan: str, folder: str, fate: str) -> int:
    hold, go = os.pipe()
    child = os.fork()
    if not child:
        os.close(go)
        os.read(hold, 1)
        _live(plan, folder, fate)
    with ExitStack() as stack:
        stack.callback(os.close, hold)
        call, number = msgspec.json.decode(fate, type=Fate).call
        if call:
            stack.enter_context(_kill_at(child, Path(folder), call, number))
        os.close(go)
        return os.waitstatus_to_exitcode(os.waitpid(child, 0)[1])


def _live(plan: str, folder: str, fate: str) -> NoReturn:
    code = 1
    try:
        errors = os.open(
            Path(folder) / "errors", os.O_WRONLY | os.O_CREAT | os.O_APPEND, 0o600
        )
        os.dup2(errors, 1)
        os.dup2(errors, 2)
        faulthandler.dump_traceback_later(60, exit=True)
        main(plan, folder, fate)
        code = 0
    except BaseException:
        traceback.print_exc()
    finally:
        os._exit(code)


@contextmanager
def _kill_at(child: int, folder: Path, call: str, number: int) -> Iterator[None]:
    """Let strace kill a process at the n-th of some calls on the data file."""
    data = os.path.realpath(folder / "state" / "data.mdb")
    command = ["strace", "-f", "-p", str(child), "-o", os.devnull, "-P", data]
    command += ["-e", f"trace={call}"]
    command += ["-e", f"inject={call}:signal=KILL:when={number}"]
    with subprocess.Popen(command, stderr=subprocess.PIPE, text=True) as tracer:
        assert tracer.stderr is not None
        for line in tracer.stderr:
            if "attached" in line:
                break
        else:
            raise RuntimeError("strace could not attach")
        yield


def serve() -> None:
    for line in sys.stdin:
        print(_fork(*json.loads(line)), flush=True)


class Forge:
    """The side of who wants children run."""

    def __init__(self, process: subprocess.Popen[str]) -> None:
        self._process = process

    def run(self, plan: Path, folder: Path, fate: Fate) -> int:
        """Run one life of a system; return its exit code, negative for a signal."""
        request = [str(plan), str(folder), msgspec.json.encode(fate).decode()]
        assert self._process.stdin is not None
        assert self._process.stdout is not None
        self._process.stdin.write(json.dumps(request) + "\n")
        self._process.stdin.flush()
        answer = self._process.stdout.readline()
        assert answer, "the forge has ended"
        return int(answer)


@contextmanager
def open_forge() -> Iterator[Forge]:
    with subprocess.Popen(
        [sys.executable, __file__],
        stdin=subprocess.PIPE,
        stdout=subprocess.PIPE,
        # Runs of one plan are to be the same up to the kill.
        env={**os.environ, "PYTHONHASHSEED": "0"},
        text=True,
    ) as process:
        yield Forge(process)
        assert process.stdin is not None
        process.stdin.close()


__all__ = ["KILLED", "Forge", "open_forge", "write_plan"]

if __name__ == "__main__":
    serve()
