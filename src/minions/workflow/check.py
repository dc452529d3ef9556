"""Whether all that stands in a store fits together: its rules, by keyspace.

Each keyspace of the layout has one checker here, and a test sees to it.  What
belongs to a workflow is computed from its record by the function that the engine
writes with, and compared with what stands there, both ways: each record has its
entries in the indexes, and each of these has its record.

A checker reads by key and never keeps a keyspace in memory, but for the ids of
events, which have 32 bytes each.
"""

from __future__ import annotations

from collections.abc import Callable, Iterator
from typing import Any

import msgspec

from minions.errors import SnapshotError
from minions.workflow.layout import NEXT_SEQ, Keyspace, holder_key, key_of, sequence_of
from minions.workflow.passing import (
    BODIES,
    LOOK,
    RESTORE,
    Pass,
    View,
    Violation,
    decode_body,
)
from minions.workflow.record import (
    QuarantineRecord,
    WorkflowRecord,
    decode_signal,
    unseal,
)
from minions.workflow.stored import Body, entries, places
from minions.workflow.subscription import decode_subscription

__all__ = ["CHECKERS", "check_store"]

Checker = Callable[[Pass], Iterator[Violation]]

_UNFINISHED = (Keyspace.RECORD, Keyspace.COLD, Keyspace.QUARANTINE)
_SEQ_SIZE = 8


def check_store(view: View) -> Iterator[Violation]:
    """Iterate over all that is wrong in a store."""
    check = Pass(view)
    for space in Keyspace:
        yield from CHECKERS[space](check)


def _bodies(space: Keyspace) -> Checker:
    """Make the checker of a keyspace in which workflows stand."""
    others = [other for other in BODIES if other is not space]

    def check(self: Pass) -> Iterator[Violation]:
        yield from self.keys(space)
        for key, value in self.well_formed(space):
            seq = sequence_of(key)
            yield from self.number(space, key)
            twice = [s.value for s in others if self.view.get(s, key) is not None]
            if twice:
                yield Violation(
                    space.value,
                    key,
                    f"expected w{seq} in one place, found it in"
                    f" {', '.join(twice)}, too",
                )
            try:
                body = decode_body(space, key, value)
            except SnapshotError as exc:
                remedy = LOOK.format(id=f"w{seq}") + RESTORE
                yield Violation(space.value, key, str(exc), remedy)
            else:
                yield from _entries(self, space, seq, body)

    return check


def _entries(self: Pass, space: Keyspace, seq: int, body: Body) -> Iterator[Violation]:
    """Compare what stands there for a workflow with what is to stand there."""
    record = body if isinstance(body, WorkflowRecord) else body.record
    # What is cold holds its key; a quarantined one may, and one that is ready may
    # queue behind another.
    holds = record.key is not None and (
        space is Keyspace.COLD
        or _holds(self, seq, holder_key(record.orchestration, record.key))
    )
    first, *indexes = entries(seq, body, holds=holds)
    if first[0] is not space:
        state = record.state
        yield Violation(
            space.value,
            key_of(seq),
            f"expected w{seq}, which is {state}, in {first[0].value}, found it here",
        )
        return
    for index, key, value in indexes:
        found = self.view.get(index, key)
        if found != value:
            what = "none" if found is None else "another value"
            yield Violation(
                index.value, key, f"expected the entry of w{seq}, found {what}"
            )


def _holds(self: Pass, seq: int, key: bytes) -> bool:
    """Say whether the store names a workflow as the holder of a key."""
    value = self.view.get(Keyspace.KEY, key)
    try:
        return value is not None and unseal(key, value) == key_of(seq)
    except SnapshotError:  # said where the entry stands
        return False


def _index(space: Keyspace, of: Keyspace) -> Checker:
    """Make the checker of an index of times."""

    def check(self: Pass) -> Iterator[Violation]:
        yield from self.keys(space)
        for key, value in self.well_formed(space):
            yield from self.empty(space, key, value)
            seq = sequence_of(key)
            stored = self.view.get(of, key_of(seq))
            body = self.body(seq, (of,))
            if stored is None:
                found = f"expected w{seq} in {of.value}, found none"
            elif body is None or (space, key) in places(seq, body):
                continue
            else:
                found = f"expected the time and orchestration of w{seq}, found others"
            yield Violation(space.value, key, found)

    return check


def _check_keys(self: Pass) -> Iterator[Violation]:
    space = Keyspace.KEY
    for key, value in self.view.items(space):
        try:
            held = unseal(key, value)
        except SnapshotError as exc:
            yield Violation(space.value, key, str(exc))
            continue
        seq = sequence_of(held)
        body = self.body(seq, _UNFINISHED)
        if len(held) != _SEQ_SIZE:
            found = f"expected the number of a workflow, found {held.hex()!r}"
        elif body is None:
            found = f"expected that w{seq} holds this key, found no such workflow"
        elif (space, key) not in places(seq, body, holds=True):
            unknown = isinstance(body, QuarantineRecord) and not (
                body.record.orchestration
            )
            what = "one that could not be read" if unknown else "one of another key"
            found = f"expected that w{seq} has this key, found {what}"
        else:
            continue
        yield Violation(space.value, key, found)


