"""Studies of Optuna's other storages, imported into a ledger and copied back."""

from __future__ import annotations

import datetime as dt
import json
import shutil
import sqlite3
from collections.abc import Callable, Iterator
from contextlib import closing
from itertools import chain
from pathlib import Path
from typing import Any

import optuna
import pytest
from optuna.storages import InMemoryStorage, JournalStorage
from optuna.storages.journal import JournalFileBackend
from optuna.trial import TrialState, create_trial

import ledger
import projections
from ledger.errors import InvalidValue
from ledger.integrations.optuna import LedgerStorage, rdb
from ledger.integrations.optuna.importing import IDS, import_journal, import_rdb
from tests.integrations.optuna.origins import KINDS, Origin
from tests.integrations.optuna.samples import assert_same, attributes, names, objective, trials

DATA = Path(__file__).parent / "data"


@pytest.fixture
def storage(book: ledger.Ledger) -> Iterator[LedgerStorage]:
    """The ledger as a storage."""
    with LedgerStorage(book) as made:
        yield made


def test_studies_of_every_kind_are_imported_as_they_are(origin: Origin, book: ledger.Ledger, storage: LedgerStorage) -> None:
    """Names, directions, attributes, numbers, order, times, parameters, distributions, values: nothing is lost."""
    report = origin.bring(book)
    assert (report.studies, report.trials, report.added, report.skipped, report.problems) == (
        ["tuning", "front", ""], 18, 18, [], []
    )  # fmt: skip
    assert_same(storage, origin.storage())
    states = [trial.state for trial in storage.get_all_trials(storage.get_study_id_from_name("tuning"))]
    assert set(states) == {TrialState.COMPLETE, TrialState.PRUNED, TrialState.FAIL, TrialState.WAITING}
    assert TrialState.RUNNING in {each["state"] for each in trials(storage, "front")}


def test_importing_again_adds_nothing(origin: Origin, book: ledger.Ledger) -> None:
    """Not one event, be it from another place."""
    origin.bring(book)
    head = book.log.head
    report = origin.bring(book)
    assert (report.added, report.changed, report.known) == (0, 0, 18)
    origin.path = Path(shutil.copy(origin.path, origin.path.with_name("moved")))
    origin.bring(book)
    assert book.log.head == head


def test_what_is_new_is_added(origin: Origin, book: ledger.Ledger, storage: LedgerStorage) -> None:
    """Trials, studies and attributes; what had not ended goes on, with the times that it had there."""
    source = origin.storage()
    study = optuna.load_study(study_name="tuning", storage=source)
    origin.bring(book)
    study.optimize(objective, n_trials=5, catch=(ValueError,))  # the first of them is the one that waited
    study.set_user_attr("owner", "grace")
    front = optuna.load_study(study_name="front", storage=source)
    front.tell(3, [0.25, 0.75])
    optuna.create_study(storage=source, study_name="new").enqueue_trial({"x": 1})
    report = origin.bring(book)
    assert (report.added, report.changed, report.known, report.skipped) == (5, 2, 16, [])
    assert_same(storage, origin.storage())
    assert origin.bring(book).known == 23


@pytest.mark.parametrize("end", [TrialState.COMPLETE, TrialState.PRUNED, TrialState.FAIL])
def test_a_trial_that_ran_is_brought_to_its_end(empty: Origin, storage: LedgerStorage, end: TrialState) -> None:
    """Whatever it came to, and whatever was said of it meanwhile."""
    study = optuna.create_study(storage=empty.storage(), study_name="s")
    trial = study.ask()
    trial.suggest_float("x", 0, 1)
    trial.set_user_attr("a", 1)
    empty.bring(storage.book)
    trial.suggest_int("n", 0, 9)
    trial.report(0.5, 1)
    trial.set_user_attr("a", 2)
    trial.set_user_attr("b", None)
    assert empty.bring(storage.book).changed == 1
    assert_same(storage, empty.storage())
    study.tell(trial, 1.5 if end is TrialState.COMPLETE else None, end)
    assert empty.bring(storage.book).changed == 1
    assert_same(storage, empty.storage())
    assert empty.bring(storage.book).known == 1


def test_a_trial_that_waited_may_end_without_a_start(empty: Origin, storage: LedgerStorage) -> None:
    """As one that optuna-dashboard was told the values of."""
    source = empty.storage()
    study = optuna.create_study(storage=source, study_name="s")
    study.enqueue_trial({"x": 1})
    empty.bring(storage.book)
    source.set_trial_state_values(study.trials[0]._trial_id, TrialState.COMPLETE, [2.0])
    assert study.trials[0].datetime_start is None
    assert empty.bring(storage.book).changed == 1
    assert_same(storage, empty.storage())
    assert empty.bring(storage.book).known == 1


