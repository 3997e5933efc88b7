"""The data of one trial."""

from __future__ import annotations

from datetime import datetime
from typing import TYPE_CHECKING

import pandas as pd
from mlos_bench.environments.status import Status
from mlos_bench.storage.base_trial_data import TrialData

from ledger.integrations.mlos.config_data import LedgerTunableConfigData, pairs
from ledger.integrations.mlos.features import accepted
from ledger.integrations.mlos.group_data import LedgerTrialGroupData
from ledger.integrations.mlos.status import TO_MLOS
from ledger.integrations.mlos.status_history import status_history
from ledger.integrations.mlos.telemetry import read_telemetry
from ledger.integrations.mlos.values import CONFIG, NAMESPACE, moment_of, text_of
from ledger.state import TrialState
from ledger.status import Status as TrialStatus
from ledger.streams import trial_stream

if TYPE_CHECKING:
    from ledger.integrations.mlos.experiment_data import LedgerExperimentData


class LedgerTrialData(TrialData):  # type: ignore[misc]
    """A trial as it stood when it was asked for; its results, telemetry and parameters are read when they are."""

    def __init__(
        self, experiment: LedgerExperimentData, trial_id: int, config_id: int, ts_start: int, ts_end: int | None,
        status: TrialStatus, trial_runner_id: int | None = None,
    ) -> None:  # fmt: skip
        super().__init__(
            **accepted(
                TrialData.__init__,
                experiment_id=experiment.experiment_id,
                trial_id=trial_id,
                tunable_config_id=config_id,
                ts_start=moment_of(ts_start),
                ts_end=None if ts_end is None else moment_of(ts_end),
                status=status_of(status),
                trial_runner_id=trial_runner_id,
            )
        )
        self._in = experiment

    @property
    def tunable_config(self) -> LedgerTunableConfigData:
        """The config."""
        return LedgerTunableConfigData(self._tunable_config_id, self._in.config(self._tunable_config_id))

    @property
    def tunable_config_trial_group(self) -> LedgerTrialGroupData:
        """The group of the trials of its experiment with the same config."""
        return LedgerTrialGroupData(self._in, self._tunable_config_id)

    @property
    def results_df(self) -> pd.DataFrame:
        """A row for each result, by name: ``metric`` and ``value``, a text."""
        return pairs(self._state.results, "metric")

    @property
    def telemetry_df(self) -> pd.DataFrame:
        """A row for each point, by time and name: ``ts`` (UTC), ``metric`` and ``value``, a text."""
        points = read_telemetry(self._in.flushed_log, self._stream)
        rows: list[tuple[datetime, str, str | None]] = [(moment_of(at), name, text_of(value)) for at, name, value in points]
        return pd.DataFrame(rows, columns=["ts", "metric", "value"])

    @property
    def metadata_df(self) -> pd.DataFrame:
        """A row for each parameter that is no tunable, by name: ``parameter`` and ``value``, a text."""
        return pairs(self._state.attributes.get(NAMESPACE, {}).get(CONFIG, {}), "parameter")

    @property
    def status_history_df(self) -> pd.DataFrame:
        """Every change of its status, and every one that was polled; see ``status_history``."""
        return status_history(self._in.flushed_log.read(stream=self._stream))

    @property
    def _stream(self) -> str:
        return trial_stream(self._in.id, self._trial_id)

    @property
    def _state(self) -> TrialState:
        with self._in.log.backend.view() as view:
            state = view.trial(self._in.id, self._trial_id)
        assert state is not None  # the trial was found in the log, which loses nothing
        return state


def status_of(status: TrialStatus) -> Status:
    """Return mlos_bench's status for the ledger's."""
    return Status[TO_MLOS[status]]
