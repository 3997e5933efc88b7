"""Merging: the trials of other experiments as ones of an experiment, for its optimizer to be warmed up with."""

from __future__ import annotations

from collections.abc import Iterator, Mapping
from itertools import islice
from typing import Any
from uuid import UUID

from ledger import ancestry, commands
from ledger import events as ev
from ledger.backends.base import Submission
from ledger.errors import InvalidValue
from ledger.integrations.mlos.past_trial import PastTrial, record_past_trial
from ledger.integrations.mlos.status import LOADED
from ledger.integrations.mlos.values import NAMESPACE
from ledger.log import answers_of
from ledger.session import Ledger
from ledger.state import ExperimentState, Status, TrialState
from ledger.streams import trial_number, trial_stream

_TRIALS_PER_COMMIT = 100


def merge_experiment(book: Ledger, target: UUID, source_name: str, current: Mapping[str, Any]) -> int:
    """Copy the trials of an experiment that have ended, and are not there yet; return how many there were.

    ``current`` are the values of the target's parameters, for those that a trial has not.
    """
    source = book.get_experiment(source_name)
    with book.log.backend.view() as view:
        own, other = commands.experiment_of(view, target), commands.experiment_of(view, source.id)
    _check_targets(own, other)
    if own.id == other.id:
        raise InvalidValue(f"experiment {own.name!r} cannot be merged into itself.")
    if other.stream not in own.parents:
        book.log.execute(ancestry.set_parents(own.stream, [*own.parents, other.stream]))
    reason, count = f"merged from experiment {other.name!r}", 0
    trials = _new_trials(book, own, other, current)
    while batch := list(islice(trials, _TRIALS_PER_COMMIT)):
        submissions: list[Submission] = []
        for trial in batch:
            submissions += record_past_trial(book.log, own.id, trial, reason)
        answers_of(book.log.commit(submissions))
        count += len(batch)
    return count


def _check_targets(own: ExperimentState, other: ExperimentState) -> None:
    for target, direction in own.objectives.items():
        found = other.objectives.get(target)
        if found != direction:
            raise InvalidValue(
                f"experiment {other.name!r} has the targets {other.objectives}, of which {target!r} is {found or 'none'}, not "
                f"{direction!r} as in {own.name!r}: their trials cannot be compared."
            )


def _new_trials(
    book: Ledger, own: ExperimentState, other: ExperimentState, current: Mapping[str, Any]
) -> Iterator[PastTrial]:  # fmt: skip
    known: set[str] = set()
    for record in book.log.read(experiment=own.id, types=ev.TrialCreated):
        known.update(getattr(record.event, "parents", ()))
    for record in book.log.read(experiment=other.id, types=ev.TrialCreated):
        number = trial_number(record.stream)
        with book.log.backend.view() as view:
            state = commands.trial_of(view, other.id, number)
        if record.stream not in known and state.status in LOADED and state.deleted_at is None:
            yield _copy(other, state, current)


def _copy(other: ExperimentState, state: TrialState, current: Mapping[str, Any]) -> PastTrial:
    said = {**state.attributes.get(NAMESPACE, {}), "merged_from": other.name}
    status = Status.FAILED if state.status is Status.LOST else state.status
    began = state.created_at if state.started_at is None else state.started_at
    return PastTrial(
        None, {name: state.config.get(name, value) for name, value in current.items()}, status, state.created_at, began,
        state.ended_at, state.results, {NAMESPACE: said}, parents=(trial_stream(other.id, state.id),),
    )  # fmt: skip