def test_studies_are_copied_back_by_optuna(origin: Origin, storage: LedgerStorage) -> None:
    """`optuna.copy_study` out of the ledger gives the studies that were imported."""
    origin.bring(storage.book)
    back = Origin(origin.kind, origin.path.with_name("back"))
    for name in names(storage):
        optuna.copy_study(from_study_name=name, from_storage=storage, to_storage=back.storage())
        copied, first = trials(back.storage(), name), trials(origin.storage(), name)
        if origin.kind == "journal":
            assert copied == first
        else:  # which gives a trial that is added while it runs the time of now
            assert [each for each in copied if each["state"] != TrialState.RUNNING] == [
                each for each in first if each["state"] != TrialState.RUNNING
            ]
        assert attributes(back.storage(), name) == attributes(origin.storage(), name)


@pytest.mark.parametrize("version", ["4.0.0"])
@pytest.mark.parametrize("kind", KINDS)
def test_studies_of_older_versions_are_imported(kind: str, version: str, tmp_path: Path, storage: LedgerStorage) -> None:
    """Journals and databases that an older Optuna wrote, with what it rejected."""
    file = tmp_path / "studies"
    shutil.copy(DATA / f"optuna-{version}.{'log' if kind == 'journal' else 'db'}", file)
    origin = Origin(kind, file)
    report = origin.bring(storage.book)
    assert (report.added, report.skipped, report.problems) == (18, [], [])
    assert report.rejected == (2 if kind == "journal" else 0)
    assert_same(storage, origin.storage())
    memory = InMemoryStorage()
    for name in names(storage):
        optuna.copy_study(from_study_name=name, from_storage=storage, to_storage=memory)
        finished = [each for each in trials(storage, name) if each["state"].is_finished()]
        assert [each for each in trials(memory, name) if each["state"].is_finished()] == finished


def test_notes_on_trials_stay_with_their_trials(origin: Origin, storage: LedgerStorage) -> None:
    """optuna-dashboard keeps them with the study, by the id of the trial, which is another one in a ledger."""
    origin.bring(storage.book)
    study_id = storage.get_study_id_from_name("tuning")
    third = storage.get_all_trials(study_id)[2]._trial_id
    system = storage.get_study_system_attrs(study_id)
    assert system[f"dashboard:{third}:note_str:0"] == "of trial 2"
    assert system[f"dashboard:{third}:note_ver"] == 1
    assert system["dashboard:note_str:0"] == "of the study"
    assert [key for key in system if key.removeprefix("dashboard:")[:1].isdigit()] == [
        f"dashboard:{third}:note_ver", f"dashboard:{third}:note_str:0"
    ]  # fmt: skip


def test_where_it_came_from_is_known(origin: Origin, book: ledger.Ledger) -> None:
    """The source, and the ids that study and trials had there; each record says why it is there."""
    source = origin.storage()
    origin.bring(book)
    front = book.get_experiment("front")
    said = front.state.attributes["optuna.import"]
    assert (said["from"], said["source"]) == (f"optuna-{origin.kind}", str(origin.path))
    assert said["study_id"] == source.get_study_id_from_name("front")
    there = [trial._trial_id for trial in source.get_all_trials(said["study_id"])]
    assert front.artifact(IDS).load() == {"trial_ids": there}
    assert {record.reason for record in book.log.read(types="TrialCreated")} == {"imported from Optuna"}


def test_the_tables_show_what_was_imported(origin: Origin, book: ledger.Ledger) -> None:
    """A study is an experiment, a trial a trial: times are those of the source."""
    source = origin.storage()
    origin.bring(book)
    first = source.get_all_trials(source.get_study_id_from_name("tuning"))[0]
    assert first.datetime_complete is not None
    with projections.Tables(book) as tables:
        row = tables.trials("tuning").set_index("trial_id").loc[0]
    assert row["status"] == "SUCCEEDED"
    assert row["config.x"] == first.params["x"]
    assert row["result.loss"] == first.value
    assert row["ended_at"].to_pydatetime() == first.datetime_complete.astimezone(dt.UTC)


