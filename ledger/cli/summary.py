"""Events in one line, for people."""

from __future__ import annotations

from collections.abc import Mapping
from typing import TYPE_CHECKING, Any

import msgspec

from ledger import events as ev
from ledger.cli.opening import Names
from ledger.cli.output import plain, printable, shown, shown_time
from ledger.records import Record
from ledger.registry import UnknownEvent
from ledger.streams import subject_of

if TYPE_CHECKING:
    from rich.text import Text

_LONGEST = 160

TYPE_STYLES = {
    "ExperimentCreated": "bold", "TrialCreated": "bold", "TrialClaimed": "cyan", "TrialStarted": "cyan",
    "TrialCompleted": "green", "TrialFailed": "red", "TrialTimedOut": "red", "TrialLost": "magenta",
    "TrialReleased": "magenta", "TrialRequeued": "magenta", "LateResultReceived": "magenta", "TrialPruned": "yellow",
    "TrialCanceled": "yellow", "TrialAbandoned": "yellow", "StatusForced": "yellow", "LeaseRenewed": "dim",
    "ClockSkewed": "red",
}  # fmt: skip


def pairs(values: Mapping[Any, Any]) -> str:
    """Return a dict as people read it.

    >>> pairs({"level": 3, "ratio": 4.65701})
    'level=3 ratio=4.657'
    """
    return " ".join(f"{printable(str(key))}={shown(value) or value}" for key, value in values.items())


def summarize(event: Any) -> str:
    """Return what an event says, on one line.

    >>> summarize(ev.TrialCompleted({"ratio": 4.65701}, attempt=1))
    'ratio=4.657'
    """
    text = _summary(event)
    return text if len(text) <= _LONGEST else text[: _LONGEST - 1] + "…"


def _summary(event: Any) -> str:
    match event:
        case ev.ExperimentCreated(name, objectives):
            return f"{printable(name)} {pairs(objectives)}"
        case ev.TrialCreated(config, arms):
            return pairs(config) or f"{len(arms)} arms"
        case ev.TrialConfigured(values) | ev.TrialCompleted(values) | ev.TrialPruned(values) | ev.TrialTimedOut(values):
            return pairs(values)
        case ev.ResultsReported(values) | ev.EnvironmentCaptured(values):
            return pairs(values)
        case ev.AttributesSet(values, namespace):
            return f"{printable(namespace)}: {pairs(values)}" if namespace else pairs(values)
        case ev.TrialClaimed(worker, attempt, lease_seconds):
            return f"by {printable(worker)}, attempt {attempt}, lease {lease_seconds:g} s"
        case ev.TrialLost(attempt, worker, deadline):
            return f"attempt {attempt} of {printable(worker)}, silent since its lease ended at {shown_time(deadline)}"
        case ev.LeaseRenewed(_, deadline):
            return f"until {shown_time(deadline)}"
        case ev.TrialStarted(attempt) | ev.TrialReleased(attempt):
            return f"attempt {attempt}"
        case ev.TrialFailed(error) if error is not None:
            return printable(f"{error.type}: {error.message}".strip(": "))
        case _:
            return _any_event(event)


def _points(points: ev.Points) -> str:
    count = len(points.times)
    last = {name: column[-1] for name, column in zip(points.names, points.values, strict=False) if column}
    at = f" at step {shown(points.steps[-1])}" if points.steps and points.steps[-1] is not None else ""
    return f"{pairs(last)}{at}" + (f", the last of {count} points" if count > 1 else "")


def _any_event(event: Any) -> str:
    if isinstance(event, ev.MetricsLogged | ev.TelemetryLogged):
        return "; ".join(_points(part) for part in event.points)
    if isinstance(event, ev.LateResultReceived):
        return f"{event.status} of attempt {event.attempt}: {pairs(event.results)}"
    if isinstance(event, UnknownEvent):
        data = plain(event)
        return pairs(data) if isinstance(data, dict) else shown(data)
    defaults = {field.name: field.default for field in msgspec.structs.fields(event)}
    return pairs({name: value for name, value in plain(event).items() if value not in (defaults[name], "", [], {}, None)})


def subject_text(stream: str, names: Names) -> str:
    """Return whom a stream is about, as people call it: ``experiment``, ``experiment/trial``, or the stream's name."""
    subject = subject_of(stream)
    if subject is None:
        return printable(stream)
    name = printable(names(subject.experiment_id))
    return name if subject.trial_id is None else f"{name}/{subject.trial_id}"


def event_line(record: Record, names: Names | None = None, *, actor: bool = False) -> Text:
    """Return a record as one line for people, coloured by its type; the subject is left out without ``names``."""
    from rich.text import Text

    line = Text(f"{record.position:>6}  ", style="dim")
    line.append(shown_time(record.recorded_at), style="dim")
    if names is not None:
        line.append(f"  {subject_text(record.stream, names):<16}", style="not dim")
    line.append(f"  {printable(record.type):<17}", style=f"not dim {TYPE_STYLES.get(record.type, '')}")
    line.append(f"  {summarize(record.event)}", style="not dim")
    if record.reason:
        line.append(f"  because: {printable(record.reason)}", style="not dim italic")
    if actor:
        line.append(f"  {printable(record.actor)}")
    line.rstrip()
    return line
