"""Courses: what became of a trial that is added with a status and results, as the events that would have recorded it."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any, cast

import msgspec

from ledger import events as ev
from ledger.backends.base import View
from ledger.commands import Course, claimed, require_dependencies, within_bounds
from ledger.errors import InvalidValue
from ledger.registry import Event
from ledger.state import Status
from ledger.streams import subject_of

_RUN: dict[str, Event] = {
    "SUCCEEDED": ev.TrialCompleted(), "FAILED": ev.TrialFailed(), "PRUNED": ev.TrialPruned(), "TIMED_OUT": ev.TrialTimedOut(),
}  # fmt: skip
_NOT_RUN: dict[str, list[Event]] = {"PENDING": [], "CANCELED": [ev.TrialCanceled()], "ABANDONED": [ev.TrialAbandoned()]}


def course_to(status: Status | str, results: Mapping[str, Any], worker: str) -> Course:
    """Return the course of a trial to a status: run by a worker, called off, or still waiting, with results.

    Raises InvalidValue for a status that a trial cannot be added with.
    """
    if str(status) in _RUN:
        return _run(_RUN[str(status)], dict(results), worker)
    if str(status) in _NOT_RUN:
        reported: list[Event] = [ev.ResultsReported(dict(results))] if results else []
        return lambda view, stream, created: [*reported, *_NOT_RUN[str(status)]]
    cure = "Its handle begins it: trial.start() or trial.run()." if str(status) in ("READY", "RUNNING") else "See force_status."
    raise InvalidValue(f"a trial cannot be added as {str(status)!r}; use one of {', '.join([*_RUN, *_NOT_RUN])}. {cure}")


def _run(end: Event, results: dict[str, Any], worker: str) -> Course:
    def course(view: View, stream: str, created: ev.TrialCreated) -> list[Event]:
        require_dependencies(view, stream, created.depends_on)
        subject = subject_of(stream)
        assert subject is not None  # the command that creates trials has named it
        ended = within_bounds(view, subject.experiment_id, msgspec.structs.replace(cast("Any", end), results=results), {})
        own = msgspec.structs.replace(cast("Any", ended), attempt=1)
        return [claimed(view, created.assigned_to or worker, 1, 1.0), ev.TrialStarted(1), own]

    return course


def claimed_course(worker: str, lease_seconds: float) -> Course:
    """Return the course of a trial that a worker holds from the moment when it is created."""

    def course(view: View, stream: str, created: ev.TrialCreated) -> list[Event]:
        require_dependencies(view, stream, created.depends_on)
        return [claimed(view, worker, 1, lease_seconds)]

    return course
