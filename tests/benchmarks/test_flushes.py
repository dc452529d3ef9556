"""The log in front of LMDB gives back what it took, and a loss of power is counted."""

from __future__ import annotations

import shutil
from itertools import accumulate, chain
from pathlib import Path

import pytest

import flush_losses
import flush_ways
from flush_ways import HEADER, WAYS, Content, Held, Log, Logged, Write

SIZE = 4096
BATCHES: list[list[Write]] = [
    [(b"a", b"1"), (b"b", b"2")],
    [(b"a", b"3")],
    [(b"b", None), (b"c", b"4" * 100)],
    [(b"d", b"5"), (b"a", None)],
]


def after(batches: list[list[Write]]) -> Content:
    both = dict(chain.from_iterable(batches))
    return {key: value for key, value in both.items() if value is not None}


@pytest.fixture
def folder(tmp_path: Path) -> Path:
    (tmp_path / "way").mkdir()
    return tmp_path / "way"


@pytest.fixture(autouse=True)
def never_due(monkeypatch: pytest.MonkeyPatch) -> None:
    """Only a full log is a reason to flush LMDB, not the time."""
    monkeypatch.setattr(flush_ways, "PATIENCE", 1e9)


@pytest.mark.parametrize("name", WAYS)
def test_a_way_gives_back_what_it_took(folder: Path, name: str) -> None:
    way = WAYS[name](folder)
    for batch in BATCHES:
        way.write(batch)
    before = way.content()
    way.close()

    again = WAYS[name](folder)

    assert before == again.content() == after(BATCHES)
    again.close()


def test_a_log_that_was_cut_ends_before_the_cut(folder: Path) -> None:
    """At the ends, beside them and within; behind it may be nothing, or zeros."""
    log = Log(folder / "log", SIZE)
    payloads = [flush_ways._encode(batch) for batch in BATCHES]
    for number, payload in enumerate(payloads, 7):
        log.append(number, payload)
    log.close()
    data = (folder / "log").read_bytes()
    ends = list(accumulate(HEADER.size + len(payload) for payload in payloads))

    beside = {end + by for end in [0, *ends] for by in (-1, 0, 1, 8)}
    for cut in sorted((beside | {*range(0, ends[-1], 29)}) - {-1}):
        whole = sum(end <= cut for end in ends)
        for rest in (b"", bytes(SIZE - cut)):
            (folder / "log").write_bytes(data[:cut] + rest)
            # Without zeros, so that it is not made whole when it is opened.
            log = Log(folder / "log", 0)
            log._size = SIZE
            found = list(log.frames())
            log.close()
            assert found == list(enumerate(BATCHES, 7))[:whole], cut


def test_a_log_ends_at_a_bit_that_has_changed(folder: Path) -> None:
    log = Log(folder / "log", SIZE)
    for number, batch in enumerate(BATCHES, 1):
        log.append(number, flush_ways._encode(batch))
    log.close()
    path = folder / "log"
    data = path.read_bytes()
    end = data.rstrip(b"\0")

    for place in [*range(HEADER.size + 1), *range(HEADER.size + 1, len(end), 11)]:
        path.write_bytes(data[:place] + bytes([data[place] ^ 4]) + data[place + 1 :])
        log = Log(path, SIZE)
        found = list(log.frames())
        log.close()
        assert len(found) < len(BATCHES)
        assert found == list(enumerate(BATCHES, 1))[: len(found)]


