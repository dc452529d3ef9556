"""Opening a group, and closing it in order, however its block ends."""

from __future__ import annotations

import contextlib
from collections.abc import AsyncIterator, Callable
from random import Random
from typing import Literal

import trio

from minions.notices import Notice, leaves_of
from minions.options import GruOptions
from minions.supervise.cause import Cause, CauseKind
from minions.supervise.group import Group

__all__ = ["open_group"]


def _ignore(_notice: Notice) -> None:
    """Be the listener of a group that nobody listens to."""


@contextlib.asynccontextmanager
async def open_group(
    *,
    options: GruOptions | None = None,
    notify: Callable[[Notice], None] = _ignore,
    placement: Literal["dominator", "flat"] = "dominator",
    random: Random | None = None,
) -> AsyncIterator[Group]:
    """Open a group; at the end of the block all its components stop in order.

    Args:
        options: ``grace``, ``settle`` and the like.
        notify: Called synchronously with each notice; it must not raise.
        placement: ``"flat"`` runs all components side by side.  The order is the
            same, since the leases make it; tests compare the two.
        random: Draws the jitter of delays.

    Raises:
        RestartLimitError: A component with ``on_exhausted = "stop"`` has failed.

    Cancellation:
        Observed once, and turned into a hard drain of all components: work is
        cancelled at once, each ``release`` gets the grace, the order holds.
    """
    errors: list[BaseException] = []
    try:
        async with trio.open_nursery() as root:
            group = Group(
                root,
                options=options or GruOptions(),
                notify=notify,
                placement=placement,
                random=random or Random(),  # noqa: S311  # jitter is no secret
                errors=errors,
            )
            root.start_soon(_observe_cancel, group, name="minions/cancel")
            root.start_soon(_watch, group, name="minions/watchdog")
            try:
                yield group
            except trio.Cancelled:
                await _close(group, hard=True)
                raise
            except BaseException as exc:  # noqa: BLE001  # raised again below
                errors.insert(0, exc)
                await _close(group, hard=False)
            else:
                await _close(group, hard=False)
    except BaseException as exc:
        # An error is never lost in a cancellation that came on top of it.
        if not errors or not _is_cancellation(exc):
            raise
    if len(errors) == 1:
        raise errors[0]
    if errors:
        raise BaseExceptionGroup("several errors ended the group", errors)


def _is_cancellation(exc: BaseException) -> bool:
    leaves = leaves_of(exc)
    return all(isinstance(leaf, trio.Cancelled) for leaf in leaves)


async def _close(group: Group, *, hard: bool) -> None:
    kind = CauseKind.CANCELLED if hard else CauseKind.STOP
    group.stop_all(Cause(kind, "", 0, hard=hard))
    interrupt: KeyboardInterrupt | None = None
    while group.runners.count:
        try:
            # Bounded by the graces of the components.
            with trio.CancelScope(shield=True):
                await group.runners.wait_zero()
        except KeyboardInterrupt as exc:
            # Ctrl-C again: nothing is worth waiting for, and the order still holds.
            interrupt = exc
            group.cut()
    group.observing.cancel(reason="all components have ended")
    group.watching.cancel(reason="all components have ended")
    if interrupt is not None:
        raise interrupt


@trio.lowlevel.enable_ki_protection
async def _observe_cancel(group: Group) -> None:
    """Turn a cancellation from outside into a drain of everything."""
    with group.observing:
        try:
            await trio.sleep_forever()
        finally:
            group.stop_all(Cause(CauseKind.CANCELLED, "", 0, hard=True))


@trio.lowlevel.enable_ki_protection
async def _watch(group: Group) -> None:
    """Watch also while everything is being cancelled; ended by `_close`."""
    with group.watching:
        await group.watchdog.run()