def _check_mail(self: Pass) -> Iterator[Violation]:
    space = Keyspace.MAIL
    yield from self.keys(space)
    for key, value in self.well_formed(space):
        yield from self.number(space, key)
        seq = sequence_of(key[:_SEQ_SIZE])
        if not any(self.view.get(s, key_of(seq)) is not None for s in _UNFINISHED):
            yield Violation(
                space.value,
                key,
                f"expected a signal to a workflow that goes on, found that w{seq}"
                " has ended or never was",
            )
        try:
            decode_signal(key, value)
        except SnapshotError as exc:
            yield Violation(space.value, key, str(exc))


def _check_subscriptions(self: Pass) -> Iterator[Violation]:
    space = Keyspace.SUBSCRIPTION
    for key, value in self.view.items(space):
        try:
            record = decode_subscription(key, value)
        except SnapshotError as exc:
            yield Violation(space.value, key, str(exc))
            continue
        if record.orchestration.encode() != key:
            yield Violation(
                space.value,
                key,
                f"expected the subscription of {key!r}, found the one of"
                f" {record.orchestration!r}",
            )
        if record.overflow not in {"wait", "reject"}:
            yield Violation(
                space.value,
                key,
                f'expected overflow "wait" or "reject", found {record.overflow!r}',
            )


def _data(space: Keyspace) -> Checker:
    """Make the checker of a keyspace whose values are MessagePack of some form."""

    def check(self: Pass) -> Iterator[Violation]:
        yield from self.keys(space)
        for key, value in self.well_formed(space):
            yield from _unpacked(space, key, value)

    return check


def _unpacked(space: Keyspace, key: bytes, value: bytes) -> Iterator[Violation]:
    try:
        _unpack(unseal(key, value))
    except SnapshotError as exc:
        yield Violation(space.value, key, str(exc))
    except (msgspec.DecodeError, RecursionError) as exc:
        yield Violation(space.value, key, f"expected MessagePack, found none: {exc}")


def _unpack(data: bytes) -> Any:
    return msgspec.msgpack.decode(data)


def _check_dedup(self: Pass) -> Iterator[Violation]:
    """Check the ids of events, and their index, which are as many."""
    space = Keyspace.DEDUP
    yield from _data(space)(self)
    aged = {_aged(key) for key, _ in self.well_formed(Keyspace.DEDUP_AGE)}
    for key, _ in self.well_formed(space):
        if key not in aged:
            yield Violation(
                space.value,
                key,
                f"expected an entry of this event id in {Keyspace.DEDUP_AGE.value},"
                " found none",
            )


def _aged(key: bytes) -> bytes:
    """Return the key of the event id that an entry of the index stands for."""
    return key[:16] + key[-16:]


def _check_dedup_age(self: Pass) -> Iterator[Violation]:
    space = Keyspace.DEDUP_AGE
    yield from self.keys(space)
    seen: set[bytes] = set()
    for key, value in self.well_formed(space):
        yield from _sealed(space, key, value)
        of = _aged(key)
        if self.view.get(Keyspace.DEDUP, of) is None:
            found = "expected its event id, found none"
            yield Violation(space.value, key, found)
        elif of in seen:
            found = "expected one entry of this event id, found two"
            yield Violation(space.value, key, found)
        seen.add(of)


def _sealed(space: Keyspace, key: bytes, value: bytes) -> Iterator[Violation]:
    try:
        unseal(key, value)
    except SnapshotError as exc:
        yield Violation(space.value, key, str(exc))


def _check_meta(self: Pass) -> Iterator[Violation]:
    space = Keyspace.META
    for key, value in self.view.items(space):
        yield from _sealed(space, key, value)
        if key != NEXT_SEQ:
            yield Violation(
                space.value, key, f"expected {NEXT_SEQ!r}, found a name not known here"
            )


CHECKERS: dict[Keyspace, Checker] = {
    Keyspace.RECORD: _bodies(Keyspace.RECORD),
    Keyspace.COLD: _bodies(Keyspace.COLD),
    Keyspace.TIMER: _index(Keyspace.TIMER, Keyspace.COLD),
    Keyspace.KEY: _check_keys,
    Keyspace.MAIL: _check_mail,
    Keyspace.QUARANTINE: _bodies(Keyspace.QUARANTINE),
    Keyspace.ENDED: _bodies(Keyspace.ENDED),
    Keyspace.ENDED_AGE: _index(Keyspace.ENDED_AGE, Keyspace.ENDED),
    Keyspace.SUBSCRIPTION: _check_subscriptions,
    Keyspace.CURSOR: _data(Keyspace.CURSOR),
    Keyspace.DEDUP: _check_dedup,
    Keyspace.DEDUP_AGE: _check_dedup_age,
    Keyspace.META: _check_meta,
}
"""The checker of each keyspace."""
