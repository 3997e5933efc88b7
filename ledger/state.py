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

An experiment that is sealed refuses every event until ExperimentUnsealed; one that is deleted, and a deleted trial, until
ExperimentRestored or TrialRestored. Evidence from workers that did not know is taken all the same.
"""

from __future__ import annotations

from collections.abc import Callable
from typing import Any

import msgspec

from ledger import events as ev
from ledger.assignments import AT, NOTHING, ONE_MORE, Assignments, Change, Given, Merged, change_by
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
from ledger.rules import (
    MAX_TIME,
    VALUE_CHECKS,
    check_capture,
    check_created,
    check_deleted,
    check_experiment,
    check_name,
    check_open,
    check_parents,
)
from ledger.status import ENDED, HELD, UNFINISHED, ExperimentState, Status, TrialState
from ledger.streams import CAPTURES, Subject, subject_of, trial_stream
from ledger.values import with_article

__all__ = [
    "MAX_TIME", "TRANSITIONS", "TRIAL_ASSIGNMENTS", "ExperimentState", "Status", "TrialState", "allowed_events", "check_stream",
    "claim_order", "evolve_as_recorded", "evolve_experiment", "evolve_trial",
]  # fmt: skip

#: event type -> (statuses in which it may happen, status after it; None leaves it). Types not listed may always happen.
TRANSITIONS: dict[type[Event], tuple[frozenset[Status], Status | None]] = {
    ev.TrialClaimed: (frozenset({Status.PENDING}), Status.READY),
    ev.TrialStarted: (frozenset({Status.READY}), Status.RUNNING),
    ev.TrialReleased: (HELD, Status.PENDING),
    ev.TrialLost: (HELD, Status.LOST),
    ev.TrialRequeued: (ENDED - {Status.SUCCEEDED}, Status.PENDING),
    ev.TrialCompleted: (frozenset({Status.RUNNING}), Status.SUCCEEDED),
    ev.TrialFailed: (HELD, Status.FAILED),
    ev.TrialPruned: (frozenset({Status.RUNNING}), Status.PRUNED),
    ev.TrialTimedOut: (HELD, Status.TIMED_OUT),
    ev.TrialCanceled: (UNFINISHED, Status.CANCELED),
    ev.TrialAbandoned: (UNFINISHED | {Status.LOST}, Status.ABANDONED),
    ev.LeaseRenewed: (HELD, None),
    ev.TrialConfigured: (UNFINISHED, None),
}

#: Of the attempt that the trial is at; and those that may also be of none.
_BY_ATTEMPT = (
    ev.TrialStarted, ev.TrialReleased, ev.TrialLost, ev.TrialCompleted, ev.TrialFailed, ev.TrialPruned, ev.TrialTimedOut,
    ev.LeaseRenewed,
)  # fmt: skip
_BY_ATTEMPT_OR_NONE = (ev.ResultsReported, ev.TrialConfigured)


# ------------------------------------------------------------------------------------------------------ experiments


def evolve_experiment(state: ExperimentState | None, subject: Subject, event: Event, at: int) -> ExperimentState:
    """Return the experiment after one more event of its own stream or of one of its trials.

    Raises CommandRefused when the event cannot happen to an experiment in that state.
    """
    if isinstance(event, ev.ExperimentCreated) and subject.trial_id is None:
        if state is not None:
            raise ExperimentExists(f"experiment {subject.experiment_id} exists already, as {state.name!r}.")
        check_name(subject, event.name)
        check_parents(subject, event.parents)
        return ExperimentState(
            subject.experiment_id, event.name, dict(event.objectives), event.description, at, bounds=dict(event.bounds),
            parents=tuple(event.parents),
        )  # fmt: skip
    _refuse_newer(event)
    if state is None:
        cure = "create it before its trials" if subject.trial_id is not None else "its first event is ExperimentCreated"
        raise UnknownExperiment(f"there is no experiment {subject.experiment_id}; {cure}.")
    if state.deleted_at is not None or state.sealed_at is not None:
        check_open(state, event)
    if subject.trial_id is not None:
        if isinstance(event, ev.TrialCreated) and subject.trial_id >= state.next_trial_id:
            return msgspec.structs.replace(state, next_trial_id=subject.trial_id + 1)
        return state
    change = _EXPERIMENT_CHANGES.get(type(event))
    if change is None:
        if type(event) in _TRIAL_ONLY:
            raise InvalidValue(f"{type(event).__name__} is an event of a trial; append it to the trial's stream.")
        return state
    check_experiment(state, subject, event)
    changes = change(state, event, at)
    return msgspec.structs.replace(state, **changes) if changes else state


def _refuse_newer(event: Event) -> None:
    """Raise for an event of the vocabulary in a form this version cannot read: the state after it is not known."""
    if isinstance(event, UnknownEvent) and event.type in ev.VOCABULARY:
        raise UnsupportedFormat(
            f"{with_article(event.type)} was recorded with schema {event.schema}, which this version cannot read "
            f"({event.problem}). Upgrade: pip install -U experiment-ledger."
        )


def _set_attributes(state: ExperimentState | TrialState, event: ev.AttributesSet) -> dict[str, Any]:
    space = {**state.attributes.get(event.namespace, {}), **event.attributes}
    for key, value in event.attributes.items():
        if value is None and key not in event.nulls:
            del space[key]
    others = {name: values for name, values in state.attributes.items() if name != event.namespace}
    return {"attributes": {**others, event.namespace: space} if space else others}


def _change_tags(state: ExperimentState | TrialState, event: ev.TagsChanged) -> dict[str, Any]:
    return {"tags": tuple(sorted((set(state.tags) | set(event.added)) - set(event.removed)))}


def _nothing(state: Any, event: Any, at: int) -> dict[str, Any]:
    return {}


#: What an experiment and a trial have in common.
_COMMON_CHANGES: dict[type[Event], Change] = {
    ev.AttributesSet: lambda state, event, at: _set_attributes(state, event),
    ev.TagsChanged: lambda state, event, at: _change_tags(state, event),
    ev.ParentsSet: lambda state, event, at: {"parents": tuple(event.parents)},
    ev.NoteAdded: _nothing,
    ev.NoteAmended: _nothing,
    ev.EnvironmentCaptured: _nothing,
    ev.ArtifactLogged: _nothing,
    ev.PayloadRedacted: _nothing,  # what it drops is dropped from the records themselves, which are folded again
    ev.ExperimentsMerged: _nothing,
}

_EXPERIMENT_CHANGES: dict[type[Event], Callable[[ExperimentState, Any, int], dict[str, Any]]] = {
    **_COMMON_CHANGES,
    ev.ExperimentRenamed: lambda state, event, at: {"name": event.name},
    ev.ExperimentDescribed: lambda state, event, at: {"description": event.description},
    ev.ObjectivesChanged: lambda state, event, at: {"objectives": dict(event.objectives), "bounds": dict(event.bounds)},
    ev.ExperimentPaused: lambda state, event, at: {"paused_at": at},
    ev.ExperimentResumed: lambda state, event, at: {"paused_at": None},
    ev.ExperimentSealed: lambda state, event, at: {"sealed_at": at},
    ev.ExperimentUnsealed: lambda state, event, at: {"sealed_at": None},
    ev.ExperimentDeleted: lambda state, event, at: {"deleted_at": at},
    ev.ExperimentRestored: lambda state, event, at: {"deleted_at": None, "name": event.name or state.name},
    ev.EnvironmentChanged: lambda state, event, at: {"captures": {**state.captures, **event.after}},
}


# ------------------------------------------------------------------------------------------------------------ trials


def evolve_trial(state: TrialState | None, subject: Subject, event: Event, at: int, *, is_checked: bool = False) -> TrialState:
    """Return the trial after one more event of its stream, recorded (or said to have happened) at ``at``.

    Raises InvalidTransition when the trial's status forbids the event, naming what is allowed; unless ``is_checked``: a
    table that folds what the log has accepted need not ask again.
    """
    if isinstance(event, ev.TrialCreated):
        if state is not None:
            raise TrialExists(f"{state.stream} exists already. Leave the number out to get the next free one.")
        if not is_checked:
            check_created(subject, event)
        return TrialState(subject.experiment_id, subject.trial_id or 0, **_created(None, event, at))
    change = _TRIAL_CHANGES.get(type(event))
    if change is None:
        _refuse_newer(event)
    if state is None:
        stream = trial_stream(subject.experiment_id, subject.trial_id or 0)
        raise UnknownTrial(f"there is no {stream}; its first event is TrialCreated.")
    if not is_checked:
        _check_transition(state, subject, event)
    if change is None:
        if type(event) in _EXPERIMENT_ONLY:
            raise InvalidValue(f"{type(event).__name__} is an event of an experiment; append it to the experiment's stream.")
        return state
    changes = change(state, event, at)
    return msgspec.structs.replace(state, **changes) if changes else state


def evolve_as_recorded(state: TrialState | None, subject: Subject, event: Event, at: int) -> TrialState | None:
    """Return the trial after one more event that the log has accepted, as if nothing of it had been amended."""
    return state if isinstance(event, ev.TrialAmended) else evolve_trial(state, subject, event, at, is_checked=True)


def allowed_events(status: Status) -> list[str]:
    """Name the event types that may change a trial of this status."""
    return sorted(cls.__name__ for cls, (sources, _) in TRANSITIONS.items() if status in sources)


def claim_order(state: TrialState) -> tuple[int, int, int]:
    """Return the trial's place among those that wait: higher priority first, then the earlier, then the lower number."""
    return -state.priority, state.scheduled_at or state.created_at, state.id


