"""Templates: trials that are added as they are, with everything that is known of them and the times at which it happened."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any, cast
from uuid import UUID

import msgspec
from optuna.trial import FrozenTrial, TrialState

from ledger import events as ev
from ledger.backends.base import Staged, Submission, View
from ledger.commands import within_bounds
from ledger.errors import InvalidValue
from ledger.integrations.optuna.attributes import attributes_set, recordable
from ledger.integrations.optuna.commands import Logged, begun, ended, given, next_number, plain, results_of, study_of
from ledger.integrations.optuna.distributions import describe
from ledger.integrations.optuna.times import from_local, kept
from ledger.integrations.optuna.vocabulary import (
    COMPLETED,
    DISTRIBUTIONS,
    OWN,
    PARAMS,
    STARTED,
    SYSTEM,
    USER,
    metric_of,
    names_of,
)
from ledger.log import EventLog
from ledger.registry import Event
from ledger.status import ExperimentState
from ledger.streams import trial_stream

_POINTS_PER_EVENT = 4096


class Template:
    """A trial to be added to a study: two steps of one commit, as it began and as it ended, each at its own time.

    ``artifacts`` are those that its system attributes give to it, each with Optuna's description of it.
    """

    def __init__(
        self, experiment_id: UUID, trial: FrozenTrial, worker: str, artifacts: Sequence[tuple[Logged, Any]] = (), *,
        keeps_number: bool = False,
    ) -> None:  # fmt: skip
        self._experiment_id, self._trial, self._worker = experiment_id, trial, worker
        self._artifacts = artifacts
        self._number = trial.number if keeps_number else None
        self._stream = ""
        self._metric = ""
        self.started_at = _time(trial.datetime_start, "datetime_start") if trial.state != TrialState.WAITING else None
        self.ended_at = _time(trial.datetime_complete, "datetime_complete") if trial.state.is_finished() else None
        self._params = {name: recordable(value, f"the parameter {name!r}") for name, value in trial.params.items()}
        self._described = {name: describe(each) for name, each in trial.distributions.items() if name in self._params}

    def submissions(self, log: EventLog, reason: str | None) -> list[tuple[Submission, int | None]]:
        """Return the steps, each with its time."""
        steps = [(self._begin, self.started_at)]
        if self._trial.state.is_finished():
            steps.append((self._end, self.ended_at))
        return [(log.submission(step, occurred_at=at, reason=reason), at) for step, at in steps]

    def _begin(self, view: View) -> list[Staged]:
        study = study_of(view, self._experiment_id)
        number = next_number(view, study) if self._number is None else self._number
        self._stream = trial_stream(self._experiment_id, number)
        self._metric = metric_of(names_of(study))
        on_study, others = self._distributions(study)
        events: list[Event] = [ev.TrialCreated(self._params, max_attempts=1), *others, *self._attributes()]
        for logged, description in self._artifacts:
            events += given(view, self._stream, logged, description)
        results, said = results_of(study, self._trial.values)
        events += said
        is_waiting = self._trial.state == TrialState.WAITING
        if not is_waiting:
            events += begun(self._worker, 1)
        if not self._trial.state.is_finished():
            events += self._points(view, 0 if is_waiting else 1)
            events += [ev.ResultsReported(results, 0 if is_waiting else 1)] if results else []
        return [*((self._stream, event) for event in events), *((study.stream, event) for event in on_study)]

    def _end(self, view: View) -> list[Staged]:
        study = study_of(view, self._experiment_id)
        results, _ = results_of(study, self._trial.values)
        end = within_bounds(view, study.id, ended(self._trial.state, results, 1), {})
        events = [*self._points(view, 1), msgspec.structs.replace(cast("Any", end), attempt=1)]
        return [(self._stream, event) for event in events]

    def _distributions(self, study: ExperimentState) -> tuple[list[Event], list[Event]]:
        """Return what is said of distributions on the study, those of parameters that are new to it, and on the trial."""
        known = study.attributes.get(DISTRIBUTIONS, {})
        new = {name: each.value for name, each in self._described.items() if name not in known}
        other = {name: each.value for name, each in self._described.items() if not each.is_same(known.get(name, each.value))}
        return [ev.AttributesSet(new, DISTRIBUTIONS)] if new else [], [ev.AttributesSet(other, DISTRIBUTIONS)] if other else []

    def _attributes(self) -> list[Event]:
        trial = self._trial
        own: dict[str, Any] = {}
        if list(self._params) != sorted(self._params):  # the order in which a config is kept
            own[PARAMS] = list(self._params)
        if trial.state == TrialState.WAITING:
            if trial.datetime_start is not None:
                own[STARTED] = kept(trial.datetime_start)
        elif trial.datetime_start is None:
            own[STARTED] = None
        if trial.state.is_finished() and trial.datetime_complete is None:
            own[COMPLETED] = None
        said = ((trial.user_attrs, USER), (trial.system_attrs, SYSTEM), (own, OWN))
        return [attributes_set(attributes, namespace) for attributes, namespace in said if attributes]

    def _points(self, view: View, attempt: int) -> list[Event]:
        steps = self._trial.intermediate_values
        at = self.ended_at if self.ended_at is not None else self.started_at
        return points(self._metric, list(steps), list(steps.values()), view.now if at is None else at, attempt)


def points(metric: str, steps: Sequence[Any], values: Sequence[Any], at: int, attempt: int) -> list[Event]:
    """Return the events that log values of a metric, all at one time."""
    events: list[Event] = []
    for first in range(0, len(steps), _POINTS_PER_EVENT):
        chosen: list[int | float | None] = [int(step) for step in steps[first : first + _POINTS_PER_EVENT]]
        column = [plain(value) for value in values[first : first + _POINTS_PER_EVENT]]
        events.append(ev.MetricsLogged([ev.Points([metric], chosen, [at, *[0] * (len(chosen) - 1)], [column])], attempt))
    return events


def _time(time: Any, what: str) -> int | None:
    if time is None:
        return None
    found = from_local(time)
    if found is None:
        raise InvalidValue(f"{what} is {time!r}; give a time between the years 1678 and 2262.")
    return found
