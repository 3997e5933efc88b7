"""Ids: never used again, the same for everyone."""

from __future__ import annotations

import optuna
import pytest
from optuna.study import StudyDirection
from optuna.trial import TrialState

from ledger.integrations.optuna import LedgerStorage


def test_ids_of_what_was_deleted_are_not_used_again(storage: LedgerStorage) -> None:
    """Studies and trials made after a deletion have ids that nothing had before, the same name or not."""
    seen: set[int] = set()
    for _ in range(4):
        study_id = storage.create_new_study([StudyDirection.MINIMIZE], "demo")
        trials = [storage.create_new_trial(study_id) for _ in range(3)]
        assert not seen & {study_id, *trials}
        assert [storage.get_trial_number_from_id(trial_id) for trial_id in trials] == [0, 1, 2]
        seen |= {study_id, *trials}
        storage.delete_study(study_id)
    assert len(seen) == 16


def test_deleted_study_is_gone_with_its_trials(storage: LedgerStorage) -> None:
    """Nothing of a deleted study is found, neither by its id nor by those of its trials, nor can it be written to."""
    study_id = storage.create_new_study([StudyDirection.MINIMIZE], "demo")
    trial_id = storage.create_new_trial(study_id)
    storage.delete_study(study_id)
    for ask in (
        lambda: storage.get_trial(trial_id),
        lambda: storage.get_trial_number_from_id(trial_id),
        lambda: storage.set_trial_state_values(trial_id, TrialState.FAIL),
        lambda: storage.set_trial_user_attr(trial_id, "a", 1),
        lambda: storage.record_heartbeat(trial_id),
        lambda: storage.get_all_trials(study_id),
        lambda: storage.get_best_trial(study_id),
        lambda: storage.get_n_trials(study_id),
        lambda: storage.set_study_user_attr(study_id, "a", 1),
        lambda: storage.create_new_trial(study_id),
        lambda: storage.get_study_id_from_name("demo"),
    ):
        with pytest.raises(KeyError):
            ask()


def test_numbers_are_kept_when_asked_for(storage: LedgerStorage) -> None:
    """`add_trials` numbers from the next free one, or keeps the numbers; gaps are in nobody's way."""
    study_id = storage.create_new_study([StudyDirection.MINIMIZE])
    trials = [optuna.trial.create_trial(value=float(number)) for number in range(3)]
    for trial, number in zip(trials, (4, 0, 7), strict=True):
        trial.number = number
    ids = storage.add_trials(study_id, trials, keep_numbers=True)
    assert [trial.number for trial in storage.get_all_trials(study_id)] == [4, 0, 7]
    assert storage.get_trial_id_from_study_id_trial_number(study_id, 7) == ids[2]
    with pytest.raises(KeyError):
        storage.get_trial_id_from_study_id_trial_number(study_id, 1)
    assert storage.get_trial_number_from_id(storage.create_new_trial(study_id)) == 8
    assert storage.get_best_trial(study_id).number == 4
    assert [trial.number for trial in storage.get_all_trials(study_id, states=(TrialState.RUNNING,))] == [8]
