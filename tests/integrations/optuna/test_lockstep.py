"""A ledger against Optuna's own storage in memory: whatever is asked of both, they answer alike, however it was folded."""

from __future__ import annotations

import math
import random
from collections.abc import Callable
from pathlib import Path
from typing import Any

import optuna
import pytest
from optuna.distributions import CategoricalDistribution, FloatDistribution, IntDistribution
from optuna.storages import BaseStorage, InMemoryStorage
from optuna.study import StudyDirection
from optuna.trial import FrozenTrial, TrialState

from ledger.integrations.optuna import LedgerStorage, follower
from ledger.integrations.optuna.studies import Studies
from projections import build, folds

DISTRIBUTIONS = {
    "x": FloatDistribution(-1, 1), "n": IntDistribution(1, 64, log=True), "c": CategoricalDistribution(("a", None, 3)),
    "s": FloatDistribution(0, 1, step=0.25),
}  # fmt: skip
VALUES = [0.0, -1.5, 7, math.inf, -math.inf, 1e-300]
ATTRIBUTES = [None, 1, "a", [1, "b"], {"k": {"l": None}}, 0.5, True]


def same(one: FrozenTrial, other: FrozenTrial) -> None:
    """Compare two trials but for their ids and times; NaN is equal to itself."""
    for name in ("number", "state", "values", "params", "distributions", "user_attrs", "system_attrs", "intermediate_values"):
        assert repr(getattr(one, name)) == repr(getattr(other, name)), name
    assert (one.datetime_start is None) == (other.datetime_start is None)
    assert (one.datetime_complete is None) == (other.datetime_complete is None)


class Both:
    """The same studies in a ledger and in memory; ids are known by their place."""

    def __init__(self, mine: LedgerStorage, chance: random.Random) -> None:
        self.storages: tuple[BaseStorage, BaseStorage] = (mine, InMemoryStorage())
        self.random = chance
        self.studies: list[tuple[int, int]] = []
        self.trials: list[tuple[int, int]] = []
        self.objectives: dict[tuple[int, int], int] = {}  # how many the study has, or that of the trial

    def ask(self, call: Callable[[BaseStorage, int], Any]) -> tuple[Any, Any]:
        """Ask both, and return what they answered; they refuse alike."""
        answers = []
        for place, storage in enumerate(self.storages):
            try:
                answers.append(call(storage, place))
            except (KeyError, ValueError, RuntimeError) as error:
                answers.append(error)
        one, other = answers
        if isinstance(one, Exception) or isinstance(other, Exception):
            assert isinstance(one, Exception) is isinstance(other, Exception), (one, other)
            kinds = (KeyError, optuna.exceptions.UpdateFinishedTrialError, ValueError, RuntimeError)
            assert [isinstance(one, kind) for kind in kinds] == [isinstance(other, kind) for kind in kinds], (one, other)
        return one, other

    def step(self) -> None:
        """Ask both for one thing, picked at random."""
        chance = self.random
        if not self.studies or chance.random() < 0.03:
            count = chance.choice([1, 1, 2])
            directions = [chance.choice([StudyDirection.MINIMIZE, StudyDirection.MAXIMIZE]) for _ in range(count)]
            made = self.ask(lambda storage, place: storage.create_new_study(directions, f"s{len(self.studies)}"))
            self.studies.append(made)
            self.objectives[made] = count
        study = chance.choice(self.studies)
        if not self.trials or chance.random() < 0.15:
            template = self._template(self.objectives[study]) if chance.random() < 0.5 else None
            made = self.ask(lambda storage, place: storage.create_new_trial(study[place], template))
            if not isinstance(made[0], Exception):
                self.trials.append(made)
                self.objectives[made] = self.objectives[study]
        elif chance.random() < 0.01 and len(self.studies) > 1:
            self.ask(lambda storage, place: storage.delete_study(study[place]))
        else:
            self._change(study, chance.choice(self.trials[-8:]))

    def _change(self, study: tuple[int, int], trial: tuple[int, int]) -> None:
        chance = self.random
        key, value, number, step = chance.choice("abc"), chance.choice(ATTRIBUTES), chance.choice(VALUES), chance.randrange(4)
        name = chance.choice(list(DISTRIBUTIONS))
        internal = DISTRIBUTIONS[name].to_internal_repr(self._value(DISTRIBUTIONS[name]))
        state = self._next_state(trial)
        values = [number] * self.objectives[trial] if state in (TrialState.COMPLETE, TrialState.PRUNED) else None
        one, other = self.ask(chance.choice([
            lambda storage, place: storage.set_trial_param(trial[place], name, internal, DISTRIBUTIONS[name]),
            lambda storage, place: storage.set_trial_intermediate_value(trial[place], step, number),
            lambda storage, place: storage.set_trial_user_attr(trial[place], key, value),
            lambda storage, place: storage.set_trial_system_attr(trial[place], key, value),
            lambda storage, place: storage.set_study_user_attr(study[place], key, value),
            lambda storage, place: storage.set_study_system_attr(study[place], key, value),
            lambda storage, place: storage.set_trial_state_values(trial[place], state, values),
        ]))  # fmt: skip
        assert isinstance(one, Exception) or one == other

    def _next_state(self, trial: tuple[int, int]) -> TrialState:
        """Return a state in which the storages agree on the times: Optuna's in memory lets a trial end that never began."""
        try:
            is_waiting = self.storages[1].get_trial(trial[1]).state == TrialState.WAITING
        except KeyError:
            is_waiting = False
        states = [TrialState.RUNNING] if is_waiting else [state for state in TrialState if state != TrialState.WAITING]
        return self.random.choice(states)

    def _value(self, distribution: Any) -> Any:
        if isinstance(distribution, CategoricalDistribution):
            return self.random.choice(distribution.choices)
        return distribution.low if self.random.random() < 0.5 else distribution.high

    def _template(self, objectives: int) -> FrozenTrial:
        chance = self.random
        params = {name: self._value(each) for name, each in DISTRIBUTIONS.items() if chance.random() < 0.5}
        state = chance.choice(list(TrialState))
        return optuna.trial.create_trial(
            state=state,
            values=[chance.choice(VALUES)] * objectives if state in (TrialState.COMPLETE, TrialState.PRUNED) else None,
            params=params, distributions={name: DISTRIBUTIONS[name] for name in params},
            user_attrs={key: chance.choice(ATTRIBUTES) for key in "ab" if chance.random() < 0.5},
            system_attrs={"fixed_params": {"x": 1}} if chance.random() < 0.5 else {},
            intermediate_values={step: chance.choice(VALUES) for step in range(chance.randrange(4))},
        )  # fmt: skip

    def compare(self, mine: LedgerStorage | None = None) -> None:
        """Compare everything that can be read."""
        known, self.storages = self.storages, (mine or self.storages[0], self.storages[1])
        for study in self.studies:
            self._compare_study(study)
        self.storages = known

    def _compare_study(self, study: tuple[int, int]) -> None:
        trials = self.ask(lambda storage, place: storage.get_all_trials(study[place], deepcopy=place == 1))
        if isinstance(trials[0], Exception):
            return
        assert len(trials[0]) == len(trials[1])
        for one, other in zip(*trials, strict=True):
            same(one, other)
        for wanted in (None, TrialState.COMPLETE, (TrialState.FAIL, TrialState.WAITING)):
            counts = self._said("get_n_trials", study, wanted)
            assert counts[0] == counts[1]
        for states in ((TrialState.WAITING,), (TrialState.RUNNING,), (TrialState.COMPLETE, TrialState.PRUNED), ()):
            some = self._said("get_all_trials", study, True, states)
            assert [trial.number for trial in some[0]] == [trial.number for trial in some[1]]
        best = self._said("get_best_trial", study)
        if not isinstance(best[0], Exception):
            assert best[0].value == best[1].value
        for what in ("get_study_user_attrs", "get_study_system_attrs", "get_study_directions", "get_study_name_from_id"):
            said = self._said(what, study)
            assert said[0] == said[1]

    def _said(self, what: str, study: tuple[int, int], *arguments: Any) -> tuple[Any, Any]:
        return self.ask(lambda storage, place: getattr(storage, what)(study[place], *arguments))


