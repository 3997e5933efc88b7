"""Studies that other doors of the ledger write to as well: trials by hand, corrections, tombstones, seals, redactions."""

from __future__ import annotations

import optuna
import pytest
from optuna.distributions import CategoricalDistribution, FloatDistribution
from optuna.exceptions import DuplicatedStudyError
from optuna.study import StudyDirection
from optuna.trial import TrialState

import ledger
from ledger.integrations.optuna import LedgerStorage


def quadratic(trial: optuna.Trial) -> float:
    return trial.suggest_float("x", -1, 1) ** 2


def test_experiment_with_objectives_is_a_study(storage: LedgerStorage) -> None:
    """Trials that were recorded without Optuna are trials of the study, with results as values and metrics as steps."""
    exp = storage.book.experiment("by-hand", objectives={"loss": "min"})
    trial = exp.new_trial({"x": 0.5, "name": "a", "nested": {"b": 1}})
    with trial.run():
        trial.log(step=1, loss=0.9)
        trial.log(step=2, loss=0.7, other=3)
        trial.complete({"loss": 0.25, "seconds": 3})
    exp.new_trial({"x": 0.1})
    study = optuna.load_study(study_name="by-hand", storage=storage)
    done, waiting = study.trials
    assert (done.state, done.value, done.params) == (TrialState.COMPLETE, 0.25, {"x": 0.5, "name": "a"})
    assert done.intermediate_values == {1: 0.9, 2: 0.7}
    assert done.distributions["x"] == CategoricalDistribution((0.5,))
    assert (waiting.number, waiting.state) == (2, TrialState.WAITING)
    done._validate()


def test_trial_by_hand_has_the_distributions_of_the_study(storage: LedgerStorage) -> None:
    """Of a parameter that Optuna knows, a trial added by hand has the study's distribution; and samplers learn from it."""
    study = optuna.create_study(storage=storage, study_name="demo", sampler=optuna.samplers.TPESampler(n_startup_trials=1))
    study.optimize(quadratic, n_trials=2)
    exp = storage.experiment_of(study._study_id)
    exp.new_trial({"x": 0.01}, status="SUCCEEDED", results={"value": -1.0})  # better than any that a sampler may find
    study.optimize(quadratic, n_trials=2)
    assert study.trials[2].distributions == {"x": FloatDistribution(-1, 1)}
    assert [trial.number for trial in study.trials] == [0, 1, 2, 3, 4]
    assert study.best_trial.number == 2


def test_experiment_without_objectives_is_left_out(storage: LedgerStorage) -> None:
    """It is no study, its trials are in nobody's way, its name is taken; with objectives it becomes one, trials and all."""
    exp = storage.book.experiment("plain")
    exp.new_trial({"x": 1}).complete({"loss": 2.0})
    assert storage.get_all_studies() == []
    with pytest.raises(KeyError):
        storage.get_study_id_from_name("plain")
    with pytest.raises(DuplicatedStudyError, match="without objectives"):
        storage.create_new_study([StudyDirection.MINIMIZE], "plain")
    exp.set_objectives({"loss": "max"})
    study = optuna.load_study(study_name="plain", storage=storage)
    assert (study.direction, study.best_value) == (StudyDirection.MAXIMIZE, 2.0)


def test_success_without_a_value_is_shown_as_failure(storage: LedgerStorage) -> None:
    """A trial that succeeded with no number for an objective cannot be COMPLETE to Optuna."""
    exp = storage.book.experiment("demo", objectives={"loss": "min"})
    for results in ({}, {"loss": "low"}, {"loss": float("nan")}):
        exp.new_trial({}).complete(results)
    (study,) = storage.get_all_studies()
    trials = storage.get_all_trials(study._study_id)
    assert [(trial.state, trial.values) for trial in trials] == [(TrialState.FAIL, None)] * 3


def test_corrections_change_what_optuna_sees(storage: LedgerStorage) -> None:
    """An amended value counts, a deleted trial is gone until it is restored, a requeued one waits; the best trial follows."""
    study = optuna.create_study(storage=storage, study_name="demo")
    for value in (3.0, 1.0, 2.0):
        study.tell(study.ask(), value)
    exp = storage.experiment_of(study._study_id)
    assert study.best_trial.number == 1
    exp.trial(1).amend(results={"value": 9.0}, reason="wrong unit")
    assert study.best_trial.number == 2
    exp.trial(2).delete(reason="twice")
    assert [trial.number for trial in study.trials] == [0, 1]
    assert (study.best_trial.number, storage.get_n_trials(study._study_id)) == (0, 2)
    exp.trial(2, deleted=True).restore()
    assert study.best_trial.number == 2
    storage.delete_study(study._study_id)
    exp.restore()
    assert [trial.number for trial in study.trials] == [0, 1, 2]
    other = exp.new_trial({"x": 1})
    other.fail("disk full")
    assert study.trials[3].state == TrialState.FAIL
    other.requeue()
    assert study.trials[3].state == TrialState.WAITING