def _check_transition(state: TrialState, subject: Subject, event: Event) -> None:
    if state.deleted_at is not None:
        check_deleted(state, event)
    sources, _ = TRANSITIONS.get(type(event), (None, None))
    name = type(event).__name__
    if sources is not None and state.status not in sources:
        raise InvalidTransition(state.stream, state.status, name, allowed_events(state.status))
    if isinstance(event, _BY_ATTEMPT) and event.attempt != state.attempt:
        hint = f" It is of attempt {event.attempt}, but the trial is at attempt {state.attempt}."
        raise InvalidTransition(state.stream, state.status, name, allowed_events(state.status), hint)
    if isinstance(event, _BY_ATTEMPT_OR_NONE) and event.attempt not in (0, state.attempt):
        hint = f" It is of attempt {event.attempt}, but the trial is at attempt {state.attempt}."
        raise InvalidTransition(state.stream, state.status, name, allowed_events(state.status), hint)
    check = VALUE_CHECKS.get(type(event))
    if check is not None:
        check(state, subject, event)


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


def _amended(state: TrialState, event: ev.TrialAmended, at: int) -> dict[str, Any]:
    kept = {name: value for name, value in state.results.items() if name not in event.withdrawn}
    changes: dict[str, Any] = {"results": {**kept, **event.results}, "is_amended": True}
    if event.config:
        changes["config"] = {**state.config, **event.config}
    if event.label is not None:
        changes["label"] = event.label
    if event.status is not None:
        changes["status"] = Status(event.status)
    return changes


