"""What each event means, said once.

``evolve_trial`` and ``evolve_experiment`` are pure: (state, event, when) -> state. Commands use them to reject what may
not happen, tables to show what did, and the verifier to check the states that the log keeps beside it.

The status machine::

    PENDING --TrialClaimed--> READY --TrialStarted--> RUNNING --TrialCompleted--> SUCCEEDED
       ^                        |                        |----TrialFailed-------> FAILED
       |------TrialReleased-----+------------------------|----TrialPruned-------> PRUNED
       |                        |                        |----TrialTimedOut-----> TIMED_OUT
       |------TrialRequeued--- LOST <------TrialLost-----+    TrialCanceled ----> CANCELED
                                                              TrialAbandoned ---> ABANDONED
                                                              StatusForced -----> any
"""

from __future__ import annotations

import enum
from collections.abc import Callable
from typing import Any, Literal
from uuid import UUID

import msgspec

from ledger import events as ev
from ledger.errors import (
    ExperimentExists,
    InvalidTransition,
    InvalidValue,
    TrialExists,
    UnknownExperiment,
    UnknownTrial,
    UnsupportedFormat,
)
from ledger.registry import Event, UnknownEvent
from ledger.streams import Subject, subject_of, trial_stream


class Status(enum.StrEnum):
    """Where a trial stands. UNKNOWN is for imports that cannot say."""

    PENDING = "PENDING"
    READY = "READY"
    RUNNING = "RUNNING"
    SUCCEEDED = "SUCCEEDED"
    FAILED = "FAILED"
    PRUNED = "PRUNED"
    CANCELED = "CANCELED"
    TIMED_OUT = "TIMED_OUT"
    LOST = "LOST"
    ABANDONED = "ABANDONED"
    UNKNOWN = "UNKNOWN"

    @property
    def is_finished(self) -> bool:
        """Whether nothing more is expected to happen to the trial."""
        return self not in _UNFINISHED


_UNFINISHED = frozenset({Status.PENDING, Status.READY, Status.RUNNING})
_HELD = frozenset({Status.READY, Status.RUNNING})  # a worker has a lease on it
_ENDED = frozenset(Status) - _UNFINISHED

#: event type -> (statuses in which it may happen, status after it; None leaves it). Types not listed may always happen.
TRANSITIONS: dict[type[Event], tuple[frozenset[Status], Status | None]] = {
    ev.TrialClaimed: (frozenset({Status.PENDING}), Status.READY),
    ev.TrialStarted: (frozenset({Status.READY}), Status.RUNNING),
    ev.TrialReleased: (_HELD, Status.PENDING),
    ev.TrialLost: (_HELD, Status.LOST),
    ev.TrialRequeued: (_ENDED - {Status.SUCCEEDED}, Status.PENDING),
    ev.TrialCompleted: (frozenset({Status.RUNNING}), Status.SUCCEEDED),
    ev.TrialFailed: (_HELD, Status.FAILED),
    ev.TrialPruned: (frozenset({Status.RUNNING}), Status.PRUNED),
    ev.TrialTimedOut: (_HELD, Status.TIMED_OUT),
    ev.TrialCanceled: (_UNFINISHED, Status.CANCELED),
    ev.TrialAbandoned: (_UNFINISHED | {Status.LOST}, Status.ABANDONED),
    ev.LeaseRenewed: (_HELD, None),
    ev.TrialConfigured: (_UNFINISHED, None),
}

_BY_ATTEMPT = (
    ev.TrialStarted | ev.TrialReleased | ev.TrialLost | ev.TrialCompleted | ev.TrialFailed | ev.TrialPruned
    | ev.TrialTimedOut | ev.LeaseRenewed
)  # fmt: skip


class ExperimentState(msgspec.Struct, frozen=True, omit_defaults=True):
    """An experiment as its events left it."""

    id: UUID
    name: str
    objectives: dict[str, Literal["min", "max"]] = {}
    description: str = ""
    created_at: int = 0
    next_trial_id: int = 1
    tags: tuple[str, ...] = ()
    attributes: dict[str, dict[str, Any]] = {}