def test_one_study_is_imported_under_another_name(origin: Origin, storage: LedgerStorage) -> None:
    """What is asked for and is not there is refused with the names that are."""
    report = origin.bring(storage.book, study="front", name="Pareto")
    assert (names(storage), report.added) == (["Pareto"], 4)
    assert origin.bring(storage.book, study="front", name="Pareto").known == 4
    with pytest.raises(InvalidValue, match=r"there is no study 'back' in .*There are: 'tuning', 'front', ''"):
        origin.bring(storage.book, study="back")
    with pytest.raises(
        InvalidValue, match=r"'all' is one name, and there are 3 studies in .*: 'tuning', 'front', ''.*study='tuning', name='all'"
    ):
        origin.bring(storage.book, name="all")


def test_progress_is_told_in_trials(origin: Origin, book: ledger.Ledger) -> None:
    """Over all studies, from the beginning on, and also when nothing is new."""
    told: list[tuple[int, int]] = []
    origin.bring(book, progress=lambda done, total: told.append((done, total)))
    assert (told[0], told[-1]) == ((0, 18), (18, 18))
    assert [done for done, _ in told] == sorted(done for done, _ in told)
    told.clear()
    origin.bring(book, progress=lambda done, total: told.append((done, total)))
    assert [done for done, _ in told] == sorted(done for done, _ in told)
    assert (14, 18) in told


def test_the_source_is_only_read(origin: Origin, book: ledger.Ledger) -> None:
    """Not one byte of it changes, and nothing appears beside it."""
    before = origin.path.read_bytes()
    beside = sorted(origin.path.parent.iterdir())
    origin.bring(book)
    assert origin.path.read_bytes() == before
    assert sorted(origin.path.parent.iterdir()) == beside


_IMPORT = """
import sys
import ledger, optuna
from ledger.integrations.optuna import importing, source
source._BATCH = 10
optuna.logging.set_verbosity(optuna.logging.ERROR)
with ledger.open(sys.argv[2]) as book:
    bring = importing.import_journal if sys.argv[3] == "journal" else importing.import_rdb
    bring(sys.argv[1], book, progress=lambda done, total: print(done))
    print("done")
"""


def test_a_killed_import_is_simply_imported_again(empty: Origin, ledger_path: Path, script: Callable[..., Any]) -> None:
    """Wherever it was killed: at the end everything is there once."""
    study = optuna.create_study(storage=empty.storage(), study_name="s")
    study.add_trials([create_trial(state=TrialState.COMPLETE, value=float(number)) for number in range(200)])
    for stop in (0, 3, 7, 12):
        importing = script(_IMPORT, empty.path, ledger_path, empty.kind)
        for _ in range(stop):
            importing.line()
        importing.kill()
        importing.finish()
    assert script(_IMPORT, empty.path, ledger_path, empty.kind).finish()[-1] == "done"
    with LedgerStorage(ledger_path) as storage:
        assert_same(storage, empty.storage())
        assert len(list(storage.book.log.read(types="TrialCreated"))) == 200


