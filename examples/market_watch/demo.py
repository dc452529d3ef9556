"""The market watch: twelve thousand real quotes, two minions, one process.

    python examples/market_watch/demo.py [--folder FOLDER]
    python examples/market_watch/demo.py --chaos --seed 7

Exits with 1 if the ledger differs from what the oracle expects, in any row.
With a folder of your own, a run that you interrupted goes on where it stood.
"""

from __future__ import annotations

import argparse
import re
import shutil
import signal
import sys
import time
from collections import Counter
from collections.abc import Callable, Iterator
from contextlib import aclosing, contextmanager
from pathlib import Path

import trio
from rich.console import Console
from rich.progress import MofNCompleteColumn, Progress, TimeElapsedColumn
from rich.table import Table

from books import PriceHistory
from chaos import COMPONENTS, dealt, schedule
from minions import run
from quotes import load_quotes
from report import report
from system import LEDGER, lines, open_feed, open_process, open_system

BUILD = Path("build")


@contextmanager
def progress(console: Console, total: int) -> Iterator[Callable[[int], None]]:
    """Show how far it is: a moving bar, or plain lines without a terminal."""
    if console.is_terminal:
        columns = (*Progress.get_default_columns(), MofNCompleteColumn())
        with Progress(*columns, TimeElapsedColumn(), console=console) as bar:
            task = bar.add_task("quotes", total=total)
            yield lambda done: bar.update(task, completed=done)
        return
    shown = -1

    def show(done: int) -> None:
        nonlocal shown
        if done * 10 // total > shown:
            shown = done * 10 // total
            console.print(f"{done:6,} of {total:,} quotes")

    yield show


async def follow(history: PriceHistory, show: Callable[[int], None]) -> None:
    """Keep the progress display up to date."""
    while True:
        show(len(history))
        await trio.sleep(0.2)


async def watch(console: Console, folder: Path) -> bool:
    """Run the system in this process and look on."""
    total = len(load_quotes())
    async with (
        open_feed() as url,
        open_system(folder, url) as (gru, orchestrations),
        gru.borrow(PriceHistory) as history,
    ):
        console.print("The supervision tree:", style="bold")
        console.print(str(gru.snapshot()), markup=False, highlight=False)
        with progress(console, total) as show:
            async with trio.open_nursery() as nursery:
                nursery.start_soon(follow, history, show)
                for orchestration in orchestrations:
                    await orchestration.wait()
                nursery.cancel_scope.cancel()
            show(len(history))
    return True


async def endure(console: Console, folder: Path, seed: int) -> bool:
    """Run the system in a process that is killed again and again."""
    code = -signal.SIGKILL
    processes = 0
    told: Counter[tuple[str, str]] = Counter()
    async with open_feed() as url:
        while code == -signal.SIGKILL:
            processes += 1
            console.print(f"Process {processes} starts.", style="yellow")
            async with (
                open_process("chaos.py", str(folder), url, str(seed)) as process,
                aclosing(lines(process)) as output,
            ):
                async for line in output:
                    console.print(line, markup=False, highlight=False)
                    if happened := re.search(r"(crashed|up again) +\w+:(\w+)#", line):
                        told[happened[1], happened[2]] += 1
                code = await process.wait()
    console.print(f"Process {processes} ended with {code}.", style="yellow")
    console.print(damage(seed, processes - 1, told))
    fallen = dealt(folder / "dealt.txt")
    return (
        code == 0
        and len(fallen) == len(schedule(seed))
        and all(told["crashed", each.__name__] for each in COMPONENTS)
    )


def damage(seed: int, kills: int, told: Counter[tuple[str, str]]) -> Table:
    """Lay out what fell and came up again."""
    result = Table(title=f"Chaos, seed {seed}", show_footer=True)
    names = [each.__name__ for each in COMPONENTS]
    result.add_column("Component", f"{kills} kills of the process")
    for heading, verb in (("Crashes", "crashed"), ("Restarts", "up again")):
        total = sum(told[verb, name] for name in names)
        result.add_column(heading, str(total), justify="right")
    for name in names:
        result.add_row(name, str(told["crashed", name]), str(told["up again", name]))
    return result


async def main() -> int:
    """Read the command line, run, compare."""
    parser = argparse.ArgumentParser(description=__doc__.partition("\n")[0])
    parser.add_argument("--chaos", action="store_true", help="crash and kill it")
    parser.add_argument("--seed", type=int, default=0, help="which crashes and kills")
    parser.add_argument("--folder", type=Path, help="default: a fresh one in build/")
    args = parser.parse_args()
    folder = args.folder
    if folder is None:
        folder = BUILD / "market_watch"
        shutil.rmtree(folder, ignore_errors=True)
    folder.mkdir(parents=True, exist_ok=True)

    console = Console()
    began = time.perf_counter()
    if args.chaos:
        good = await endure(console, folder, args.seed)
    else:
        good = await watch(console, folder)
    console.print(f"Took {time.perf_counter() - began:.1f} s.")
    equal = await report(console, folder / LEDGER, BUILD / "market_watch.png")
    return 0 if good and equal else 1


if __name__ == "__main__":
    sys.exit(run(main))
