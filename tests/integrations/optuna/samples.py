"""Studies with a trial of every kind in a storage of Optuna's, and what two storages have of one compared."""

from __future__ import annotations

import math
from typing import Any

import optuna
from optuna.distributions import CategoricalDistribution, FloatDistribution, IntDistribution
from optuna.storages import BaseStorage
from optuna.study import Study
from optuna.trial import FrozenTrial, Trial, TrialState, create_trial

KINDS = ["adam", "sgd", None, 3, 0.5, True]


def objective(trial: Trial) -> float:
    """Use every kind of parameter, report, and end in every way."""
    x = trial.suggest_float("x", -10, 10)
    size = trial.suggest_int("size", 1, 64, log=True)
    if trial.suggest_categorical("kind", KINDS) == "sgd":
        trial.suggest_float("momentum", 0.0, 1.0, step=0.1)
    trial.set_user_attr("note", {"fan": "off", "ratio": [1, 2.5, None]})
    for step in range(3):
        trial.report(x**2 + size / (step + 1), step)
    if trial.number % 5 == 3:
        raise optuna.TrialPruned
    if trial.number % 5 == 4:
        raise ValueError("diverged")
    return x**2 + size


def fill(storage: BaseStorage) -> Study:
    """Make studies of one and two objectives and an empty one; return the first."""
    optuna.logging.set_verbosity(optuna.logging.ERROR)
    sampler = optuna.samplers.RandomSampler(seed=1)
    study = optuna.create_study(storage=storage, study_name="tuning", sampler=sampler)
    study.set_user_attr("owner", "ada")
    study.set_user_attr("größe", math.inf)
    storage.set_study_system_attr(study._study_id, "study:metric_names", ["loss"])
    study.optimize(objective, n_trials=12, catch=(ValueError,))
    distributions = {
        "x": FloatDistribution(-10, 10), "size": IntDistribution(1, 64, log=True), "kind": CategoricalDistribution(KINDS),
    }  # fmt: skip
    study.add_trial(
        create_trial(
            state=TrialState.COMPLETE, value=math.inf, params={"x": 0.0, "size": 2, "kind": None}, distributions=distributions,
            intermediate_values={0: math.nan, 7: -1.5}, user_attrs={"from": "elsewhere"}, system_attrs={"origin": [1, 2]},
        )
    )  # fmt: skip
    study.enqueue_trial({"x": 1.5, "size": 4}, user_attrs={"why": "a guess"})
    storage.set_study_system_attr(study._study_id, "dashboard:note_ver", 1)
    storage.set_study_system_attr(study._study_id, "dashboard:note_str:0", "of the study")
    third = study.trials[2]._trial_id
    storage.set_study_system_attr(study._study_id, f"dashboard:{third}:note_ver", 1)
    storage.set_study_system_attr(study._study_id, f"dashboard:{third}:note_str:0", "of trial 2")
    many = optuna.create_study(storage=storage, study_name="front", directions=["minimize", "maximize"], sampler=sampler)
    for _ in range(3):
        trial = many.ask()
        x = trial.suggest_float("x", 0, 1)
        many.tell(trial, [x, 1 - x])
    many.ask().suggest_float("x", 0, 1)
    optuna.create_study(storage=storage, study_name="")
    optuna.create_study(storage=storage, study_name="gone").ask()
    optuna.delete_study(study_name="gone", storage=storage)
    return study


def content(trial: FrozenTrial) -> dict[str, Any]:
    """Return all that a trial is but for its id; NaN is made a text, so that it is equal to itself."""
    steps = {step: str(value) if math.isnan(value) else value for step, value in trial.intermediate_values.items()}
    fields = {key: value for key, value in trial.__dict__.items() if key != "_trial_id"}
    return {**fields, "intermediate_values": steps, "order": list(trial.params)}


def trials(storage: BaseStorage, name: str) -> list[dict[str, Any]]:
    """Return what the trials of a study are."""
    study_id = storage.get_study_id_from_name(name)
    return [content(trial) for trial in storage.get_all_trials(study_id)]


def attributes(storage: BaseStorage, name: str) -> tuple[Any, ...]:
    """Return what a study is beside its trials; keys with ids of trials are left out."""
    study_id = storage.get_study_id_from_name(name)
    system = storage.get_study_system_attrs(study_id)
    plain = {key: value for key, value in system.items() if not key.removeprefix("dashboard:")[:1].isdigit()}
    return storage.get_study_directions(study_id), storage.get_study_user_attrs(study_id), plain


def names(storage: BaseStorage) -> list[str]:
    """Return the names of the studies, in order."""
    return [study.study_name for study in storage.get_all_studies()]


def assert_same(one: BaseStorage, other: BaseStorage) -> None:
    """Fail unless two storages have the same studies."""
    assert names(one) == names(other)
    for name in names(one):
        assert attributes(one, name) == attributes(other, name)
        assert trials(one, name) == trials(other, name)
