"""The optimization history: what each trial came to, and the best that was known by then."""

from __future__ import annotations

from collections.abc import Collection
from typing import TYPE_CHECKING, Any
from uuid import UUID

import numpy as np

from projections.picture import (
    ACCENT,
    GOOD,
    PALE,
    described,
    entitle,
    is_missing,
    log_scale,
    new_figure,
    shortened,
    styled,
    tell,
    whole_steps,
)
from projections.plotted import Plotted, plotted
from projections.tables import Tables
from projections.timetravel import AsOf

if TYPE_CHECKING:
    from matplotlib.axes import Axes
    from matplotlib.figure import Figure

_MOST_TOLD = 2_000  # points that say under the mouse what they are: each makes the file longer
_UNFINISHED = ("PENDING", "READY", "RUNNING")


def history(
    tables: Tables, experiment: str | UUID, *, target: str | None = None, as_of: AsOf = None,
    trials: Collection[int] | None = None, log: bool = False,
) -> Figure:  # fmt: skip
    """Draw the results of an experiment by trial, with the best so far where the objective has a direction.

    ``target`` is the result, by default the first objective. Trials that ended without one are marks at the bottom. ``trials``:
    only those of these numbers. ``log``: a logarithmic axis.

    Raises InvalidValue for a result that there is not, and when there is nothing to draw.
    """
    found = plotted(tables, experiment, target, as_of, trials)
    with styled():
        figure, axes = new_figure()
        log_scale(axes, found.values, is_log=log, what=found.target)
        _points(figure, axes, found)
        _best_so_far(axes, found)
        _without_result(axes, found)
        axes.set_xlabel("trial")
        axes.set_ylabel(shortened(found.target))
        whole_steps(axes.xaxis)
        entitle(figure, f"{found.name}: {found.target} by trial", [found.said, found.left_out])
        if axes.get_legend_handles_labels()[1]:
            axes.legend(loc="upper left", bbox_to_anchor=(1.0, 1.0), frameon=False, fontsize=9)
    return figure


def _points(figure: Figure, axes: Axes, found: Plotted) -> None:
    rows = np.flatnonzero(~np.isnan(found.values))
    ids = found.trials["trial_id"].to_numpy()
    look: dict[str, Any] = {"color": ACCENT, "alpha": 0.75 if len(rows) < 300 else 0.35, "linewidths": 0, "zorder": 3}
    size = float(np.clip(4_000 / max(len(rows), 1), 8, 30))
    if len(rows) > _MOST_TOLD:
        axes.scatter(ids[rows], found.values[rows], s=size, label="result", **look)
        return
    for count, row in enumerate(rows):
        point = axes.scatter(ids[row], found.values[row], s=size, label="result" if not count else None, **look)
        tell(figure, point, _told(found, int(row)))


def _told(found: Plotted, row: int) -> str:
    trial = found.trials.iloc[row]
    config = {str(name): value for name, value in trial.items() if str(name).startswith("config.") and not is_missing(value)}
    return described({"trial": trial["trial_id"], "status": trial["status"], found.target: f"{found.values[row]:.6g}", **config})


def _best_so_far(axes: Axes, found: Plotted) -> None:
    if not found.direction:
        return
    ids = found.trials["trial_id"].to_numpy()
    accumulate = np.fmax if found.direction == "max" else np.fmin
    best = accumulate.accumulate(found.values)
    rows = np.flatnonzero(~np.isnan(best))
    axes.step(ids[rows], best[rows], where="post", color=GOOD, linewidth=1.8, label="best so far", zorder=4)
    at = int(np.nanargmax(found.values) if found.direction == "max" else np.nanargmin(found.values))
    axes.scatter([ids[at]], [found.values[at]], s=70, facecolors="none", edgecolors=GOOD, linewidths=1.6, zorder=5)
    label = f"{found.values[at]:.5g} (trial {ids[at]})"
    is_right = ids[at] > ids[rows].mean()
    axes.annotate(
        label, (ids[at], found.values[at]), textcoords="offset points", xytext=(-9 if is_right else 9, 9), color=GOOD,
        ha="right" if is_right else "left", fontsize=9, zorder=6,
        bbox={"facecolor": "white", "alpha": 0.8, "edgecolor": "none", "pad": 1.0},
    )  # fmt: skip


def _without_result(axes: Axes, found: Plotted) -> None:
    """Mark at the bottom those that ended and have no value, so that a gap is seen to be one."""
    ended = ~found.trials["status"].astype(str).isin(_UNFINISHED).to_numpy()
    ids = found.trials["trial_id"].to_numpy()[np.isnan(found.values) & ended]
    if len(ids):
        bottom = axes.get_xaxis_transform()
        axes.scatter(
            ids, np.full(len(ids), 0.015), transform=bottom, marker="x", s=22, color=PALE, label="ended without", clip_on=False,
        )  # fmt: skip
