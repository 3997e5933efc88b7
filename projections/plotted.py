"""What is plotted of an experiment: its trials, and the result that they are measured by."""

from __future__ import annotations

from collections.abc import Collection
from typing import Any, NamedTuple
from uuid import UUID

import numpy as np
import pandas as pd

from ledger import events as ev
from ledger.errors import InvalidValue
from ledger.nearest import find_nearest
from ledger.streams import experiment_stream
from projections.picture import need_matplotlib, numbers
from projections.tables import Tables
from projections.timetravel import AsOf


class Plotted(NamedTuple):
    """Trials, and their values of one result; ``direction`` is empty when the experiment has no objective for it."""

    name: str
    trials: pd.DataFrame
    target: str
    direction: str
    values: np.ndarray[Any, np.dtype[np.float64]]  # NaN where a trial has none, or none that is finite

    @property
    def said(self) -> str:
        """Which way is better, in words."""
        return {"min": "lower is better", "max": "higher is better"}.get(self.direction, "")

    @property
    def left_out(self) -> str:
        """How many trials have no such result, in words."""
        count = int(np.isnan(self.values).sum())
        return f"{count:,} of {len(self.values):,} trials have no finite {self.target}" if count else ""


class Trials(NamedTuple):
    """The trials of an experiment as of a position; ``name`` is the experiment's."""

    experiment_id: UUID
    name: str
    position: int
    frame: pd.DataFrame


def plotted_trials(tables: Tables, experiment: str | UUID, as_of: AsOf, trials: Collection[int] | None) -> Trials:
    """Return the trials of an experiment, only those of these numbers if given; InvalidValue when there are none."""
    need_matplotlib()
    position = tables.position(as_of)
    identifier = tables.find_experiment(experiment, position)
    frame = tables.trials(identifier, as_of=position)
    known = tables.experiments(as_of=position, deleted=True)
    name = str(known.loc[known["experiment_id"] == str(identifier), "name"].iloc[0])
    if trials is not None:
        frame = frame[frame["trial_id"].isin(list(trials))].reset_index(drop=True)
    if not len(frame):
        raise InvalidValue(f"there is nothing to plot: experiment {name!r} has no {'such ' if trials is not None else ''}trials.")
    return Trials(identifier, name, position, frame)


def plotted(
    tables: Tables, experiment: str | UUID, target: str | None, as_of: AsOf, trials: Collection[int] | None
) -> Plotted:  # fmt: skip
    """Return the trials with their values of a result: ``target``, or the first objective, or the only result.

    Raises InvalidValue for a result that there is not, with the nearest one, and when no trial has a finite one.
    """
    found = plotted_trials(tables, experiment, as_of, trials)
    name, frame, objectives = found.name, found.frame, directions(tables, found)
    known = [str(column).removeprefix("result.") for column in frame.columns if str(column).startswith("result.")]
    chosen = target if target is not None else next(iter([*objectives, *known]), None)
    if chosen is None or (target is None and not objectives and len(known) > 1):
        there = f"There are {', '.join(map(repr, known))}; say which: target." if known else "No trial has a result yet."
        raise InvalidValue(f"the experiment {name!r} has no objective to plot. {there}")
    if chosen not in known:
        nearest = find_nearest(chosen, known)
        hint = f"Did you mean {nearest!r}?" if nearest else f"There are: {', '.join(known) or 'none'}."
        raise InvalidValue(f"no trial of {name!r} has a result {chosen!r}. {hint}")
    values = numbers(frame[f"result.{chosen}"])
    values = np.where(np.isfinite(values), values, np.nan)
    if np.isnan(values).all():
        raise InvalidValue(f"there is nothing to plot: no trial of {name!r} has a finite number as its {chosen!r}.")
    return Plotted(name, frame, chosen, objectives.get(chosen, ""), values)


def directions(tables: Tables, found: Trials) -> dict[str, str]:
    """Return the objectives that the experiment had, with their directions, in their order."""
    stream, kinds = experiment_stream(found.experiment_id), [ev.ExperimentCreated, ev.ObjectivesChanged]
    objectives: dict[str, str] = {}
    for record in tables.book.log.read(stream=stream, types=kinds, as_of=found.position):
        if isinstance(record.event, ev.ExperimentCreated | ev.ObjectivesChanged):
            objectives = {name: str(direction) for name, direction in record.event.objectives.items()}
    return objectives