class TrialState(msgspec.Struct, frozen=True, omit_defaults=True):
    """A trial as its events left it; times are ns since 1970 UTC."""

    experiment_id: UUID
    id: int
    status: Status
    config: dict[str, Any]
    arms: list[ev.Arm] = []
    priority: int = 0
    scheduled_at: int | None = None
    max_attempts: int = 3
    attempt: int = 0  # the last one granted
    lost: int = 0  # attempts that ended in LOST
    worker: str | None = None
    lease_seconds: float = 0.0
    deadline: int | None = None
    created_at: int = 0
    started_at: int | None = None
    ended_at: int | None = None
    results: dict[str, Any] = {}
    error: ev.ErrorInfo | None = None
    tags: tuple[str, ...] = ()
    attributes: dict[str, dict[str, Any]] = {}

    @property
    def stream(self) -> str:
        """The name of the trial's stream."""
        return trial_stream(self.experiment_id, self.id)


MAX_PRIORITY = 2**31 - 1
MAX_TIME = 2**63 - 1  # ns since 1970 UTC: the year 2262


# ------------------------------------------------------------------------------------------------------ experiments


def evolve_experiment(state: ExperimentState | None, subject: Subject, event: Event, at: int) -> ExperimentState:
    """Return the experiment after one more event of its own stream or of one of its trials.

    Raises CommandRefused when the event cannot happen to an experiment in that state.
    """
    if subject.trial_id is not None:
        if state is None:
            raise UnknownExperiment(f"there is no experiment {subject.experiment_id}; create it before its trials.")
        if isinstance(event, ev.TrialCreated) and subject.trial_id >= state.next_trial_id:
            return msgspec.structs.replace(state, next_trial_id=subject.trial_id + 1)
        return state
    if isinstance(event, ev.ExperimentCreated):
        if state is not None:
            raise ExperimentExists(f"experiment {subject.experiment_id} exists already, as {state.name!r}.")
        return ExperimentState(subject.experiment_id, event.name, dict(event.objectives), event.description, at)
    _refuse_newer(event)
    if state is None:
        raise UnknownExperiment(f"there is no experiment {subject.experiment_id}; its first event is ExperimentCreated.")
    change = _EXPERIMENT_CHANGES.get(type(event))
    if change is None:
        if type(event) in _TRIAL_ONLY:
            raise InvalidValue(f"{type(event).__name__} is an event of a trial; append it to the trial's stream.")
        return state
    changes = change(state, event)
    return msgspec.structs.replace(state, **changes) if changes else state


def _refuse_newer(event: Event) -> None:
    """Raise for an event of the vocabulary in a form this version cannot read: the state after it is not known."""
    if isinstance(event, UnknownEvent) and event.type in ev.VOCABULARY:
        raise UnsupportedFormat(
            f"a {event.type} was recorded with schema {event.schema}, which this version cannot read ({event.problem}). "
            "Upgrade: pip install -U experiment-ledger."
        )


def _set_attributes(state: ExperimentState | TrialState, event: ev.AttributesSet) -> dict[str, Any]:
    space = {**state.attributes.get(event.namespace, {}), **event.attributes}
    space = {key: value for key, value in space.items() if value is not None}
    others = {name: values for name, values in state.attributes.items() if name != event.namespace}
    return {"attributes": {**others, event.namespace: space} if space else others}


def _change_tags(state: ExperimentState | TrialState, event: ev.TagsChanged) -> dict[str, Any]:
    return {"tags": tuple(sorted((set(state.tags) | set(event.added)) - set(event.removed)))}


_EXPERIMENT_CHANGES: dict[type[Event], Callable[[ExperimentState, Any], dict[str, Any]]] = {
    ev.ExperimentRenamed: lambda state, event: {"name": event.name},
    ev.ExperimentDescribed: lambda state, event: {"description": event.description},
    ev.ObjectivesChanged: lambda state, event: {"objectives": dict(event.objectives)},
    ev.AttributesSet: _set_attributes,
    ev.TagsChanged: _change_tags,
    ev.NoteAdded: lambda state, event: {},
    ev.EnvironmentCaptured: lambda state, event: {},
}


# ------------------------------------------------------------------------------------------------------------ trials


