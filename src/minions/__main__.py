"""``python -m minions``: the command line."""

from __future__ import annotations

import sys

from minions.cli import main

sys.exit(main())
