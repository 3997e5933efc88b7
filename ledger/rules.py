"""Rules: what forbids an event, beside the status machine of ``ledger.state``.

Each check raises a CommandRefused or InvalidValue that names the thing, the value and the cure.
"""

from __future__ import annotations

import re
from collections.abc import Callable, Mapping, Sequence
from typing import Any

from ledger import events as ev
from ledger.errors import CommandRefused, ExperimentReadOnly, InvalidTransition, InvalidValue, UnknownExperiment, UnknownTrial
from ledger.records import iso_nanoseconds
from ledger.registry import Event, UnknownEvent
from ledger.status import ENDED, ExperimentState, Status, TrialState
from ledger.streams import Subject, capture_digest, capture_stream, subject_of
from ledger.values import with_article

MAX_PRIORITY = 2**31 - 1
MAX_TIME = 2**63 - 1  # ns since 1970 UTC: the year 2262
ARTIFACT_KINDS = ("file", "directory", "object")

_DIGEST = r"[0-9a-f]{64}"

_REDACTED_NAME = r"redacted [0-9a-f]{8}(-[0-9a-f]{4}){3}-[0-9a-f]{12}"
_CAPTURE_KIND = r"[a-z][a-z0-9_-]{0,39}"
_CAPTURE_DIGEST = r"[0-9a-f]{32}"

#: What a worker reports that did not know: taken whatever has become of the trial.
_EVIDENCE = ev.LateResultReceived | ev.MetricsLogged | ev.TelemetryLogged | ev.ArtifactLogged


def check_open(state: ExperimentState, event: Event) -> None:
    """Refuse what may not be recorded of an experiment that is deleted or sealed."""
    if state.deleted_at is not None and not isinstance(event, ev.ExperimentRestored | ev.PayloadRedacted | _EVIDENCE):
        raise UnknownExperiment(
            f"experiment {state.name!r} ({state.id}) was deleted at {iso_nanoseconds(state.deleted_at)}. Restore it first."
        )
    if state.sealed_at is not None and not isinstance(event, ev.ExperimentUnsealed | ev.PayloadRedacted):
        raise ExperimentReadOnly(
            f"experiment {state.name!r} was sealed at {iso_nanoseconds(state.sealed_at)}; {type(event).__name__} is not "
            "allowed. Unseal it first, with the reason why."
        )


def check_experiment(state: ExperimentState, subject: Subject, event: Event) -> None:
    """Refuse an event that an experiment in this state cannot have."""
    if isinstance(event, ev.ExperimentRestored) and state.deleted_at is None:
        raise CommandRefused(f"experiment {state.name!r} is not deleted, so it cannot be restored.")
    if isinstance(event, ev.ExperimentUnsealed) and state.sealed_at is None:
        raise CommandRefused(f"experiment {state.name!r} is not sealed, so it cannot be unsealed.")
    if isinstance(event, ev.ExperimentRenamed | ev.ExperimentRestored):
        check_name(subject, event.name)
    if isinstance(event, ev.ParentsSet):
        check_parents(subject, event.parents)
    if isinstance(event, ev.ArtifactLogged):
        check_artifact(event)
    if isinstance(event, ev.EnvironmentChanged):
        _check_digests({**event.before, **event.after})


def check_name(subject: Subject, name: str) -> None:
    """Refuse the name that another experiment gets when its own is redacted."""
    if re.fullmatch(_REDACTED_NAME, name) and name != f"redacted {subject.experiment_id}":
        raise InvalidValue(f"{name!r} is what another experiment is called once its name is redacted. Choose another name.")


def check_parents(subject: Subject, parents: Sequence[str]) -> None:
    """Refuse parents that are no streams of experiments (of an experiment) or of trials (of a trial)."""
    kind = "experiment" if subject.trial_id is None else "trial"
    for parent in parents:
        found = subject_of(parent)
        if found is None or (found.trial_id is None) != (subject.trial_id is None):
            raise InvalidValue(f"{parent!r} is no stream of {with_article(kind)}; give the .stream of each parent.")
        if found == subject:
            raise InvalidValue(f"{parent} cannot be its own parent.")
    if len(set(parents)) != len(parents):
        raise InvalidValue(f"the parents {list(parents)!r} name one twice; name each once.")


def check_artifact(event: ev.ArtifactLogged) -> None:
    """Refuse an artifact that no content could be found for; a redacted one has neither name nor digest."""
    if not event.name and not event.digest:
        return
    if not event.name or not re.fullmatch(_DIGEST, event.digest):
        raise InvalidValue(
            f"the artifact {event.name!r} has the digest {event.digest!r}; it needs a name, and the 64 hexadecimal digits of its "
            "content's SHA-256. Use log_artifact, which saves the content first."
        )
    if event.kind not in ARTIFACT_KINDS:
        raise InvalidValue(f"the artifact {event.name!r} is a {event.kind!r}; it is one of {', '.join(ARTIFACT_KINDS)}.")
    check_number("the size", event.size, 0, MAX_TIME)
    check_number("the number of files", event.files, 0, MAX_TIME)


def check_deleted(state: TrialState, event: Event) -> None:
    """Refuse what may not be recorded of a deleted trial."""
    if not isinstance(event, ev.TrialRestored | ev.PayloadRedacted | _EVIDENCE):
        raise UnknownTrial(f"{state.stream} was deleted at {iso_nanoseconds(state.deleted_at or 0)}. Restore it first.")


