"""Catching up: what has become of a trial that had not ended when it was imported."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any

from optuna.trial import FrozenTrial, TrialState

from ledger import events as ev
from ledger.backends.base import Submission, View
from ledger.errors import CommandRefused
from ledger.identity import default_actor
from ledger.integrations.optuna.commands import begun, ended, results_of, study_of
from ledger.integrations.optuna.storage import LedgerStorage
from ledger.integrations.optuna.times import from_local
from ledger.integrations.optuna.vocabulary import OWN, STARTED
from ledger.log import answers_of
from ledger.registry import Event
from ledger.status import Status
from ledger.streams import trial_stream
from ledger.values import encode_value

#: Of each record that an import makes of a trial.
REASON = "imported from Optuna"
_PARTS = ("state", "params", "distributions", "user_attrs", "system_attrs", "intermediate_values", "datetime_complete")


def is_same(known: FrozenTrial, trial: FrozenTrial) -> bool:
    """Say whether two trials are the same but for their ids; NaN is as good as NaN, and a trial that failed has no values."""
    if known.state is not TrialState.FAIL and not _are_equal(known.values, trial.values):
        return False
    is_waiting = known.state is TrialState.WAITING
    return (is_waiting or known.datetime_start == trial.datetime_start) and all(
        _are_equal(getattr(known, part), getattr(trial, part)) for part in _PARTS
    )


def has_same_course(one: FrozenTrial, other: FrozenTrial) -> bool:
    """Say whether two trials had the same parameters and ran at the same time, whatever came of them."""
    return all(_are_equal(getattr(one, part), getattr(other, part)) for part in ("params", "datetime_start", "datetime_complete"))


def leads_to(earlier: FrozenTrial, later: FrozenTrial) -> bool:
    """Say whether a trial that has not ended may have become the other one."""
    if earlier.state.is_finished() or (earlier.state is TrialState.RUNNING and later.state is TrialState.WAITING):
        return False
    if earlier.state is TrialState.RUNNING and earlier.datetime_start != later.datetime_start:
        return False
    return (
        all(name in later.params and _are_equal(value, later.params[name]) for name, value in earlier.params.items())
        and earlier.intermediate_values.keys() <= later.intermediate_values.keys()
        and earlier.user_attrs.keys() <= later.user_attrs.keys()
        and earlier.system_attrs.keys() <= later.system_attrs.keys()
    )


def _are_equal(one: Any, other: Any) -> bool:
    if one == other:
        return True
    if isinstance(one, dict) and isinstance(other, dict):
        return one.keys() == other.keys() and all(_are_equal(value, other[key]) for key, value in one.items())
    return isinstance(one, float | list) and type(one) is type(other) and encode_value(one) == encode_value(other)


def catch_up(storage: LedgerStorage, study_id: int, known: FrozenTrial, trial: FrozenTrial) -> None:
    """Record what has become of ``known``, a trial of the ledger: it is as ``trial`` then, its times included.

    One that is interrupted has come some of the way, and goes on when it is called again. Raises ValueError for a parameter
    whose distribution does not go with those that the study has.
    """
    identifier = known._trial_id
    for name, value in trial.params.items():
        if name not in known.params:
            distribution = trial.distributions[name]
            storage.set_trial_param(identifier, name, distribution.to_internal_repr(value), distribution)
    for step, value in trial.intermediate_values.items():
        if step not in known.intermediate_values or not _are_equal(known.intermediate_values[step], value):
            storage.set_trial_intermediate_value(identifier, step, value)
    for key, value in trial.user_attrs.items():
        if key not in known.user_attrs or not _are_equal(known.user_attrs[key], value):
            storage.set_trial_user_attr(identifier, key, value)
    for key, value in trial.system_attrs.items():
        if key not in known.system_attrs or not _are_equal(known.system_attrs[key], value):
            storage.set_trial_system_attr(identifier, key, value)
    if trial.state is not known.state:
        _set_state(storage, study_id, trial)


def _set_state(storage: LedgerStorage, study_id: int, trial: FrozenTrial) -> None:
    experiment = storage.experiment_of(study_id)
    stream = trial_stream(experiment.id, trial.number)
    log = experiment.book.log

    def begin(view: View) -> Sequence[tuple[str, Event]]:
        state = view.trial(experiment.id, trial.number)
        if state is None or state.status is not Status.PENDING:
            return []
        never: list[Event] = [] if trial.datetime_start is not None else [ev.AttributesSet({STARTED: None}, OWN, [STARTED])]
        return [(stream, event) for event in (*never, *begun(default_actor(), state.attempt + 1))]

    def end(view: View) -> Sequence[tuple[str, Event]]:
        state = view.trial(experiment.id, trial.number)
        if state is None or state.status is not Status.RUNNING:
            raise CommandRefused(f"{stream} was changed meanwhile, by another import perhaps. Import again.")
        results, said = results_of(study_of(view, experiment.id), trial.values)
        return [(stream, event) for event in (*said, ended(trial.state, results, state.attempt))]

    steps: list[Submission] = [log.submission(begin, occurred_at=_time(trial.datetime_start), reason=REASON)]
    if trial.state.is_finished():
        steps.append(log.submission(end, occurred_at=_time(trial.datetime_complete), reason=REASON))
    answers_of(log.commit(steps))


def _time(time: Any) -> int | None:
    return None if time is None else from_local(time)
