"""What happened, in sentences: one an event, past tense, who and what and why.

``predicate`` says what the actor did, for every type of the vocabulary; a caller's own type falls back on its name and
fields. Everything that comes from a record goes through ``printable``. What is longer than people read is cut; the
formats for programs have all of it.
"""

from __future__ import annotations

from collections.abc import Callable, Mapping, Sequence
from typing import Any

from ledger import events as ev
from ledger.cli.output import printable, shown, shown_time
from ledger.cli.phrases import (
    LONGEST_TEXT,
    NOTHING,
    Setting,
    aims_of,
    called,
    content_of,
    count_of,
    cut,
    listed,
    names_text,
    of,
    on,
    quoted,
    value_text,
    version_text,
    with_values,
)
from ledger.cli.prose_captures import capture_stored, environment_changed, trial_captured
from ledger.registry import Event
from ledger.status import ExperimentState, TrialState
from ledger.telemetry import point_rows


def predicate(event: Event, type_name: str, setting: Setting) -> str:
    """Return what the actor did, to follow their name in a sentence.

    >>> import ledger
    >>> predicate(ev.TrialCompleted({"latency_ms": 1.9}, attempt=1), "TrialCompleted", Setting("trial 1"))
    'completed trial 1 with latency_ms=1.9'
    >>> predicate(ledger.UnknownEvent("PhotoTaken", 1, {"iso": 100}), "PhotoTaken", Setting("the stream camera"))
    'recorded a PhotoTaken in the stream camera: iso=100'
    """
    say = SENTENCES.get(type(event))
    if say is not None:
        return str(say(event, setting))
    article = "an" if type_name[:1] in "AEIOU" else "a"
    said = f"recorded {article} {printable(type_name)}{on(setting.it)}"
    content = content_of(event)
    return said if setting.is_redacted or not content else f"{said}: {content}"


def because(reason: str | None) -> str:
    """Return the reason as the end of a sentence.

    >>> because("the fan was off."), because(None)
    (', because the fan was off', '')
    """
    text = printable(reason or "").strip().rstrip(".")
    return f", because {text}" if text else ""


# ------------------------------------------------------------------------------------------------------------- both


def _attributes_set(event: ev.AttributesSet, setting: Setting) -> str:
    space = f" (of {printable(event.namespace)})" if event.namespace else ""
    kept = {key: value for key, value in event.attributes.items() if value is not None or key in event.nulls}
    gone = [key for key in event.attributes if key not in kept]
    said = [f"set {listed(kept)}"] if kept else []
    said += [f"removed the attribute{'s'[: len(gone) - 1]} {names_text(gone)}"] if gone else []
    return f"{' and '.join(said) or 'changed attributes'}{on(setting.it)}{space}"


def _tags_changed(event: ev.TagsChanged, setting: Setting) -> str:
    said = [f"tagged {setting.it} with {names_text(event.added)}"] if event.added else []
    said += [f"took the tag{'s'[: len(event.removed) - 1]} {names_text(event.removed)} off {setting.it}"] if event.removed else []
    return " and ".join(said) or f"changed the tags of {setting.it}"


def _note_added(event: ev.NoteAdded, setting: Setting) -> str:
    return f"noted{on(setting.it)}: {quoted(event.text)}" if event.text else f"wrote a note{on(setting.it)}"


def _note_amended(event: ev.NoteAmended, setting: Setting) -> str:
    before = setting.note(event.version)
    old = f" from {quoted(before)}" if before else ""
    new = f" to {quoted(event.text)}" if event.text or not setting.is_redacted else ""
    return f"amended the note {version_text(event.version, setting)}{on(setting.it)}{old}{new}"


def _environment_captured(event: ev.EnvironmentCaptured, setting: Setting) -> str:
    content = f": {listed(event.environment)}" if event.environment else ""
    return f"recorded what {setting.it} ran in{content}"


