"""Opening a Gru: the store outermost, then the group, then who keeps house.

The order of an end *is* the nesting: components end inside the group's block, the
group inside the store's, so that the last commit is the last thing that happens.
"""

from __future__ import annotations

import contextlib
import contextvars
from collections.abc import AsyncIterator, Callable
from os import PathLike

import msgspec
import trio

from minions.errors import ConfigError, DependencyLost, NotRunningError
from minions.notices import Notice, StoreMigrated, StoreRecovered, StoreTrouble
from minions.options import GruOptions
from minions.runtime.bus import NoticeBus
from minions.runtime.components import Components
from minions.runtime.gru import Gru
from minions.runtime.house import House
from minions.runtime.kept import Kept
from minions.runtime.launch import Launcher
from minions.runtime.ledger import Ledger
from minions.runtime.listener import listener_in
from minions.runtime.log import log_notice
from minions.runtime.numbers import Numbers
from minions.runtime.orchestrations import Orchestrations
from minions.runtime.orders import Orders
from minions.runtime.restore import Restorer
from minions.runtime.stuck import ExitWhenStuck
from minions.runtime.subscriptions import Subscriptions
from minions.runtime.waker import Waker
from minions.store.lmdb_store import open_lmdb_store
from minions.store.memory import MemoryStore
from minions.store.migrate import Migrated
from minions.store.port import StateStore
from minions.supervise import Group, open_group

__all__ = ["open_gru", "open_grus"]


class OpenGru(msgspec.Struct, frozen=True, eq=False):
    """What who handles OS signals needs to know of a Gru besides."""

    token: trio.lowlevel.TrioToken
    """Of the run that it is in."""

    leave: Callable[[], None]
    """Stops it in order, and then ends what its body still waits for."""


open_grus: dict[Gru, OpenGru] = {}
"""The Grus of this process."""


class Door(msgspec.Struct, eq=False):
    """A Gru that is being opened."""

    stop_asked: bool = False
    """Whether it is to stop in order as soon as it is open."""


doors: set[Door] = set()
"""Where Grus of this process are being opened."""


@contextlib.asynccontextmanager
async def open_gru(
    state: str | PathLike[str] | StateStore | None = "state",
    *,
    options: GruOptions | None = None,
) -> AsyncIterator[Gru]:
    """Open a system; behind the block nothing of it runs.

    After its body the block waits until no orchestration is left, nothing that was
    started with ``gru.start`` is up, and the last commit is done.

    Args:
        state: A folder, made with mode 0700 if it is not there; a store that you
            have opened and will close; or ``None`` to keep all in memory.
        options: See :class:`GruOptions`.

    Raises:
        ConfigError: The options are no ``GruOptions``.
        StoreLockedError: Another process, or another Gru of this one, uses the
            folder.
        StoreVersionError: The folder has a format that is not known here.
        StoreError: It cannot be opened, or belongs to another program.
        RestartLimitError: All that was left waited for components that had failed.

    An exception of the body comes out as itself, after an ordered stop that drains
    for at most the grace; a group only if there are several.

    Cancellation:
        Steps are cancelled at once, hooks get the grace, the order holds.
    """
    options = GruOptions() if options is None else options
    if not isinstance(options, GruOptions):
        raise ConfigError(
            f"open_gru: expected options of type GruOptions, found {options!r}; write"
            " options=GruOptions(...)"
        )
    bus = NoticeBus([log_notice])
    problems: list[BaseException] = []
    async with _at_the_door() as door, _open_store(state, options, bus) as store:
        with contextlib.ExitStack() as ended:
            ended.callback(bus.close)
            try:
                async with open_group(options=options, notify=bus.publish) as group:
                    if options.on_stuck == "exit":
                        ended.callback(ExitWhenStuck(group, store).close)
                    parts = _make(group, store, bus, door, durable=state is not None)
                    async with parts as (gru, house):
                        ended.callback(house.close)
                        try:
                            with house.body:
                                yield gru
                                await house.finish()
                        except trio.Cancelled:
                            raise
                        except BaseException as exc:  # noqa: BLE001  # raised below
                            problems.append(exc)
                            house.ask_stop()
                            await house.stopped.wait()
            except BaseException as exc:
                problems += _errors_in(exc)
                # An error is never lost in a cancellation that came on top of it.
                if not problems:
                    raise
        _raise(problems)


@contextlib.asynccontextmanager
async def _at_the_door() -> AsyncIterator[Door]:
    door = Door()
    doors.add(door)
    try:
        yield door
    finally:
        doors.discard(door)


