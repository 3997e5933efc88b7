"""Events in one line, for people."""

from __future__ import annotations

from collections.abc import Callable, Mapping
from typing import TYPE_CHECKING, Any

import msgspec

from ledger import events as ev
from ledger.cli.opening import Names
from ledger.cli.output import STATUS_STYLES, plain, printable, shown, shown_time
from ledger.records import Record
from ledger.registry import UnknownEvent
from ledger.state import TRANSITIONS, Status
from ledger.streams import subject_of

if TYPE_CHECKING:
    from rich.text import Text

_LONGEST = 160

#: How events are shown that lead to no status.
TYPE_STYLES = {
    "ExperimentCreated": "bold", "LeaseRenewed": "dim", "LateResultReceived": "magenta", "ClockSkewed": "red",
    "PayloadRedacted": "magenta", "TrialDeleted": "yellow", "ExperimentDeleted": "yellow", "TrialAmended": "magenta",
    "NoteAmended": "magenta", "EnvironmentChanged": "yellow", "CaptureStored": "dim",
}  # fmt: skip


def status_after(event: Any) -> str | None:
    """Return the status in which the event leaves a trial, None when it says nothing of it.

    >>> status_after(ev.TrialCompleted()), status_after(ev.NoteAdded("x")), status_after(ev.StatusForced("LOST"))
    ('SUCCEEDED', None, 'LOST')
    """
    if isinstance(event, ev.TrialCreated):
        return str(Status.PENDING)
    if isinstance(event, ev.StatusForced | ev.TrialAmended):
        return event.status
    _, status = TRANSITIONS.get(type(event), (None, None))
    return None if status is None else str(status)


def event_style(record: Record) -> str:
    """Return how a record is shown: by the status that it leads to, else by its type."""
    status = status_after(record.event)
    if status is None:
        return TYPE_STYLES.get(record.type, "")
    return STATUS_STYLES.get(status, "") if status != Status.PENDING else ""  # what waits is news, not what is dim


def pairs(values: Mapping[Any, Any]) -> str:
    """Return a dict as people read it.

    >>> pairs({"level": 3, "ratio": 4.65701})
    'level=3 ratio=4.657'
    """
    return " ".join(f"{printable(str(key))}={shown(value) or value}" for key, value in values.items())


def summarize(event: Any, call: Callable[[str], str] = printable) -> str:
    """Return what an event says, on one line; ``call`` gives the name of another stream.

    >>> summarize(ev.TrialCompleted({"ratio": 4.65701}, attempt=1))
    'ratio=4.657'
    >>> summarize(ev.TrialAmended({"ratio": 5.1}, withdrawn=["size"]))
    'ratio=5.1 (amended) size (withdrawn)'
    """
    said = _summary(event)
    said = _correction(event, call) if said is None else said
    said = _capture(event) if said is None else said
    text = " ".join((_any_event(event) if said is None else said).split())
    return text if len(text) <= _LONGEST else text[: _LONGEST - 1] + "…"


def _summary(event: Any) -> str | None:
    match event:
        case ev.ExperimentCreated(name, objectives):
            return f"{printable(name)} {pairs(objectives)} {_bounds(event.bounds)}"
        case ev.ObjectivesChanged(objectives, bounds):
            return f"{pairs(objectives)} {_bounds(bounds)}"
        case ev.TrialCreated(config, arms):
            more = {"label": event.label, "group": event.group, "assigned_to": event.assigned_to}
            given = pairs(config) or (f"{len(arms)} arms" if arms else "")
            return f"{given} {pairs({name: text for name, text in more.items() if text})}"
        case ev.TrialConfigured(values) | ev.TrialCompleted(values) | ev.TrialPruned(values) | ev.TrialTimedOut(values):
            return pairs(values)
        case ev.ResultsReported(values) | ev.EnvironmentCaptured(values):
            return pairs(values)
        case ev.AttributesSet(values, namespace):
            return f"{printable(namespace)}: {pairs(values)}" if namespace else pairs(values)
        case ev.TrialClaimed(worker, attempt, lease_seconds):
            lease = "no lease" if event.deadline is None else f"lease {lease_seconds:g} s"
            return f"by {printable(worker)}, attempt {attempt}, {lease}"
        case ev.TrialLost(attempt, worker, deadline):
            return f"attempt {attempt} of {printable(worker)}, silent since its lease ended at {shown_time(deadline)}"
        case ev.LeaseRenewed(_, deadline):
            return f"until {shown_time(deadline)}"
        case ev.TrialStarted(attempt) | ev.TrialReleased(attempt):
            return f"attempt {attempt}"
        case ev.TrialFailed(error) if error is not None:
            return printable(error.text)
        case _:
            return None


def _capture(event: Any) -> str | None:
    """Return what is said of that which trials run with."""
    match event:
        case ev.CaptureStored(kind, digest):
            return f"{printable(kind)} {printable(digest[:12])}"
        case ev.TrialCaptured(captures):
            return ", ".join(map(printable, sorted(captures)))
        case ev.EnvironmentChanged(trial):
            changes = printable(", ".join(event.changes))
            return f"from trial {trial} on{f': {changes}' if changes else ''}"
        case _:
            return None


def _bounds(bounds: Mapping[str, ev.Bounds]) -> str:
    return " ".join(f"{printable(name)} within {bound}" for name, bound in bounds.items())


def _correction(event: Any, call: Callable[[str], str]) -> str | None:
    """Return what a correction says, and what ties things together."""
    match event:
        case ev.TrialAmended(results, withdrawn, config):
            parts = [f"{pairs({name: value})} (amended)" for name, value in (*results.items(), *config.items())]
            parts += [f"{printable(name)} (withdrawn)" for name in withdrawn]
            parts += [f"{name}={printable(text)} (amended)" for name in ("label", "status") if (text := getattr(event, name))]
            return " ".join(parts)
        case ev.NoteAmended(version, text):
            return f"version {version}: {printable(text)}"
        case ev.TrialGrouped(group):
            return f"into {printable(group)}" if group else "out of its group"
        case ev.ParentsSet(parents):
            return f"from {', '.join(map(call, parents)) or 'no other'}"
        case ev.PayloadRedacted(version, kind):
            return f"the {printable(kind)} of version {version}"
        case ev.ExperimentsMerged(source):
            renamed = " ".join(f"{printable(old)}->{printable(new)}" for old, new in event.renamed.items())
            return f"{event.records:,} records of {len(event.experiments):,} experiments from {printable(source)} {renamed}"
        case _:
            return None


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
    if isinstance(event, ev.ArtifactLogged):
        return f"{printable(event.name)}, {printable(event.kind)} of {event.size:,} bytes" if event.digest else ""
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


def event_line(record: Record, names: Names | None = None) -> Text:
    """Return a record as one line for people, coloured by the status that it leads to; without ``names`` no subject."""
    from rich.text import Text

    line = Text(f"{record.position:>6}  ", style="dim")
    line.append(shown_time(record.recorded_at), style="dim")
    if names is not None:
        line.append(f"  {subject_text(record.stream, names):<16}", style="not dim")
    line.append(f"  {printable(record.type):<17}", style=f"not dim {event_style(record)}")
    call = printable if names is None else lambda stream: subject_text(stream, names)
    said = summarize(record.event, call)
    line.append(f"  {said}" if said else "", style="not dim")
    if record.is_redacted:
        line.append("  [redacted]", style="not dim magenta")
    if record.reason:
        line.append(f"  because: {printable(record.reason)}", style="not dim italic")
    line.rstrip()
    return line
