"""The data of the trials of an experiment with one config."""

from __future__ import annotations

from typing import TYPE_CHECKING

import pandas as pd
from mlos_bench.storage.base_tunable_config_trial_group_data import TunableConfigTrialGroupData

from ledger.integrations.mlos.config_data import LedgerTunableConfigData

if TYPE_CHECKING:
    from ledger.integrations.mlos.experiment_data import LedgerExperimentData
    from ledger.integrations.mlos.trial_data import LedgerTrialData


class LedgerTrialGroupData(TunableConfigTrialGroupData):  # type: ignore[misc]
    """The trials of an experiment with one config; the group's id is the lowest of theirs."""

    def __init__(self, experiment: LedgerExperimentData, config_id: int, group_id: int | None = None) -> None:
        super().__init__(
            experiment_id=experiment.experiment_id, tunable_config_id=config_id, tunable_config_trial_group_id=group_id
        )
        self._in = experiment

    def _get_tunable_config_trial_group_id(self) -> int:
        return min(self.trials)

    @property
    def tunable_config(self) -> LedgerTunableConfigData:
        """The config."""
        return LedgerTunableConfigData(self._tunable_config_id, self._in.config(self._tunable_config_id))

    @property
    def trials(self) -> dict[int, LedgerTrialData]:
        """The trials by id."""
        return self._in.trials_of(self._tunable_config_id)

    @property
    def results_df(self) -> pd.DataFrame:
        """The trials with the config and their results, as ``ExperimentData.results_df``."""
        return self._in.results_of(self._tunable_config_id)