def _errors_in(exc: BaseException) -> list[BaseException]:
    """Return what is more than a cancellation."""
    if isinstance(exc, BaseExceptionGroup):
        _, rest = exc.split(trio.Cancelled)
        return [*rest.exceptions] if rest is not None else []
    return [] if isinstance(exc, trio.Cancelled) else [exc]


def _raise(problems: list[BaseException]) -> None:
    """Raise what ended a Gru; what only followed from its stop is no reason."""
    refused = (NotRunningError, DependencyLost)
    reasons = [p for p in problems if not isinstance(p, refused)] or problems
    # Many may exit at once, and Ctrl-C may come again: the first one says it.
    if all(isinstance(reason, KeyboardInterrupt | SystemExit) for reason in reasons):
        reasons = reasons[:1]
    if len(reasons) == 1:
        raise reasons[0]
    if reasons:
        raise BaseExceptionGroup("several errors ended the Gru", reasons)


@contextlib.asynccontextmanager
async def _open_store(
    state: str | PathLike[str] | StateStore | None, options: GruOptions, bus: NoticeBus
) -> AsyncIterator[StateStore]:
    def tell(error: BaseException | None) -> None:
        notice: Notice = StoreRecovered()
        if error is not None:
            notice = StoreTrouble(error=f"{type(error).__name__}: {error}")
        bus.publish(notice)

    if isinstance(state, StateStore):
        with contextlib.ExitStack() as heeding:
            heeding.callback(state.heed(tell))
            yield state
        return
    if state is None:
        yield MemoryStore(max_record=options.max_record)
        return

    def tell_migrated(migrated: Migrated) -> None:
        bus.publish(
            StoreMigrated(old=migrated.old, new=migrated.new, copy=str(migrated.copy))
        )

    async with open_lmdb_store(
        state,
        durability=options.durability,
        map_size=options.map_size,
        max_record=options.max_record,
        notify=tell,
        notify_migrated=tell_migrated,
    ) as store:
        yield store


def _ledger(group: Group, store: StateStore, bus: NoticeBus) -> Ledger:
    kept = Kept(group.options.keep, group.options.max_kept)
    return Ledger(store, bus.publish, Numbers(store), kept)


@contextlib.asynccontextmanager
async def _make(
    group: Group, store: StateStore, bus: NoticeBus, door: Door, *, durable: bool
) -> AsyncIterator[tuple[Gru, House]]:
    # Around the tasks: what it closes, none of them uses any more.
    with listener_in(store.folder) as listener:
        async with trio.open_nursery() as tasks:
            gru, house, orders = await _wire(group, store, bus, tasks, durable=durable)
            token = trio.lowlevel.current_trio_token()
            open_grus[gru] = OpenGru(token, house.leave)
            doors.discard(door)
            if door.stop_asked:
                house.leave()
            if listener is not None:
                tasks.start_soon(listener.serve, orders, name="minions/control")
            try:
                yield gru, house
            finally:
                del open_grus[gru]
                tasks.cancel_scope.cancel(reason="the Gru has ended")


async def _wire(
    group: Group,
    store: StateStore,
    bus: NoticeBus,
    tasks: trio.Nursery,
    *,
    durable: bool,
) -> tuple[Gru, House, Orders]:
    context = contextvars.copy_context()
    components = Components(group, context, durable=durable)
    bus.listeners.append(components.heed)
    ledger = _ledger(group, store, bus)
    subscriptions = Subscriptions(ledger, bus.publish, components.poke)
    orchestrations = Orchestrations(components, subscriptions, tasks)
    launcher = Launcher(
        group=group,
        components=components,
        ledger=ledger,
        subscriptions=subscriptions,
        orchestrations=orchestrations,
    )
    restorer = Restorer(store, ledger, subscriptions.tables, subscriptions.make_table)
    subscriptions.attach(await restorer.restore(group.options.max_crashes))
    waker = Waker(ledger, subscriptions.tables)
    ledger.on_cold = waker.poke
    house = House(components, orchestrations)
    gru = Gru(
        components=components,
        launcher=launcher,
        orchestrations=orchestrations,
        subscriptions=subscriptions,
        house=house,
        store=store,
        bus=bus,
    )
    tasks.start_soon(waker.run, name="minions/waker")
    tasks.start_soon(house.keep, name="minions/house")
    tasks.start_soon(house.obey_stop, name="minions/stop")
    return gru, house, Orders(gru, subscriptions.tables, ledger, orchestrations.by_id)
