"""Metric curves: each metric a panel, each trial a line over the steps."""

from __future__ import annotations

import math
from collections.abc import Collection, Sequence
from typing import TYPE_CHECKING, Any, NamedTuple
from uuid import UUID

import numpy as np
import pandas as pd

from ledger.errors import InvalidValue
from ledger.nearest import find_nearest
from projections.metric_table import MetricTable
from projections.picture import PALE, described, entitle, log_scale, new_figure, numbers, shortened, styled, tell
from projections.plotted import Trials, directions, plotted_trials
from projections.tables import Tables
from projections.timetravel import AsOf

if TYPE_CHECKING:
    from matplotlib.axes import Axes
    from matplotlib.figure import Figure

_MOST_PANELS = 6
_MOST_NAMED = 10  # trials that have a colour of their own and a place in the legend
_MOST_TOLD = 1_000
_MOST_MARKED = 40  # points of a line that are marked


class _Line(NamedTuple):
    """The points of one metric of one trial, by step."""

    trial_id: int
    steps: np.ndarray[Any, np.dtype[np.float64]]
    values: np.ndarray[Any, np.dtype[np.float64]]


def curves(
    tables: Tables, experiment: str | UUID, *, metrics: Sequence[str] | None = None, as_of: AsOf = None,
    trials: Collection[int] | None = None, log: bool = False,
) -> Figure:  # fmt: skip
    """Draw how metrics went over their steps: a panel for each metric, a line for each trial.

    ``metrics`` are those to draw, by default the first six by name. ``trials``: only those of these numbers. A metric without
    steps is drawn by the order of its points. Of more than ten trials, colours tell the first objective's value. ``log``: a
    logarithmic axis. NaN is a gap.

    Raises InvalidValue for a metric that there is not, and when there is nothing to draw.
    """
    plotted = plotted_trials(tables, experiment, as_of, trials)
    found, note = _chosen(tables, plotted, metrics)
    chosen = list(found)
    with styled():
        rows = math.ceil(len(chosen) / 2)
        columns = min(len(chosen), 2)
        size = (9.0 if columns == 1 else 11.0, 4.6 if rows == 1 else 3.2 * rows)
        figure, grid = new_figure(*size, nrows=rows, ncols=columns, squeeze=False)
        panels: list[Axes] = list(grid.flat)
        entitle(figure, f"{plotted.name}: {chosen[0] if len(chosen) == 1 else 'metrics'} by step", [note])
        colours, legend = _colours(tables, plotted, [line for each in chosen for line in found[each]])
        for panel, metric in zip(panels, chosen, strict=False):
            _draw(figure, panel, metric, found[metric], colours, is_log=log)
        for panel in panels[len(chosen) :]:
            panel.set_axis_off()
        _explain(figure, panels, legend)
    return figure


def _names(tables: Tables, plotted: Trials) -> list[str]:
    return tables.read(MetricTable, plotted.experiment_id, plotted.position, lambda table, id_: table.names(id_))


def _lines(tables: Tables, plotted: Trials, metric: str) -> list[_Line]:
    """Return a metric's line of each trial that has numbers of it."""
    wanted = plotted.frame["trial_id"].tolist()
    series = tables.metric(plotted.experiment_id, metric, trials=wanted, as_of=plotted.position)
    found = []
    for trial_id in series.trial_ids.tolist():
        steps, values = series.of(trial_id)
        values, steps = numbers(pd.Series(values)), numbers(pd.Series(steps))
        if np.isnan(steps).any():
            steps = np.arange(len(values), dtype=np.float64)
        order = np.argsort(steps, kind="stable")
        if np.isfinite(values).any():
            found.append(_Line(trial_id, steps[order], np.where(np.isfinite(values[order]), values[order], np.nan)))
    return found