def test_a_database_is_read_in_portions(samples: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """Each trial once, and only those that are wanted."""
    read: list[list[int]] = []
    whole = rdb._read_at_once
    monkeypatch.setattr(rdb, "_PORTION", 4)
    monkeypatch.setattr(rdb, "_read_at_once", lambda storage, found: read.append(found) or whole(storage, found))
    tuning = rdb.read_rdb(samples / "rdb").studies[0]
    found = tuning.trials(lambda number: number != 2)
    assert next(found).number == 0
    assert len(read) == 1
    assert [trial.number for trial in found] == [1, *range(3, 14)]
    assert [len(each) for each in read] == [4, 4, 4, 1]
    assert len(set(chain.from_iterable(read))) == 13


def test_broken_rows_of_a_database_are_left_out(tmp_path: Path, samples: Path, storage: LedgerStorage) -> None:
    """They are named, and the other trials are imported with their numbers."""
    origin = Origin("rdb", Path(shutil.copy(samples / "rdb", tmp_path / "study.db")))
    with closing(sqlite3.connect(origin.path)) as database, database:
        database.execute("UPDATE trial_params SET distribution_json = '{' WHERE param_id = 2")
        database.execute("UPDATE trial_user_attributes SET value_json = 'x' WHERE trial_id = 8")
    report = origin.bring(storage.book)
    assert [problem.problem.split(":")[0] for problem in report.skipped] == ["trial 0 cannot be read", "trial 7 cannot be read"]
    assert report.added == 16
    assert [each["_number"] for each in trials(storage, "tuning")] == [1, 2, 3, 4, 5, 6, *range(8, 14)]


def test_a_url_of_sqlite_is_a_file(tmp_path: Path, samples: Path, storage: LedgerStorage) -> None:
    """Given as Optuna is given it; braces, spaces and % of a path are what they are."""
    path = tmp_path / "a {b} 100% #1?.db"
    for copy in (tmp_path / "study.db", path):
        shutil.copy(samples / "rdb", copy)
    assert import_rdb(path, storage.book).added == 18
    assert import_rdb(f"sqlite:///{tmp_path / 'study.db'}", storage.book).known == 18


@pytest.mark.parametrize(
    ("source", "message"),
    [
        ("missing.db", "there is no file"),
        ("text", "is no SQLite file that can be read.*--from optuna-journal"),
        ("plain.db", "is no database of Optuna's: it has no table of studies"),
        ("future.db", "is of another version of Optuna"),
        ("mysql+pymysql://ada:secret@nowhere.invalid/db", r"mysql\+pymysql://ada:\*\*\*@nowhere.invalid/db cannot be opened"),
        ("strange://", "cannot be"),
    ],
)
def test_what_is_no_database_of_studies_is_refused(
    tmp_path: Path, samples: Path, source: str, message: str, ledger_path: Path
) -> None:
    """By name and with the cure; no ledger is made, no password shown, and no database either."""
    (tmp_path / "text").write_text("not a database, though long enough to be looked at as if it were one")
    with closing(sqlite3.connect(tmp_path / "plain.db")) as database, database:
        database.execute("CREATE TABLE runs (id INTEGER)")
    shutil.copy(samples / "rdb", tmp_path / "future.db")
    with closing(sqlite3.connect(tmp_path / "future.db")) as database, database:
        database.execute("UPDATE alembic_version SET version_num = 'v99.0.0.a'")
    with pytest.raises(InvalidValue, match=message) as refused:
        import_rdb(source if ":" in source else tmp_path / source, ledger_path)
    assert "secret" not in str(refused.value)
    assert not ledger_path.exists()
    assert not (tmp_path / "missing.db").exists()


def test_what_no_record_can_hold_is_left_out(tmp_path: Path, samples: Path, storage: LedgerStorage) -> None:
    """A value of a megabyte, say; it is named, and hides none of the others."""
    path = Path(shutil.copy(samples / "journal", tmp_path / "journal.log"))
    large = "x" * (1 << 20)
    added = [
        {"op_code": 4, "study_id": 0, "datetime_start": "2026-01-01T00:00:00+00:00", "user_attrs": {"large": large}},
        {"op_code": 4, "study_id": 0, "datetime_start": "2026-01-01T00:00:00+00:00"},
        {"op_code": 2, "study_id": 1, "user_attr": {"large": large}},
        {"op_code": 2, "study_id": 1, "user_attr": {"small": 1}},
    ]
    with path.open("a") as file:
        file.writelines(json.dumps({"worker_id": "w", **entry}) + "\n" for entry in added)
    report = import_journal(path, storage.book)
    assert [(problem.study, problem.problem.split(":")[0]) for problem in report.skipped] == [
        ("tuning", "trial 14 cannot be recorded"), ("front", "the attribute 'large' cannot be recorded")
    ]  # fmt: skip
    assert report.added == 19
    assert [each["_number"] for each in trials(storage, "tuning")] == [*range(14), 15]
    assert attributes(storage, "front")[1] == {"small": 1}


def test_entries_that_optuna_rejects_stay_rejected(tmp_path: Path, samples: Path, storage: LedgerStorage) -> None:
    """A journal has them all the same; they are counted."""
    path = Path(shutil.copy(samples / "journal", tmp_path / "journal.log"))
    rejected = [
        {"op_code": 0, "study_name": "tuning", "directions": [2]},
        {"op_code": 8, "trial_id": 0, "user_attr": {"late": 1}},
        {"op_code": 6, "trial_id": 0, "state": 3, "values": None, "datetime_complete": "2026-01-01T00:00:00+00:00"},
        {"op_code": 4, "study_id": 99, "datetime_start": "2026-01-01T00:00:00+00:00"},
        {"op_code": 10, "trial_ids": [1]},
    ]
    with path.open("a") as file:
        file.writelines(json.dumps({"worker_id": "w", **entry}) + "\n" for entry in rejected)
    report = import_journal(path, storage.book)
    assert (report.rejected, report.problems) == (5, [])
    assert_same(storage, JournalStorage(JournalFileBackend(str(path))))