def _deleted(state: TrialState, event: Any, at: int) -> dict[str, Any]:
    """Whoever holds it has lost it; when it is restored, it has been called off. One that waits will wait again."""
    if state.status in HELD:
        return {"status": Status.CANCELED, "ended_at": at, "deadline": None, "deleted_at": at}
    return {"deleted_at": at}


def _assignments(kind: type[Event], **others: Any) -> Assignments:
    """Return an event's assignments with the status that it leads to."""
    _, status = TRANSITIONS.get(kind, (None, None))
    return {"status": status, **others} if status is not None else others


def _end(kind: type[Event], **others: Any) -> Assignments:
    return _assignments(kind, ended_at=AT, deadline=None, **others)


def _waiting_again(kind: type[Event]) -> Assignments:
    return _assignments(
        kind, worker=None, deadline=None, lease_seconds=0.0, started_at=None, ended_at=None, results=NOTHING, error=None
    )


#: What becomes of a trial by the events that do not ask how it stood: of one state, or of columns of many trials.
TRIAL_ASSIGNMENTS: dict[type[Event], Assignments] = {
    ev.TrialCreated: {
        "status": Status.PENDING, "config": Given("config", dict), "arms": Given("arms", tuple), "priority": Given("priority"),
        "scheduled_at": Given("scheduled_at"), "max_attempts": Given("max_attempts"), "created_at": AT, "label": Given("label"),
        "group": Given("group"), "parents": Given("parents", tuple), "assigned_to": Given("assigned_to"),
        "depends_on": Given("depends_on", tuple),
    },
    ev.TrialConfigured: {"config": Merged("parameters")},
    ev.TrialAssigned: {"assigned_to": Given("assigned_to")},
    ev.TrialClaimed: _assignments(
        ev.TrialClaimed, attempt=Given("attempt"), worker=Given("worker"), lease_seconds=Given("lease_seconds"),
        deadline=Given("deadline"), ended_at=None, error=None,
    ),
    ev.LeaseRenewed: {"deadline": Given("deadline")},
    ev.TrialReleased: _waiting_again(ev.TrialReleased),
    ev.TrialLost: _end(ev.TrialLost, lost=ONE_MORE),
    ev.TrialRequeued: _waiting_again(ev.TrialRequeued),
    ev.TrialStarted: _assignments(ev.TrialStarted, started_at=AT),
    ev.TrialCompleted: _end(ev.TrialCompleted, results=Merged("results")),
    ev.TrialFailed: _end(ev.TrialFailed, results=Merged("results"), error=Given("error")),
    ev.TrialPruned: _end(ev.TrialPruned, results=Merged("results")),
    ev.TrialCanceled: _end(ev.TrialCanceled),
    ev.TrialTimedOut: _end(ev.TrialTimedOut, results=Merged("results")),
    ev.TrialAbandoned: _end(ev.TrialAbandoned),
    ev.ResultsReported: {"results": Merged("results")},
    ev.TrialGrouped: {"group": Given("group")},
    ev.TrialRestored: {"deleted_at": None},
}  # fmt: skip
_created = change_by(TRIAL_ASSIGNMENTS[ev.TrialCreated])

