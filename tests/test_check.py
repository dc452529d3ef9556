"""The rules of a store: what the engine writes keeps them, and each can be broken."""

from __future__ import annotations

from collections.abc import Callable, Iterator

import attrs
import pytest

from minions.workflow.check import CHECKERS, check_store
from minions.workflow.layout import (
    NEXT_SEQ,
    Keyspace,
    age_key,
    dedup_age_key,
    dedup_key,
    holder_key,
    key_of,
    mail_key,
    mark_of,
    timer_key,
)
from minions.workflow.record import (
    EndedRecord,
    QuarantineRecord,
    SignalRecord,
    WorkflowRecord,
    encode_record,
    encode_signal,
    seal,
)
from minions.workflow.stored import Body, entries
from minions.workflow.subscription import SubscriptionRecord, encode_subscription

Data = dict[Keyspace, dict[bytes, bytes]]
O = "greeter/lines"  # noqa: E741  # an orchestration's id


@attrs.frozen
class View:
    data: Data

    def get(self, space: Keyspace, key: bytes) -> bytes | None:
        return self.data[space].get(key)

    def items(self, space: Keyspace) -> Iterator[tuple[bytes, bytes]]:
        yield from sorted(self.data[space].items())


def record(**fields: object) -> WorkflowRecord:
    return WorkflowRecord(O, "m:E", b"\x80", "m:C", b"", "", 1.0, **fields)  # type: ignore[arg-type]


def put(data: Data, seq: int, body: Body, *, holds: bool = False) -> None:
    for space, key, value in entries(seq, body, holds=holds):
        data[space][key] = value


def put_value(data: Data, space: Keyspace, key: bytes, body: bytes = b"") -> None:
    data[space][key] = seal(key, body)


@pytest.fixture
def data() -> Data:
    """Return a store that holds one of everything."""
    data: Data = {space: {} for space in Keyspace}
    put(data, 1, record())
    put(data, 2, record(key=b"a"), holds=True)
    put(data, 3, record(state="sleeping", until=50.0, key=b"b"), holds=True)
    put(data, 4, record(state="waiting", waits="m:S"))
    put(data, 5, QuarantineRecord(record(key=b"c"), "failed", "", "", 2.0, ""))
    put(data, 6, EndedRecord(record(), "done", "", 9.0))
    put(data, 7, record(key=b"a"))  # queues behind 2
    mail = mail_key(4, 8)
    data[Keyspace.MAIL][mail] = encode_signal(mail, SignalRecord("m:S", b"", 1.0))
    subscribed = SubscriptionRecord(O, "p", "m", "", 1, 1, 1, 1, "wait")
    key, value = encode_subscription(subscribed)
    data[Keyspace.SUBSCRIPTION][key] = value
    put_value(data, Keyspace.CURSOR, mark_of("p"), b"\x07")
    put_value(data, Keyspace.DEDUP, dedup_key("p", "id"), b"\x91\x01")
    put_value(data, Keyspace.DEDUP_AGE, dedup_age_key(5.0, dedup_key("p", "id")))
    put_value(data, Keyspace.META, NEXT_SEQ, (9).to_bytes(8, "big"))
    return data


def drop(space: Keyspace, key: bytes) -> Callable[[Data], None]:
    def change(data: Data) -> None:
        del data[space][key]

    return change


def add(space: Keyspace, key: bytes, body: bytes = b"") -> Callable[[Data], None]:
    return lambda data: put_value(data, space, key, body)


def flip(space: Keyspace) -> Callable[[Data], None]:
    """Damage the first value of a keyspace."""

    def change(data: Data) -> None:
        key = min(data[space])
        value = data[space][key]
        data[space][key] = value[:-1] + bytes([value[-1] ^ 1])

    return change


def no_data(space: Keyspace) -> Callable[[Data], None]:
    """Seal something that is nothing of the kind."""
    return lambda data: put_value(data, space, min(data[space]), b"\xc1")


def misplace(seq: int, state: str) -> Callable[[Data], None]:
    def change(data: Data) -> None:
        space = (
            Keyspace.RECORD if key_of(seq) in data[Keyspace.RECORD] else (Keyspace.COLD)
        )
        key, value = encode_record(seq, record(state=state))
        data[space][key] = value

    return change


