"""A history with a record of every type of the vocabulary, in which everything that people put in holds a secret."""

from __future__ import annotations

from uuid import UUID

import ledger
from ledger import Arm, Bounds, ErrorInfo, Points
from ledger.events import VOCABULARY
from ledger.streams import capture_digest, capture_stream, experiment_stream, trial_stream

SECRET = "hunter2-Ω"
EXPERIMENT = UUID("01890000-0000-7000-8000-00000000e0e0")
STREAM = experiment_stream(EXPERIMENT)
FAR = 2**62

_open = {SECRET: SECRET}
_digest = capture_digest(_open)
_error = ErrorInfo(SECRET, SECRET, SECRET)
_points = [Points([SECRET], [1], [1], [[SECRET]])]


def _trial(number: int) -> str:
    return trial_stream(EXPERIMENT, number)


def _held(number: int, attempt: int, *then: ledger.Event) -> list[tuple[str, ledger.Event]]:
    """Return the events of one attempt of a trial, and what comes after it."""
    begin = [ledger.TrialClaimed("w", attempt, 60.0, FAR), ledger.TrialStarted(attempt)]
    return [(_trial(number), event) for event in (*begin, *then)]


def everything() -> list[tuple[str, ledger.Event]]:
    """Return the events, with their streams, in an order that the state machine takes."""
    experiment: list[ledger.Event] = [
        ledger.ExperimentCreated(f"{SECRET} 1", {SECRET: "min"}, SECRET, {SECRET: Bounds(0, 1)}),
        ledger.ExperimentRenamed(f"{SECRET} 2"),
        ledger.ExperimentDescribed(SECRET),
        ledger.ObjectivesChanged({SECRET: "max"}, {SECRET: Bounds(0, 2)}),
        ledger.ExperimentPaused(),
        ledger.ExperimentResumed(),
        ledger.ExperimentPaused(),
        ledger.ExperimentSealed(),
        ledger.ExperimentUnsealed(),
        ledger.ExperimentDeleted(),
        ledger.ExperimentRestored(f"{SECRET} 3"),
        ledger.EnvironmentChanged(1, {"git": _digest}, {"git": "0" * 32}, [SECRET]),
    ]
    created = [
        (_trial(n), ledger.TrialCreated({SECRET: SECRET, "n": n}, [Arm(_open, 0.5, SECRET)], label=SECRET, group=SECRET))
        for n in range(1, 7)
    ]
    first: list[ledger.Event] = [
        ledger.TrialConfigured({f"{SECRET} 2": SECRET}),
        ledger.TrialAssigned("w"),
        ledger.TrialClaimed("w", 1, 60.0, FAR),
        ledger.LeaseRenewed(1, FAR + 1),
        ledger.TrialStarted(1),
        ledger.ResultsReported(_open, 1),
        ledger.MetricsLogged(_points, 1),
        ledger.TelemetryLogged(_points, 1),
        ledger.TrialCompleted(_open, 1),
        ledger.LateResultReceived(1, "FAILED", _open, _error),
        ledger.TrialAmended(_open, [f"{SECRET} 4"], {"n": SECRET}, SECRET, "FAILED"),
        ledger.TrialGrouped(SECRET),
        ledger.AttributesSet(_open, SECRET),
        ledger.TagsChanged([SECRET], [f"{SECRET} 5"]),
        ledger.NoteAdded(SECRET),
        ledger.NoteAmended(16, SECRET),
        ledger.EnvironmentCaptured(_open),
        ledger.ParentsSet([_trial(2)]),
        ledger.ArtifactLogged(SECRET, "ab" * 32, 12, "object", SECRET, SECRET, SECRET),
        ledger.TrialCaptured({"git": _digest}, 1),
        ledger.TrialDeleted(),
        ledger.TrialRestored(),
        ledger.StatusForced("FAILED", _open),
        ledger.TrialRequeued(),
    ]
    return [
        *((STREAM, event) for event in experiment),
        *created,
        *((_trial(1), event) for event in first),
        *_held(2, 1, ledger.TrialReleased(1)),
        *_held(2, 2, ledger.TrialLost(2, "w", FAR), ledger.TrialAbandoned()),
        *_held(3, 1, ledger.TrialFailed(_error, _open, 1)),
        *_held(4, 1, ledger.TrialPruned(_open, 1)),
        *_held(5, 1, ledger.TrialTimedOut(_open, 1)),
        (_trial(6), ledger.TrialCanceled()),
        (capture_stream("git", _digest), ledger.CaptureStored("git", _digest, _open)),
        ("ledger", ledger.ClockSkewed(1, 1.0)),
        ("ledger", ledger.ExperimentsMerged(str(EXPERIMENT), 1, bytes(32), 1, [STREAM], {STREAM: SECRET})),
    ]


def types_in(history: list[tuple[str, ledger.Event]]) -> set[str]:
    """Return the names of the types of a history, with the one that only a redaction makes."""
    return {type(event).__name__ for _, event in history} | {"PayloadRedacted"} & VOCABULARY