_TRIAL_CHANGES: dict[type[Event], Change] = {
    **_COMMON_CHANGES,
    **{kind: change_by(assignments) for kind, assignments in TRIAL_ASSIGNMENTS.items() if kind is not ev.TrialCreated},
    ev.StatusForced: _forced,
    ev.TrialAmended: _amended,
    ev.TrialDeleted: _deleted,
    ev.LateResultReceived: _nothing,
    ev.MetricsLogged: _nothing,
    ev.TelemetryLogged: _nothing,
    ev.TrialCaptured: _nothing,
}

_TRIAL_ONLY = (_TRIAL_CHANGES.keys() | {ev.TrialCreated}) - _EXPERIMENT_CHANGES.keys()
_EXPERIMENT_ONLY = (_EXPERIMENT_CHANGES.keys() | {ev.ExperimentCreated}) - _TRIAL_CHANGES.keys()
_OWNED = _TRIAL_ONLY | _EXPERIMENT_ONLY | {ev.ArtifactLogged}  # what belongs in no other stream


def check_stream(stream: str, event: Event) -> Subject | None:
    """Say whom the event is about, as ``subject_of``; InvalidValue when the event's type does not belong in the stream."""
    subject = subject_of(stream)
    if subject is None and type(event) in _OWNED:
        raise InvalidValue(
            f"{type(event).__name__} belongs in the stream of an experiment or a trial, not in {stream!r}. "
            "Record it through the experiment or trial handle."
        )
    if isinstance(event, ev.CaptureStored) or stream.startswith(CAPTURES):
        check_capture(stream, event)
    return subject
