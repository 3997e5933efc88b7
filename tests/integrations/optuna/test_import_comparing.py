"""Studies that are imported under a name that the ledger has: the same one goes on, another one is refused."""

from __future__ import annotations

import shutil
from pathlib import Path

import optuna
import pytest
from optuna.storages import JournalStorage
from optuna.storages.journal import JournalFileBackend
from optuna.trial import TrialState, create_trial

from ledger.integrations.optuna import LedgerStorage, import_journal
from ledger.integrations.optuna.importing import IDS, ImportReport
from tests.integrations.optuna.origins import Origin
from tests.integrations.optuna.samples import names, trials


def _study(origin: Origin, count: int, name: str = "s") -> optuna.Study:
    study = optuna.create_study(storage=origin.storage(), study_name=name, load_if_exists=True)
    study.optimize(lambda trial: trial.suggest_float("x", 0, 1), n_trials=count)
    return study


def _other(origin: Origin) -> Origin:
    return Origin(origin.kind, origin.path.with_name("other"))


def _assert_refused(report: ImportReport, storage: LedgerStorage, head: int, why: str) -> None:
    (refused,) = report.refused
    assert refused.study == "s"
    assert why in refused.problem
    assert "study='s', name='s-2'" in refused.problem
    assert (report.left_out, report.added, report.changed, report.known) == (report.trials, 0, 0, 0)
    assert storage.book.log.head == head


@pytest.mark.parametrize("count", [3, 5, 10])
def test_another_study_of_the_same_name_is_refused(empty: Origin, storage: LedgerStorage, count: int) -> None:
    """Longer, shorter or as long: nothing is written, and under another name it is imported."""
    _study(empty, 5)
    other = _other(empty)
    _study(other, count).set_user_attr("who", "other")
    empty.bring(storage.book)
    head = storage.book.log.head
    _assert_refused(other.bring(storage.book), storage, head, "trial 0 is another one")
    assert other.bring(storage.book, study="s", name="s-2").added == count
    assert len(trials(storage, "s")) == 5


def test_a_refused_study_hides_none_of_the_others(empty: Origin, storage: LedgerStorage) -> None:
    """They are imported, and counted."""
    _study(empty, 2)
    empty.bring(storage.book)
    other = _other(empty)
    _study(other, 3)
    _study(other, 1, "t")
    report = other.bring(storage.book)
    assert [each.study for each in report.refused] == ["s"]
    assert (report.trials, report.added, report.left_out) == (4, 1, 3)
    assert names(storage) == ["s", "t"]


def test_a_study_of_which_an_import_was_interrupted_is_told_from_another(empty: Origin, storage: LedgerStorage) -> None:
    """By the trials that had come so far; the study itself is imported to its end."""
    study = _study(empty, 5)
    journal = empty.path.with_name("part")
    optuna.create_study(storage=Origin(empty.kind, journal).storage(), study_name="s").add_trials(study.trials[:2])
    Origin(empty.kind, journal).bring(storage.book)
    other = _other(empty)
    _study(other, 5)
    _assert_refused(other.bring(storage.book), storage, storage.book.log.head, "trial 0 is another one")
    assert empty.bring(storage.book).added == 3


def test_a_study_that_went_on_here_and_there_is_refused(empty: Origin, storage: LedgerStorage) -> None:
    """Its trials of one number are two; as long as it went on here only, there is nothing to be said."""
    _study(empty, 2)
    empty.bring(storage.book)
    optuna.load_study(study_name="s", storage=storage).enqueue_trial({})
    assert empty.bring(storage.book).known == 2
    _study(empty, 2)
    _assert_refused(empty.bring(storage.book), storage, storage.book.log.head, "trial 2 is another one")


def test_trials_that_were_changed_here_are_told_from_others(empty: Origin, storage: LedgerStorage) -> None:
    """Amended or deleted as they may be: a study is known by what was imported."""
    _study(empty, 4)
    other = _other(empty)
    _study(other, 5)
    empty.bring(storage.book)
    experiment = storage.book.get_experiment("s")
    for number in range(3):
        experiment.trial(number).amend(results={"value": 7.0}, config={"x": 0.5}, reason="read again")
    experiment.trial(3).delete(reason="wrong disk")
    _assert_refused(other.bring(storage.book), storage, storage.book.log.head, "trial 0 is another one")
    report = empty.bring(storage.book)
    assert (report.known, report.left_out, report.refused) == (1, 3, [])
    assert [each.problem for each in report.skipped] == [
        "3 trials were changed in the ledger since they were imported; they stay as they are there: 0, 1, 2"
    ]


def test_a_study_whose_trials_were_deleted_here_is_no_other_one(empty: Origin, storage: LedgerStorage) -> None:
    """They stay deleted; another study does not come in their place."""
    _study(empty, 2)
    other = _other(empty)
    _study(other, 3)
    empty.bring(storage.book)
    for number in range(2):
        storage.book.get_experiment("s").trial(number).delete(reason="wrong disk")
    _assert_refused(other.bring(storage.book), storage, storage.book.log.head, "trial 0 is another one")
    assert empty.bring(storage.book).known == 2
    assert trials(storage, "s") == []