def _artifact_logged(event: ev.ArtifactLogged, setting: Setting) -> str:
    if not event.name:
        return f"kept an artifact{of(setting.it)}"
    files = f" of {count_of(event.files, 'file')}" if event.kind == "directory" else ""
    how = f", by the saver {printable(event.saver)}" if event.saver else ""
    return f"kept the {printable(event.kind)} {quoted(event.name)}{files}{of(setting.it)} ({event.size:,} bytes{how})"


def _parents_set(event: ev.ParentsSet, setting: Setting) -> str:
    came = f"came from {called(event.parents, setting)}" if event.parents else "came from no other"
    return f"recorded that {setting.it} {came}"


# -------------------------------------------------------------------------------------------------------- experiments


def _experiment_created(event: ev.ExperimentCreated, setting: Setting) -> str:
    aims = aims_of(event.objectives, event.bounds)
    return (
        f"created the experiment {printable(event.name)}" + (f" to {aims}" if aims else "")
        + (f", from {called(event.parents, setting)}" if event.parents else "")
        + (f": {quoted(event.description)}" if event.description else "")
    )  # fmt: skip


def _experiment_renamed(event: ev.ExperimentRenamed, setting: Setting) -> str:
    before = setting.before()
    old = f" from {printable(before.name)}" if isinstance(before, ExperimentState) else ""
    return f"renamed the experiment{old} to {printable(event.name)}"


def _experiment_described(event: ev.ExperimentDescribed, setting: Setting) -> str:
    if not event.description:
        return f"changed the description of {setting.it}"
    return f"described {setting.it} as {quoted(event.description)}"


def _objectives_changed(event: ev.ObjectivesChanged, setting: Setting) -> str:
    before = setting.before()
    old = aims_of(before.objectives, before.bounds) if isinstance(before, ExperimentState) else ""
    if setting.is_redacted:
        return f"changed the aims of {setting.it}"
    aims = aims_of(event.objectives, event.bounds) or "nothing"
    return f"changed the aims of {setting.it}" + (f" from {old}" if old else "") + f" to {aims}"


def _experiment_restored(event: ev.ExperimentRestored, setting: Setting) -> str:
    return f"restored {setting.it}" + (f" under the name {printable(event.name)}" if event.name else "")


# ------------------------------------------------------------------------------------------------------------- trials


def _trial_created(event: ev.TrialCreated, setting: Setting) -> str:
    details = [f"priority {event.priority}"] if event.priority else []
    details += [f"not before {shown_time(event.scheduled_at)}"] if event.scheduled_at is not None else []
    details += [f"{count_of(event.max_attempts, 'attempt')} at most"] if event.max_attempts != 3 else []
    details += [f"labelled {printable(event.label)}"] if event.label else []
    details += [f"in the group {printable(event.group)}"] if event.group else []
    details += [f"from {called(event.parents, setting)}"] if event.parents else []
    details += [f"for {printable(event.assigned_to)} alone"] if event.assigned_to else []
    details += [f"after {called(event.depends_on, setting)}"] if event.depends_on else []
    arms = [f"{listed(arm.config) or 'nothing'} (weight {arm.weight:g})" for arm in event.arms]
    given = [*([listed(event.config)] if event.config else []), *([f"the arms {'; '.join(arms)}"] if arms else [])]
    return f"created {setting.it}" + (f" with {' and '.join(given)}" if given else "") + _in_brackets(details)


def _in_brackets(details: Sequence[str]) -> str:
    return f" ({', '.join(details)})" if details else ""


def _trial_assigned(event: ev.TrialAssigned, setting: Setting) -> str:
    return (
        f"assigned {setting.it} to {printable(event.assigned_to)}" if event.assigned_to else f"let any worker have {setting.it}"
    )


def _trial_claimed(event: ev.TrialClaimed, setting: Setting) -> str:
    worker = printable(event.worker)
    for_whom = "" if worker and worker in setting.actor else f" for {worker}"
    lease = "no lease" if event.deadline is None else f"lease {event.lease_seconds:g} s"
    return f"claimed {setting.it}{for_whom} (attempt {event.attempt}, {lease})"


