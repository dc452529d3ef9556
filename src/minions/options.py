"""Frozen, validated options: each is declared, defaulted and documented once.

Durations are seconds, sizes are bytes.
"""

from __future__ import annotations

import math
from typing import Any, Literal

import attrs

from minions.errors import ConfigError

__all__ = ["Backoff", "GruOptions", "Restart"]


def _number(
    low: float, *, integer: bool = False, infinite: bool = False
) -> Any:  # an attrs validator; attrs' own type for it is private
    """Make a validator for a number that is at least *low*."""

    def check(instance: object, attribute: attrs.Attribute[Any], value: object) -> None:
        kinds = (int,) if integer else (int, float)
        good = (
            isinstance(value, kinds)
            and not isinstance(value, bool)
            and not math.isnan(value)
            and value >= low
            and (infinite or not math.isinf(value))
        )
        if not good:
            what = "an integer" if integer else "a number"
            raise ConfigError(
                f"{type(instance).__name__}.{attribute.name}: expected {what} of at"
                f" least {low:g}, found {value!r}; set it to such a value"
            )

    return check


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

    max_restarts: int = attrs.field(default=5, validator=_number(0, integer=True))
    """How many crashes within ``within`` are followed by a restart."""

    within: float = attrs.field(default=60.0, validator=_number(0, infinite=True))
    """The length of the sliding window, in seconds."""

    backoff: Backoff = attrs.field(factory=Backoff, validator=_a(Backoff))
    """How long to wait before each restart."""


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

    max_component_restarts: int = attrs.field(
        default=100, validator=_number(0, integer=True)
    )
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

    max_record: int = attrs.field(
        default=16 * 2**20, validator=_number(1024, integer=True)
    )
    """The largest record, in bytes."""

    map_size: int = attrs.field(
        default=16 * 2**30, validator=_number(2**20, integer=True)
    )
    """The store's address space, in bytes.  It is no disk space, and it grows."""