def test_a_redacted_trial_is_no_other_one(empty: Origin, storage: LedgerStorage) -> None:
    """What is left of it could be any."""
    _study(empty, 2)
    empty.bring(storage.book)
    (created,) = storage.book.log.read(stream=storage.book.get_experiment("s").trial(1).stream, types="TrialCreated")
    storage.book.redact(created.position, reason="leaked")
    report = empty.bring(storage.book)
    assert (report.refused, report.known) == ([], 1)
    assert "trial 1 was changed in the ledger" in report.skipped[0].problem


def test_what_was_done_in_the_ledger_since_stays(origin: Origin, storage: LedgerStorage) -> None:
    """A waiting trial that was run there, an attribute, a deleted trial; one that is amended is told of."""
    origin.bring(storage.book)
    study = optuna.load_study(study_name="tuning", storage=storage)
    study.optimize(lambda trial: trial.suggest_float("x", -10, 10), n_trials=1)
    study.set_user_attr("owner", "grace")
    tuning = storage.book.get_experiment("tuning")
    tuning.trial(0).delete(reason="wrong disk")
    tuning.trial(1).amend(results={"loss": 7.0}, reason="read again")
    head = storage.book.log.head
    report = origin.bring(storage.book)
    assert (report.added, report.changed, report.known, report.left_out) == (0, 0, 17, 1)
    assert report.skipped == [
        ("tuning", "trial 1 was changed in the ledger since it was imported; it stays as it is there.")
    ]  # fmt: skip
    assert study.user_attrs["owner"] == "grace"
    assert storage.book.log.head == head


def test_a_study_of_another_making_is_left_alone(origin: Origin, storage: LedgerStorage) -> None:
    """Of the same name, with trials or attributes of its own, other directions, or no study at all; the others are imported."""
    optuna.create_study(storage=storage, study_name="tuning").optimize(lambda trial: 1.0, n_trials=2)
    optuna.create_study(storage=storage, study_name="front")
    optuna.create_study(storage=storage, study_name="").set_user_attr("owner", "grace")
    storage.book.experiment("third")
    for name in ("third", "fourth"):
        optuna.create_study(storage=origin.storage(), study_name=name)
    report = origin.bring(storage.book)
    problems = {problem.study: problem.problem for problem in report.refused}
    assert "with trials that were not imported" in problems["tuning"]
    assert "with other directions" in problems["front"]
    assert "with attributes that were not imported" in problems[""]
    assert "which is no study" in problems["third"]
    assert len(trials(storage, "tuning")) == 2
    assert "fourth" in names(storage)


def test_an_empty_study_without_attributes_is_filled(empty: Origin, storage: LedgerStorage) -> None:
    """There is nothing that could be mixed up: an import that was killed may have made it."""
    _study(empty, 2)
    optuna.create_study(storage=storage, study_name="s")
    assert empty.bring(storage.book).added == 2
    assert storage.book.get_experiment("s").state.attributes["optuna.import"]["source"] == str(empty.path)


def test_where_a_study_came_from_is_not_overwritten(tmp_path: Path, samples: Path, storage: LedgerStorage) -> None:
    """A copy in another kind of storage is the same study: it is imported further, and was first read where it was."""
    journal, database = tmp_path / "journal", Origin("rdb", tmp_path / "rdb")
    first = JournalStorage(JournalFileBackend(str(journal)))
    optuna.create_study(storage=first, study_name="s").add_trials(
        [create_trial(state=TrialState.COMPLETE, value=float(number)) for number in range(3)]
    )
    optuna.copy_study(from_study_name="s", from_storage=first, to_storage=database.storage())
    _study(database, 1)
    import_journal(journal, storage.book)
    experiment = storage.book.get_experiment("s")
    before, ids = experiment.state.attributes["optuna.import"], experiment.artifact(IDS).load()
    report = database.bring(storage.book)
    assert (report.known, report.added, report.refused) == (3, 1, [])
    assert {**experiment.state.attributes["optuna.import"], "seen": None} == {**before, "seen": None}
    assert experiment.artifact(IDS).load() == ids


def test_empty_studies_are_told_apart_by_their_attributes(empty: Origin, storage: LedgerStorage) -> None:
    """Of one that was moved they may not change, as nothing else says which it is; in its place they may."""
    first, other = empty.storage(), _other(empty)
    optuna.create_study(storage=first, study_name="s").set_user_attr("who", "ada")
    empty.bring(storage.book)
    optuna.create_study(storage=other.storage(), study_name="s").set_user_attr("who", "grace")
    _study(other, 2)
    _assert_refused(
        other.bring(storage.book), storage, storage.book.log.head, "another study of that name is there, imported from"
    )
    shutil.copy(empty.path, other.path)
    assert other.bring(storage.book).refused == []
    optuna.load_study(study_name="s", storage=first).set_user_attr("who", "alan")
    assert empty.bring(storage.book).refused == []
    assert storage.get_study_user_attrs(storage.get_study_id_from_name("s")) == {"who": "alan"}


def test_an_empty_study_does_not_overwrite_one_with_trials(empty: Origin, storage: LedgerStorage) -> None:
    """One that was begun anew in the same place, say."""
    _study(empty, 2).set_user_attr("who", "ada")
    empty.bring(storage.book)
    empty.path.unlink()
    optuna.create_study(storage=empty.storage(), study_name="s").set_user_attr("who", "grace")
    _assert_refused(empty.bring(storage.book), storage, storage.book.log.head, "another study of that name is there")