def _trial_lost(event: ev.TrialLost, setting: Setting) -> str:
    return (
        f"wrote {setting.it} off as lost: {printable(event.worker)} was silent when the lease of attempt {event.attempt} "
        f"ended at {shown_time(event.deadline)}"
    )


def _trial_failed(event: ev.TrialFailed, setting: Setting) -> str:
    error = event.error
    said = "" if error is None else cut(printable(error.text), LONGEST_TEXT)
    return f"recorded that {setting.it} failed{with_values(event.results)}" + (f": {said}" if said else "")


def _status_forced(event: ev.StatusForced, setting: Setting) -> str:
    before = setting.before()
    old = f" from {before.status}" if isinstance(before, TrialState) else ""
    return f"forced the status of {setting.it}{old} to {printable(event.status)}{with_values(event.results)}"


def _late_result(event: ev.LateResultReceived, setting: Setting) -> str:
    return (
        f"reported too late on {setting.it}, as {printable(event.status)} of attempt {event.attempt}"
        f"{with_values(event.results)}; it is kept, and does not count"
    )


def _points_logged(what: str) -> Callable[[Any, Setting], str]:
    def say(event: ev.MetricsLogged | ev.TelemetryLogged, setting: Setting) -> str:
        rows = point_rows(event)
        if not rows:
            return f"logged {what}{of(setting.it)}"
        last = {name: value for name, _, _, value in rows}
        steps = [step for _, step, _, _ in rows if step is not None]
        at = f" at step {shown(steps[-1])}" if steps else ""
        of_many = (
            f", the last of {count_of(sum(len(part.times) for part in event.points), 'point')}" if len(rows) > len(last) else ""
        )
        return f"logged {listed(last)}{at}{of(setting.it)}{of_many}"

    return say


def _trial_grouped(event: ev.TrialGrouped, setting: Setting) -> str:
    before = setting.before()
    old = before.group if isinstance(before, TrialState) else ""
    if not event.group:
        return f"took {setting.it} out of " + (f"the group {printable(old)}" if old else "its group")
    return f"put {setting.it} into the group {printable(event.group)}" + (f", out of {printable(old)}" if old else "")


def _trial_amended(event: ev.TrialAmended, setting: Setting) -> str:
    before = setting.before()
    known = before if isinstance(before, TrialState) else None
    results, config = (known.results, known.config) if known else (NOTHING, NOTHING)
    changes = [_changed(f"result {printable(name)}", results, name, value) for name, value in event.results.items()]
    changes += [_changed(f"parameter {printable(name)}", config, name, value) for name, value in event.config.items()]
    if event.label is not None:
        changes.append(_changed("the label", {"label": known.label} if known and known.label else NOTHING, "label", event.label))
    if event.status is not None:
        changes.append(_changed("the status", {"status": str(known.status)} if known else NOTHING, "status", event.status))
    gone = [printable(name) + (f" ({value_text(results[name])})" if name in results else "") for name in event.withdrawn]
    withdrawn = [f"withdrew the result{'s'[: len(gone) - 1]} {', '.join(gone)}"] if gone else []
    if setting.it == "it":
        amended = [f"amended {', '.join(changes)}"] if changes else []
        return " and ".join(amended + withdrawn) or "amended it"
    said = [*changes, *withdrawn]
    return f"amended {setting.it}" + (f": {', '.join(said)}" if said else "")


def _changed(what: str, before: Mapping[str, Any], name: str, value: Any) -> str:
    return f"{what}" + (f" from {value_text(before[name])}" if name in before else "") + f" to {value_text(value)}"


# --------------------------------------------------------------------------------------------------------- the ledger


def _payload_redacted(event: ev.PayloadRedacted, setting: Setting) -> str:
    return f"redacted the {printable(event.type)} {version_text(event.version, setting)}{of(setting.it)}"


