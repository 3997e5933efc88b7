"""A trial that happened elsewhere, as the events that would have recorded it here."""

from __future__ import annotations

from collections.abc import Callable, Mapping
from typing import Any, NamedTuple
from uuid import UUID

from ledger import events as ev
from ledger.backends.base import Command, Staged, Submission, View
from ledger.commands import experiment_of
from ledger.integrations.mlos.telemetry import Point, telemetry_events
from ledger.log import EventLog
from ledger.registry import Event
from ledger.state import Status
from ledger.streams import trial_stream

#: How a trial that ran has ended: from its results and the attempt to the event.
_ENDS: dict[Status, Callable[[dict[str, Any], int], Event]] = {
    Status.SUCCEEDED: ev.TrialCompleted,
    Status.FAILED: lambda results, attempt: ev.TrialFailed(None, results, attempt),
    Status.TIMED_OUT: ev.TrialTimedOut,
    Status.PRUNED: ev.TrialPruned,
}
_ATTEMPT = 1  # that a forced RUNNING begins


class PastTrial(NamedTuple):
    """What is known of a trial; times are ns since 1970 UTC, None where nobody said.

    ``attributes`` are by namespace; ``number`` is None for the next free one.
    """

    number: int | None
    config: dict[str, Any]
    status: Status
    created_at: int | None
    started_at: int | None
    ended_at: int | None
    results: dict[str, Any]
    attributes: Mapping[str, dict[str, Any]] = {}
    scheduled_at: int | None = None
    parents: tuple[str, ...] = ()
    points: tuple[Point, ...] = ()


def record_past_trial(log: EventLog, experiment_id: UUID, trial: PastTrial, reason: str) -> list[Submission]:
    """Return what records the trial with its times; to be committed together, in this order."""
    stream = ""

    def create(view: View) -> list[Staged]:
        nonlocal stream
        number = experiment_of(view, experiment_id).next_trial_id if trial.number is None else trial.number
        stream = trial_stream(experiment_id, number)  # what comes next goes there, too
        created = ev.TrialCreated(trial.config, parents=tuple(trial.parents), scheduled_at=trial.scheduled_at)
        said = [ev.AttributesSet(values, namespace) for namespace, values in trial.attributes.items() if values]
        return [(stream, event) for event in [created, *said]]

    def then(events: list[Event]) -> Command:
        return lambda view: [(stream, event) for event in events]

    steps = [*course(trial), (list[Event](telemetry_events(trial.points, 0)), None)]
    return [
        log.submission(create, reason=reason, occurred_at=trial.created_at),
        *(log.submission(then(events), reason=reason, occurred_at=at) for events, at in steps if events),
    ]


def course(trial: PastTrial, attempt: int = 0) -> list[tuple[list[Event], int | None]]:
    """Return how a trial that waits came to its status, as steps of events at a time; ``attempt`` is the last one it had."""
    status, began = trial.status, trial.started_at
    if status is Status.PENDING:
        return []
    running: list[tuple[list[Event], int | None]] = [([ev.StatusForced(Status.RUNNING)], began)]
    if status in _ENDS:
        return [*running, ([_ENDS[status](trial.results, attempt + _ATTEMPT)], trial.ended_at)]
    reported: list[Event] = [ev.ResultsReported(trial.results)] if trial.results else []
    if status is Status.CANCELED:
        return [*(running if began is not None else []), ([*reported, ev.TrialCanceled()], trial.ended_at)]
    return [([ev.StatusForced(status, trial.results)], began if trial.ended_at is None else trial.ended_at)]
