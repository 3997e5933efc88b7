"""Commands: what may be asked of experiments and trials, as pure functions from the state to events.

Each function here returns a command, to be given to ``EventLog.execute``: it looks at the state inside the write
transaction and returns pairs of stream and event, or raises. ``ledger.state`` has the last word on each event.
"""

from __future__ import annotations

import math
from collections.abc import Callable, Iterable, Mapping
from typing import Any, cast
from uuid import UUID

import msgspec

from ledger import events as ev
from ledger.ancestry import check_ancestry
from ledger.backends.base import Command, Staged, View
from ledger.backends.portable import portable
from ledger.dependencies import standing, unmet_dependencies
from ledger.errors import (
    CommandRefused,
    InvalidTransition,
    InvalidValue,
    LeaseLost,
    UnknownExperiment,
    UnknownTrial,
    WrongExpectedVersion,
)
from ledger.identity import default_actor
from ledger.objectives import out_of_bounds
from ledger.registry import Event
from ledger.rules import check_open
from ledger.state import TRANSITIONS, ExperimentState, Status, TrialState, allowed_events
from ledger.streams import MAX_TRIAL_ID, experiment_stream, subject_of, trial_stream
from ledger.values import check_label

MAX_LEASE_SECONDS = 366 * 86_400.0

#: What happened to a trial before it is recorded: from the view, its stream and its creation to the events that follow.
Course = Callable[[View, str, ev.TrialCreated], list[Event]]


# -------------------------------------------------------------------------------------------------------- experiments


def check_name(name: Any, what: str = "the experiment's name") -> str:
    """Return a name that is a text and not empty."""
    if type(name) is not str or not name.strip():
        raise InvalidValue(f"{what} is {name!r}; give a text that is not empty.")
    return check_label(name, what)


def check_worker(name: Any) -> str:
    """Return a worker's name: that of this process when none is given."""
    return default_actor() if name is None else check_name(name, "the worker's name")


def require_reason(reason: str | None, what: str, why: str) -> None:
    """Refuse a step outside of the ordinary course that says no reason."""
    if not reason or not reason.strip():
        raise CommandRefused(f"{what} needs a reason=: the history must say why {why}.")


def create_or_change_experiment(experiment_id: UUID, wanted: ev.ExperimentCreated, given: frozenset[str]) -> Command:
    """Create the experiment under the id if no live one has the name; else record what of the ``given`` is different now."""

    def command(view: View) -> list[Staged]:
        known_id = view.experiment_named(wanted.name)
        state = None if known_id is None else view.experiment(known_id)
        if state is None:
            check_ancestry(view, experiment_stream(experiment_id), wanted.parents)
            return [(experiment_stream(experiment_id), wanted)]
        check_ancestry(view, state.stream, wanted.parents)
        return [(state.stream, event) for event in experiment_changes(state, wanted, given)]

    return command


def experiment_changes(state: ExperimentState, wanted: ev.ExperimentCreated, given: frozenset[str]) -> list[Event]:
    """Return the events that make the experiment as wanted, in the fields that were given."""
    changes: list[Event] = []
    if "objectives" in given and (wanted.objectives, wanted.bounds) != (state.objectives, state.bounds):
        changes.append(ev.ObjectivesChanged(wanted.objectives, wanted.bounds))
    if "description" in given and wanted.description != state.description:
        changes.append(ev.ExperimentDescribed(wanted.description))
    if "parents" in given and tuple(wanted.parents) != state.parents:
        changes.append(ev.ParentsSet(wanted.parents))
    return changes


def experiment_of(view: View, experiment_id: UUID) -> ExperimentState:
    """Return the experiment, deleted or not; raises UnknownExperiment."""
    state = view.experiment(experiment_id)
    if state is None:
        raise UnknownExperiment(f"there is no experiment {experiment_id}.")
    return state


def set_paused(experiment_id: UUID, *, is_paused: bool) -> Command:
    """Hand out no trials, or hand them out again; nothing when it is so already."""
    event: Event = ev.ExperimentPaused() if is_paused else ev.ExperimentResumed()

    def command(view: View) -> list[Staged]:
        state = experiment_of(view, experiment_id)
        check_open(state, event)
        return [] if (state.paused_at is not None) is is_paused else [(state.stream, event)]

    return command


