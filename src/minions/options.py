"""Frozen, validated options: each is declared, defaulted and documented once.

Durations are seconds, sizes are bytes.
"""

from __future__ import annotations

import math
import sys
from typing import Any, Literal

import attrs

from minions.errors import ConfigError

__all__ = [
    "TEN_YEARS",
    "Backoff",
    "GruOptions",
    "Restart",
    "Retry",
    "ends_more",
    "is_number",
]

TEN_YEARS = 315_576_000.0
"""The longest time to wait for anything, in seconds.

A time further ahead is a mistake of its unit, and its date may not exist.
"""


def is_number(value: object, low: float, high: float = sys.float_info.max) -> bool:
    """Say whether *value* is a number of that range; no bool, no nan."""
    return (
        isinstance(value, int | float)
        and not isinstance(value, bool)
        and low <= value <= high
    )


def _number(
    low: float, high: float = sys.float_info.max, *, infinite: bool = False
) -> Any:  # an attrs validator; attrs' own type for it is private
    """Make a validator for a number that is at least *low*."""
    upto = f" and at most {high:g}" if high != sys.float_info.max else ""

    def check(instance: object, attribute: attrs.Attribute[Any], value: object) -> None:
        good = is_number(value, low, high) or (infinite and value == math.inf)
        if not good:
            raise ConfigError(
                f"{type(instance).__name__}.{attribute.name}: expected a number of at"
                f" least {low:g}{upto}, found {value!r}; set it to such a value"
            )

    return check


def _integer(low: int) -> Any:  # an attrs validator, as above
    def check(instance: object, attribute: attrs.Attribute[Any], value: object) -> None:
        good = isinstance(value, int) and not isinstance(value, bool) and value >= low
        if not good:
            raise ConfigError(
                f"{type(instance).__name__}.{attribute.name}: expected an integer of at"
                f" least {low}, found {value!r}; set it to such a value"
            )

    return check


def _above_zero(
    instance: object, attribute: attrs.Attribute[Any], value: object
) -> None:
    if not is_number(value, math.ulp(0.0)):
        raise ConfigError(
            f"{type(instance).__name__}.{attribute.name}: expected a number above 0,"
            f" found {value!r}; set it to such a value"
        )


def _one_of(*allowed: str) -> Any:  # an attrs validator, as above
    def check(instance: object, attribute: attrs.Attribute[Any], value: object) -> None:
        if value not in allowed:
            raise ConfigError(
                f"{type(instance).__name__}.{attribute.name}: expected one of"
                f" {', '.join(map(repr, allowed))}, found {value!r}; set it to one of"
                " these"
            )

    return check


def _a(kind: type) -> Any:  # an attrs validator, as above
    def check(instance: object, attribute: attrs.Attribute[Any], value: object) -> None:
        if not isinstance(value, kind):
            raise ConfigError(
                f"{type(instance).__name__}.{attribute.name}: expected a"
                f" {kind.__name__}, found {value!r}; set it to one"
            )

    return check


def ends_more(kind: type[BaseException]) -> bool:
    """Say whether an exception of *kind* ends more than the step that raises it."""
    # trio's is told by its name: what decides here imports no trio.
    return issubclass(kind, KeyboardInterrupt | SystemExit | GeneratorExit) or (
        kind.__name__ == "Cancelled" and kind.__module__.partition(".")[0] == "trio"
    )


def _as_tuple(
    value: type[BaseException] | tuple[type[BaseException], ...],
) -> tuple[type[BaseException], ...]:
    # Anything else is left to the validator, which comes next.
    return (value,) if isinstance(value, type) else value


def _not_empty(
    instance: object, attribute: attrs.Attribute[Any], value: object
) -> None:
    if not value:
        raise ConfigError(
            f"{type(instance).__name__}.{attribute.name}: expected at least one"
            f" exception class, found {value!r}; name one, or leave the retry out"
        )


def _failures(instance: object, attribute: attrs.Attribute[Any], value: object) -> None:
    where = f"{type(instance).__name__}.{attribute.name}"
    kinds = value if isinstance(value, tuple) else ()
    if not isinstance(value, tuple) or not all(
        isinstance(kind, type) and issubclass(kind, BaseException) for kind in kinds
    ):
        raise ConfigError(
            f"{where}: expected an exception class or a tuple of them, found"
            f" {value!r}; write for example (OSError, ValueError)"
        )
    for kind in kinds:
        if ends_more(kind):
            raise ConfigError(
                f"{where}: expected exceptions that make a step fail, found"
                f" {kind.__qualname__}, which ends more than the step; take it out"
            )
        if issubclass(kind, BaseExceptionGroup):
            raise ConfigError(
                f"{where}: expected the exceptions inside of groups, found"
                f" {kind.__qualname__}, which never counts itself; name what the"
                " groups hold"
            )


@attrs.frozen
class Backoff:
    """Delays that grow with each failure in a row.

    The n-th delay is drawn between half of and the whole of
    ``min(cap, base * factor ** (n - 1))``, so that components that fell
    together do not come back in lockstep.
    """

    base: float = attrs.field(default=0.5, validator=_number(0))
    """The first delay, in seconds, before jitter."""

    factor: float = attrs.field(default=2.0, validator=_number(1))
    """How much longer each next delay is."""

    cap: float = attrs.field(default=30.0, validator=_number(0))
    """The longest delay, in seconds."""


