"""The plots of the page, as SVG."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import matplotlib as mpl
import matplotlib.ticker
from matplotlib.figure import Figure

from benchmarks.result import Result, RowResult
from benchmarks.row import Line

_OWN, _OTHER, _LIMIT, _GRID = "#1f6f8b", "#c8b08a", "#8a8a8a", "#dddddd"
_LIMITS = ("bare_lmdb", "file_append")
_SHARES = ("#1f6f8b", "#c8703a", "#6a9a58", "#c8b08a", "#8e6c9c", "#5f8fbf", "#b0555b", "#bbbbbb")


def draw(result: Result, directory: Path) -> list[Path]:
    """Draw what can be drawn of the result; return the files."""
    directory.mkdir(parents=True, exist_ok=True)
    # The same result gives the same bytes, so that a plot changes only when its figures do.
    mpl.rcParams.update({"svg.hashsalt": "ledger", "font.size": 9, "axes.spines.top": False, "axes.spines.right": False})
    drawn = []
    for name, draw_one in (("rates", _rates), ("waits", _waits), ("growth", _growth), ("shares", _shares)):
        figure = draw_one(result)
        if figure is not None:
            path = directory / f"{name}.svg"
            figure.savefig(path, format="svg", metadata={"Date": None, "Creator": None}, bbox_inches="tight")
            drawn.append(path)
    return drawn


def _rates(result: Result) -> Figure | None:
    """Bars: what is done in a second, row by row."""
    return _bars([(row, line) for row in result.rows for line in row.lines if line.must and line.better == "more"])


def _waits(result: Result) -> Figure | None:
    """Bars: how long one waits, how many bytes it takes."""
    found = [(row, line) for row in result.rows for line in row.lines if line.must and line.better == "less"]
    return _bars([(row, line) for row, line in found if row.name not in ("missed", "imports")])


def _bars(lines: list[tuple[RowResult, Line]]) -> Figure | None:
    lines = [(row, line) for row, line in lines if row.spread(next(iter(row.labels)), line.figure)]
    if not lines:
        return None
    columns = 2
    rows = -(-len(lines) // columns)
    figure = Figure(figsize=(12, 2.1 * rows), layout="constrained")
    for number, (row, line) in enumerate(lines, 1):
        _bar(figure.add_subplot(rows, columns, number), row, line)
    return figure


def _bar(axes: Any, row: RowResult, line: Line) -> None:
    """One row's contestants, the ledger on top, with the spread over the rounds."""
    found = [(each, label, row.spread(each, line.figure)) for each, label in row.labels.items()]
    shown = [(each, label, spread) for each, label, spread in found if spread is not None][::-1]
    colours = [_OWN if each.startswith("ledger") else _LIMIT if each in _LIMITS else _OTHER for each, _, _ in shown]
    medians = [spread.median for _, _, spread in shown]
    errors = [
        [spread.median - spread.least for _, _, spread in shown],
        [spread.most - spread.median for _, _, spread in shown],
    ]
    axes.barh([label for _, label, _ in shown], medians, xerr=errors, color=colours, error_kw={"elinewidth": 0.8})
    axes.set_title(f"{line.title}, {line.unit}", fontsize=9, loc="left", x=-0.02)
    axes.xaxis.grid(True, color=_GRID)
    axes.set_axisbelow(True)
    axes.xaxis.set_major_formatter(mpl.ticker.EngFormatter(sep=""))


def _growth(result: Result) -> Figure | None:
    """Lines: how figures change with the size of the log."""
    wanted = [(name, line) for name in ("growth", "verify", "claim-growth") for line in _lines_of(result, name)]
    if not wanted:
        return None
    columns = 4
    rows = -(-len(wanted) // columns)
    figure = Figure(figsize=(12, 2.4 * rows), layout="constrained")
    for number, (name, line) in enumerate(wanted, 1):
        row = result.row(name)
        assert row is not None
        axes = figure.add_subplot(rows, columns, number)
        found = [(int(each.partition(":")[2]), row.spread(each, line.figure)) for each in row.labels]
        points = [(count, spread) for count, spread in found if spread is not None]
        counts = [count for count, _ in points]
        axes.plot(counts, [spread.median for _, spread in points], marker="o", color=_OWN)
        axes.fill_between(counts, [s.least for _, s in points], [s.most for _, s in points], color=_OWN, alpha=0.2)
        axes.set_xscale("log")
        axes.set_ylim(bottom=0)
        axes.set_title(f"{line.title}, {line.unit}", fontsize=9, loc="left")
        axes.yaxis.grid(True, color=_GRID)
        axes.yaxis.set_major_formatter(mpl.ticker.EngFormatter(sep=""))
    return figure


def _lines_of(result: Result, name: str) -> list[Line]:
    row = result.row(name)
    return [] if row is None else [line for line in row.lines if any(row.values(each, line.figure) for each in row.labels)]


def _shares(result: Result) -> Figure | None:
    """One bar an append size, cut by where its time goes."""
    row = result.row("shares")
    if row is None or not row.samples:
        return None
    figure = Figure(figsize=(12, 1.8), layout="constrained")
    axes = figure.add_subplot()
    labels = [row.labels[each].rpartition(", ")[2] for each in row.labels][::-1]
    left = [0.0] * len(labels)
    for line, colour in zip(row.lines, _SHARES, strict=True):
        spreads = [row.spread(each, line.figure) for each in row.labels][::-1]
        widths = [spread.median if spread else 0.0 for spread in spreads]
        axes.barh(labels, widths, left=left, color=colour, label=line.title.partition(",")[0])
        left = [a + b for a, b in zip(left, widths, strict=True)]
    axes.set_title("where the time of one append goes, %", fontsize=9, loc="left")
    axes.legend(loc="upper left", bbox_to_anchor=(1.0, 1.0), fontsize=8, frameon=False)
    return figure
