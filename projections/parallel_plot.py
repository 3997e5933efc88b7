"""Parallel coordinates: each trial a line through its parameters to its result."""

from __future__ import annotations

from collections.abc import Collection, Sequence
from typing import TYPE_CHECKING, Any, NamedTuple
from uuid import UUID

import numpy as np
import pandas as pd

from ledger.errors import InvalidValue
from ledger.nearest import find_nearest
from projections.picture import PALE, described, entitle, is_missing, new_figure, numbers, shortened, styled, tell
from projections.plotted import Plotted, plotted
from projections.tables import Tables
from projections.timetravel import AsOf

if TYPE_CHECKING:
    from matplotlib.axes import Axes
    from matplotlib.figure import Figure

_MOST_AXES = 10
_MOST_TOLD = 1_000
_MOST_KINDS = 24  # values of an axis that are written out
_MISSING = -0.09  # where a line goes that has no value, below the axes
_FAR_APART = 15.0  # highest to lowest, from which on an axis is logarithmic


class _Coordinate(NamedTuple):
    """One axis: where each trial meets it, between 0 and 1 (NaN: nowhere), and what is written at it."""

    name: str
    heights: np.ndarray[Any, np.dtype[np.float64]]
    ticks: list[tuple[float, str]]
    is_log: bool = False


def parallel(
    tables: Tables, experiment: str | UUID, *, target: str | None = None, parameters: Sequence[str] | None = None,
    as_of: AsOf = None, trials: Collection[int] | None = None,
) -> Figure:  # fmt: skip
    """Draw a line for each trial with a result, through its parameters, in the colour of the result.

    ``target`` is the result, by default the first objective. ``parameters`` are those to draw, in that order; by default those
    that differ between trials, at most ten: first those that go along with the result. Axes of numbers that are far apart are
    logarithmic. A trial without a parameter meets its axis below the end.

    Raises InvalidValue for a result or parameter that there is not, and when there is nothing to draw.
    """
    found = plotted(tables, experiment, target, as_of, trials)
    rows = np.flatnonzero(~np.isnan(found.values))
    chosen, note = _parameters(found, rows, parameters)
    frame = found.trials.iloc[rows]
    coordinates = [_coordinate(name, frame[f"config.{name}"]) for name in chosen]
    coordinates.append(_numeric(found.target, found.values[rows]))
    with styled():
        figure, axes = new_figure(width=max(7.0, 1.5 * len(coordinates) + 2.5), height=5.2)
        _draw_axes(axes, coordinates)
        _draw_lines(figure, axes, found, rows, coordinates)
        entitle(figure, f"{found.name}: parameters and {found.target}", [found.said, note, found.left_out])
    return figure


def _parameters(
    found: Plotted, rows: np.ndarray[Any, Any], wanted: Sequence[str] | None
) -> tuple[list[str], str]:  # fmt: skip
    known = [str(name).removeprefix("config.") for name in found.trials.columns if str(name).startswith("config.")]
    if wanted is not None:
        for name in wanted:
            if name not in known:
                nearest = find_nearest(name, known)
                hint = f"Did you mean {nearest!r}?" if nearest else f"There are: {', '.join(known) or 'none'}."
                raise InvalidValue(f"no trial of {found.name!r} has a parameter {name!r}. {hint}")
        return list(wanted), ""
    frame = found.trials.iloc[rows]
    varying = [name for name in known if len({_key(value) for value in frame[f"config.{name}"]}) > 1]
    if not varying:
        raise InvalidValue(
            f"there is nothing to plot: no parameter differs between the trials of {found.name!r} that have a finite number as "
            f"their {found.target!r} ({len(rows):,}). Name those to draw: parameters."
        )
    if len(varying) <= _MOST_AXES:
        return varying, ""
    together = {name: _goes_along(frame[f"config.{name}"], found.values[rows]) for name in varying}
    ranked = sorted(varying, key=lambda name: -together[name])[:_MOST_AXES]
    kept = [name for name in varying if name in ranked]
    return kept, f"{_MOST_AXES} of {len(varying):,} parameters that differ"


def _goes_along(column: pd.Series[Any], values: np.ndarray[Any, np.dtype[np.float64]]) -> float:
    """Return how much the ranks of a parameter and of the result have in common, from 0 to 1."""
    heights = _coordinate("", column).heights
    both = ~np.isnan(heights)
    if both.sum() < 3 or len(set(heights[both])) < 2 or len(set(values[both])) < 2:
        return 0.0
    first, second = (pd.Series(each[both]).rank() for each in (heights, values))
    return abs(float(first.corr(second)))


# -------------------------------------------------------------------------------------------------------------- axes


def _key(value: Any) -> str:
    return "" if is_missing(value) else f"{type(value).__name__} {value!r}"