@attrs.frozen
class Restart:
    """When a component starts again after an end of its own.

    The types have the meanings of Erlang/OTP.  They speak of a component's own
    end only: a restart because of a dependency happens for all three, and is
    never charged.

    Source:
        Child specifications and restart intensity:
        https://www.erlang.org/doc/system/sup_princ.html
    """

    type: Literal["permanent", "transient", "temporary"] = attrs.field(
        default="permanent", validator=_one_of("permanent", "transient", "temporary")
    )
    """``permanent`` restarts after any end, ``transient`` after a crash,
    ``temporary`` never."""

    max_restarts: int = attrs.field(default=5, validator=_integer(0))
    """How many crashes within ``within`` are followed by a restart."""

    within: float = attrs.field(default=60.0, validator=_number(0, infinite=True))
    """The length of the sliding window, in seconds."""

    backoff: Backoff = attrs.field(factory=Backoff, validator=_a(Backoff))
    """How long to wait before each restart."""


@attrs.frozen
class Retry:
    """How a step that failed is tried again.

    The workflow waits on disk between two attempts: neither the count nor the
    time of the next attempt is lost with the process.  What a failed attempt
    changed in the context is undone.  A step that was interrupted, because
    something that its minion needs went down, has not failed: it runs again
    without a count.

    A group of exceptions is judged by those inside it: one of ``give_up`` is
    enough to give up, and all must be of ``on`` to try again.

    Source:
        Exponential backoff and jitter:
        https://aws.amazon.com/blogs/architecture/exponential-backoff-and-jitter/
    """

    max_attempts: int = attrs.field(default=5, validator=_integer(1))
    """How often the step is tried in all, the first time included."""

    base: float = attrs.field(default=0.2, validator=_number(0))
    """The longest delay after the first failure, in seconds."""

    factor: float = attrs.field(default=2, validator=_number(1))
    """How much longer it is after each next failure."""

    cap: float = attrs.field(default=60.0, validator=_number(0, TEN_YEARS))
    """The longest delay after any failure, in seconds; at most ten years."""

    jitter: Literal["full", "none"] = attrs.field(
        default="full", validator=_one_of("full", "none")
    )
    """``full`` draws each delay from 0 to the longest, so that steps that failed
    together do not come back in lockstep; ``none`` waits the longest."""

    on: tuple[type[BaseException], ...] = attrs.field(
        default=(Exception,), converter=_as_tuple, validator=[_failures, _not_empty]
    )
    """The exceptions after which the step is tried again; a single class will do."""

    give_up: tuple[type[BaseException], ...] = attrs.field(
        default=(TypeError, AttributeError, NameError),
        converter=_as_tuple,
        validator=_failures,
    )
    """Those of them after which it is not: another attempt does not mend a bug."""


@attrs.frozen(kw_only=True)
class GruOptions:
    """Options of one Gru."""

    durability: Literal["fsync", "async", "none"] = attrs.field(
        default="fsync", validator=_one_of("fsync", "async", "none")
    )
    """What an acknowledged write survives: ``fsync`` a loss of power, ``async`` a
    crash of the process, ``none`` an ordered end only."""

    start_timeout: float = attrs.field(
        default=30.0, validator=_number(0, infinite=True)
    )
    """Seconds that a component's ``startup`` may take."""

    start_patience: float = attrs.field(
        default=0.0, validator=_number(0, infinite=True)
    )
    """Seconds for which a first start that fails is tried again with backoff."""

    grace: float = attrs.field(default=10.0, validator=_number(0, infinite=True))
    """Seconds for draining, and again for ``shutdown``."""

    settle: float = attrs.field(default=0.05, validator=_number(0))
    """Seconds in which a failing dependency may still be found to be the origin."""

    stable_for: float = attrs.field(default=60.0, validator=_number(0))
    """Seconds without a crash after which the backoff begins anew."""

    max_component_restarts: int = attrs.field(default=100, validator=_integer(0))
    """Restarts within 60 seconds, summed over all components."""

    on_stuck: Literal["wait", "exit"] = attrs.field(
        default="wait", validator=_one_of("wait", "exit")
    )
    """What to do about a component that overran its grace: wait for it, or end the
    process with exit code 70 after all other releases and the last commit."""

    wait_for_failed: bool = attrs.field(default=False, validator=_a(bool))
    """Whether Gru waits for an operator when all that is left waits for components
    that have failed.  Otherwise it stops and raises ``RestartLimitError``."""

    wants_timeout: float = attrs.field(default=1.0, validator=_number(0, infinite=True))
    """Seconds that a start waits for an optional dependency."""

    max_crashes: int = attrs.field(default=3, validator=_integer(1))
    """How many ends of the process that may be a workflow's doing send it to
    quarantine."""

    resume_rate: float = attrs.field(default=200.0, validator=_above_zero)
    """Workflows per second that go on after waiting for a resource that was away."""

    keep: float = attrs.field(default=0.0, validator=_number(0))
    """Seconds for which the record of an ended workflow stays; 0: not at all."""

    max_kept: int = attrs.field(default=100_000, validator=_integer(1))
    """The most records of ended workflows that stay, whatever ``keep`` says."""

    max_record: int = attrs.field(default=16 * 2**20, validator=_integer(1024))
    """The largest record, in bytes."""

    map_size: int = attrs.field(default=16 * 2**30, validator=_integer(2**20))
    """The store's address space, in bytes.  It is no disk space, and it grows."""