@pytest.fixture
def eager(monkeypatch: pytest.MonkeyPatch) -> None:
    """Checkpoints are saved whenever there is something new, and looked for."""
    monkeypatch.setattr(folds, "_LEAST_RECORDS", 1)
    monkeypatch.setattr(folds, "_SAVING_SHARE", math.inf)
    monkeypatch.setattr(folds, "_LEAST_SECONDS", 0)
    monkeypatch.setattr(follower, "_FAR", 3)


@pytest.mark.usefixtures("eager")
@pytest.mark.parametrize("seed", range(6))
def test_ledger_answers_as_memory_does(ledger_path: Path, seed: int) -> None:
    """After any operations both hold the same: as folded on the way, as read back, from a checkpoint, and folded anew."""
    with LedgerStorage(ledger_path) as mine, LedgerStorage(ledger_path) as reader:
        both = Both(mine, random.Random(seed))
        for number in range(240):
            both.step()
            if number % 40 == 39:
                both.compare()
                both.compare(reader)
        assert [each.study_name for each in mine.get_all_studies()] == [each.study_name for each in reader.get_all_studies()]
    with LedgerStorage(ledger_path) as again:
        assert (ledger_path / "projections").exists()
        both.compare(again)
        anew = build(Studies(), again.book.log)
        kept = again._connection.read(lambda studies: studies)
        for one, other in zip(anew.studies(), kept.studies(), strict=True):
            assert one.trials(None, fresh=False) == other.trials(None, fresh=True)
            assert one.best() == other.best()


def test_what_was_returned_stays_as_it_was(storage: LedgerStorage) -> None:
    """Trials, lists and attributes that were handed out do not change with what is written later."""
    chance = random.Random(3)
    both = Both(storage, chance)
    held: list[tuple[Any, str]] = []
    for _ in range(120):
        both.step()
        for study in both.studies[-1:]:
            trials = storage.get_all_trials(study[0], deepcopy=False) if study[0] in _ids(storage) else []
            attributes = storage.get_study_user_attrs(study[0]) if study[0] in _ids(storage) else {}
            held += [(trials, repr(trials)), (attributes, repr(attributes))]
    assert [repr(each) for each, _ in held] == [said for _, said in held]


def _ids(storage: LedgerStorage) -> set[int]:
    return {study._study_id for study in storage.get_all_studies()}
