"""The entry of the command line: errors become messages and exit codes here only."""

from __future__ import annotations

import argparse
import signal
import sys
import traceback

from minions.cli.arguments import read_arguments
from minions.cli.logs import Voice, logging_to_stderr
from minions.cli.operate import RefusedError, operate
from minions.cli.plan import make_plan
from minions.cli.state_commands import COMMANDS
from minions.cli.system_file import read_system_file
from minions.control import ControlError
from minions.errors import DefinitionError, InternalError, MinionsError, StoreError
from minions.notices import leaves_of
from minions.runtime.process import SignalCount, run

__all__ = ["main"]

_DONE, _FAILED, _REFUSED = 0, 1, 2
_SIGNALLED = 128


def main(argv: list[str] | None = None) -> int:
    """Do what the command line says; return the exit code.

    Args:
        argv: What stands behind ``minions``; of this process if ``None``.

    Raises:
        SystemExit: The arguments make no sense, or ask for help; or the user's own.
    """
    arguments = read_arguments(argv)
    command = _run if arguments.command == "run" else COMMANDS[arguments.command]
    try:
        return command(arguments)
    except (RefusedError, DefinitionError, StoreError) as exc:
        Voice(as_records=False).complain(str(exc))
        return _REFUSED
    except ControlError as exc:
        Voice(as_records=False).complain(str(exc))
        return _REFUSED if exc.kind else _FAILED
    except KeyboardInterrupt:
        return _SIGNALLED + signal.SIGINT


def _run(arguments: argparse.Namespace) -> int:
    file = read_system_file(arguments.folder)
    try:
        plan = make_plan(file)
    except MinionsError as exc:
        raise RefusedError(str(exc)) from exc
    if arguments.check:
        count = len(plan.starts)
        sys.stdout.write(
            f"{file.path}: fits: {count} orchestration{'s' * (count != 1)},"
            f" {plan.size} component{'s' * (plan.size != 1)}\n"
        )
        return _DONE
    signals = SignalCount()
    with logging_to_stderr(file.log) as voice:
        try:
            run(operate, plan, signals, voice, signals=signals, say=voice.tell)
        except KeyboardInterrupt:
            return _SIGNALLED + (signals.last or signal.SIGINT)
        except Exception as exc:  # noqa: BLE001  # told, and turned into a code
            code = _explain(exc, voice)
        else:
            code = _DONE
    if signals.count > 1 and signals.last is not None:
        return _SIGNALLED + signals.last
    return code


def _explain(exc: Exception, voice: Voice) -> int:
    """Say why it ended; errors that explain themselves need no traceback."""
    leaves = leaves_of(exc)
    for leaf in leaves:
        if isinstance(leaf, MinionsError | RefusedError) and not isinstance(
            leaf, InternalError
        ):
            voice.complain(str(leaf))
        else:
            voice.complain("".join(traceback.format_exception(leaf)).rstrip())
    refused = all(isinstance(leaf, RefusedError | DefinitionError) for leaf in leaves)
    return _REFUSED if refused else _FAILED
