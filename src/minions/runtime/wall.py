"""The wall clock: what is stored survives the process, so its times are UTC."""

from __future__ import annotations

import time
from collections.abc import Callable

import attrs
import trio

__all__ = ["WallClock"]


@attrs.define(eq=False)
class WallClock:
    """Wall time in seconds since the epoch; follows trio's clock in tests."""

    now: Callable[[], float] = attrs.field(init=False)
    is_real: bool = attrs.field(init=False)
    """Whether somebody may set it while we wait."""

    def __attrs_post_init__(self) -> None:
        clock = trio.lowlevel.current_clock()
        self.is_real = type(clock).__name__ == "SystemClock"
        if self.is_real:
            self.now = time.time
            return
        # Wall time is that of the beginning plus what trio says has passed.
        began = time.time() - trio.current_time()
        self.now = lambda: began + trio.current_time()
