"""What the commands do, and what they refuse, in this process."""

from __future__ import annotations

import gc
import json
import logging
from collections.abc import Callable, Iterator
from pathlib import Path

import pytest
import trio

from minions import open_gru
from minions.cli import main
from minions.store.folder import claim_folder

Refusal = Callable[..., str]

JSON = '[log]\nformat = "json"\n'


def append(folder: Path, text: str, name: str = "minions.toml") -> None:
    path = folder / name
    path.write_text(path.read_text() + text)


def test_a_system_runs_to_its_end(
    folder: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    """State and config are found relative to the file."""
    assert main(["run", str(folder)]) == 0

    assert sorted(capsys.readouterr().out.split("\n")) == ["", "hello 1", "hello 2"]
    assert (folder / "state" / "minions.json").exists()


def test_garbage_is_collected_rarely_while_a_system_runs(
    folder: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    path = folder / "parts.py"
    source = path.read_text()
    greets = "print(self.config.greeting"
    assert source.count(greets) == 1
    said = f"print(gc.get_threshold()[0], gc.get_freeze_count() > 1000) or {greets}"
    path.write_text("import gc\n" + source.replace(greets, said))
    before = gc.get_threshold(), gc.get_freeze_count()

    assert main(["run", str(folder)]) == 0

    assert "10000 True" in capsys.readouterr().out
    assert (gc.get_threshold(), gc.get_freeze_count()) == before


def test_a_config_may_stand_in_the_file(
    folder: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    text = (folder / "minions.toml").read_text()
    text = text.replace('"greeter.toml"', '{ greeting = "good day" }')
    (folder / "minions.toml").write_text(text)

    assert main(["run", str(folder)]) == 0

    assert "good day 1" in capsys.readouterr().out


def test_a_minions_config_stands_under_its_orchestration(
    folder: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    (folder / "minions.toml").write_text(
        '[[orchestration]]\nminion = "parts:Greeter"\npipeline = "parts:Lines"\n'
        '[config."parts:Greeter"]\ngreeting = "ahoy"\n'
    )

    assert main(["run", str(folder)]) == 2

    assert "found a minion; give its config where" in capsys.readouterr().err


def test_two_orchestrations_begin_with_the_same_event(
    folder: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    append(
        folder,
        '[[orchestration]]\nminion = "parts:Greeter"\npipeline = "parts:Lines"\n'
        'name = "second"\nconfig = { greeting = "bye" }\n',
    )

    assert main(["run", str(folder)]) == 0

    out = capsys.readouterr().out.split("\n")
    assert sorted(out) == ["", "bye 1", "bye 2", "hello 1", "hello 2"]


def test_check_starts_nothing_and_touches_nothing(
    folder: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    append(folder, '[[component]]\nclass = "parts:Cache"\n')

    assert main(["run", "--check", str(folder)]) == 0

    out = capsys.readouterr().out
    assert "fits: 1 orchestration, 3 components" in out
    assert "cache is up" not in out
    assert not (folder / "state").exists()


def test_the_folder_is_the_current_one_by_default(
    folder: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.chdir(folder)

    assert main(["run", "--check"]) == 0


@pytest.mark.parametrize(
    ("text", "expected"),
    [
        ("[orchestraton]", ["'orchestraton'", "did you mean 'orchestration'"]),
        ("[options]\ngrase = 1", ["[options]", "'grase'", "did you mean 'grace'"]),
        (
            "[options]\ngrace = 'x'",
            ["[options]: field 'grace': expected a number", "'x'"],
        ),
        ("[options]\ndurability = 3", ["'durability': expected one of 'fsync'", "3"]),
        (
            "[options]\nkeep = { a = 1 }",
            ["[options]: field 'keep': expected", "{'a': 1}"],
        ),
        (
            "[options]\nmax_in_fligth = 5",
            ["did you mean 'max_in_flight'", "a class attribute of a minion"],
        ),
        (
            "[options]\nzzz = 5",
            ["field 'zzz': expected one of 'durability'", "take it away"],
        ),
        ("[options]\nresume_rate = 0", ["resume_rate", "a number above 0", "found 0"]),
        ("[options]\nmax_crashes = 1.5", ["max_crashes", "an integer", "found 1.5"]),
        ("[log]\nlevels = 'info'", ["log.levels", "did you mean 'level'"]),
        ("[log]\nformat = 'jsn'", ["log.format", "'jsn'", "console"]),
        ("[[component]]\nclas = 'a:B'", ["clas", "did you mean 'class'"]),
        ("[[component]]", ["component[0]", 'class = "module:Class"']),
        ("[[orchestration]]\nminion = 'a:B'", ["orchestration[1].pipeline", "add it"]),
        ("[component]\nclass = 'a:B'", ["component", "[[name]]"]),
        ("[config]\n'parts:Cache' = 1", ["parts:Cache", "does not use"]),
        ("[config.'parts:Lines']\nx = 1", ["parts:Lines", "expected no config"]),
        ("[config.'parts:Greetr']", ["parts:Greetr", "did you mean 'Greeter'"]),
        (
            "[[component]]\nclass = 'parts'",
            ["'parts'", '"module:Class"', "found no such"],
        ),
        ("[[component]]\nclass = 'nowhere:X'", ["nowhere:X", "No module named"]),
        ("[[component]]\nclass = 'parts:MODULE'", ["parts:MODULE", "found none"]),
        ("[[component]]\nclass = 'parts:trio'", ["parts:trio", "expected a class"]),
        ("[[component]]\nclass = 'parts:Line'", ["parts:Line", "component"]),
        ("[[component]]\nclass = 'parts:Plain'", ["parts:Plain", "a resource"]),
        ("[log", ["minions.toml", "expected valid TOML"]),
    ],
)
@pytest.mark.parametrize("check", [[], ["--check"]], ids=["run", "check"])
def test_a_file_that_does_not_fit_is_refused(
    folder: Path, refusal: Refusal, text: str, expected: list[str], check: list[str]
) -> None:
    append(folder, text)

    said = refusal("run", *check, str(folder))

    assert [part for part in expected if part not in said] == []
    # Not what only the code knows: neither its classes nor its own defaults.
    assert "GruOptions" not in said
    assert "start_patience': 60" not in said


def test_state_must_be_text(folder: Path, refusal: Refusal) -> None:
    (folder / "minions.toml").write_text("state = 5")

    assert "'state': expected str, found 5" in refusal("run", str(folder))


@pytest.mark.parametrize("value", ["'json'", "'x'", "['format']", "[]", "1"])
def test_a_table_must_be_one(folder: Path, refusal: Refusal, value: str) -> None:
    """Text and arrays "have" keys, too, and would pass for an empty table."""
    path = folder / "minions.toml"
    path.write_text(f"log = {value}\n{path.read_text()}")

    said = refusal("run", "--check", str(folder))

    assert "log" in said
    assert "expected a table" in said


def test_a_file_must_name_something_to_run(folder: Path, refusal: Refusal) -> None:
    (folder / "minions.toml").write_text("")

    assert "expected something to run" in refusal("run", str(folder))


def test_a_folder_without_a_file(folder: Path, refusal: Refusal) -> None:
    (folder / "minions.toml").unlink()

    assert "expected a file that can be read" in refusal("run", str(folder))


def test_the_same_orchestration_twice(folder: Path, refusal: Refusal) -> None:
    append(folder, (folder / "minions.toml").read_text())

    assert "one orchestration of parts:Greeter" in refusal("run", str(folder))


def test_a_config_that_does_not_fit_its_class(folder: Path, refusal: Refusal) -> None:
    (folder / "greeter.toml").write_text("greting = 'x'")

    said = refusal("run", "--check", str(folder))

    assert "greeter.toml" in said
    assert "did you mean 'greeting'" in said


def test_an_event_that_cannot_be_stored(folder: Path, refusal: Refusal) -> None:
    text = (folder / "parts.py").read_text().replace("text: str\n", "text: object\n", 1)
    (folder / "parts.py").write_text(text)

    said = refusal("run", "--check", str(folder))

    assert "object" in said


def test_a_module_that_raises_is_named_with_its_line(
    folder: Path, refusal: Refusal
) -> None:
    (folder / "parts.py").write_text("x = 1\nx / 0\n")

    said = refusal("run", str(folder))

    assert "ZeroDivisionError" in said
    assert "parts.py, line 2" in said


def test_a_folder_of_another_program(folder: Path, refusal: Refusal) -> None:
    (folder / "state").mkdir()
    (folder / "state" / "mine.txt").touch()

    assert "belongs to another program" in refusal("run", str(folder))


@pytest.fixture
def locked(folder: Path) -> Iterator[Path]:
    """Hold the folder's state as another Gru would."""
    claimed = claim_folder(folder / "state", durability="fsync")
    claimed.keep()
    yield folder
    claimed.release()


def test_a_locked_folder(locked: Path, refusal: Refusal) -> None:
    assert "locked by process" in refusal("run", str(locked))


def test_a_subscription_that_nobody_starts(
    folder: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    """A stop leaves the subscription; the file does not name it any more."""
    append(folder, STOPS, "parts.py")
    (folder / "minions.toml").write_text(BOTH)
    assert main(["run", str(folder)]) == 1
    text = (folder / "minions.toml").read_text()
    (folder / "minions.toml").write_text(text.rpartition("[[")[0])
    capsys.readouterr()

    code = main(["run", str(folder)])

    said = capsys.readouterr().err
    assert code == 2
    assert "nobody starts plain-" in said
    assert "minions forget plain-" in said


STOPS = """

class Broken(Pipeline[Line]):
    restart = Restart(max_restarts=0)
    on_exhausted = "stop"

    async def run(self) -> None:
        raise ValueError("no more lines")
""".replace("Restart(", "__import__('minions').Restart(")

BOTH = """
[options]
wait_for_failed = false
[[orchestration]]
minion = "parts:Greeter"
pipeline = "parts:Broken"
config = "greeter.toml"
[[orchestration]]
minion = "parts:Plain"
pipeline = "parts:Broken"
"""


def test_a_failed_system(folder: Path, capsys: pytest.CaptureFixture[str]) -> None:
    """One message for people; the crash itself is in the log, once."""
    append(folder, STOPS, "parts.py")
    (folder / "minions.toml").write_text(JSON + BOTH)

    assert main(["run", str(folder)]) == 1

    said = capsys.readouterr().err.splitlines()
    logged = [json.loads(line) for line in said]
    (crash,) = [line for line in logged if line.get("notice") == "ComponentCrashed"]
    assert crash["component"] == "parts:Broken"
    assert crash["epoch"] == 1
    assert crash["error"] == "ValueError: no more lines"
    assert "no more lines" in crash["cause"]
    assert "Traceback" in crash["traceback"]
    (end,) = [line for line in logged if line["logger"] == "minions.cli"]
    assert end["level"] == "error"
    assert "parts:Broken" in end["event"]


def test_the_log_says_whose_it_is(
    folder: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    """Records of users and libraries get the same form, and fields of the place."""
    (folder / "minions.toml").write_text(
        JSON + '[[orchestration]]\nminion = "parts:Logs"\npipeline = "parts:Lines"\n'
    )
    append(folder, LOGS, "parts.py")

    assert main(["run", str(folder)]) == 0

    logged = [json.loads(line) for line in capsys.readouterr().err.splitlines()]
    mine = {e["event"]: e for e in logged if not e["logger"].startswith("minions.")}
    step = mine["seen 1"]
    assert step["logger"] == "library"
    assert step["level"] == "warning"
    assert step["size"] == 3
    assert step["component"] == "parts:Logs"
    assert step["epoch"] == 1
    assert step["orchestration"].startswith("logs-")
    assert step["workflow"]
    assert step["step"] == "look"
    assert mine["bound"]["color"] == "blue"
    assert mine["bound"]["workflow"]
    assert "ZeroDivisionError" in mine["oops"]["exception"]
    up = [e for e in logged if e["event"] == "component up"]
    assert {e["component"] for e in up} == {"parts:Logs", "parts:Lines"}
    assert {e["epoch"] for e in up} == {1}


LOGS = """

import logging
import structlog


class Logs(Minion[Line, Seen]):
    @minion_step
    async def look(self) -> None:
        log = logging.getLogger("library")
        log.warning("seen %s", self.event.text, extra={"size": 3})
        structlog.get_logger("own").info("bound", color="blue")
        try:
            1 / 0
        except ZeroDivisionError:
            log.exception("oops")
"""


def test_the_level_is_the_files(
    folder: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    append(folder, "[log]\nlevel = 'error'\n")

    assert main(["run", str(folder)]) == 0

    assert capsys.readouterr().err == ""


def test_the_console_shows_a_traceback_below_its_line(
    folder: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    append(folder, STOPS, "parts.py")
    (folder / "minions.toml").write_text(BOTH)

    assert main(["run", str(folder)]) == 1

    said = capsys.readouterr().err
    assert "component crashed" in said
    assert "\nTraceback" in said
    assert "\\n" not in said


def test_logging_is_as_it_was_behind_a_run(folder: Path) -> None:
    root = logging.getLogger()
    before = root.handlers[:], root.level

    main(["run", str(folder)])

    assert (root.handlers, root.level) == before


def subscribe(folder: Path) -> str:
    """Leave a subscription behind: a system that is stopped keeps its own."""
    append(folder, STOPS, "parts.py")
    (folder / "minions.toml").write_text(BOTH)
    assert main(["run", str(folder)]) == 1

    async def look() -> list[str]:
        async with open_gru(folder / "state") as gru:
            return [*gru.snapshot().orchestrations]

    (plain,) = [name for name in trio.run(look) if name.startswith("plain")]
    return plain


@pytest.mark.parametrize("option", ["--folder", "--store"])
def test_forget_ends_a_subscription(
    folder: Path, option: str, capsys: pytest.CaptureFixture[str]
) -> None:
    identity = subscribe(folder)
    where = folder if option == "--folder" else folder / "state"

    assert main(["forget", identity, option, str(where)]) == 0

    assert f"{identity}: forgotten" in capsys.readouterr().out
    assert main(["forget", identity, option, str(where)]) == 2
    assert "there are: greeter-" in capsys.readouterr().err


def test_forget_an_unknown_one_lists_the_known_ones(
    folder: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    identity = subscribe(folder)
    capsys.readouterr()

    assert main(["forget", "nobody", "--folder", str(folder)]) == 2

    assert identity in capsys.readouterr().err


def test_forget_needs_a_store(folder: Path, refusal: Refusal) -> None:
    said = refusal("forget", "x", "--store", str(folder / "nothing"))

    assert "expected a state folder, found none" in said


def test_forget_refuses_a_locked_store(locked: Path, refusal: Refusal) -> None:
    assert "locked by process" in refusal("forget", "x", "--folder", str(locked))


@pytest.mark.parametrize(
    "arguments",
    [[], ["list"], ["run", "--chek"], ["forget"], ["forget", "x", "--st", "y"]],
    ids=" ".join,
)
def test_wrong_usage(arguments: list[str], capsys: pytest.CaptureFixture[str]) -> None:
    with pytest.raises(SystemExit) as ended:
        main(arguments)

    assert ended.value.code == 2
    assert "usage: minions" in capsys.readouterr().err


def test_help_names_the_exit_codes(capsys: pytest.CaptureFixture[str]) -> None:
    with pytest.raises(SystemExit) as ended:
        main(["--help"])

    assert ended.value.code == 0
    assert "130, 143" in capsys.readouterr().out


NEVER_UP = """

class NeverUp(Plain):
    async def startup(self) -> None:
        raise OSError("no such host")
"""


def test_a_start_that_fails(folder: Path, capsys: pytest.CaptureFixture[str]) -> None:
    """The traceback stands in the log; the last line is for people."""
    append(folder, NEVER_UP, "parts.py")
    (folder / "minions.toml").write_text(
        '[options]\nstart_patience = 0\n[log]\nlevel = "critical"\n'
        '[[orchestration]]\nminion = "parts:NeverUp"\npipeline = "parts:Lines"\n'
    )

    assert main(["run", str(folder)]) == 1

    said = capsys.readouterr().err
    assert said.startswith("minions: parts:NeverUp: expected to come up")
    assert "no such host" in said
    assert "Traceback" not in said


def test_an_error_of_nobodys_making_shows_its_traceback(
    folder: Path,
    capsys: pytest.CaptureFixture[str],
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    def fail(*args: object, **kwargs: object) -> None:
        raise RuntimeError("a bug")

    monkeypatch.setattr("minions.cli.operate.open_gru", fail)

    assert main(["run", str(folder)]) == 1

    said = capsys.readouterr().err
    assert "Traceback" in said
    assert "RuntimeError: a bug" in said


def test_ctrl_c_while_modules_are_imported(folder: Path) -> None:
    (folder / "parts.py").write_text("raise KeyboardInterrupt")

    assert main(["run", str(folder)]) == 130


def test_forget_says_what_stays(
    folder: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    """Workflows that are not ended are not lost with the subscription."""
    append(
        folder,
        STOPS.replace("raise", "await self.emit(Line('x'))\n        raise"),
        "parts.py",
    )
    append(folder, HANGS, "parts.py")
    text = BOTH.replace("Plain", "Hangs").replace("[options]", "[options]\ngrace = 0")
    (folder / "minions.toml").write_text(text)
    assert main(["run", str(folder)]) == 1

    async def look() -> str:
        async with open_gru(folder / "state") as gru:
            known = gru.snapshot().orchestrations
            return next(n for n in known if n.startswith("hangs"))

    assert main(["forget", trio.run(look), "--folder", str(folder)]) == 0

    assert "1 unfinished workflow stays" in capsys.readouterr().out


HANGS = """

class Hangs(Minion[Line, Seen]):
    @minion_step
    async def hang(self) -> None:
        await trio.sleep_forever()
"""


EXITS = """

class Exits(Plain):
    @minion_step
    async def exit(self) -> None:
        raise SystemExit(7)
"""


def test_an_exit_of_a_step_is_the_exit_of_the_program(folder: Path) -> None:
    append(folder, EXITS, "parts.py")
    (folder / "minions.toml").write_text(
        '[[orchestration]]\nminion = "parts:Exits"\npipeline = "parts:Lines"\n'
    )

    with pytest.raises(SystemExit) as caught:
        main(["run", str(folder)])

    assert caught.value.code == 7
