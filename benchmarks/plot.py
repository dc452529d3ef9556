"""One picture of small multiples: a panel for each figure, a line for each row."""

from __future__ import annotations

import math
from collections.abc import Sequence
from pathlib import Path
from typing import TYPE_CHECKING

import matplotlib as mpl

from harness import Measured, Result, results_of

mpl.use("Agg")  # no window: it must not ask for a display
from matplotlib import pyplot as plt
from matplotlib.ticker import NullFormatter

if TYPE_CHECKING:
    from matplotlib.axes import Axes

    from reporting import Report

COLUMNS = 4
COLOURS = {"aim": "tab:green", "goal": "tab:olive", "missed": "tab:red", "": "tab:blue"}
FAR = 30.0
"""Where the largest is so many times the least, the axis is logarithmic."""


def draw(report: Report, path: Path) -> None:
    """Draw each figure's rows: dots for each turn, a bar for median, goal, aim."""
    lines = math.ceil(len(report.measured) / COLUMNS)
    tall = max((len(m.figure.rows) for m in report.measured), default=1)
    picture, panels = plt.subplots(
        lines,
        COLUMNS,
        figsize=(5.2 * COLUMNS, lines * (0.9 + 0.33 * tall)),
        squeeze=False,
        layout="constrained",
    )
    for panel in panels.flat[len(report.measured) :]:
        panel.set_axis_off()
    for panel, measured in zip(panels.flat, report.measured, strict=False):
        draw_panel(panel, measured)
    picture.suptitle(
        f"{report.machine['CPU']}, {report.machine['cores']} cores,"
        f" {report.machine['Python']}, {report.machine['date']}\n"
        "dots: each turn; bar: median; black line: goal; dashed: aim"
    )
    picture.savefig(path, dpi=90)
    plt.close(picture)


def draw_panel(panel: Axes, measured: Measured) -> None:
    figure, results = measured.figure, list(results_of(measured))
    panel.set_title(f"({figure.letter}) {figure.title}", fontsize=8, loc="left")
    panel.set_yticks(range(len(results)), [label_of(r) for r in results], fontsize=7)
    panel.set_ylim(len(results) - 0.5, -0.5)
    panel.tick_params(axis="x", labelsize=7)
    panel.grid(axis="x", alpha=0.3)
    numbers = [*shown_numbers(results)]
    positive = bool(numbers) and min(numbers) > 0
    if positive and max(numbers) / min(numbers) > FAR:
        panel.set_xscale("log")
        panel.xaxis.set_minor_formatter(NullFormatter())
    elif positive:
        panel.set_xlim(0, 1.1 * max(numbers))
    for y, result in enumerate(results):
        draw_row(panel, y, result)


def label_of(result: Result) -> str:
    label, key = result.row.of
    unit = f" [{result.row.unit}]" if result.row.unit else ""
    sign = "/" if result.row.compare == "ratio" else "less"
    against = f" {sign} {result.row.against[0]}" if result.row.against else ""
    return f"{label}{against}\n{key}{unit}"


def shown_numbers(results: Sequence[Result]) -> Sequence[float]:
    found = [value for result in results for value in result.values]
    limits = [n for r in results if r.values for n in (r.row.goal, r.row.aim)]
    return [*found, *(limit for limit in limits if limit is not None)]


def draw_row(panel: Axes, y: int, result: Result) -> None:
    if result.verdict == "not measured":
        where = panel.get_yaxis_transform()
        panel.text(0.02, y, "not measured", transform=where, fontsize=7, va="center")
        return
    colour = COLOURS[result.verdict]
    panel.plot(result.values, [y] * len(result.values), "o", color=colour, ms=3)
    panel.vlines(result.median, y - 0.3, y + 0.3, color=colour, lw=3)
    for limit, style in ((result.row.goal, "solid"), (result.row.aim, "dashed")):
        if limit is not None:
            panel.vlines(limit, y - 0.4, y + 0.4, color="black", lw=1, ls=style)