@pytest.mark.parametrize("kind", [Logged, Held])
@pytest.mark.parametrize("whole", range(len(BATCHES) + 1))
def test_what_is_in_the_log_is_taken_after_a_crash(
    folder: Path, tmp_path: Path, kind: type[Logged], whole: int
) -> None:
    """LMDB is as of the last flush, and the log is torn in the frame after *whole*."""
    way = kind(folder, SIZE)
    way.write([(b"a", b"0"), (b"z", b"0")])
    way.checkpoint()
    copied = tmp_path / "crashed"
    shutil.copytree(folder, copied)
    for batch in BATCHES:
        way.write(batch)
    data = (folder / "log").read_bytes()
    way.close()
    lengths = [HEADER.size + len(flush_ways._encode(batch)) for batch in BATCHES]
    cut = sum(lengths[:whole]) + 10
    (copied / "log").write_bytes(data[:cut] + bytes(SIZE - cut))

    again = kind(copied, SIZE)

    assert again.content() == after([[(b"a", b"0"), (b"z", b"0")], *BATCHES[:whole]])
    again.write([(b"e", b"6")])
    assert again.content()[b"e"] == b"6"
    again.close()


@pytest.mark.parametrize("kind", [Logged, Held])
def test_frames_of_an_earlier_round_are_not_taken(
    folder: Path, tmp_path: Path, kind: type[Logged]
) -> None:
    """They are as long as the new ones, so that one would follow on the other."""
    way = kind(folder, SIZE)
    for value in (b"old1", b"old2", b"old3"):
        way.write([(b"key", value)])
    way.checkpoint()
    copied = tmp_path / "crashed"
    shutil.copytree(folder, copied)
    way.write([(b"key", b"new1")])
    shutil.copy(folder / "log", copied)
    way.close()

    again = kind(copied, SIZE)

    assert again.content() == {b"key": b"new1"}
    again.close()


def test_a_log_ends_where_an_earlier_round_begins(folder: Path) -> None:
    log = Log(folder / "log", SIZE)
    for number in range(1, 4):
        log.append(number, flush_ways._encode([(b"key", b"old")]))
    log.begin_anew()

    log.append(4, flush_ways._encode([(b"key", b"new")]))

    assert list(log.frames()) == [(4, [(b"key", b"new")])]
    log.close()


@pytest.mark.parametrize("kind", [Logged, Held])
def test_numbers_go_on_when_the_log_is_torn_at_its_beginning(
    folder: Path, tmp_path: Path, kind: type[Logged]
) -> None:
    """Else a new first frame would be followed by the old second one."""
    way = kind(folder, SIZE)
    for value in (b"old1", b"old2", b"old3"):
        way.write([(b"key", value)])
    way.checkpoint()
    torn, again = tmp_path / "torn", tmp_path / "again"
    shutil.copytree(folder, torn)
    way.close()
    with (torn / "log").open("r+b") as file:
        file.write(b"torn")

    way = kind(torn, SIZE)
    shutil.copytree(torn, again)
    way.write([(b"key", b"new1")])
    shutil.copy(torn / "log", again)
    way.close()

    way = kind(again, SIZE)
    assert way.content() == {b"key": b"new1"}
    way.close()


@pytest.mark.parametrize("kind", [Logged, Held])
def test_a_full_log_begins_anew(folder: Path, kind: type[Logged]) -> None:
    way = kind(folder, SIZE)
    for number in range(30):
        way.write([(b"%d" % number, bytes(300))])
    assert way._number == 30
    assert way._log._end < SIZE
    way.close()

    again = kind(folder, SIZE)

    assert len(again.content()) == 30
    with pytest.raises(ValueError, match="a batch of 5"):
        again.write([(b"large", bytes(5000))])
    again.close()


@pytest.mark.slow
@pytest.mark.parametrize(
    ("name", "possible", "certain"),
    [
        ("sync", {"kept"}, {"kept"}),
        ("nometasync", {"kept", "one lost"}, {"kept", "one lost"}),
        ("log", {*flush_losses.OUTCOMES}, {"kept", "refused"}),
        ("held", {"kept"}, {"kept"}),
    ],
)
def test_a_loss_of_power_does_what_the_page_says(
    name: str, possible: set[str], certain: set[str]
) -> None:
    if shutil.which("strace") is None:
        pytest.skip("strace is not installed: nobody sees the order of the writes")

    counted = flush_losses.count(name, seed=1, commits=6)

    assert certain <= set(counted) <= possible, counted
