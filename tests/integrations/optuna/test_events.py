"""What is recorded of what Optuna does, and how tables and histories show it."""

from __future__ import annotations

from typing import Any

import optuna
import pytest
from optuna.distributions import CategoricalDistribution, FloatDistribution, IntDistribution
from optuna.exceptions import DuplicatedStudyError, UpdateFinishedTrialError
from optuna.study import StudyDirection
from optuna.trial import TrialState
from typer.testing import CliRunner

import ledger
from ledger.cli.main import app
from ledger.integrations.optuna import LedgerStorage
from ledger.integrations.optuna.vocabulary import STATE_OF, STATUS_OF
from ledger.status import Status
from projections import Tables

UNIT = FloatDistribution(0.0, 1.0)


def objective(trial: optuna.Trial) -> float:
    x = trial.suggest_float("x", -1, 1)
    kind = trial.suggest_categorical("kind", ["a", "b"])
    trial.set_user_attr("host", "n1")
    for step in range(3):
        trial.report(x + step, step)
    if trial.number == 2:
        raise optuna.TrialPruned
    return x * (2 if kind == "a" else 3)


def records(storage: LedgerStorage, trial_id: int) -> list[Any]:
    """Return the records of a trial."""
    (created,) = storage.book.log.backend.read_positions([trial_id])
    return list(storage.book.log.read(stream=created.stream))


def test_life_of_a_trial_is_what_happened_to_it(storage: LedgerStorage) -> None:
    """An optimized trial is created, claimed without a lease, started, configured, measured and completed, by this process."""
    study = optuna.create_study(storage=storage, study_name="demo")
    study.optimize(objective, n_trials=1)
    found = records(storage, study.trials[0]._trial_id)
    assert [record.type for record in found] == [
        "TrialCreated", "TrialClaimed", "TrialStarted", "TrialConfigured", "TrialConfigured", "AttributesSet", "MetricsLogged",
        "MetricsLogged", "MetricsLogged", "TrialCompleted",
    ]  # fmt: skip
    assert (found[1].event.worker, found[1].event.deadline) == (storage.book.log.actor, None)
    assert found[-1].event.results == {"value": study.best_value}


def test_ids_are_positions_of_records(storage: LedgerStorage) -> None:
    """A study's id is the position of its ExperimentCreated, a trial's that of its TrialCreated."""
    study = optuna.create_study(storage=storage)
    trial = study.ask()
    created = storage.book.log.backend.read_positions([study._study_id, trial._trial_id])
    assert [record.type for record in created] == ["ExperimentCreated", "TrialCreated"]


def test_tables_show_an_optimized_study(storage: LedgerStorage) -> None:
    """Status, config, results, metrics and status history are in the tables of every ledger."""
    study = optuna.create_study(storage=storage, study_name="demo", direction="maximize")
    study.optimize(objective, n_trials=3)
    with Tables(storage.book) as tables:
        (experiment,) = tables.experiments().to_dict("records")
        assert (experiment["name"], experiment["trials"], experiment["succeeded"]) == ("demo", 3, 2)
        frame = tables.trials("demo")
        assert frame["trial_id"].tolist() == [0, 1, 2]
        assert frame["status"].tolist() == ["SUCCEEDED", "SUCCEEDED", "PRUNED"]
        assert frame["config.x"].tolist() == [trial.params["x"] for trial in study.trials]
        assert frame["config.kind"].tolist() == [trial.params["kind"] for trial in study.trials]
        assert frame["result.value"].tolist() == [trial.value for trial in study.trials]
        points = tables.metrics("demo")
        said = {(row.trial_id, row.step): row.value for row in points[points["name"] == "value"].itertuples()}
        assert said == {(t.number, step): v for t in study.trials for step, v in t.intermediate_values.items()}


def test_history_on_the_command_line_shows_a_trial(storage: LedgerStorage) -> None:
    """`ledger history` tells a trial's life in sentences."""
    study = optuna.create_study(storage=storage, study_name="demo")
    study.optimize(objective, n_trials=1)
    said = CliRunner().invoke(app, ["history", storage.book.path, "demo", "0"]).output
    for part in ("claimed", "no lease", "x=", "kind=", "host=n1", "value="):
        assert part in said


def test_distribution_is_said_once(storage: LedgerStorage) -> None:
    """The study keeps the first distribution of a parameter; a trial keeps its own only where it is another."""
    study_id = storage.create_new_study([StudyDirection.MINIMIZE])
    first, second, third = (storage.create_new_trial(study_id) for _ in range(3))
    storage.set_trial_param(first, "x", 0.5, UNIT)
    storage.set_trial_param(second, "x", 0.25, UNIT)
    storage.set_trial_param(third, "x", 1.5, FloatDistribution(0.0, 2.0))
    assert [len(records(storage, each)) for each in (first, second, third)] == [4, 4, 5]
    assert [storage.get_trial(each).distributions["x"].high for each in (first, second, third)] == [1.0, 1.0, 2.0]
    with pytest.raises(ValueError, match="different distribution kind"):
        storage.set_trial_param(third, "x", 1, IntDistribution(0, 2))
    assert len(records(storage, third)) == 5


