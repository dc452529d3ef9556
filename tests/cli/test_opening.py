"""OS signals that come while the state is still being opened."""

from __future__ import annotations

import signal
from pathlib import Path
from typing import Any

import pytest
import trio
from trio.testing import wait_all_tasks_blocked

from minions.cli import main
from minions.runtime.restore import Restorer
from minions.store import MemoryStore


def signalled_while_opening(monkeypatch: pytest.MonkeyPatch, times: int) -> None:
    """Let signals come, and be heard, before the state has been read."""

    restore = Restorer.restore

    async def slow(self: Restorer, max_crashes: int) -> Any:
        # The check of the system, before it runs, opens one in memory.
        for _ in range(0 if isinstance(self._store, MemoryStore) else times):
            signal.raise_signal(signal.SIGTERM)
            await wait_all_tasks_blocked()
            await trio.lowlevel.checkpoint()
        return await restore(self, max_crashes)

    monkeypatch.setattr(Restorer, "restore", slow)


def test_the_first_signal_stops_what_is_not_open_yet_in_order(
    folder: Path, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    signalled_while_opening(monkeypatch, 1)

    assert main(["run", str(folder)]) == 0

    said = capsys.readouterr()
    assert said.out == ""
    assert said.err == "SIGTERM: stopping as soon as the state is open\n"


def test_the_second_signal_gives_an_opening_up(
    folder: Path, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    signalled_while_opening(monkeypatch, 2)

    assert main(["run", str(folder)]) == 143

    assert "Traceback" not in capsys.readouterr().err
