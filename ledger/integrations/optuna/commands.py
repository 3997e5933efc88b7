"""Commands: what Optuna asks of studies and trials, as pure functions from the state of the log to events.

They are run in the write transaction, so that nothing comes between the look and the events, and what is refused is not
recorded. They raise what Optuna's storages raise.
"""

from __future__ import annotations

import math
from collections.abc import Callable, Mapping, Sequence
from typing import Any, cast
from uuid import UUID

import msgspec
from optuna.distributions import BaseDistribution, check_distribution_compatibility
from optuna.exceptions import DuplicatedStudyError, UpdateFinishedTrialError
from optuna.trial import TrialState

from ledger import events as ev
from ledger.backends.base import Command, Staged, View
from ledger.backends.portable import PortableCommand, portable
from ledger.commands import within_bounds
from ledger.integrations.optuna.artifact_index import media_type_of
from ledger.integrations.optuna.attributes import attributes_set
from ledger.integrations.optuna.distributions import Described, describe, distribution_of
from ledger.integrations.optuna.vocabulary import (
    DISTRIBUTIONS,
    METRIC_NAMES,
    OBJECTIVES,
    OWN,
    SYSTEM,
    VALUES,
    default_names,
    is_study,
    metric_of,
    names_of,
    objectives_of,
)
from ledger.records import iso_nanoseconds
from ledger.registry import Event
from ledger.state import ExperimentState, Status
from ledger.state import TrialState as LedgerState
from ledger.streams import experiment_stream, trial_stream
from ledger.values import encode_value

#: Given the view, the study and the trial: the events to append to the trial's stream.
Change = Callable[[View, ExperimentState, LedgerState], Sequence[Event]]
#: Stream and version of the record that tells of an artifact.
Logged = tuple[str, int]


# ------------------------------------------------------------------------------------------------------------ studies


def create_study(experiment_id: UUID, name: str, directions: Sequence[Any]) -> Command:
    """Create the study; DuplicatedStudyError when an experiment has the name."""
    names = default_names(len(directions))
    stream = experiment_stream(experiment_id)
    staged: list[Staged] = [
        (stream, ev.ExperimentCreated(name, objectives_of(names, directions))),
        (stream, ev.AttributesSet({OBJECTIVES: names}, OWN)),
    ]

    def command(view: View) -> list[Staged]:
        holder = view.experiment_named(name)
        if holder is not None:
            state = view.experiment(holder)
            hint = "" if state is not None and is_study(state) else " It is an experiment without objectives, so no study."
            raise DuplicatedStudyError(f"the name {name!r} is taken.{hint} Choose another.")
        return staged

    return command


def study_of(view: View, experiment_id: UUID) -> ExperimentState:
    """Return the experiment of a study; KeyError when it was deleted."""
    state = view.experiment(experiment_id)
    if state is None or state.deleted_at is not None:
        raise KeyError(f"there is no study of the experiment {experiment_id}; it was deleted.")
    return state


def delete_study(experiment_id: UUID) -> Command:
    """Delete the study with its trials."""
    return lambda view: [(study_of(view, experiment_id).stream, ev.ExperimentDeleted())]


def set_study_attribute(
    experiment_id: UUID, key: str, value: Any, namespace: str, logged: Logged | None = None
) -> Command:  # fmt: skip
    """Set an attribute of the study; the one that names the objectives renames them, ``logged`` is what one gives to it."""
    event = attributes_set({key: value}, namespace)

    def command(view: View) -> list[Staged]:
        state = study_of(view, experiment_id)
        events: list[Event] = [event, *given(view, state.stream, logged, value)]
        if namespace == SYSTEM and key == METRIC_NAMES:
            events += _renamed_objectives(state, value)
        return [(state.stream, each) for each in events]

    return command


def given(view: View, stream: str, logged: Logged | None, description: Any) -> list[Event]:
    """Return the event that logs an artifact in the stream of who owns it now; none if it is there, or was redacted."""
    record = None if logged is None or logged[0] == stream else view.record(*logged)
    if record is None or not isinstance(record.event, ev.ArtifactLogged) or not record.event.digest:
        return []
    media_type = record.event.media_type or media_type_of(description)
    return [msgspec.structs.replace(cast("Any", record.event), media_type=media_type, attempt=0)]


def _renamed_objectives(state: ExperimentState, given: Any) -> list[Event]:
    before = names_of(state)
    names = [str(name) for name in given] if isinstance(given, list | tuple) else []
    if len(set(names)) != len(before) or len(names) != len(before) or names == before:
        return []
    new = dict(zip(before, names, strict=True))
    objectives = {new[name]: direction for name, direction in state.objectives.items()}
    bounds = {new[name]: each for name, each in state.bounds.items() if name in new}
    return [ev.AttributesSet({OBJECTIVES: names}, OWN), ev.ObjectivesChanged(objectives, bounds)]