@portable
def record_on_experiment(experiment_id: UUID, event: Event) -> Command:
    """Append one event to an experiment's stream."""
    return lambda view: [(experiment_stream(experiment_id), event)]


# ------------------------------------------------------------------------------------------------------------- trials


def create_trials(
    experiment_id: UUID, created: list[ev.TrialCreated], number: int | None, course: Course | None = None
) -> Command:
    """Create trials with the next free numbers, or one with the number given; ``course`` gives what has become of each."""
    if number is not None and (type(number) is not int or not 0 <= number <= MAX_TRIAL_ID):
        raise InvalidValue(f"the trial number is {number!r}; give an int from 0, or leave it out for the next free one.")

    def command(view: View) -> list[Staged]:
        state = experiment_of(view, experiment_id)
        first = state.next_trial_id if number is None else number
        if first + len(created) - 1 > MAX_TRIAL_ID:
            raise InvalidValue(f"no trial numbers are left after {first - 1}; give number=, or go on in a new experiment.")
        staged: list[Staged] = []
        for stream, event in ((trial_stream(experiment_id, first + i), event) for i, event in enumerate(created)):
            check_ancestry(view, stream, event.parents)
            _check_dependencies(view, stream, event)
            staged.append((stream, event))
            staged += [] if course is None else [(stream, each) for each in course(view, stream, event)]
        return staged

    return command


def _check_dependencies(view: View, stream: str, event: ev.TrialCreated) -> None:
    """Refuse dependencies that do not exist, so that none can come round to the trial itself."""
    for each in event.depends_on:
        subject = subject_of(each) if type(each) is str else None
        if subject is None or subject.trial_id is None:
            raise InvalidValue(f"{each!r} is no trial to depend on; give a handle, or the .stream of one.")
        found = view.trial(subject.experiment_id, subject.trial_id)
        if found is None or found.deleted_at is not None:
            gone = "does not exist" if found is None else "was deleted"
            raise UnknownTrial(f"{stream} cannot depend on {each}, which {gone}. Create it first, or leave it out.")


def require_dependencies(view: View, stream: str, depends_on: Iterable[str]) -> None:
    """Refuse to begin a trial whose dependencies have not SUCCEEDED; a claim would not be handed it."""
    waits_for = [f"{each} ({standing(each, view.trial)})" for each in unmet_dependencies(depends_on, view.trial)]
    if waits_for:
        raise CommandRefused(f"{stream} waits until what it depends on has SUCCEEDED: {', '.join(waits_for)}.")


def trial_created(
    config: Mapping[str, Any], *, arms: Iterable[ev.Arm] = (), priority: int = 0,
    scheduled_at: int | None = None, max_attempts: int = 3, label: str = "", group: str = "",
    parents: Iterable[str] = (), assigned_to: str = "", depends_on: Iterable[str] = (),
) -> ev.TrialCreated:  # fmt: skip
    """Return the event that creates a trial, with its values checked."""
    if not isinstance(config, Mapping):
        raise InvalidValue(f"a config is a dict of parameters, not {config!r}.")
    for key in config:
        if type(key) is not str:
            raise InvalidValue(f"the config has the parameter name {key!r}; names are str. Use {str(key)!r}.")
    return ev.TrialCreated(
        dict(config), tuple(arms), priority, scheduled_at, max_attempts, label, group, tuple(parents), assigned_to,
        tuple(depends_on),
    )  # fmt: skip


def check_lease(lease_seconds: Any) -> float:
    """Return the lease as a float of seconds; InvalidValue unless positive and at most a year."""
    number = isinstance(lease_seconds, int | float) and not isinstance(lease_seconds, bool)
    if not number or not math.isfinite(lease_seconds) or not 0 < lease_seconds <= MAX_LEASE_SECONDS:
        raise InvalidValue(f"lease_seconds is {lease_seconds!r}; give a number of seconds above 0 and up to a year.")
    return float(lease_seconds)


def may_be_tried_again(state: TrialState) -> bool:
    """Say whether a trial whose lease has run out waits again."""
    return state.lost + 1 < state.max_attempts


