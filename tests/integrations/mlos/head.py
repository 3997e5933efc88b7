"""The interface of mlos_bench's repository, newer than any release: its base classes' signatures and what they promise.

Put into the classes of the release that is installed, so that the storage meets both. Only what the storage sees is here.
"""

from __future__ import annotations

from collections.abc import Mapping
from datetime import datetime
from typing import Any, NamedTuple

import pytest
from mlos_bench.environments.status import Status
from mlos_bench.storage.base_storage import Storage
from mlos_bench.storage.base_trial_data import TrialData


class Call(NamedTuple):
    """How a method is called: with what it is given by place, and by name."""

    positional: tuple[Any, ...] = ()
    named: Mapping[str, Any] = {}


#: What is read, and not called.
PROPERTY = Call(("property",))

_EXPERIMENT = {"experiment_id": "e", "tunables": None, "opt_targets": {}}

#: The members of the base classes, and how the widest call of each is.
INTERFACE: dict[str, dict[str, Call]] = {
    "Storage": {
        "update_schema": Call(),
        "experiments": PROPERTY,
        "get_experiment_by_id": Call(named=_EXPERIMENT),
        "experiment": Call(named={**_EXPERIMENT, "trial_id": 1, "root_env_config": "", "description": ""}),
    },
    "Storage.Experiment": {
        "_setup": Call(),
        "_teardown": Call((True,)),
        **dict.fromkeys(("experiment_id", "trial_id", "description", "root_env_config", "tunables", "opt_targets"), PROPERTY),
        "merge": Call((["e"],)),
        "load_tunable_config": Call((1,)),
        "load_telemetry": Call((1,)),
        "load": Call(named={"last_trial_id": 1}),
        "get_trial_by_id": Call((1,)),
        "pending_trials": Call((None,), {"running": True, "trial_runner_assigned": False}),
        "new_trial": Call((None,), {"ts_start": None, "config": None}),
        "_new_trial": Call((None,), {"ts_start": None, "config": None}),
    },
    "Storage.Trial": {
        **dict.fromkeys(("experiment_id", "trial_id", "tunable_config_id", "trial_runner_id", "tunables", "status"), PROPERTY),
        "opt_targets": Call(),
        "set_trial_runner": Call((1,)),
        "config": Call(({},)),
        "add_new_config_data": Call(({},)),
        "_save_new_config_data": Call(({},)),
        "update": Call((None, None), {"metrics": None}),
        "update_telemetry": Call((None, None, [])),
    },
    "ExperimentData": dict.fromkeys(
        ("experiment_id", "description", "root_env_config", "objectives", "trials", "tunable_configs",
         "tunable_config_trial_groups", "default_tunable_config_id", "results_df"), PROPERTY,
    ),
    "TrialData": dict.fromkeys(
        ("experiment_id", "trial_id", "trial_runner_id", "ts_start", "ts_end", "status", "tunable_config_id", "tunable_config",
         "tunable_config_trial_group", "results_df", "results_dict", "telemetry_df", "metadata_df", "metadata_dict"), PROPERTY,
    ),
    "TunableConfigData": dict.fromkeys(("tunable_config_id", "config_df", "config_dict"), PROPERTY),
    "TunableConfigTrialGroupData": {
        **dict.fromkeys(
            ("experiment_id", "tunable_config_id", "tunable_config_trial_group_id", "tunable_config", "trials", "results_df"),
            PROPERTY,
        ),
        "_get_tunable_config_trial_group_id": Call(),
    },
}  # fmt: skip

#: What the constructors that differ from the release's have to be given, and what they may be.
CONSTRUCTORS: dict[str, tuple[set[str], set[str]]] = {
    "Storage.Trial": (
        {"tunables", "experiment_id", "trial_id", "tunable_config_id", "trial_runner_id", "opt_targets", "status", "restoring"},
        {"config"},
    ),
    "TrialData": (
        {"experiment_id", "trial_id", "tunable_config_id", "ts_start", "ts_end", "status"},
        {"trial_runner_id"},
    ),
}


def install(monkeypatch: pytest.MonkeyPatch) -> None:
    """Give the base classes the newer interface, until the test ends."""
    for name in ("__init__", "config", "opt_targets", "add_new_config_data", "set_trial_runner"):
        monkeypatch.setattr(Storage.Trial, name, vars(HeadTrial)[name], raising=False)
    for name in ("__init__", "__repr__", "trial_runner_id"):
        monkeypatch.setattr(TrialData, name, vars(HeadTrialData)[name], raising=False)


class HeadTrial:
    """``Storage.Trial``."""

    def __init__(
        self, *, tunables: Any, experiment_id: str, trial_id: int, tunable_config_id: int, trial_runner_id: int | None,
        opt_targets: dict[str, Any], status: Status, restoring: bool, config: dict[str, Any] | None = None,
    ) -> None:  # fmt: skip
        self._tunables, self._experiment_id, self._trial_id = tunables, experiment_id, trial_id
        self._tunable_config_id, self._trial_runner_id = tunable_config_id, trial_runner_id
        self._opt_targets, self._config = opt_targets, config or {}
        assert restoring or status in (Status.UNKNOWN, Status.PENDING), "a new trial has only been created"
        self._status = status

    def opt_targets(self) -> dict[str, Any]:
        """Return the targets: a method, where the release has a property."""
        return self._opt_targets

    def config(self, global_config: dict[str, Any] | None = None) -> dict[str, Any]:
        """Return the trial's parameters, and its runner among them."""
        config = {**self._config, **(global_config or {}), "experiment_id": self._experiment_id, "trial_id": self._trial_id}
        runner = self.trial_runner_id  # type: ignore[attr-defined]
        return config if runner is None else {**config, "trial_runner_id": runner}

    def add_new_config_data(self, new_config_data: Mapping[str, Any]) -> None:
        """Add parameters to those that there are."""
        for name, value in new_config_data.items():
            if name in self._config:
                raise ValueError(f"{name} is there already")
            self._config[name] = value
        self._save_new_config_data(new_config_data)  # type: ignore[attr-defined]

    def set_trial_runner(self, trial_runner_id: int) -> int:
        """Assign it to a runner."""
        raise NotImplementedError


class HeadTrialData:
    """``TrialData``."""

    def __init__(
        self, *, experiment_id: str, trial_id: int, tunable_config_id: int, ts_start: datetime, ts_end: datetime | None,
        status: Status, trial_runner_id: int | None = None,
    ) -> None:  # fmt: skip
        self._experiment_id, self._trial_id, self._tunable_config_id = experiment_id, trial_id, tunable_config_id
        self._ts_start, self._ts_end, self._status, self._trial_runner_id = ts_start, ts_end, status, trial_runner_id

    def __repr__(self) -> str:
        return (
            f"Trial :: {self._experiment_id}:{self._trial_id} cid:{self._tunable_config_id} "
            f"rid:{self._trial_runner_id} {self._status.name}"
        )

    @property
    def trial_runner_id(self) -> int | None:
        """The runner's id."""
        return self._trial_runner_id
