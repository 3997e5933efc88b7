"""Checkpoints that several processes read, save and remove at once."""

import warnings

import lmdb
import pandas as pd
import pytest

import ledger
import projections
from projections import checkpoints, folds
from projections.checkpoints import CheckpointStore


@pytest.fixture
def path(tmp_path, monkeypatch):
    """A ledger with two checkpoints of its trials, and one of their histories."""
    monkeypatch.setattr(folds, "_LEAST_RECORDS", 1)
    monkeypatch.setattr(folds, "_SAVING_SHARE", float("inf"))
    monkeypatch.setattr(folds, "_LEAST_SECONDS", 0)
    with ledger.open(tmp_path / "runs.ledger") as book:
        for number in range(2):
            book.experiment("demo").new_trial({"lr": number}).complete({"loss": 1.0})
            with projections.Tables(book) as tables:
                tables.trials("demo")
                tables.status_history("demo")
    return tmp_path / "runs.ledger"


def table(path):
    with projections.Tables(path) as tables:
        return tables.trials("demo", now=0)


@pytest.mark.parametrize("count", [1, 2])
def test_a_checkpoint_that_another_process_removed_meanwhile_is_no_damage(path, monkeypatch, count):
    """Who has chosen it takes another one, or the log; nothing is warned of, and what is kept of other tables stays."""
    expected, load, removed = table(path), CheckpointStore.load, []

    def load_too_late(self, name, position):
        if name == projections.Experiments.name and len(removed) < count:
            with lmdb.open(str(path / "projections")) as env, env.begin(write=True) as txn:
                removed.append(txn.delete(checkpoints._manifest_key(name, position)))
        return load(self, name, position)

    store = CheckpointStore(path / "projections")
    kept = store.positions("status_history")
    monkeypatch.setattr(CheckpointStore, "load", load_too_late)
    with warnings.catch_warnings():
        warnings.simplefilter("error")
        pd.testing.assert_frame_equal(table(path), expected)
    assert removed == [True] * count
    assert kept
    assert store.positions("status_history") == kept


def test_a_store_that_another_process_removed_meanwhile_is_no_damage(path, monkeypatch):
    """A file that was damaged goes with all that is in it; who was about to read it folds the log."""
    expected, load = table(path), CheckpointStore.load

    def load_too_late(self, name, position):
        self.discard()
        return load(self, name, position)

    monkeypatch.setattr(CheckpointStore, "load", load_too_late)
    with warnings.catch_warnings():
        warnings.simplefilter("error")
        pd.testing.assert_frame_equal(table(path), expected)
