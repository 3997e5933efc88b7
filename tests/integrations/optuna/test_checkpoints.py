"""Checkpoints of studies: used when they are right, told of and passed over when they are not."""

from __future__ import annotations

import math
import shutil
import warnings
from pathlib import Path

import optuna
import pytest
from optuna.study import StudyDirection
from optuna.trial import FrozenTrial, TrialState

import ledger
from ledger.errors import CheckpointDiscarded
from ledger.integrations.optuna import LedgerStorage, follower
from projections import folds


@pytest.fixture(autouse=True)
def _eager(monkeypatch: pytest.MonkeyPatch) -> None:
    """Save checkpoints whenever there is something new, and look for them."""
    monkeypatch.setattr(folds, "_LEAST_RECORDS", 1)
    monkeypatch.setattr(folds, "_SAVING_SHARE", math.inf)
    monkeypatch.setattr(folds, "_LEAST_SECONDS", 0)
    monkeypatch.setattr(follower, "_FAR", 3)


def fill(path: Path, count: int = 12) -> None:
    with LedgerStorage(path) as storage:
        try:
            study_id = storage.get_study_id_from_name("demo")
        except KeyError:
            study_id = storage.create_new_study([StudyDirection.MINIMIZE], "demo")
        for number in range(count):
            trial_id = storage.create_new_trial(study_id)
            storage.set_trial_intermediate_value(trial_id, 1, number / 4)
            if number % 3:
                storage.set_trial_state_values(trial_id, TrialState.COMPLETE, [float(number)])


def shown(path: Path) -> list[FrozenTrial]:
    with LedgerStorage(path) as storage:
        return storage.get_all_trials(storage.get_study_id_from_name("demo"))


def folded_anew(path: Path) -> list[FrozenTrial]:
    """Return the trials as a storage without any checkpoint sees them."""
    copy = path.with_name("copy")
    shutil.copytree(path, copy, ignore=shutil.ignore_patterns("projections"))
    return shown(copy)


def test_checkpoint_is_used(ledger_path: Path) -> None:
    """What is opened from a checkpoint folds only what came since, and shows the same."""
    fill(ledger_path)
    expected = folded_anew(ledger_path)
    with warnings.catch_warnings():
        warnings.simplefilter("error")
        assert shown(ledger_path) == expected
    with LedgerStorage(ledger_path) as storage:
        read: list[int] = []
        backend = storage.book.log.backend
        read_page = backend.read_page
        backend.read_page = lambda after, types=None: (read.append(after), read_page(after, types))[1]  # type: ignore[method-assign]
        storage.get_all_studies()
        assert all(after > 0 for after in read)


@pytest.mark.parametrize("chunk", range(6))
def test_damaged_checkpoint_is_rebuilt(ledger_path: Path, chunk: int) -> None:
    """A checkpoint with flipped bytes is told of at most, and never shown."""
    fill(ledger_path)
    expected = folded_anew(ledger_path)
    file = ledger_path / "projections" / "data.mdb"
    data = bytearray(file.read_bytes())
    for page in range(2 + chunk, len(data) // 4096, 6):
        data[page * 4096 + 2048 : page * 4096 + 2112] = bytes(
            byte ^ 0xFF for byte in data[page * 4096 + 2048 : page * 4096 + 2112]
        )
    file.write_bytes(data)
    with warnings.catch_warnings():
        warnings.simplefilter("ignore", CheckpointDiscarded)
        assert shown(ledger_path) == expected
    assert shown(ledger_path) == expected


def test_checkpoint_ahead_of_the_log_is_discarded(ledger_path: Path) -> None:
    """A checkpoint that stands beyond the end of the log (a backup was restored) is told of, and the log is folded."""
    fill(ledger_path, 4)
    older = ledger_path.with_name("older")
    shutil.copytree(ledger_path, older)
    fill(ledger_path, 12)
    shutil.rmtree(older / "projections")
    shutil.copytree(ledger_path / "projections", older / "projections")
    with pytest.warns(CheckpointDiscarded, match="the log ends at"):
        found = shown(older)
    assert found == folded_anew(older)
    assert len(found) == 4


def test_checkpoint_of_another_ledger_is_discarded(ledger_path: Path) -> None:
    """A checkpoint that was copied from another ledger is told of, and the log is folded."""
    fill(ledger_path)
    other = ledger_path.with_name("other")
    fill(other, 15)
    shutil.rmtree(other / "projections")
    shutil.copytree(ledger_path / "projections", other / "projections")
    with pytest.warns(CheckpointDiscarded, match="of another ledger"):
        assert len(shown(other)) == 15


def test_checkpoint_is_saved_as_the_log_grows(ledger_path: Path) -> None:
    """A process that never ends leaves checkpoints on its way."""
    storage = LedgerStorage(ledger_path)
    study_id = storage.create_new_study([StudyDirection.MINIMIZE], "demo")
    for _ in range(4):
        storage.create_new_trial(study_id)
    assert (ledger_path / "projections" / "data.mdb").exists()
    storage.close()


def test_checkpoints_are_kept_elsewhere(ledger_path: Path, tmp_path: Path) -> None:
    """With `cache_dir` nothing is written beside the log."""
    with LedgerStorage(ledger_path, cache_dir=tmp_path / "cache") as storage:
        optuna.create_study(storage=storage).optimize(lambda trial: 1.0, n_trials=3)
    assert not (ledger_path / "projections").exists()
    assert list((tmp_path / "cache").iterdir())


def test_wasted_room_is_given_back(ledger_path: Path) -> None:
    """Trials that are amended again and again do not let the checkpoint grow without end."""
    fill(ledger_path)
    sizes = []
    for _ in range(6):
        with LedgerStorage(ledger_path) as storage:
            exp = storage.experiment_of(storage.get_study_id_from_name("demo"))
            for number in range(1, 12, 3):
                exp.trial(number).amend(results={"value": 1.0}, reason="again")
                storage.get_all_studies()
            storage.remove_session()
            sizes.append(storage._connection.read(lambda studies: len(studies._heap)))
    assert sizes[-1] <= 3 * sizes[0]
    assert shown(ledger_path) == folded_anew(ledger_path)


def test_storage_of_a_read_only_ledger_reads(ledger_path: Path) -> None:
    """A storage on a ledger that was opened to be read shows studies, and refuses to write."""
    fill(ledger_path)
    with ledger.open(ledger_path, readonly=True) as book, LedgerStorage(book) as storage:
        study_id = storage.get_study_id_from_name("demo")
        assert storage.get_n_trials(study_id) == 12
        with pytest.raises(ledger.ReadOnlyLedger):
            storage.create_new_trial(study_id)