# ------------------------------------------------------------------------------------------------------------- trials


def next_number(view: View, state: ExperimentState) -> int:
    """Return the next free number of a trial: from 0, where the ledger's own begin with 1."""
    number = state.next_trial_id
    return 0 if number == 1 and not view.version(trial_stream(state.id, 0)) else number


def begun(worker: str, attempt: int) -> list[Event]:
    """Return the events by which a worker takes a trial and starts it, without a lease that could run out."""
    return [ev.TrialClaimed(worker, attempt), ev.TrialStarted(attempt)]


@portable
def create_running(experiment_id: UUID, worker: str) -> Command:
    """Create a trial that runs."""
    events = [ev.TrialCreated({}, max_attempts=1), *begun(worker, 1)]

    def command(view: View) -> list[Staged]:
        state = study_of(view, experiment_id)
        stream = trial_stream(experiment_id, next_number(view, state))
        return [(stream, event) for event in events]

    return command


def change_trial(experiment_id: UUID, number: int, change: Change) -> Command:
    """Record what a change decides; KeyError for a trial that is gone, UpdateFinishedTrialError for one that has ended."""

    def command(view: View) -> list[Staged]:
        study, state = study_of(view, experiment_id), trial_of(view, experiment_id, number)
        if state.status.is_finished:
            raise UpdateFinishedTrialError(
                f"trial {number} of study {study.name!r} has ended ({state.status}); it stays as it is."
            )
        return [(state.stream, event) for event in change(view, study, state)]

    return command


def trial_of(view: View, experiment_id: UUID, number: int) -> LedgerState:
    """Return a trial; KeyError when it was deleted."""
    state = view.trial(experiment_id, number)
    if state is None or state.deleted_at is not None:
        raise KeyError(f"there is no trial {number} in the experiment {experiment_id}; it was deleted.")
    return state


@portable
def set_trial_attribute(
    experiment_id: UUID, number: int, key: str, value: Any, namespace: str, logged: Logged | None = None
) -> Command:  # fmt: skip
    """Set an attribute of a trial that has not ended; ``logged`` is the artifact that it gives to the trial."""
    event = attributes_set({key: value}, namespace)
    return change_trial(experiment_id, number, lambda view, study, state: [event, *given(view, state.stream, logged, value)])


@portable
def log_intermediate(experiment_id: UUID, number: int, step: int, value: float) -> Command:
    """Log an intermediate value of a trial that has not ended."""
    number_logged = value if type(value) in (int, float) else float(value)

    def change(view: View, study: ExperimentState, state: LedgerState) -> list[Event]:
        points = ev.Points([metric_of(names_of(study))], [int(step)], [view.now], [[number_logged]])
        return [ev.MetricsLogged([points], state.attempt)]

    return change_trial(experiment_id, number, change)


def set_parameter(
    experiment_id: UUID, number: int, name: str, internal: float, distribution: BaseDistribution
) -> Command:  # fmt: skip
    """Set a parameter of a trial that has not ended, with its distribution; ValueError for one of another kind than before.

    The distribution is an attribute of the study when it is the first of this parameter, of the trial when it is another
    than that, and is not said again when it is the same.
    """
    described = describe(distribution)
    command = _SetParameter(experiment_id, number, name, internal, distribution, described)
    return PortableCommand(_set_described, (experiment_id, number, name, internal, described.value), command)


@portable
def _set_described(experiment_id: UUID, number: int, name: str, internal: float, description: Any) -> Command:
    """Set a parameter, whose distribution was described by another process."""
    distribution = distribution_of(description)
    if distribution is None:
        raise TypeError(f"{description!r} describes no distribution that this process knows.")
    return _SetParameter(experiment_id, number, name, internal, distribution, describe(distribution))