def test_worker_of_the_ledger_and_optuna_share_a_queue(storage: LedgerStorage) -> None:
    """A trial that Optuna enqueued is claimed by one of them, and the other sees it run."""
    study = optuna.create_study(storage=storage, study_name="demo")
    study.enqueue_trial({"x": 0.5})
    study.enqueue_trial({"x": 0.25})
    claimed = storage.experiment_of(study._study_id).claim(worker="w1")
    assert claimed is not None
    assert claimed.id == 0
    assert study.trials[0].state == TrialState.RUNNING
    assert not storage.set_trial_state_values(study.trials[0]._trial_id, TrialState.RUNNING)
    assert study.ask().number == 1
    claimed.start()
    claimed.complete({"value": 0.5})
    assert study.trials[0].value == 0.5
    assert storage.experiment_of(study._study_id).claim(worker="w1") is None


def test_paused_study_hands_out_nothing(storage: LedgerStorage) -> None:
    """A waiting trial of a paused experiment is not popped, and is once it goes on."""
    study = optuna.create_study(storage=storage, study_name="demo")
    study.enqueue_trial({"x": 0.5})
    exp = storage.experiment_of(study._study_id)
    exp.pause()
    assert not storage.set_trial_state_values(study.trials[0]._trial_id, TrialState.RUNNING)
    exp.resume()
    assert study.ask().number == 0


def test_sealed_study_is_read_only(storage: LedgerStorage) -> None:
    """A sealed experiment refuses writes, and can be read."""
    study = optuna.create_study(storage=storage, study_name="demo")
    study.tell(study.ask(), 1.0)
    storage.experiment_of(study._study_id).seal()
    with pytest.raises(ledger.ExperimentReadOnly):
        study.ask()
    assert study.best_value == 1.0


def test_result_out_of_bounds_fails_the_trial(storage: LedgerStorage) -> None:
    """A value outside of the objective's bounds makes the trial FAIL, as it does for the ledger's own workers."""
    storage.book.experiment("demo", objectives={"loss": ledger.Objective("min", lower=0)})
    study = optuna.load_study(study_name="demo", storage=storage)
    study.tell(study.ask(), -1.0)
    assert study.trials[0].state == TrialState.FAIL


def test_redacted_payload_is_forgotten(storage: LedgerStorage) -> None:
    """What was redacted is in nothing that a storage returns afterwards, also of one that had folded it."""
    study = optuna.create_study(storage=storage, study_name="demo")
    trial = study.ask()
    trial.set_user_attr("key", "secret-123")
    study.tell(trial, 1.0)
    assert study.trials[0].user_attrs == {"key": "secret-123"}
    storage.book.redact(*storage.book.find_text("secret-123").payloads, reason="leaked")
    assert study.trials[0].user_attrs == {}
    assert study.trials[0].value == 1.0


def test_a_ledger_with_a_redaction_is_opened_anew(storage: LedgerStorage) -> None:
    """A storage that was not there when the payload was dropped folds what was left of it, and what came after."""
    study = optuna.create_study(storage=storage, study_name="demo")
    study.set_user_attr("key", "secret-123")
    storage.book.redact(*storage.book.find_text("secret-123").payloads, reason="leaked")
    study.optimize(quadratic, n_trials=2)
    with LedgerStorage(storage.book) as other:
        found = optuna.load_study(study_name="demo", storage=other)
        assert (found.user_attrs, len(found.trials)) == ({}, 2)


def test_renamed_experiment_is_found_by_its_new_name(storage: LedgerStorage) -> None:
    """A study has the name that its experiment has now, and the old one is free."""
    study = optuna.create_study(storage=storage, study_name="demo")
    storage.experiment_of(study._study_id).rename("demo-2")
    assert storage.get_study_id_from_name("demo-2") == study._study_id
    assert optuna.create_study(storage=storage, study_name="demo")._study_id != study._study_id


def test_attributes_of_the_adapter_set_to_anything_break_nothing(storage: LedgerStorage) -> None:
    """What somebody else has put into the namespaces of the adapter is passed over where it says nothing."""
    study = optuna.create_study(storage=storage, study_name="demo")
    study.optimize(quadratic, n_trials=1)
    exp = storage.experiment_of(study._study_id)
    for owner in (exp, exp.trial(0)):
        for value in (1, [1, 2], "x", {"name": "FloatDistribution"}, ["x", ["y"]]):
            for name in ("objectives", "params", "values", "datetime_start", "datetime_complete", "x", "y"):
                owner.set_attributes({name: value}, namespace="optuna")
                owner.set_attributes({name: value}, namespace="optuna.distributions")
            assert study.best_trial.params.keys() == {"x"}
    study.optimize(lambda trial: quadratic(trial) + trial.suggest_float("y", 0, 1), n_trials=1)
    assert study.trials[1].distributions == {"x": FloatDistribution(-1, 1), "y": FloatDistribution(0, 1)}