def evolve_trial(state: TrialState | None, subject: Subject, event: Event, at: int) -> TrialState:
    """Return the trial after one more event of its stream, recorded (or said to have happened) at ``at``.

    Raises InvalidTransition when the trial's status forbids the event, naming what is allowed.
    """
    if isinstance(event, ev.TrialCreated):
        if state is not None:
            raise TrialExists(f"{state.stream} exists already. Leave the number out to get the next free one.")
        return _created(subject, event, at)
    _refuse_newer(event)
    if state is None:
        stream = trial_stream(subject.experiment_id, subject.trial_id or 0)
        raise UnknownTrial(f"there is no {stream}; its first event is TrialCreated.")
    _check_transition(state, event)
    change = _TRIAL_CHANGES.get(type(event))
    if change is None:
        if type(event) in _EXPERIMENT_ONLY:
            raise InvalidValue(f"{type(event).__name__} is an event of an experiment; append it to the experiment's stream.")
        return state
    changes = change(state, event, at)
    return msgspec.structs.replace(state, **changes) if changes else state


def allowed_events(status: Status) -> list[str]:
    """Name the event types that may change a trial of this status."""
    return sorted(cls.__name__ for cls, (sources, _) in TRANSITIONS.items() if status in sources)


def claim_order(state: TrialState) -> tuple[int, int, int]:
    """Return the trial's place among those that wait: higher priority first, then the earlier, then the lower number."""
    return -state.priority, state.scheduled_at or state.created_at, state.id


def _check_transition(state: TrialState, event: Event) -> None:
    sources, _ = TRANSITIONS.get(type(event), (None, None))
    name = type(event).__name__
    if sources is not None and state.status not in sources:
        raise InvalidTransition(state.stream, state.status, name, allowed_events(state.status))
    if isinstance(event, _BY_ATTEMPT) and event.attempt != state.attempt:
        hint = f" It is of attempt {event.attempt}, but the trial is at attempt {state.attempt}."
        raise InvalidTransition(state.stream, state.status, name, allowed_events(state.status), hint)
    if isinstance(event, ev.ResultsReported | ev.TrialConfigured) and event.attempt not in (0, state.attempt):
        hint = f" It is of attempt {event.attempt}, but the trial is at attempt {state.attempt}."
        raise InvalidTransition(state.stream, state.status, name, allowed_events(state.status), hint)
    if isinstance(event, ev.TrialClaimed) and event.attempt != state.attempt + 1:
        raise InvalidValue(f"a claim of {state.stream} is attempt {state.attempt + 1}, not {event.attempt}.")
    if isinstance(event, ev.TrialClaimed | ev.LeaseRenewed):
        _check_number("deadline", event.deadline, 0, MAX_TIME)
    if isinstance(event, ev.TrialConfigured):
        twice = sorted(key for key, value in event.parameters.items() if key in state.config and state.config[key] != value)
        if twice:
            raise InvalidValue(f"{state.stream} has {twice[0]!r} = {state.config[twice[0]]!r} already; a parameter is set once.")
    if isinstance(event, ev.StatusForced) and event.status not in Status.__members__:
        raise InvalidValue(f"{event.status!r} is no trial status; use one of {', '.join(Status)}.")


def _check_number(what: str, value: int | None, low: int, high: int) -> None:
    if value is not None and not (type(value) is int and low <= value <= high):
        raise InvalidValue(f"{what} is {value!r}; give an int between {low} and {high}.")


def _created(subject: Subject, event: ev.TrialCreated, at: int) -> TrialState:
    _check_number("priority", event.priority, -MAX_PRIORITY, MAX_PRIORITY)
    _check_number("scheduled_at", event.scheduled_at, 0, MAX_TIME)
    _check_number("max_attempts", event.max_attempts, 1, MAX_PRIORITY)
    return TrialState(
        experiment_id=subject.experiment_id,
        id=subject.trial_id or 0,
        status=Status.PENDING,
        config=dict(event.config),
        arms=event.arms,
        priority=event.priority,
        scheduled_at=event.scheduled_at,
        max_attempts=event.max_attempts,
        created_at=at,
    )