def write_off(state: TrialState) -> list[Staged]:
    """Record that the trial was LOST, and that it waits again if it may be tried again."""
    events: list[Event] = [ev.TrialLost(state.attempt, state.worker or "", state.deadline or 0)]
    if may_be_tried_again(state):
        events.append(ev.TrialRequeued())
    return [(state.stream, event) for event in events]


def claimed(view: View, worker: str, attempt: int, lease_seconds: float) -> ev.TrialClaimed:
    """Return the event by which a worker takes a trial from now on."""
    return ev.TrialClaimed(worker, attempt, lease_seconds, view.now + int(lease_seconds * 1e9))


@portable
def start(experiment_id: UUID, trial_id: int, attempt: int | None, worker: str, lease_seconds: float) -> Command:
    """Start the trial under the attempt held; with None, claim this very trial first."""

    def command(view: View) -> list[Staged]:
        state = trial_of(view, experiment_id, trial_id)
        if attempt is not None:
            _require_lease(view, state, attempt)
            return [(state.stream, ev.TrialStarted(attempt))]
        staged: list[Staged] = []
        if state.deadline is not None and state.deadline < view.now:
            staged += write_off(state)
        elif state.status is not Status.PENDING:
            held = f" It is held by {state.worker}." if state.worker and not state.status.is_finished else ""
            raise InvalidTransition(state.stream, state.status, "TrialClaimed", allowed_events(state.status), held)
        require_dependencies(view, state.stream, state.depends_on)
        taken = claimed(view, worker, state.attempt + 1, lease_seconds)
        return [*staged, (state.stream, taken), (state.stream, ev.TrialStarted(taken.attempt))]

    return command


@portable
def renew(experiment_id: UUID, trial_id: int, attempt: int) -> Command:
    """Renew the lease of the attempt; nothing when the trial has ended by it; LeaseLost when it is another's."""

    def command(view: View) -> list[Staged]:
        state = trial_of(view, experiment_id, trial_id)
        if _ended_by(state, attempt):
            return []
        _require_lease(view, state, attempt)
        if state.deadline is None and not state.lease_seconds:  # it is held without a lease that could run out
            return []
        return [(state.stream, ev.LeaseRenewed(attempt, view.now + int(state.lease_seconds * 1e9)))]

    return command


@portable
def release(experiment_id: UUID, trial_id: int, attempt: int) -> Command:
    """Hand the trial back."""

    def command(view: View) -> list[Staged]:
        state = trial_of(view, experiment_id, trial_id)
        _require_lease(view, state, attempt)
        return [(state.stream, ev.TrialReleased(attempt))]

    return command


@portable
def finish(
    experiment_id: UUID, trial_id: int, attempt: int | None, event: Event, worker: str, expected_version: int | None = None
) -> Command:
    """End the trial with the event (TrialCompleted, TrialFailed, TrialPruned or TrialTimedOut).

    TrialCompleted becomes TrialFailed when a result is outside of its objective's bounds. A trial that nobody claimed is
    claimed and started in the same step. When the attempt has lost its lease, what it reports is kept as
    LateResultReceived instead; the caller must look which it was. ``expected_version`` comes second: what is late is kept.
    """

    def command(view: View) -> list[Staged]:
        state = trial_of(view, experiment_id, trial_id)
        staged: list[Staged] = []
        number = attempt
        if number is None:
            number = state.attempt + 1
            if state.status is Status.PENDING:
                require_dependencies(view, state.stream, state.depends_on)
                staged.append((state.stream, claimed(view, worker, number, 1.0)))
        elif _is_superseded(view, state, number) or (state.is_amended and state.status.is_finished):
            return [(state.stream, _late(number, event))]  # of an end that was amended it is not known whose it was
        check_version(view, state.stream, expected_version)
        if state.status in (Status.PENDING, Status.READY):
            staged.append((state.stream, ev.TrialStarted(number)))
        ended = within_bounds(view, experiment_id, event, state.results)
        return [*staged, (state.stream, msgspec.structs.replace(cast("Any", ended), attempt=number))]

    return command


