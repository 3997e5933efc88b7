"""Studies of every state and attribute, to other storages and back."""

from __future__ import annotations

import datetime as dt
from collections.abc import Callable
from pathlib import Path
from typing import Any

import optuna
import pytest
from optuna.distributions import CategoricalDistribution, FloatDistribution, IntDistribution
from optuna.storages import BaseStorage, InMemoryStorage, JournalStorage
from optuna.storages.journal import JournalFileBackend
from optuna.study import StudyDirection
from optuna.trial import FrozenTrial, TrialState, create_trial

import ledger
from ledger.integrations.optuna import LedgerStorage

OTHERS: list[Callable[[Path], BaseStorage]] = [
    lambda path: InMemoryStorage(),
    lambda path: JournalStorage(JournalFileBackend(str(path / "journal.log"))),
]
PARAMS: dict[str, Any] = {"z": 0.5, "a": 3, "m": "b", "none": None}
DISTRIBUTIONS = {
    "z": FloatDistribution(0, 1), "a": IntDistribution(0, 8, step=1), "m": CategoricalDistribution(("a", "b")),
    "none": CategoricalDistribution((None, 1)),
}  # fmt: skip


def every_state() -> list[FrozenTrial]:
    """Return trials of all states, with times, orders and values of all kinds."""
    made = [
        create_trial(
            state=state, values=[1.5, float("inf")] if state in (TrialState.COMPLETE, TrialState.PRUNED) else None, params=PARAMS,
            distributions=DISTRIBUTIONS, user_attrs={"b": None, "a": [1, {"x": None}]},
            system_attrs={"fixed_params": PARAMS, "constraints": [0.5, -1.0]},
            intermediate_values={3: 0.5, 1: float("-inf"), 2: 7.0},
        )
        for state in TrialState
    ]  # fmt: skip
    for number, trial in enumerate(made):
        if trial.datetime_start is not None:
            trial.datetime_start = dt.datetime(2019, 3, 31, 1, 30, number, 123456)
        if trial.datetime_complete is not None:
            trial.datetime_complete = dt.datetime(2020, 1, 1, 0, 0, number, 999999)
    return [*made, create_trial(values=[1.0, 2.0]), create_trial(state=TrialState.WAITING)]


def contents(storage: BaseStorage) -> tuple[Any, ...]:
    """Return all there is in the study, but for ids."""
    (study,) = storage.get_all_studies()
    trials = [{**trial.__dict__, "_trial_id": None} for trial in storage.get_all_trials(study._study_id)]
    return study.study_name, study.directions, study.user_attrs, study.system_attrs, trials


@pytest.mark.parametrize("make", OTHERS)
def test_study_goes_there_and_back(make: Callable[[Path], BaseStorage], storage: LedgerStorage, tmp_path: Path) -> None:
    """`copy_study` from another storage to a ledger and on to one more loses nothing: states, times, orders, types."""
    first = make(tmp_path)
    study = optuna.create_study(storage=first, study_name="demo", directions=["minimize", "maximize"])
    study.set_user_attr("note", {"deep": [None, 1.5]})
    first.set_study_system_attr(study._study_id, "study:metric_names", ["loss", "accuracy"])
    for trial in every_state():
        first.create_new_trial(study._study_id, trial)
    optuna.copy_study(from_study_name="demo", from_storage=first, to_storage=storage)
    assert contents(storage) == contents(first)
    again = InMemoryStorage()
    optuna.copy_study(from_study_name="demo", from_storage=storage, to_storage=again)
    assert contents(again) == contents(first)
    assert list(again.get_all_trials(0)[0].params) == list(PARAMS)


def test_times_of_copied_trials_are_those_of_the_log(storage: LedgerStorage) -> None:
    """When a copied trial began and ended is what tables show, and when it was recorded is kept beside it."""
    study_id = storage.create_new_study([StudyDirection.MINIMIZE, StudyDirection.MAXIMIZE], "demo")
    (trial_id,) = storage.add_trials(study_id, every_state()[1:2], reason="from the old server")
    state = storage.experiment_of(study_id).trial(0).state
    began, ended = (dt.datetime.fromtimestamp(each / 1e9) for each in (state.started_at, state.ended_at))
    assert (began.year, ended.year) == (2019, 2020)
    (record,) = storage.book.log.backend.read_positions([trial_id])
    assert record.reason == "from the old server"
    assert record.recorded_at > record.occurred_at


def test_many_trials_are_added_at_once(storage: LedgerStorage) -> None:
    """`add_trials` takes any number, in order, in few commits; one that is refused leaves those before it."""
    study_id = storage.create_new_study([StudyDirection.MINIMIZE])
    trials = [
        create_trial(value=float(number), params={"z": 0.5}, distributions={"z": DISTRIBUTIONS["z"]}) for number in range(600)
    ]
    ids = storage.add_trials(study_id, iter(trials))
    assert [trial.value for trial in storage.get_all_trials(study_id)] == [trial.value for trial in trials]
    assert [trial._trial_id for trial in storage.get_all_trials(study_id)] == ids
    assert len({record.recorded_at for record in storage.book.log.read(types=[ledger.TrialCreated])}) <= 3
    trials[0].set_user_attr("bad", {1, 2})
    with pytest.raises(ledger.InvalidValue, match="bad"):
        storage.add_trials(study_id, [create_trial(value=1.0), trials[0]])


@pytest.mark.parametrize("state", [TrialState.COMPLETE, TrialState.PRUNED, TrialState.RUNNING])
def test_values_that_are_not_one_for_each_objective_are_kept(storage: LedgerStorage, state: TrialState) -> None:
    """A template whose values do not fit the study's objectives keeps them."""
    study_id = storage.create_new_study([StudyDirection.MINIMIZE])
    trial = create_trial(state=TrialState.COMPLETE, values=[1.0, 2.0])
    trial.state, trial.datetime_complete = state, trial.datetime_complete if state.is_finished() else None
    trial_id = storage.create_new_trial(study_id, trial)
    found = storage.get_trial(trial_id)
    if state == TrialState.COMPLETE or state == TrialState.PRUNED:
        assert (found.state, found.values) == (state, [1.0, 2.0])
    storage.get_all_trials(study_id)
