"""Samplers with generations keep the ids of parents with the study: imported, they are those of the ledger."""

from __future__ import annotations

import optuna
import pytest
from optuna.samplers import NSGAIISampler
from optuna.storages import BaseStorage

from ledger.integrations.optuna import LedgerStorage
from ledger.integrations.optuna.study_attributes import with_new_ids
from tests.integrations.optuna.origins import Origin

PARENTS = "NSGAIISampler:parent:2"


def _study(storage: BaseStorage, count: int = 0) -> optuna.Study:
    sampler = NSGAIISampler(population_size=5, seed=1)
    study = optuna.create_study(
        storage=storage, study_name="s", directions=["minimize"] * 2, sampler=sampler, load_if_exists=True
    )
    study.optimize(lambda trial: (trial.suggest_float("x", 0, 1), trial.suggest_float("y", 0, 1)), n_trials=count)
    return study


def _parents(study: optuna.Study) -> list[int]:
    sampler = study.sampler
    assert isinstance(sampler, NSGAIISampler)
    return [trial.number for trial in sampler.get_parent_population(study, 2)]


def test_a_study_with_generations_goes_on_from_the_same_parents(empty: Origin, storage: LedgerStorage) -> None:
    """Importing again changes nothing of them; what went on there comes with its trials."""
    before = _study(empty.storage(), 12)
    empty.bring(storage.book)
    wanted = _parents(before)
    assert len(wanted) == 5
    assert PARENTS in storage.get_study_system_attrs(storage.get_study_id_from_name("s"))
    assert _parents(_study(storage)) == wanted
    head = storage.book.log.head
    report = empty.bring(storage.book)
    assert (report.known, report.skipped, storage.book.log.head) == (12, [], head)
    _study(empty.storage(), 6)
    assert empty.bring(storage.book).added == 6
    assert _parents(_study(storage)) == wanted
    assert len(_study(storage, 4).trials) == 22


def test_the_parents_stay_when_one_of_them_is_deleted(empty: Origin, storage: LedgerStorage) -> None:
    """Importing again says nothing about them."""
    _study(empty.storage(), 12)
    empty.bring(storage.book)
    first = _parents(_study(storage))[0]
    storage.book.get_experiment("s").trial(first).delete(reason="wrong disk")
    head = storage.book.log.head
    empty.bring(storage.book)
    assert storage.book.log.head == head


@pytest.mark.parametrize(
    ("key", "value", "wanted"),
    [
        ("MySampler:parent:3", [1, 2, 9], ("MySampler:parent:3", [10, 20])),
        ("MySampler:parent:3", "none", ("MySampler:parent:3", "none")),
        ("preference:skip_trial:2", True, ("preference:skip_trial:20", True)),
        ("dashboard:9:note_ver", 1, None),
    ],
)
def test_trials_are_named_by_their_new_ids(key: str, value: object, wanted: object) -> None:
    """In keys and in values; what is said of a trial that is not there is said of no other."""
    assert with_new_ids(key, value, {1: 10, 2: 20}) == wanted
