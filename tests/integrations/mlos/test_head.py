"""The interface of mlos_bench's repository, member by member: what its programs ask for is there, and is asked for in its way."""

from __future__ import annotations

import inspect
from typing import Any

import pytest
from mlos_bench.storage.base_storage import Storage
from mlos_bench.storage.base_trial_data import TrialData

from ledger.integrations.mlos import LedgerStorage
from ledger.integrations.mlos.config_data import LedgerTunableConfigData
from ledger.integrations.mlos.experiment import LedgerExperiment
from ledger.integrations.mlos.experiment_data import LedgerExperimentData
from ledger.integrations.mlos.group_data import LedgerTrialGroupData
from ledger.integrations.mlos.trial import LedgerTrial
from ledger.integrations.mlos.trial_data import LedgerTrialData
from tests.integrations.mlos import head

OURS: dict[str, type[Any]] = {
    "Storage": LedgerStorage,
    "Storage.Experiment": LedgerExperiment,
    "Storage.Trial": LedgerTrial,
    "ExperimentData": LedgerExperimentData,
    "TrialData": LedgerTrialData,
    "TunableConfigData": LedgerTunableConfigData,
    "TunableConfigTrialGroupData": LedgerTrialGroupData,
}


def _members() -> list[tuple[str, str]]:
    return [(name, member) for name, members in head.INTERFACE.items() for member in members]


@pytest.mark.parametrize(("name", "member"), _members())
def test_each_member_of_the_newer_interface_is_there(name: str, member: str, monkeypatch: pytest.MonkeyPatch) -> None:
    """A property where it is one, else a method that takes what is asked of it; and none that is abstract is left to do."""
    head.install(monkeypatch)
    wanted = head.INTERFACE[name][member]
    found = inspect.getattr_static(OURS[name], member)
    assert not getattr(found, "__isabstractmethod__", False)
    assert isinstance(found, property) is (wanted is head.PROPERTY)
    if wanted is not head.PROPERTY:
        inspect.signature(getattr(OURS[name], member)).bind(None, *wanted.positional, **wanted.named)


def test_the_double_of_the_newer_interface_is_like_it(monkeypatch: pytest.MonkeyPatch) -> None:
    """Its constructors take the parameters that those of the repository take, by name alone."""
    head.install(monkeypatch)
    for cls, name in ((Storage.Trial, "Storage.Trial"), (TrialData, "TrialData")):
        found = inspect.signature(cls.__init__).parameters
        own = {each: found[each] for each in found if each != "self"}
        assert all(each.kind is inspect.Parameter.KEYWORD_ONLY for each in own.values())
        required, optional = head.CONSTRUCTORS[name]
        assert {each for each in own if own[each].default is inspect.Parameter.empty} == required
        assert {each for each in own if own[each].default is not inspect.Parameter.empty} == optional
