"""Engine tests run over both stores."""

from __future__ import annotations

from pathlib import Path

import pytest


@pytest.fixture(params=["memory", "folder"])
def state(request: pytest.FixtureRequest, tmp_path: Path) -> Path | None:
    """Return what open_gru takes: nothing, or a folder that does not exist yet."""
    return tmp_path / "state" if request.param == "folder" else None


@pytest.fixture
def folder(tmp_path: Path) -> Path:
    """Return a state folder, for what must outlive a Gru."""
    return tmp_path / "state"