def double(seq: int, space: Keyspace) -> Callable[[Data], None]:
    return lambda data: data[space].update([encode_record(seq, record())])


DEDUP = dedup_key("p", "id")
BREACHES: dict[str, tuple[Callable[[Data], None], Keyspace, str]] = {
    "a timer without its record": (
        drop(Keyspace.COLD, key_of(4)),
        Keyspace.TIMER,
        "expected w4 in cold, found none",
    ),
    "a cold record without its timer": (
        drop(Keyspace.TIMER, timer_key(O, 50.0, 3)),
        Keyspace.TIMER,
        "expected the entry of w3, found none",
    ),
    "a timer of another time": (
        add(Keyspace.TIMER, timer_key(O, 51.0, 3)),
        Keyspace.TIMER,
        "expected the time and orchestration of w3",
    ),
    "a timer of another orchestration": (
        add(Keyspace.TIMER, timer_key("other", 50.0, 3)),
        Keyspace.TIMER,
        "expected the time and orchestration of w3",
    ),
    "a timer with a value": (
        add(Keyspace.TIMER, timer_key(O, 50.0, 3), b"x"),
        Keyspace.TIMER,
        "without a value",
    ),
    "a cold one that does not hold its key": (
        drop(Keyspace.KEY, holder_key(O, b"b")),
        Keyspace.KEY,
        "expected the entry of w3, found none",
    ),
    "a key that nobody holds": (
        add(Keyspace.KEY, holder_key(O, b"z"), key_of(1)),
        Keyspace.KEY,
        "expected that w1 has this key",
    ),
    "a key of a workflow that has ended": (
        add(Keyspace.KEY, holder_key(O, b"z"), key_of(6)),
        Keyspace.KEY,
        "holds this key, found no such workflow",
    ),
    "a holder that is no number": (
        add(Keyspace.KEY, holder_key(O, b"a"), b"x"),
        Keyspace.KEY,
        "expected the number of a workflow",
    ),
    "a workflow in two places": (
        double(4, Keyspace.RECORD),
        Keyspace.RECORD,
        "expected w4 in one place, found it in cold, too",
    ),
    "a sleeper among the ready": (
        misplace(1, "sleeping"),
        Keyspace.RECORD,
        "expected w1, which is sleeping, in cold",
    ),
    "a ready one among the sleepers": (
        misplace(4, "ready"),
        Keyspace.COLD,
        "expected w4, which is ready, in record",
    ),
    "an end without its age": (
        drop(Keyspace.ENDED_AGE, age_key(9.0, 6)),
        Keyspace.ENDED_AGE,
        "expected the entry of w6, found none",
    ),
    "an age without its end": (
        drop(Keyspace.ENDED, key_of(6)),
        Keyspace.ENDED_AGE,
        "expected w6 in ended, found none",
    ),
    "an age of another time": (
        add(Keyspace.ENDED_AGE, age_key(8.0, 6)),
        Keyspace.ENDED_AGE,
        "expected the time and orchestration of w6",
    ),
    "mail for one that has ended": (
        add(Keyspace.MAIL, mail_key(6, 8), b"\x93\xa1t\xc4\x00\xcb" + bytes(8)),
        Keyspace.MAIL,
        "found that w6 has ended or never was",
    ),
    "an event id without its age": (
        drop(Keyspace.DEDUP_AGE, dedup_age_key(5.0, DEDUP)),
        Keyspace.DEDUP,
        "expected an entry of this event id",
    ),
    "an age without its event id": (
        drop(Keyspace.DEDUP, DEDUP),
        Keyspace.DEDUP_AGE,
        "expected its event id, found none",
    ),
    "two ages of one event id": (
        add(Keyspace.DEDUP_AGE, dedup_age_key(6.0, DEDUP)),
        Keyspace.DEDUP_AGE,
        "found two",
    ),
    "a subscription under another's key": (
        lambda data: data[Keyspace.SUBSCRIPTION].update(
            {
                b"x": seal(
                    b"x",
                    encode_subscription(
                        SubscriptionRecord(O, "p", "m", "", 1, 1, 1, 1, "wait")
                    )[1][1:-4],
                )
            }
        ),
        Keyspace.SUBSCRIPTION,
        "found the one of",
    ),
    "an overflow that means nothing": (
        lambda data: data[Keyspace.SUBSCRIPTION].update(
            [
                encode_subscription(
                    SubscriptionRecord(O, "p", "m", "", 1, 1, 1, 1, "spill")
                )
            ]
        ),
        Keyspace.SUBSCRIPTION,
        "found 'spill'",
    ),
    "a number that was never given": (
        add(Keyspace.META, NEXT_SEQ, (5).to_bytes(8, "big")),
        Keyspace.RECORD,
        "expected a number below 5",
    ),
    "no count of numbers": (
        drop(Keyspace.META, NEXT_SEQ),
        Keyspace.RECORD,
        "expected a number below 0",
    ),
    "a signal's number that was never given": (
        add(Keyspace.META, NEXT_SEQ, (8).to_bytes(8, "big")),
        Keyspace.MAIL,
        "expected a number below 8",
    ),
    "a name that nobody knows": (
        add(Keyspace.META, b"colour"),
        Keyspace.META,
        "a name not known here",
    ),
}
SIZED = sorted(
    set(Keyspace) - {Keyspace.KEY, Keyspace.SUBSCRIPTION, Keyspace.META},
    key=lambda space: space.value,
)
DECODED = sorted(
    set(Keyspace)
    - {
        Keyspace.KEY,
        Keyspace.TIMER,
        Keyspace.ENDED_AGE,
        Keyspace.META,
        Keyspace.DEDUP_AGE,
    },
    key=lambda space: space.value,
)