class _SetParameter:
    def __init__(
        self, experiment_id: UUID, number: int, name: str, internal: float, distribution: BaseDistribution, described: Described
    ) -> None:  # fmt: skip
        self._experiment_id, self._number, self._name = experiment_id, number, name
        self._distribution, self._internal, self._described = distribution, internal, described

    def __call__(self, view: View) -> list[Staged]:
        on_study: list[Staged] = []

        def change(view: View, study: ExperimentState, state: LedgerState) -> list[Event]:
            first = study.attributes.get(DISTRIBUTIONS, {}).get(self._name)
            own = state.attributes.get(DISTRIBUTIONS, {}).get(self._name)
            if first is None:
                on_study.append((study.stream, ev.AttributesSet({self._name: self._described.value}, DISTRIBUTIONS)))
            is_same = first is None or self._described.is_same(first)
            if not is_same and (known := distribution_of(first)) is not None:
                check_distribution_compatibility(known, self._distribution)
            said = None if is_same else self._described.value
            events: list[Event] = [] if own == said else [ev.AttributesSet({self._name: said}, DISTRIBUTIONS)]
            return [*events, *self._configured(state)]

        staged = change_trial(self._experiment_id, self._number, change)(view)
        return [*on_study, *staged]

    def _configured(self, state: LedgerState) -> list[Event]:
        value = self._distribution.to_external_repr(self._internal)
        if self._name not in state.config:
            return [ev.TrialConfigured({self._name: value}, state.attempt)]
        if encode_value(state.config[self._name]) == encode_value(value):
            return []
        return [ev.TrialAmended(config={self._name: value})]


# ------------------------------------------------------------------------------------------------------------- states


@portable
def set_state(experiment_id: UUID, number: int, to: int, values: Sequence[float] | None, worker: str) -> Command:
    """Bring a trial that has not ended into a state, of those of Optuna's ``TrialState``, with values.

    RUNNING is for a trial that waits: nothing is recorded of one that runs already, or whose study is paused. FAIL by another
    worker than the one that holds the trial says so when no beat of that one came in time.
    """

    def change(view: View, study: ExperimentState, state: LedgerState) -> Sequence[Event]:
        results, others = results_of(study, values)
        is_waiting = state.status is Status.PENDING
        if to == TrialState.RUNNING:
            if not is_waiting or study.paused_at is not None:
                return []
            return [*begun(worker, state.attempt + 1), *_reported(results, state.attempt + 1), *others]
        if to == TrialState.WAITING:
            released = [] if is_waiting else [ev.TrialReleased(state.attempt)]
            return [*released, *_reported(results, 0), *others]
        attempt = state.attempt + 1 if is_waiting else state.attempt
        if is_waiting:
            others += begun(worker, attempt)
        elif state.status is Status.READY:
            others.append(ev.TrialStarted(attempt))
        error = _silence(state, worker, view.now) if to == TrialState.FAIL else None
        end = within_bounds(view, study.id, ended(to, results, attempt, error), state.results)
        return [*others, msgspec.structs.replace(cast("Any", end), attempt=attempt)]

    return change_trial(experiment_id, number, change)


def _silence(state: LedgerState, worker: str, now: int) -> ev.ErrorInfo | None:
    """Return why another worker may have given a trial up: no beat came in time from the one that holds it."""
    if state.deadline is None or state.deadline >= now or state.worker == worker:
        return None
    ended_at = iso_nanoseconds(state.deadline)
    return ev.ErrorInfo("", f"{state.worker} was silent when the lease of attempt {state.attempt} ended at {ended_at}")


def ended(state: int, results: dict[str, Any], attempt: int, error: ev.ErrorInfo | None = None) -> Event:
    """Return the event by which a trial ends in a state."""
    if state == TrialState.COMPLETE:
        return ev.TrialCompleted(results, attempt)
    if state == TrialState.PRUNED:
        return ev.TrialPruned(results, attempt)
    return ev.TrialFailed(error, results, attempt)


def results_of(study: ExperimentState, values: Sequence[float] | None) -> tuple[dict[str, Any], list[Event]]:
    """Return values as results; and what says them otherwise, when there is not one for each objective."""
    if values is None:
        return {}, []
    numbers = [plain(value) for value in values]
    names = names_of(study)
    if len(numbers) == len(names):
        return dict(zip(names, numbers, strict=True)), []
    return {}, [ev.AttributesSet({VALUES: numbers}, OWN)]


def _reported(results: Mapping[str, Any], attempt: int) -> list[Event]:
    return [ev.ResultsReported(dict(results), attempt)] if results else []


def plain(value: Any) -> Any:
    """Return a number as an int or a float of Python."""
    return value if type(value) in (int, float) else float(value)


@portable
def beat(experiment_id: UUID, number: int, silent_after_seconds: float, renew_seconds: float) -> Command:
    """Record that a running trial is alive: its lease ends so much later, unless that was said shortly before."""

    def command(view: View) -> list[Staged]:
        study_of(view, experiment_id)
        state = trial_of(view, experiment_id, number)
        if state.status is not Status.RUNNING:
            return []
        deadline = view.now + math.ceil(silent_after_seconds * 1e9)
        if state.deadline is not None and deadline - state.deadline < renew_seconds * 1e9:
            return []
        return [(state.stream, ev.LeaseRenewed(state.attempt, deadline))]

    return command
