"""What notebooks and mlos_viz look at: the data of experiments, trials, configs and groups, equal to SqlStorage's."""

from __future__ import annotations

import warnings
from collections.abc import Callable, Iterator
from typing import Any

import pandas as pd
import pytest
from mlos_bench.environments.status import Status
from mlos_bench.storage.sql.storage import SqlStorage

import ledger
from ledger.integrations.mlos import LedgerStorage
from ledger.integrations.mlos.status import FROM_MLOS, TO_MLOS
from tests.integrations.mlos.conftest import experiment_of, now, utc

TIMES = ["ts_start", "ts_end"]


def fill(storage: Any, tunables: Any) -> None:
    """Run trials of three configs, three of each, and leave some in other states; the same for every storage."""
    with experiment_of(storage, tunables) as experiment:
        for number in range(9):
            config = tunables.copy().assign({"latency_ns": 10 * (number // 3), "idle": "halt" if number < 6 else "mwait"})
            parameters = {"is_defaults": number == 3, "repeat": number % 3, "text": "007", "none": None}
            trial = experiment.new_trial(config, config=parameters if number != 5 else None)
            trial.update(Status.RUNNING, utc(2026, 1, 1, number))
            points = [(utc(2026, 1, 1, number, minute), name, minute * 0.5) for minute in range(2) for name in ("cpu", "disk")]
            trial.update_telemetry(Status.RUNNING, utc(2026, 1, 1, number), points)
            scores = {"score": 0.1 * number, "count": number, "label": "x" if number % 2 else 7, "ok": number > 2, "hole": None}
            trial.update(Status.SUCCEEDED, utc(2026, 1, 1, number, 30), {**scores, **({"rare": 1} if number == 8 else {})})
        experiment.new_trial(tunables).update(Status.FAILED, utc(2026, 1, 2))
        experiment.new_trial(tunables).update(Status.TIMED_OUT, utc(2026, 1, 3), {"score": 1})
        experiment.new_trial(tunables, utc(2030, 1, 1))


@pytest.fixture
def both(storage: LedgerStorage, tunables: Any) -> Iterator[tuple[Any, Any]]:
    """Return the data of the same experiment in SqlStorage and in a ledger."""
    sql = SqlStorage({"drivername": "sqlite", "database": ":memory:"})
    for each in (sql, storage):
        fill(each, tunables)
    yield sql.experiments["Test-001"], storage.experiments["Test-001"]
    sql._engine.dispose()


def test_results_are_equal(both: tuple[Any, Any]) -> None:
    """Columns, their order, dtypes and values of results_df, of the whole experiment and of each group."""
    theirs, ours = both
    frame = ours.results_df
    assert frame.columns[:6].tolist() == ["trial_id", *TIMES, "tunable_config_id", "tunable_config_trial_group_id", "status"]
    # ts_start is the time of adding where a trial never was RUNNING. Numbers with holes are objects in SqlStorage's frame.
    pd.testing.assert_frame_equal(_comparable(theirs.results_df), _comparable(frame))
    pd.testing.assert_series_equal(theirs.results_df["ts_start"][:9], frame["ts_start"][:9])
    assert list(ours.tunable_config_trial_groups) == list(theirs.tunable_config_trial_groups) == [1, 2, 3, 4]
    for config_id, group in theirs.tunable_config_trial_groups.items():
        own = ours.tunable_config_trial_groups[config_id]
        assert own.tunable_config_trial_group_id == group.tunable_config_trial_group_id
        assert list(own.trials) == list(group.trials)
        pd.testing.assert_frame_equal(_comparable(group.results_df), _comparable(own.results_df))


def _comparable(frame: pd.DataFrame) -> pd.DataFrame:
    return frame.drop(columns="ts_start").infer_objects()


def test_trials_are_equal(both: tuple[Any, Any]) -> None:
    """Each trial's representation, config, group, results, telemetry and parameters."""
    theirs, ours = both
    assert repr(ours) == repr(theirs)
    assert (ours.objectives, ours.default_tunable_config_id) == (theirs.objectives, theirs.default_tunable_config_id)
    assert ours.root_env_config == theirs.root_env_config
    assert list(ours.trials) == list(theirs.trials)
    for number, trial in theirs.trials.items():
        own = ours.trials[number]
        assert repr(own) == repr(trial)
        assert (own.ts_end, own.status, own.tunable_config_id) == (trial.ts_end, trial.status, trial.tunable_config_id)
        for name in ("results_df", "telemetry_df", "metadata_df"):
            pd.testing.assert_frame_equal(getattr(trial, name), getattr(own, name))
        for name in ("results_dict", "metadata_dict"):
            assert str(getattr(own, name)) == str(getattr(trial, name))
        assert own.tunable_config.config_dict == trial.tunable_config.config_dict
        group = own.tunable_config_trial_group
        assert group.tunable_config_trial_group_id == trial.tunable_config_trial_group.tunable_config_trial_group_id
        assert group.tunable_config.config_dict == own.tunable_config.config_dict
    assert [each.config_dict for each in ours.tunable_configs.values()] == [
        each.config_dict for each in theirs.tunable_configs.values()
    ]


def test_data_are_equal_by_what_they_are_of(both: tuple[Any, Any]) -> None:
    """Trials by experiment and number, configs and groups by their numbers."""
    _, ours = both
    assert ours.trials[1] == ours.trials[1]
    assert ours.trials[1] != ours.trials[2]
    assert ours.trials[1].tunable_config == ours.trials[2].tunable_config
    assert ours.trials[1].tunable_config != ours.trials[4].tunable_config
    assert ours.trials[1].tunable_config_trial_group == ours.trials[2].tunable_config_trial_group
    assert ours.trials[1].tunable_config_trial_group != ours.trials[4].tunable_config_trial_group


def test_loading_is_equal(storage: LedgerStorage, tunables: Any) -> None:
    """load() gives what SqlStorage gives, to the text of every value; a new process is warmed up with it."""
    sql = SqlStorage({"drivername": "sqlite", "database": ":memory:"})
    found = []
    for each in (sql, storage):
        fill(each, tunables)
        with experiment_of(each, tunables) as experiment:
            found.append([experiment.load(), experiment.load(4), experiment.load_tunable_config(3), experiment.load_telemetry(2)])
    assert found[0] == found[1]
    sql._engine.dispose()


def test_an_empty_experiment_has_empty_data(storage: LedgerStorage, tunables: Any) -> None:
    """No trials, no configs, no default, and a frame with the fixed columns."""
    with experiment_of(storage, tunables) as experiment:
        assert experiment.opt_targets == {"score": "min"}
    data = storage.experiments["Test-001"]
    assert (data.trials, data.tunable_configs, data.tunable_config_trial_groups) == ({}, {}, {})
    assert data.default_tunable_config_id is None
    assert data.results_df.columns.tolist()[:6] == [
        "trial_id", *TIMES, "tunable_config_id", "tunable_config_trial_group_id", "status",
    ]  # fmt: skip
    assert len(data.results_df) == len(data.status_history_df) == 0


def test_experiments_of_others_are_shown_too(storage: LedgerStorage) -> None:
    """By name; the deleted ones are not, nor deleted trials."""
    book = storage.book
    for name in ("b", "a", "c"):
        book.experiment(name, objectives={"loss": "max", "cost": "min"}).new_trial({"lr": 0.1}).complete({"loss": 1})
    book.get_experiment("c").delete("wrong")
    book.get_experiment("a").new_trial({"lr": 0.2}).delete("wrong")
    data = storage.experiments
    assert list(data) == ["a", "b"]
    assert data["a"].root_env_config == ("", "", "")
    assert list(data["a"].objectives) == ["cost", "loss"]
    assert list(data["a"].trials) == data["a"].results_df["trial_id"].tolist() == [1]
    assert data["a"].default_tunable_config_id == 1


def test_what_is_recorded_meanwhile_is_shown(storage: LedgerStorage, tunables: Any) -> None:
    """The same data object shows what came since it was made, amendments included."""
    with experiment_of(storage, tunables) as experiment:
        data = storage.experiments["Test-001"]
        for number in range(3):
            experiment.new_trial(tunables).update(Status.SUCCEEDED, now(), {"score": number})
            assert data.results_df["result.score"].tolist() == list(range(number + 1))
    storage.book.get_experiment("Test-001").trial(2).amend(results={"score": 7}, reason="read from the wrong line")
    assert data.results_df["result.score"].tolist() == [0, 7, 2]
    assert data.trials[2].results_dict == {"score": 7}


def test_statuses_come_back() -> None:
    """Each status of mlos_bench is one of the ledger's and comes back; each of the ledger's is one of mlos_bench's."""
    assert set(FROM_MLOS) == set(Status.__members__)
    assert {TO_MLOS[FROM_MLOS[name]]: name for name in FROM_MLOS} == {name: name for name in FROM_MLOS}
    assert set(TO_MLOS) == set(ledger.Status)
    assert set(TO_MLOS.values()) <= set(Status.__members__)
    assert [status.is_finished for status in TO_MLOS if not status.is_finished] == [
        Status[TO_MLOS[status]].is_completed() for status in TO_MLOS if not status.is_finished
    ]


@pytest.mark.filterwarnings("ignore")
def test_mlos_viz_plots_an_experiment(storage: LedgerStorage, tunables: Any, monkeypatch: pytest.MonkeyPatch) -> None:
    """Its plots of an experiment in a ledger are drawn; what matplotlib and dabl warn of is theirs."""
    matplotlib = pytest.importorskip("matplotlib")
    matplotlib.use("Agg")
    mlos_viz = pytest.importorskip("mlos_viz")
    from matplotlib import pyplot

    with experiment_of(storage, tunables) as experiment:
        for number in range(45):
            config = tunables.copy().assign({"latency_ns": 1_000 * (number // 3), "ratio": 0.02 * (number % 7)})
            experiment.new_trial(config, config={"repeat_i": number % 3}).update(Status.SUCCEEDED, now(), {"score": 0.1 * number})
    data = storage.experiments["Test-001"]
    with warnings.catch_warnings():
        warnings.simplefilter("ignore")
        mlos_viz.plot(data)
    assert len(pyplot.get_fignums()) > 0
    pyplot.close("all")


def test_experiments_are_merged(open_storage: Callable[..., LedgerStorage], tunables: Any) -> None:
    """Ended trials of another experiment become ones of this one, each once; missing values are imputed."""
    storage = open_storage()
    with experiment_of(storage, tunables, "old") as old:
        good = old.new_trial(tunables.copy().assign({"idle": "mwait"}), config={"note": "x"})
        good.update(Status.RUNNING, utc(2026, 1, 1))
        good.update(Status.SUCCEEDED, utc(2026, 1, 2), {"score": 0.5, "more": 1})
        old.new_trial(tunables).update(Status.FAILED, now())
        old.new_trial(tunables).update(Status.CANCELED, now())
        old.new_trial(tunables)
        storage.book.get_experiment("old").new_trial({"idle": "halt", "gone": 1}).complete({"score": 3})
    with experiment_of(storage, tunables) as experiment:
        experiment.new_trial(tunables).update(Status.SUCCEEDED, now(), {"score": 9})
        for _ in range(2):
            experiment.merge(["old"])
            assert experiment.load()[0] == [1, 2, 3, 4]
        _, configs, scores, statuses = experiment.load(1)
        assert configs[0] == {"idle": "mwait", "latency_ns": "2000000", "ratio": "0.25"}
        assert configs[2] == {"idle": "halt", "latency_ns": "2000000", "ratio": "0.25"}
        assert (scores[0], scores[1]) == ({"score": "0.5", "more": "1"}, None)
        assert statuses == [Status.SUCCEEDED, Status.FAILED, Status.SUCCEEDED]
        assert experiment.new_trial(tunables).trial_id == experiment.trial_id - 1 == 5
        with experiment_of(storage, tunables, "old") as again:
            again.new_trial(tunables).update(Status.SUCCEEDED, now(), {"score": 4})
        experiment.merge(["old"])
        assert experiment.load(4)[2] == [{"score": "4"}]
    data = storage.experiments["Test-001"].trials[2]
    assert (data.ts_start, data.ts_end) == (utc(2026, 1, 1), utc(2026, 1, 2))
    assert data.metadata_dict == {"note": "x"}
    state = storage.book.get_experiment("Test-001").trial(2).state
    assert state.parents == (storage.book.get_experiment("old").trial(1).stream,)
    assert storage.book.get_experiment("Test-001").state.parents == (storage.book.get_experiment("old").stream,)
    assert data.status_history_df["reason"].tolist() == ["merged from experiment 'old'"] * 3


def test_experiments_that_cannot_be_compared_are_not_merged(storage: LedgerStorage, tunables: Any) -> None:
    """Other targets, itself, one that there is none of: nothing is taken in."""
    with experiment_of(storage, tunables, "max", opt_targets={"score": "max"}) as other:
        other.new_trial(tunables).update(Status.SUCCEEDED, now(), {"score": 1})
    with experiment_of(storage, tunables) as experiment:
        with pytest.raises(ValueError, match="cannot be compared"):
            experiment.merge(["max"])
        with pytest.raises(ValueError, match="into itself"):
            experiment.merge(["Test-001"])
        with pytest.raises(ledger.UnknownExperiment, match="Did you mean 'max'"):
            experiment.merge(["maxi"])
        assert experiment.load() == ([], [], [], [])