@pytest.mark.parametrize("choices", [(1, True, 1.0), (None, float("nan"), "a"), (True, False), (0, "0", 0.5)])
def test_choices_keep_their_types(storage: LedgerStorage, choices: tuple[Any, ...]) -> None:
    """Choices that are equal and yet of other types are not mistaken for each other."""
    study_id = storage.create_new_study([StudyDirection.MINIMIZE])
    for index in range(len(choices)):
        trial_id = storage.create_new_trial(study_id)
        storage.set_trial_param(trial_id, "c", index, CategoricalDistribution(choices))
        found = storage.get_trial(trial_id)
        assert repr(found.params["c"]) == repr(choices[index])
        assert storage.get_trial_param(trial_id, "c") == index
        assert repr(found.distributions["c"].choices) == repr(choices)


def test_attribute_of_none_is_one(storage: LedgerStorage) -> None:
    """None is kept as the value of an attribute, beside others of its namespace that are set later."""
    study_id = storage.create_new_study([StudyDirection.MINIMIZE])
    trial_id = storage.create_new_trial(study_id)
    for key, value in (("none", None), ("one", 1), ("none", None)):
        storage.set_study_user_attr(study_id, key, value)
        storage.set_trial_system_attr(trial_id, key, value)
    assert storage.get_study_user_attrs(study_id) == {"none": None, "one": 1}
    assert storage.get_trial_system_attrs(trial_id) == {"none": None, "one": 1}
    assert storage.experiment_of(study_id).state.attributes[""] == {"none": None, "one": 1}


def test_what_is_refused_is_not_recorded(storage: LedgerStorage) -> None:
    """A taken name, a trial that has ended, an unknown id and a value that cannot be kept leave no record."""
    study_id = storage.create_new_study([StudyDirection.MINIMIZE], "demo")
    trial_id = storage.create_new_trial(study_id)
    storage.set_trial_state_values(trial_id, TrialState.COMPLETE, [1.0])
    head = storage.book.log.head
    with pytest.raises(DuplicatedStudyError):
        storage.create_new_study([StudyDirection.MINIMIZE], "demo")
    for change in (
        lambda: storage.set_trial_param(trial_id, "x", 0.5, UNIT),
        lambda: storage.set_trial_intermediate_value(trial_id, 1, 0.5),
        lambda: storage.set_trial_user_attr(trial_id, "a", 1),
        lambda: storage.set_trial_state_values(trial_id, TrialState.RUNNING),
        lambda: storage.set_trial_state_values(trial_id, TrialState.COMPLETE, [2.0]),
    ):
        with pytest.raises(UpdateFinishedTrialError):
            change()
    with pytest.raises(KeyError):
        storage.create_new_trial(study_id + 1)
    with pytest.raises(ledger.InvalidValue):
        storage.set_study_user_attr(study_id, "a", {1, 2})
    assert storage.book.log.head == head


def test_a_parameter_set_to_another_value_is_amended(storage: LedgerStorage) -> None:
    """A parameter that is set twice has the later value; the first stays in history."""
    study_id = storage.create_new_study([StudyDirection.MINIMIZE])
    trial_id = storage.create_new_trial(study_id)
    for value in (0.5, 0.5, 0.75):
        storage.set_trial_param(trial_id, "x", value, UNIT)
    assert storage.get_trial(trial_id).params == {"x": 0.75}
    assert [record.type for record in records(storage, trial_id)][3:] == ["TrialConfigured", "TrialAmended"]


@pytest.mark.filterwarnings("ignore::optuna.exceptions.ExperimentalWarning")
def test_metric_names_are_those_of_the_objectives(storage: LedgerStorage) -> None:
    """Objectives are called as `set_metric_names` says, in its order, and values stay in theirs."""
    study = optuna.create_study(storage=storage, study_name="demo", directions=["minimize", "maximize"])
    study.tell(study.ask(), [1.0, 2.0])
    study.set_metric_names(["zeta", "alpha"])
    study.tell(study.ask(), [3.0, 4.0])
    assert storage.experiment_of(study._study_id).objectives == {"zeta": "min", "alpha": "max"}
    assert storage.experiment_of(study._study_id).trial(1).results == {"zeta": 3.0, "alpha": 4.0}
    assert [trial.values for trial in study.trials] == [[1.0, 2.0], [3.0, 4.0]]
    assert storage.get_study_directions(study._study_id) == [StudyDirection.MINIMIZE, StudyDirection.MAXIMIZE]


def test_edits_have_an_actor(storage: LedgerStorage) -> None:
    """Who changes a study through a storage of another name is in the record of the change."""
    study_id = storage.create_new_study([StudyDirection.MINIMIZE], "demo")
    with LedgerStorage(storage.book, actor="dashboard") as dashboard:
        dashboard.set_study_user_attr(study_id, "note", "good")
        trial_id = dashboard.create_new_trial(study_id)
    assert [record.actor for record in storage.book.log.read()][-4:] == ["dashboard"] * 4
    assert records(storage, trial_id)[1].event.worker == "dashboard"


def test_states_round_trip() -> None:
    """Every state of Optuna's comes back from the status that it is recorded as; every status is shown as some state."""
    assert {state: STATE_OF[status] for state, status in STATUS_OF.items()} == {state: state for state in TrialState}
    assert set(STATE_OF) == set(Status)
