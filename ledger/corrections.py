"""Corrections as commands: amend, redact, delete and restore, seal and unseal. Nothing is edited; each is an event.

Like ``ledger.commands``, each function returns a command for ``EventLog.execute``. Those that leave the ordinary course of
things demand a reason, which becomes the record's.
"""

from __future__ import annotations

from collections.abc import Iterable, Mapping
from typing import Any
from uuid import UUID

from ledger import events as ev
from ledger.backends.base import Command, Staged, View
from ledger.commands import check_name, experiment_of, require_reason, trial_of
from ledger.errors import CommandRefused, InvalidValue, UnknownExperiment, UnknownTrial
from ledger.records import Record, iso_nanoseconds
from ledger.redaction import remainder_of
from ledger.state import TrialState
from ledger.streams import experiment_stream
from ledger.values import with_article

# -------------------------------------------------------------------------------------------------------------- amend


def amend_trial(experiment_id: UUID, trial_id: int, event: ev.TrialAmended, reason: str | None) -> Command:
    """Correct what was recorded of a trial; each name must be one that was."""
    require_reason(reason, "an amendment", "what was recorded is corrected")
    if event == ev.TrialAmended():
        raise InvalidValue("there is nothing to amend; give results=, withdraw=, config=, label= or status=.")

    def command(view: View) -> list[Staged]:
        state = trial_of(view, experiment_id, trial_id)
        _check_known(state, "result", [*event.results, *event.withdrawn], state.results, "Report it: trial.report.")
        _check_known(state, "parameter", event.config, state.config, "A trial that runs is given more by trial.configure.")
        return [(state.stream, event)]

    return command


def _check_known(state: TrialState, what: str, names: Iterable[str], known: Mapping[str, Any], cure: str) -> None:
    for name in names:
        if name not in known:
            there_are = ", ".join(map(str, known)) or "none"
            raise CommandRefused(f"{state.stream} has no {what} {name!r} to amend (it has: {there_are}). {cure}")


def amend_note(stream: str, event: ev.NoteAmended, reason: str | None) -> Command:
    """Correct a note of the stream, named by its version."""
    require_reason(reason, "an amendment", "what was noted is corrected")

    def command(view: View) -> list[Staged]:
        record = view.record(stream, event.version)
        if record is None or not isinstance(record.event, ev.NoteAdded):
            found = f"is {with_article(record.type)}" if record else "does not exist"
            raise CommandRefused(f"version {event.version} of {stream!r} {found}, not a note. notes() lists them with versions.")
        return [(stream, event)]

    return command


# ------------------------------------------------------------------------------------------------------------- redact


def redact(records: Iterable[Record], reason: str | None) -> Command:
    """Drop the payloads of records, each named by stream and version."""
    require_reason(reason, "a redaction", "a payload was dropped")
    events: list[Staged] = []
    for record in records:
        remainder = remainder_of(record.stream, record.event)
        events.append((record.stream, ev.PayloadRedacted(record.version, record.type, remainder)))
    return lambda view: events


# ---------------------------------------------------------------------------------------------------------- tombstones


def delete_trial(experiment_id: UUID, trial_id: int, *, ensure: bool) -> Command:
    """Delete a trial; one that is gone already is refused with ``ensure``, and else left as it is."""

    def command(view: View) -> list[Staged]:
        state = view.trial(experiment_id, trial_id)
        if state is not None and state.deleted_at is None:
            return [(state.stream, ev.TrialDeleted())]
        if not ensure:
            return []
        if state is None:
            raise UnknownTrial(f"there is no trial {trial_id} in experiment {experiment_id} to delete.")
        raise UnknownTrial(f"{state.stream} was deleted already, at {iso_nanoseconds(state.deleted_at or 0)}.")

    return command


def restore_trial(experiment_id: UUID, trial_id: int) -> Command:
    """Bring a deleted trial back."""
    return lambda view: [(trial_of(view, experiment_id, trial_id).stream, ev.TrialRestored())]


def delete_experiment(experiment_id: UUID, *, ensure: bool) -> Command:
    """Delete an experiment with its trials; one that is gone already is refused with ``ensure``, and else left as it is."""

    def command(view: View) -> list[Staged]:
        state = view.experiment(experiment_id)
        if state is not None and state.deleted_at is None:
            return [(state.stream, ev.ExperimentDeleted())]
        if not ensure:
            return []
        if state is None:
            raise UnknownExperiment(f"there is no experiment {experiment_id} to delete.")
        raise UnknownExperiment(f"experiment {state.name!r} was deleted already, at {iso_nanoseconds(state.deleted_at or 0)}.")

    return command


def restore_experiment(experiment_id: UUID, name: str | None) -> Command:
    """Bring a deleted experiment back, under its old name or another one."""
    event = ev.ExperimentRestored("" if name is None else check_name(name))
    return lambda view: [(experiment_of(view, experiment_id).stream, event)]


# --------------------------------------------------------------------------------------------------------------- seals


def seal(experiment_id: UUID) -> Command:
    """Make an experiment read-only; refused while a worker holds one of its trials."""

    def command(view: View) -> list[Staged]:
        state = experiment_of(view, experiment_id)
        held = view.first_leased(experiment_id)
        if held is not None and state.deleted_at is None:
            raise CommandRefused(
                f"experiment {state.name!r} cannot be sealed while trial {held.id} is {held.status} (by {held.worker}): its "
                "results would be refused. Wait for it, release it, or cancel it."
            )
        return [(state.stream, ev.ExperimentSealed())]

    return command


def unseal(experiment_id: UUID, reason: str | None) -> Command:
    """Let a sealed experiment be written to again."""
    require_reason(reason, "unsealing", "a finished experiment was opened again")
    return lambda view: [(experiment_stream(experiment_id), ev.ExperimentUnsealed())]