def _chosen(tables: Tables, plotted: Trials, wanted: Sequence[str] | None) -> tuple[dict[str, list[_Line]], str]:
    """Return the metrics to draw with their lines, and how many there is no room for, in words."""
    names = _names(tables, plotted)
    if wanted is not None:
        chosen = {metric: _lines(tables, plotted, metric) if metric in names else [] for metric in dict.fromkeys(wanted)}
        for metric, lines in chosen.items():
            if not lines:
                nearest = find_nearest(metric, [each for each in names if each != metric])
                hint = f"Did you mean {nearest!r}?" if nearest else f"There are: {', '.join(names) or 'none'}."
                raise InvalidValue(f"no such trial of {plotted.name!r} has numbers of a metric {metric!r}. {hint}")
        return chosen, ""
    telling: dict[str, list[_Line]] = {}
    counting: dict[str, list[_Line]] = {}
    for place, metric in enumerate(names):
        lines = _lines(tables, plotted, metric)
        counts = all(np.array_equal(line.steps, line.values) for line in lines)  # an epoch over epochs says nothing
        if lines:
            (counting if counts else telling)[metric] = lines
        if len(telling) == _MOST_PANELS:
            left = len(names) - place - 1
            return telling, f"{left:,} more metrics are not looked at" if left else ""
    if not telling and not counting:
        raise InvalidValue(f"there is nothing to plot: no such trial of {plotted.name!r} has logged a metric of numbers.")
    return telling or dict(list(counting.items())[:_MOST_PANELS]), ""


# ------------------------------------------------------------------------------------------------------------ colours


class _Legend(NamedTuple):
    """What explains the colours: the scale of a result, or nothing when each trial is named."""

    target: str
    scale: Any


def _colours(tables: Tables, plotted: Trials, lines: Sequence[_Line]) -> tuple[dict[int, Any], _Legend | None]:
    from matplotlib import colormaps

    ids = sorted({line.trial_id for line in lines})
    if len(ids) <= _MOST_NAMED:
        return {trial_id: colormaps["tab10"](place % 10) for place, trial_id in enumerate(ids)}, None
    objectives = directions(tables, plotted)
    frame = plotted.frame
    target = next((name for name in objectives if f"result.{name}" in frame.columns), None)
    if target is not None:
        values = numbers(frame[f"result.{target}"])
        known = dict(zip(frame["trial_id"].tolist(), np.where(np.isfinite(values), values, np.nan).tolist(), strict=True))
        if not all(map(math.isnan, known.values())):
            return _by_value(known, ids, target, "viridis_r" if objectives[target] == "min" else "viridis")
    return _by_value({each: float(each) for each in ids}, ids, "trial", "viridis")


def _by_value(known: dict[int, float], ids: Sequence[int], what: str, name: str) -> tuple[dict[int, Any], _Legend]:
    from matplotlib import colormaps
    from matplotlib.cm import ScalarMappable
    from matplotlib.colors import Normalize

    there = [value for value in known.values() if not math.isnan(value)]
    norm, colours = Normalize(min(there), max(there)), colormaps[name]
    made = {each: PALE if math.isnan(known.get(each, math.nan)) else colours(float(norm(known[each]))) for each in ids}
    return made, _Legend(what, ScalarMappable(norm, colours))


def _draw(figure: Figure, axes: Axes, metric: str, lines: Sequence[_Line], colours: dict[int, Any], *, is_log: bool) -> None:
    log_scale(axes, np.concatenate([line.values for line in lines]), is_log=is_log, what=metric)
    alpha = float(np.clip(20 / len(lines), 0.25, 0.95))
    for line in lines:
        marker = "o" if len(line.steps) <= _MOST_MARKED else ""
        (drawn,) = axes.plot(
            line.steps, line.values, color=colours[line.trial_id], alpha=alpha, linewidth=1.5, marker=marker, markersize=2.8,
            label=f"trial {line.trial_id}",
        )  # fmt: skip
        if len(lines) <= _MOST_TOLD:
            last = line.values[~np.isnan(line.values)][-1:].tolist()
            tell(figure, drawn, described({"trial": line.trial_id, **({"last": f"{last[0]:.6g}"} if last else {})}))
    axes.set_xlabel("step")
    axes.set_ylabel(shortened(metric))


def _explain(figure: Figure, panels: Sequence[Axes], legend: _Legend | None) -> None:
    if legend is not None:
        bar = figure.colorbar(legend.scale, ax=list(panels), fraction=0.035, pad=0.02)
        bar.set_label(shortened(legend.target))
        bar.outline.set_visible(False)
        return
    found: dict[str, Any] = {}
    for panel in panels:
        for handle, label in zip(*panel.get_legend_handles_labels(), strict=True):
            found.setdefault(label, handle)
    ordered = sorted(found, key=lambda label: int(label.removeprefix("trial ")))
    figure.legend([found[label] for label in ordered], ordered, loc="outside right upper", frameon=False, fontsize=9)