def _coordinate(name: str, column: pd.Series[Any]) -> _Coordinate:
    there = [value for value in column if not is_missing(value)]
    floats = numbers(column)
    if there and not np.isnan(floats).all() and int((~np.isnan(floats)).sum()) == len(there):
        return _numeric(name, np.where(np.isfinite(floats), floats, np.nan))
    kinds = sorted({_shown(value) for value in there})
    places = {text: place for place, text in enumerate(kinds)}
    span = max(len(kinds) - 1, 1)
    heights = np.array([np.nan if is_missing(value) else places[_shown(value)] / span for value in column])
    every = -(-len(kinds) // _MOST_KINDS) if kinds else 1
    return _Coordinate(
        name, heights, [(place / span, shortened(text, 18)) for text, place in places.items() if place % every == 0]
    )


def _shown(value: Any) -> str:
    return str(bool(value)).lower() if type(value).__name__ in ("bool", "bool_") else str(value)


def _numeric(name: str, values: np.ndarray[Any, np.dtype[np.float64]]) -> _Coordinate:
    from matplotlib.ticker import LogLocator, MaxNLocator

    low, high = float(np.nanmin(values)), float(np.nanmax(values))
    if low == high:
        return _Coordinate(name, np.where(np.isnan(values), np.nan, 0.5), [(0.5, f"{low:.4g}")])
    is_log = low > 0 and high / low >= _FAR_APART
    seen = sorted(set(values[~np.isnan(values)].tolist()))
    if len(seen) <= 6:
        marks = seen
    elif is_log:
        marks = [mark for mark in LogLocator(numticks=8).tick_values(low, high) if low <= mark <= high]
    else:
        marks = [mark for mark in MaxNLocator(6).tick_values(low, high) if low <= mark <= high]

    def height(value: Any) -> Any:
        if is_log:
            return (np.log(value) - np.log(low)) / (np.log(high) - np.log(low))
        return value / (high - low) - low / (high - low) if np.isinf(high - low) else (value - low) / (high - low)

    ends = [(0.0, f"{low:.4g}"), (1.0, f"{high:.4g}")]
    between = [(float(height(mark)), f"{mark:.4g}") for mark in marks]
    kept = [tick for tick in between if 0.06 < tick[0] < 0.94]
    return _Coordinate(name, np.asarray(height(values), dtype=np.float64), [ends[0], *_apart(kept), ends[1]], is_log)


def _apart(ticks: list[tuple[float, str]]) -> list[tuple[float, str]]:
    kept: list[tuple[float, str]] = []
    for tick in ticks:
        if not kept or tick[0] - kept[-1][0] > 0.045:
            kept.append(tick)
    return kept


# ------------------------------------------------------------------------------------------------------------ drawing


def _draw_axes(axes: Axes, coordinates: Sequence[_Coordinate]) -> None:
    axes.grid(visible=False)
    axes.set_yticks([])
    for spine in axes.spines.values():
        spine.set_visible(False)
    has_missing = any(np.isnan(each.heights).any() for each in coordinates)
    axes.set_xlim(-0.35, len(coordinates) - 1 + 0.45)
    axes.set_ylim(-0.14 if has_missing else -0.04, 1.05)
    for place, each in enumerate(coordinates):
        axes.plot([place, place], [0, 1], color=PALE, linewidth=1.2, zorder=4)
        for height, text in each.ticks:
            axes.plot([place, place + 0.03], [height, height], color=PALE, linewidth=1, zorder=4)
            axes.text(
                place + 0.045, height, text, va="center", fontsize=8, color="#3e4c59", zorder=5,
                bbox={"facecolor": "white", "alpha": 0.75, "edgecolor": "none", "pad": 0.6},
            )  # fmt: skip
        if np.isnan(each.heights).any():
            axes.text(place + 0.045, _MISSING, "none", va="center", fontsize=8, color=PALE, zorder=5)
    names = [shortened(each.name, 20) + ("\n(log)" if each.is_log else "") for each in coordinates]
    axes.set_xticks(range(len(coordinates)), names, fontsize=9, rotation=0 if len(names) <= 8 else 20)
    axes.tick_params(axis="x", length=0, pad=6)


def _draw_lines(
    figure: Figure, axes: Axes, found: Plotted, rows: np.ndarray[Any, Any], coordinates: Sequence[_Coordinate]
) -> None:  # fmt: skip
    from matplotlib import colormaps
    from matplotlib.collections import LineCollection

    heights = np.array([each.heights for each in coordinates]).T
    lines = np.where(np.isnan(heights), _MISSING, heights)
    colours = colormaps["viridis" if found.direction != "min" else "viridis_r"]
    goodness = coordinates[-1].heights
    # The best ones come last, on top of the others.
    order = np.argsort(-goodness if found.direction == "min" else goodness, kind="stable")
    alpha = float(np.clip(40 / max(len(rows), 1), 0.12, 0.8))
    places = np.arange(len(coordinates))
    if len(rows) > _MOST_TOLD:
        segments = [np.column_stack([places, lines[row]]) for row in order]
        axes.add_collection(LineCollection(segments, colors=colours(goodness[order]), alpha=alpha, linewidths=1.0, zorder=2))
        return
    for row in order:
        (line,) = axes.plot(places, lines[row], color=colours(goodness[row]), alpha=alpha, linewidth=1.4, zorder=2)
        trial = found.trials.iloc[rows[row]]
        config = {each.name: trial[f"config.{each.name}"] for each in coordinates[:-1]}
        tell(figure, line, described({"trial": trial["trial_id"], found.target: f"{found.values[rows[row]]:.6g}", **config}))