def test_every_keyspace_has_a_checker() -> None:
    assert set(CHECKERS) == set(Keyspace)


def test_one_of_everything_is_well(data: Data) -> None:
    assert all(data.values())
    assert list(check_store(View(data))) == []


def test_an_empty_store_is_well() -> None:
    assert list(check_store(View({space: {} for space in Keyspace}))) == []


@pytest.mark.parametrize("name", BREACHES)
def test_a_breach_is_found(data: Data, name: str) -> None:
    change, space, text = BREACHES[name]
    change(data)

    found = list(check_store(View(data)))

    assert [v for v in found if v.space == space.value and text in v.found], found
    assert all(v.remedy and v.key for v in found)


@pytest.mark.parametrize("space", Keyspace)
def test_a_flipped_bit_is_found(data: Data, space: Keyspace) -> None:
    flip(space)(data)

    found = [v for v in check_store(View(data)) if v.space == space.value]

    assert any("damaged" in v.found for v in found), found


@pytest.mark.parametrize("space", DECODED)
def test_what_does_not_decode_is_found(data: Data, space: Keyspace) -> None:
    no_data(space)(data)

    assert any(v.space == space.value for v in check_store(View(data)))


@pytest.mark.parametrize("space", SIZED)
def test_a_key_of_another_length_is_found(data: Data, space: Keyspace) -> None:
    put_value(data, space, b"odd")

    found = list(check_store(View(data)))

    assert [v.key for v in found] == [b"odd"]
    assert "expected a key of" in found[0].found


def test_a_key_of_what_could_not_be_read_is_named(data: Data) -> None:
    """It went into quarantine as bytes: nobody knows whether the key was its."""
    raw = QuarantineRecord(
        WorkflowRecord("", "", b"?", "", b"", "", 0.0), "corrupt", "", "", 2.0, ""
    )
    data[Keyspace.RECORD].pop(key_of(2))
    put(data, 2, raw)

    (found,) = check_store(View(data))

    assert found.space == "key"
    assert "one that could not be read" in found.found


def test_an_entry_of_an_index_with_another_value_is_found(data: Data) -> None:
    key = holder_key(O, b"b")
    put_value(data, Keyspace.KEY, key, key_of(7))

    found = {v.found for v in check_store(View(data))}

    assert "expected the entry of w3, found another value" in found
