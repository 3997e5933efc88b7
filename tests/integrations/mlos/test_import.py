"""A database of mlos_bench becomes a ledger: ids, values, times and histories stay."""

from __future__ import annotations

import sqlite3
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any

import pandas as pd
import pytest
from mlos_bench.environments.status import Status
from mlos_bench.storage.sql.storage import SqlStorage

import ledger
from ledger.integrations.mlos import LedgerStorage, import_database
from tests.integrations.mlos.conftest import experiment_of, now, utc


@pytest.fixture
def database(tmp_path: Path, repository: Path) -> Path:
    """Return where a database of mlos_bench is to be."""
    return tmp_path / "mlos bench.sqlite"


@pytest.fixture
def sql(database: Path) -> Iterator[Any]:
    """Open the database with mlos_bench's own storage."""
    storage = SqlStorage({"drivername": "sqlite", "database": str(database)})
    yield storage
    storage._engine.dispose()


def fill(storage: Any, tunables: Any) -> None:
    """Write two experiments whose trials are in every state, some of one config."""
    for name in ("two", "one"):
        with experiment_of(storage, tunables, name, trial_id=3, opt_targets={"score": "min", "time": "max"}) as experiment:
            for number, status in enumerate([*Status, Status.SUCCEEDED, Status.SUCCEEDED]):
                values = {"latency_ns": number // 2, "ratio": 0.5 if name == "one" else 1e-07}
                config = {"is_defaults": number == 5, "repeat": number, "text": "007", "none": None} if number else None
                trial = experiment.new_trial(tunables.copy().assign(values), config=config)
                if status in (Status.UNKNOWN, Status.PENDING):
                    continue
                if status is not Status.READY:
                    trial.update(Status.RUNNING, utc(2026, 1, 1, number))
                points = [
                    (utc(2026, 1, 1, number, minute), name, minute * 0.5) for minute in range(2) for name in ("cpu", "disk")
                ]
                trial.update_telemetry(Status.RUNNING, utc(2026, 1, 1, number, 5), points)
                metrics = {"score": 0.25 * number, "label": "x", "is_ok": True, "nothing": None}
                if status.is_completed():
                    trial.update(status, utc(2026, 1, 1, number, 30), metrics)
                elif status is Status.READY:
                    trial.update(status, utc(2026, 1, 1, number))


def same(theirs: Any, ours: Any) -> None:
    """Compare all that mlos_bench can ask of two experiments."""
    pd.testing.assert_frame_equal(theirs.results_df.infer_objects(), ours.results_df.infer_objects())
    assert (repr(ours), ours.objectives, ours.root_env_config) == (repr(theirs), theirs.objectives, theirs.root_env_config)
    assert ours.default_tunable_config_id == theirs.default_tunable_config_id
    assert list(ours.tunable_configs) == list(theirs.tunable_configs)
    for number, trial in theirs.trials.items():
        own = ours.trials[number]
        assert (repr(own), own.ts_start, own.ts_end) == (repr(trial), trial.ts_start, trial.ts_end)
        for name in ("results_df", "telemetry_df", "metadata_df"):
            pd.testing.assert_frame_equal(getattr(trial, name), getattr(own, name))
        assert own.tunable_config.config_df.equals(trial.tunable_config.config_df)


def test_a_database_becomes_a_ledger(sql: Any, database: Path, tunables: Any, ledger_path: Path) -> None:
    """Numbers of trials and configs, objectives, git state, parameters, metrics, telemetry, times: equal for mlos_bench."""
    fill(sql, tunables)
    report = import_database(database, ledger_path, keep_config_ids=True)
    assert (report.experiments, report.trials, report.added) == (["one", "two"], 20, 20)
    assert (report.skipped, report.problems, report.config_ids) == ([], [], {})
    with LedgerStorage({"database": str(ledger_path)}) as storage:
        for name, data in sql.experiments.items():
            same(data, storage.experiments[name])
        for name in ("one", "two"):
            loaded = []
            for each in (sql, storage):
                with experiment_of(each, tunables, name) as experiment:
                    loaded.append([experiment.load(), experiment.trial_id, experiment.load_tunable_config(2)])
            assert loaded[0] == loaded[1]


def test_the_status_history_is_imported(sql: Any, database: Path, tunables: Any, ledger_path: Path) -> None:
    """Rows that mlos_bench itself never reads; and the ledger's own history has the database's times."""
    fill(sql, tunables)
    import_database(database, ledger_path)
    rows = sqlite3.connect(database).execute("select trial_id, ts, status from trial_status where exp_id = 'one'").fetchall()
    with LedgerStorage({"database": str(ledger_path)}) as storage:
        history = storage.experiments["one"].status_history_df
        polled = history[history["event"] == "polled"]
        assert sorted(zip(polled["trial_id"], polled["ts"].map(str), polled["status"], strict=True)) == [
            (number, f"{pd.Timestamp(ts, tz='UTC')}", status) for number, ts, status in sorted(rows)
        ]
        changed = history[(history["trial_id"] == 7) & (history["event"] != "polled")]
        assert changed["status"].tolist() == ["PENDING", "RUNNING", "SUCCEEDED"]
        assert set(changed["reason"]) == {"imported from mlos_bench"}
        state = storage.book.get_experiment("one").trial(7).state
        assert state.config == {"idle": "halt", "latency_ns": 2, "ratio": 0.5}
        assert state.results == {"score": 1.0, "label": "x", "is_ok": True, "nothing": None}
        assert state.attributes["mlos.import"]["config_id"] == 8


def test_importing_again_adds_what_is_new(sql: Any, database: Path, tunables: Any, ledger_path: Path) -> None:
    """Ends, telemetry, statuses and trials that came since; what went on here meanwhile stays as it is."""
    fill(sql, tunables)
    first = import_database(database, ledger_path)
    again = import_database(database, ledger_path)
    assert (again.added, again.changed, again.known) == (0, 0, first.trials)
    with experiment_of(sql, tunables, "one") as experiment:
        pending = {trial.trial_id: trial for trial in experiment.pending_trials(now(), running=True)}
        ready, running, waiting = (pending[number] for number in (5, 6, 4))
        ready.update(Status.FAILED, utc(2026, 2, 1))
        running.update_telemetry(Status.RUNNING, utc(2026, 2, 1), [(utc(2026, 2, 1), "cpu", 9)])
        running.update(Status.SUCCEEDED, utc(2026, 2, 2), {"score": 7})
        waiting.update(Status.SUCCEEDED, utc(2026, 2, 3), {"score": 8})
        experiment.new_trial(tunables)
    with ledger.open(ledger_path) as book:
        book.get_experiment("two").trial(4).cancel("not needed here")
    report = import_database(database, ledger_path)
    assert (report.added, report.changed, report.known, report.skipped) == (1, 3, 17, [])
    with LedgerStorage({"database": str(ledger_path)}) as storage:
        same(sql.experiments["one"], storage.experiments["one"])
        assert storage.experiments["two"].trials[4].status is Status.CANCELED
        head = storage.book.log.head
        assert import_database(database, storage.book).changed == 0
        assert storage.book.log.head == head


def test_an_import_that_was_killed_is_resumed(
    sql: Any, database: Path, tunables: Any, ledger_path: Path, script: Callable[..., Any]
) -> None:
    """Imported again it is whole, each trial there once."""
    with experiment_of(sql, tunables) as experiment:
        for number in range(120):
            trial = experiment.new_trial(tunables.copy().assign({"latency_ns": number}))
            trial.update(Status.SUCCEEDED, utc(2026, 1, 1), {"score": number})
    worker = script(
        """
        import os, signal, sys, warnings
        warnings.simplefilter("ignore")
        from ledger.integrations.mlos import import_database
        import_database(sys.argv[1], sys.argv[2], progress=lambda done, all: done >= 50 and os.kill(os.getpid(), signal.SIGKILL))
        """,
        database, ledger_path,
    )  # fmt: skip
    worker.finish()
    report = import_database(database, ledger_path, keep_config_ids=True)
    assert (report.added, report.known) == (70, 50)
    with LedgerStorage({"database": str(ledger_path)}) as storage:
        same(sql.experiments["Test-001"], storage.experiments["Test-001"])


def test_config_ids_are_kept_or_it_is_said(sql: Any, database: Path, tunables: Any, ledger_path: Path) -> None:
    """With other configs in the ledger, or gaps in the database, their numbers are others: refused if asked to keep them."""
    with experiment_of(sql, tunables) as experiment:
        for latency in (1, 2, 3):
            experiment.new_trial(tunables.copy().assign({"latency_ns": latency})).update(Status.FAILED, now())
    connection = sqlite3.connect(database)
    connection.execute("delete from trial where config_id = 2")
    connection.commit()
    with ledger.open(ledger_path) as book:
        with pytest.raises(ledger.InvalidValue, match="2 is missing"):
            import_database(database, book, keep_config_ids=True)
        assert book.log.head == 0
        assert import_database(database, book).config_ids == {3: 2}
    connection.execute("update trial set config_id = 2 where config_id = 3")
    connection.execute("update trial set trial_id = 2 where trial_id = 3")
    connection.commit()
    connection.close()
    other = ledger_path.parent / "other.ledger"
    with ledger.open(other) as book:
        book.experiment("here").new_trial({"lr": 0.1})
        with pytest.raises(ledger.InvalidValue, match="has other configs"):
            import_database(database, book, keep_config_ids=True)
        assert import_database(database, book).config_ids == {1: 2, 2: 3}


def test_what_is_broken_is_skipped_and_told(sql: Any, database: Path, tunables: Any, ledger_path: Path) -> None:
    """A trial without its config, another trial of its number, an odd status: named, and the others are there."""
    fill(sql, tunables)
    connection = sqlite3.connect(database)
    connection.execute("update trial set config_id = 99 where exp_id = 'one' and trial_id = 8")
    connection.execute("update trial set status = 'ODD' where exp_id = 'one' and trial_id = 9")
    connection.execute("update trial set ts_end = null where exp_id = 'one' and trial_id = 10")
    connection.execute("update objectives set optimization_direction = 'sideways' where optimization_target = 'time'")
    connection.commit()
    connection.close()
    with ledger.open(ledger_path) as book:
        book.experiment("two").new_trial({}, number=5)
        report = import_database(database, book)
        assert (report.added, len(report.skipped)) == (18, 2)
        assert [(each.experiment, each.trial) for each in report.skipped] == [("two", 5), ("one", 8)] or [
            (each.experiment, each.trial) for each in report.skipped
        ] == [("one", 8), ("two", 5)]
        told = {each.trial: each.problem for each in report.problems}
        assert "'ODD'" in told[9]
        assert "without an end" in told[10]
        assert "'sideways'" in told[None]
        assert book.get_experiment("one").trial(9).status == "UNKNOWN"
        assert book.get_experiment("one").objectives == {"score": "min"}


#: What is said of a file that is none: by the driver, without the query that it was asked; and what to give.
_NO_DATABASE = r"cannot be read as a database: file is not a database\. Give a SQLite file of mlos_bench"


def test_what_is_no_database_is_refused(tmp_path: Path, ledger_path: Path) -> None:
    """Before a ledger is made: no file, another kind of file, another database."""
    (tmp_path / "text").write_text("hello, this is no database at all" * 100)
    sqlite3.connect(tmp_path / "other.sqlite").execute("create table t (a)").connection.close()
    for name, message in (("none", "there is no file"), ("text", _NO_DATABASE), ("other.sqlite", "no table 'experiment'")):
        with pytest.raises(ledger.InvalidValue, match=message):
            import_database(tmp_path / name, ledger_path)
    with pytest.raises(ledger.InvalidValue, match="cannot be read"):
        import_database("sqlite:////nowhere/at/all.sqlite", ledger_path)
    assert not ledger_path.exists()


def test_a_database_is_found_by_its_url_and_older_ones_have_less(
    sql: Any, database: Path, tunables: Any, ledger_path: Path
) -> None:
    """A URL of SQLAlchemy does; without runners, statuses and telemetry the rest is imported."""
    fill(sql, tunables)
    connection = sqlite3.connect(database)
    for statement in ("drop table trial_status", "drop table trial_telemetry", "alter table trial drop column trial_runner_id"):
        connection.execute(statement)
    connection.commit()
    connection.close()
    report = import_database(f"sqlite:///{database}", ledger_path)
    assert (report.added, report.skipped) == (20, [])


def test_a_runner_is_imported(sql: Any, database: Path, tunables: Any, ledger_path: Path) -> None:
    """As the storage knows it."""
    with experiment_of(sql, tunables) as experiment:
        experiment.new_trial(tunables)
    connection = sqlite3.connect(database)
    connection.execute("update trial set trial_runner_id = 4")
    connection.commit()
    connection.close()
    import_database(database, ledger_path)
    with LedgerStorage({"database": str(ledger_path)}) as storage, experiment_of(storage, tunables) as experiment:
        assert experiment.get_trial_by_id(1).trial_runner_id == 4


def test_a_run_that_was_cut_off_goes_on_here(sql: Any, database: Path, tunables: Any, ledger_path: Path) -> None:
    """Trials that were RUNNING or READY when the database was left are handed out to a scheduler that asks for running ones."""
    fill(sql, tunables)
    import_database(database, ledger_path)
    with LedgerStorage({"database": str(ledger_path)}) as storage, experiment_of(storage, tunables, "one") as experiment:
        assert [trial.trial_id for trial in experiment.pending_trials(now())] == [3, 4]
        taken = {trial.trial_id: trial for trial in experiment.pending_trials(now(), running=True)}
        assert sorted(taken) == [3, 4, 5, 6]
        taken[6].update(Status.SUCCEEDED, now(), {"score": 1})
