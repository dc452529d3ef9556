"""The example's modules are importable; without the demo group there are no tests."""

from __future__ import annotations

import sys
from importlib.util import find_spec
from pathlib import Path

EXAMPLE = Path(__file__).parents[2] / "examples" / "market_watch"
NEEDED = ("bokeh_sampledata", "matplotlib", "rich", "trio_websocket")

sys.path.insert(0, str(EXAMPLE))

collect_ignore_glob = [] if all(find_spec(name) for name in NEEDED) else ["test_*.py"]