def _experiments_merged(event: ev.ExperimentsMerged, setting: Setting) -> str:
    renamed = [f"{printable(old)} (now {printable(new)})" for old, new in event.renamed.items()]
    also = f", renaming {', '.join(renamed)}" if renamed else ""
    of = f" of {count_of(len(event.experiments), 'experiment')}" if event.experiments else ""
    return f"merged {count_of(event.records, 'record')}{of} from the ledger {printable(event.source)}{also}"


def _clock_skewed(event: ev.ClockSkewed, setting: Setting) -> str:
    return f"found the clock {event.behind_seconds:,.0f} s behind the newest record: it said {shown_time(event.raw_time)}"


#: What each type of the vocabulary says.
SENTENCES: dict[type[Event], Callable[[Any, Setting], str]] = {
    ev.AttributesSet: _attributes_set,
    ev.TagsChanged: _tags_changed,
    ev.NoteAdded: _note_added,
    ev.NoteAmended: _note_amended,
    ev.EnvironmentCaptured: _environment_captured,
    ev.ParentsSet: _parents_set,
    ev.ArtifactLogged: _artifact_logged,
    ev.CaptureStored: capture_stored,
    ev.TrialCaptured: trial_captured,
    ev.EnvironmentChanged: environment_changed,
    ev.ExperimentCreated: _experiment_created,
    ev.ExperimentRenamed: _experiment_renamed,
    ev.ExperimentDescribed: _experiment_described,
    ev.ObjectivesChanged: _objectives_changed,
    ev.ExperimentPaused: lambda event, setting: f"paused {setting.it}: no trial is handed out",
    ev.ExperimentResumed: lambda event, setting: f"resumed {setting.it}",
    ev.ExperimentSealed: lambda event, setting: f"sealed {setting.it}, which is read-only from here on",
    ev.ExperimentUnsealed: lambda event, setting: f"unsealed {setting.it}",
    ev.ExperimentDeleted: lambda event, setting: f"deleted {setting.it} and its trials",
    ev.ExperimentRestored: _experiment_restored,
    ev.TrialCreated: _trial_created,
    ev.TrialConfigured: lambda event, setting: f"added {listed(event.parameters) or 'parameters'} to the config of {setting.it}",
    ev.TrialAssigned: _trial_assigned,
    ev.TrialClaimed: _trial_claimed,
    ev.LeaseRenewed: lambda event, setting: f"renewed the lease of {setting.it} until {shown_time(event.deadline)}",
    ev.TrialReleased: lambda event, setting: f"handed {setting.it} back unfinished (attempt {event.attempt})",
    ev.TrialLost: _trial_lost,
    ev.TrialRequeued: lambda event, setting: f"put {setting.it} back in the queue",
    ev.TrialStarted: lambda event, setting: f"started {setting.it}",
    ev.TrialCompleted: lambda event, setting: f"completed {setting.it}{with_values(event.results)}",
    ev.TrialFailed: _trial_failed,
    ev.TrialPruned: lambda event, setting: f"stopped {setting.it} early{with_values(event.results)}",
    ev.TrialCanceled: lambda event, setting: f"canceled {setting.it}",
    ev.TrialTimedOut: lambda event, setting: f"stopped {setting.it}, which took too long{with_values(event.results)}",
    ev.TrialAbandoned: lambda event, setting: f"abandoned {setting.it}",
    ev.StatusForced: _status_forced,
    ev.ResultsReported: lambda event, setting: f"reported {listed(event.results) or 'results'}{of(setting.it)}",
    ev.LateResultReceived: _late_result,
    ev.MetricsLogged: _points_logged("metrics"),
    ev.TelemetryLogged: _points_logged("telemetry"),
    ev.TrialGrouped: _trial_grouped,
    ev.TrialAmended: _trial_amended,
    ev.TrialDeleted: lambda event, setting: f"deleted {setting.it}",
    ev.TrialRestored: lambda event, setting: f"restored {setting.it}",
    ev.PayloadRedacted: _payload_redacted,
    ev.ExperimentsMerged: _experiments_merged,
    ev.ClockSkewed: _clock_skewed,
}