def check_created(subject: Subject, event: ev.TrialCreated) -> None:
    """Refuse a trial whose numbers the queue could not order, or with impossible parents."""
    check_number("priority", event.priority, -MAX_PRIORITY, MAX_PRIORITY)
    check_number("scheduled_at", event.scheduled_at, 0, MAX_TIME)
    check_number("max_attempts", event.max_attempts, 1, MAX_PRIORITY)
    check_parents(subject, event.parents)
    check_dependencies(subject, event.depends_on)


def check_dependencies(subject: Subject, depends_on: Sequence[str]) -> None:
    """Refuse dependencies that are no streams of trials, or the trial itself."""
    for stream in depends_on:
        found = subject_of(stream)
        if found is None or found.trial_id is None:
            raise InvalidValue(f"{stream!r} is no stream of a trial to depend on; give the .stream of each.")
        if found == subject:
            raise InvalidValue(f"{stream} cannot depend on itself.")
    if len(set(depends_on)) != len(depends_on):
        raise InvalidValue(f"the dependencies {list(depends_on)!r} name one twice; name each once.")


def check_capture(stream: str, event: Event) -> None:
    """Refuse a capture that is not in the stream named by its kind and content, and anything else in such a stream."""
    if isinstance(event, ev.PayloadRedacted | UnknownEvent):
        return
    if not isinstance(event, ev.CaptureStored):
        raise InvalidValue(f"the stream {stream!r} is kept for a capture: name yours otherwise than with 'capture/'.")
    _check_digests({event.kind: event.digest})
    if stream != capture_stream(event.kind, event.digest):
        raise InvalidValue(f"a capture with this kind and digest belongs in {capture_stream(event.kind, event.digest)!r}.")
    if event.content and capture_digest(event.content) != event.digest:  # a copy of one that was redacted has none
        raise InvalidValue(f"the capture's digest is not {event.digest}; ledger.streams.capture_digest makes it.")


def _check_digests(captures: Mapping[str, str]) -> None:
    for kind, digest in captures.items():
        if not re.fullmatch(_CAPTURE_KIND, kind) or not re.fullmatch(_CAPTURE_DIGEST, digest):
            raise InvalidValue(f"{kind!r}: {digest!r} is no kind of capture with its digest (32 hexadecimal digits).")


def _check_claim(state: TrialState, subject: Subject, event: ev.TrialClaimed) -> None:
    if state.assigned_to and event.worker != state.assigned_to:
        raise CommandRefused(
            f"{state.stream} is assigned to {state.assigned_to!r}, not to {event.worker!r}. Claim it as that worker, or let "
            "any worker have it: trial.assign(None)."
        )
    if event.attempt != state.attempt + 1:
        raise InvalidValue(f"a claim of {state.stream} is attempt {state.attempt + 1}, not {event.attempt}.")
    check_number("deadline", event.deadline, 0, MAX_TIME)


def _check_parameters(state: TrialState, subject: Subject, event: ev.TrialConfigured) -> None:
    # Saying the same again is no harm, but of an amended trial: were the amendment redacted, it would contradict.
    known = {key: value for key, value in event.parameters.items() if key in state.config}
    twice = sorted(key for key, value in known.items() if state.is_amended or state.config[key] != value)
    if twice:
        raise InvalidValue(f"{state.stream} has {twice[0]!r} = {state.config[twice[0]]!r} already; a parameter is set once.")


def _check_amendment(state: TrialState, subject: Subject, event: ev.TrialAmended) -> None:
    if event.status is None:
        return
    _check_status(event.status)
    if state.status not in ENDED or Status(event.status) not in ENDED:
        raise InvalidTransition(
            state.stream, state.status, f"TrialAmended to {event.status}", ["StatusForced"],
            " Only the status in which a trial has ended can be amended, to another such; force_status sets any.",
        )  # fmt: skip


def _check_restored(state: TrialState, subject: Subject, event: ev.TrialRestored) -> None:
    if state.deleted_at is None:
        raise CommandRefused(f"{state.stream} is not deleted, so it cannot be restored.")


def _check_status(status: str) -> None:
    if status not in Status.__members__:
        raise InvalidValue(f"{status!r} is no trial status; use one of {', '.join(Status)}.")


#: What is checked of an event's values, given the trial that it is about.
VALUE_CHECKS: dict[type[Event], Callable[[TrialState, Subject, Any], None]] = {
    ev.TrialClaimed: _check_claim,
    ev.LeaseRenewed: lambda state, subject, event: check_number("deadline", event.deadline, 0, MAX_TIME),
    ev.TrialConfigured: _check_parameters,
    ev.StatusForced: lambda state, subject, event: _check_status(event.status),
    ev.TrialAmended: _check_amendment,
    ev.TrialRestored: _check_restored,
    ev.ParentsSet: lambda state, subject, event: check_parents(subject, event.parents),
    ev.ArtifactLogged: lambda state, subject, event: check_artifact(event),
    ev.TrialCaptured: lambda state, subject, event: _check_digests(event.captures),
}


def check_number(what: str, value: int | None, low: int, high: int) -> None:
    """Refuse a number out of its range; None is none."""
    if value is not None and not (type(value) is int and low <= value <= high):
        raise InvalidValue(f"{what} is {value!r}; give an int between {low} and {high}.")