def within_bounds(view: View, experiment_id: UUID, event: Event, known: Mapping[str, Any]) -> Event:
    """Return the event, or TrialFailed in place of a TrialCompleted with a result outside of its objective's bounds."""
    if not isinstance(event, ev.TrialCompleted):
        return event
    bounds = experiment_of(view, experiment_id).bounds
    problem = out_of_bounds(bounds, {**known, **event.results}) if bounds else None
    return event if problem is None else ev.TrialFailed(ev.ErrorInfo("ResultOutOfBounds", problem), event.results)


def _late(attempt: int, event: Any) -> ev.LateResultReceived:
    _, meant = TRANSITIONS.get(type(event), (None, Status.RUNNING))
    return ev.LateResultReceived(attempt, str(meant), event.results, getattr(event, "error", None))


@portable
def report(
    experiment_id: UUID, trial_id: int, attempt: int | None, results: dict[str, Any], expected_version: int | None = None
) -> Command:
    """Record results beside the trial's end; late ones, as ``finish`` does, when the attempt has lost its lease."""

    def command(view: View) -> list[Staged]:
        state = trial_of(view, experiment_id, trial_id)
        event = ev.ResultsReported(results, attempt or 0)
        if attempt is not None and _is_superseded(view, state, attempt):
            return [(state.stream, _late(attempt, event))]
        check_version(view, state.stream, expected_version)
        return [(state.stream, event)]

    return command


@portable
def configure(experiment_id: UUID, trial_id: int, attempt: int | None, parameters: dict[str, Any]) -> Command:
    """Add parameters to the config; LeaseLost when the attempt has lost its lease."""

    def command(view: View) -> list[Staged]:
        state = trial_of(view, experiment_id, trial_id)
        if attempt is not None:
            _require_lease(view, state, attempt)
        return [(state.stream, ev.TrialConfigured(parameters, attempt or 0))]

    return command


@portable
def cancel(experiment_id: UUID, trial_id: int) -> Command:
    """Call the trial off, whoever holds it."""
    return lambda view: [(trial_of(view, experiment_id, trial_id).stream, ev.TrialCanceled())]


@portable
def requeue(experiment_id: UUID, trial_id: int) -> Command:
    """Let an ended trial wait to be claimed again."""
    return lambda view: [(trial_of(view, experiment_id, trial_id).stream, ev.TrialRequeued())]


def force_status(experiment_id: UUID, trial_id: int, event: ev.StatusForced, reason: str | None) -> Command:
    """Set the status outside the rules; a reason is mandatory."""
    require_reason(reason, "a forced status", "the rules were left")
    return record_on_trial(experiment_id, trial_id, event)


@portable
def record_on_trial(experiment_id: UUID, trial_id: int, *events: Event) -> Command:
    """Append events to a trial's stream."""

    def command(view: View) -> list[Staged]:
        stream = trial_of(view, experiment_id, trial_id).stream
        return [(stream, event) for event in events]

    return command


def check_version(view: View, stream: str, expected_version: int | None) -> None:
    """Refuse when the stream is at another version than the writer believed."""
    version = view.version(stream)
    if expected_version is not None and version != expected_version:
        raise WrongExpectedVersion(stream, expected_version, version)


def trial_of(view: View, experiment_id: UUID, trial_id: int) -> TrialState:
    """Return the trial, deleted or not; raises UnknownTrial."""
    state = view.trial(experiment_id, trial_id)
    if state is None:
        raise UnknownTrial(f"there is no trial {trial_id} in experiment {experiment_id}.")
    return state


_BY_OTHERS = frozenset({Status.PENDING, Status.LOST, Status.CANCELED, Status.ABANDONED})


def _is_superseded(view: View, state: TrialState, attempt: int) -> bool:
    """Say whether the attempt was granted once and ended by somebody else than its worker."""
    if attempt < state.attempt or (attempt == state.attempt and state.status in _BY_OTHERS):
        return True
    return state.deleted_at is not None or experiment_of(view, state.experiment_id).deleted_at is not None


def _ended_by(state: TrialState, attempt: int) -> bool:
    return attempt == state.attempt and state.status.is_finished and state.status not in _BY_OTHERS


def _require_lease(view: View, state: TrialState, attempt: int) -> None:
    if _is_superseded(view, state, attempt):
        raise LeaseLost(state.stream, attempt, state.status, state.attempt, state.worker)