def _claimed(state: TrialState, event: ev.TrialClaimed, at: int) -> dict[str, Any]:
    return {
        "status": Status.READY,
        "attempt": event.attempt,
        "worker": event.worker,
        "lease_seconds": event.lease_seconds,
        "deadline": event.deadline,
        "ended_at": None,
        "error": None,
    }


def _ended(state: TrialState, event: Any, at: int) -> dict[str, Any]:
    status = TRANSITIONS[type(event)][1]
    changes: dict[str, Any] = {"status": status, "ended_at": at, "deadline": None}
    results = getattr(event, "results", None)
    if results:
        changes["results"] = {**state.results, **results}
    if isinstance(event, ev.TrialFailed):
        changes["error"] = event.error
    if isinstance(event, ev.TrialLost):
        changes["lost"] = state.lost + 1
    return changes


def _waiting_again(state: TrialState, event: Any, at: int) -> dict[str, Any]:
    return {
        "status": Status.PENDING, "worker": None, "deadline": None, "lease_seconds": 0.0, "started_at": None, "ended_at": None,
        "results": {}, "error": None,
    }  # fmt: skip


def _forced(state: TrialState, event: ev.StatusForced, at: int) -> dict[str, Any]:
    status = Status(event.status)
    # Always a new attempt: whoever holds the trial has lost it, and reports late.
    changes: dict[str, Any] = {
        "status": status, "results": {**state.results, **event.results}, "deadline": None, "attempt": state.attempt + 1,
    }  # fmt: skip
    if status.is_finished:
        return {**changes, "ended_at": at}
    if status is Status.PENDING:
        return {**changes, "worker": None, "started_at": None, "ended_at": None}
    # Held by whoever forced it, without a lease that could run out: an import knows no deadline.
    return {**changes, "ended_at": None, "started_at": at if status is Status.RUNNING else None}


def _reported(state: TrialState, event: ev.ResultsReported, at: int) -> dict[str, Any]:
    return {"results": {**state.results, **event.results}}


def _nothing(state: TrialState, event: Any, at: int) -> dict[str, Any]:
    return {}


_TRIAL_CHANGES: dict[type[Event], Callable[[TrialState, Any, int], dict[str, Any]]] = {
    ev.TrialConfigured: lambda state, event, at: {"config": {**state.config, **event.parameters}},
    ev.TrialClaimed: _claimed,
    ev.LeaseRenewed: lambda state, event, at: {"deadline": event.deadline},
    ev.TrialReleased: _waiting_again,
    ev.TrialLost: _ended,
    ev.TrialRequeued: _waiting_again,
    ev.TrialStarted: lambda state, event, at: {"status": Status.RUNNING, "started_at": at},
    ev.TrialCompleted: _ended,
    ev.TrialFailed: _ended,
    ev.TrialPruned: _ended,
    ev.TrialCanceled: _ended,
    ev.TrialTimedOut: _ended,
    ev.TrialAbandoned: _ended,
    ev.StatusForced: _forced,
    ev.ResultsReported: _reported,
    ev.LateResultReceived: _nothing,
    ev.MetricsLogged: _nothing,
    ev.TelemetryLogged: _nothing,
    ev.AttributesSet: lambda state, event, at: _set_attributes(state, event),
    ev.TagsChanged: lambda state, event, at: _change_tags(state, event),
    ev.NoteAdded: _nothing,
    ev.EnvironmentCaptured: _nothing,
}

_TRIAL_ONLY = (_TRIAL_CHANGES.keys() | {ev.TrialCreated}) - _EXPERIMENT_CHANGES.keys()
_EXPERIMENT_ONLY = (_EXPERIMENT_CHANGES.keys() | {ev.ExperimentCreated}) - _TRIAL_CHANGES.keys()


def check_stream(stream: str, event: Event) -> Subject | None:
    """Say whom the event is about, as ``subject_of``; InvalidValue when the event's type does not belong in the stream."""
    subject = subject_of(stream)
    if subject is None and (type(event) in _TRIAL_ONLY or type(event) in _EXPERIMENT_ONLY):
        raise InvalidValue(
            f"{type(event).__name__} belongs in the stream of an experiment or a trial, not in {stream!r}. "
            "Record it through the experiment or trial handle."
        )
    return subject
