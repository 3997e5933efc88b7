"""The data of one experiment."""

from __future__ import annotations

from collections.abc import Callable
from typing import Any, TypeVar

import numpy as np
import pandas as pd
from mlos_bench.storage.base_experiment_data import ExperimentData
from mlos_bench.storage.base_trial_data import TrialData

from ledger.integrations.mlos.config_data import LedgerTunableConfigData
from ledger.integrations.mlos.features import accepts
from ledger.integrations.mlos.group_data import LedgerTrialGroupData
from ledger.integrations.mlos.results_frame import group_ids, live_places, results_frame, start_times
from ledger.integrations.mlos.status import LOADED
from ledger.integrations.mlos.status_history import status_history
from ledger.integrations.mlos.trial_data import LedgerTrialData, status_of
from ledger.integrations.mlos.values import CONFIG, NAMESPACE, RUNNER, text_of
from ledger.log import EventLog
from ledger.session import Ledger
from ledger.state import ExperimentState, Status
from ledger.telemetry import flush_buffers
from projections.columns import MISSING, NOT_A_TIME, STATUS_CODES
from projections.experiments import Experiments
from projections.rows import Rows
from projections.tables import Tables
from projections.trial_annotations import TrialAnnotations
from projections.trial_rows import TrialRows

T = TypeVar("T")

_ANNOTATION = f"info.attributes.{NAMESPACE}."
_STATUSES = list(Status)


class LedgerExperimentData(ExperimentData):  # type: ignore[misc]
    """An experiment of a ledger, as mlos_bench and mlos_viz look at it; also one that mlos_bench has not made.

    Everything is read when it is asked for, from tables that are kept and refreshed: what came since is all that is folded.
    """

    def __init__(self, book: Ledger, tables: Tables, state: ExperimentState) -> None:
        path, repository, commit = origin_of(state)
        super().__init__(
            experiment_id=state.name, description=state.description, root_env_config=path, git_repo=repository, git_commit=commit
        )
        self._book, self._tables, self._state = book, tables, state
        self.id = state.id

    @property
    def log(self) -> EventLog:
        """The ledger's log."""
        return self._book.log

    @property
    def flushed_log(self) -> EventLog:
        """The ledger's log, with the telemetry in it that this process has buffered."""
        flush_buffers(self._book.background)
        return self._book.log

    @property
    def objectives(self) -> dict[str, Any]:
        """The targets by name, with their directions."""
        return dict(sorted(self._state.objectives.items()))

    # ------------------------------------------------------------------------------------------------ trials

    @property
    def trials(self) -> dict[int, LedgerTrialData]:
        """The trials by id."""
        return self.trials_of(None)

    def trials_of(self, config_id: int | None) -> dict[int, LedgerTrialData]:
        """Return the trials by id, all of them or those with one config."""
        runners = self._annotation(RUNNER) if _has_runners() else {}

        def show(trials: TrialRows, experiments: Experiments) -> dict[int, LedgerTrialData]:
            places = live_places(trials, config_id)
            columns = [trials.rows[name].arrays()[0][places].tolist() for name in ("trial_id", "config_id", "ended_at", "status")]
            found = zip(*columns, start_times(trials.rows, places).tolist(), strict=True)
            return {
                number: LedgerTrialData(
                    self, number, config, start, None if end == NOT_A_TIME else end, _STATUSES[code], runners.get(number)
                )
                for number, config, end, code, start in found
            }

        return self._read(show)

    @property
    def results_df(self) -> pd.DataFrame:
        """A row for each trial with its config and results; see ``results_frame``."""
        return self.results_of(None)

    def results_of(self, config_id: int | None) -> pd.DataFrame:
        """Return the trials with configs and results, all of them or those with one config."""
        runners = self._annotation(RUNNER) if _has_runners() else None

        def show(trials: TrialRows, experiments: Experiments) -> pd.DataFrame:
            places = live_places(trials, config_id)
            numbers = trials.rows["trial_id"].arrays()[0][places].tolist()
            return results_frame(trials, places, None if runners is None else [runners.get(number) for number in numbers])

        return self._read(show)

    @property
    def status_history_df(self) -> pd.DataFrame:
        """Every change of its trials' statuses, and every one that was polled; see ``status_history``."""
        return status_history(self.flushed_log.read(experiment=self.id))

    def load(self, last_trial_id: int) -> tuple[list[int], list[dict[str, Any]], list[dict[str, Any] | None], list[Any]]:
        """Return what ``Storage.Experiment.load`` does."""

        def show(trials: TrialRows, experiments: Experiments) -> tuple[Any, ...]:
            places = live_places(trials)
            ids, codes = (trials.rows[name].arrays()[0][places] for name in ("trial_id", "status"))
            wanted = (ids > last_trial_id) & np.isin(codes, [STATUS_CODES[status] for status in LOADED])
            places = places[wanted]
            succeeded = codes[wanted] == STATUS_CODES[Status.SUCCEEDED]
            results = _texts(trials.results, places)
            return (
                ids[wanted].tolist(),
                _texts(trials.configs, places),
                [found if is_good else None for found, is_good in zip(results, succeeded.tolist(), strict=True)],
                [_MLOS_STATUSES[code] for code in codes[wanted].tolist()],
            )

        return self._read(show)

    def held(self) -> list[int]:
        """Return the ids of the trials that count as held, by whomever."""
        return self._ids(lambda rows: np.isin(_cells(rows, "status"), [STATUS_CODES[s] for s in (Status.READY, Status.RUNNING)]))

    def scheduled(self, until: int) -> list[int]:
        """Return the ids of the trials that wait for a time that will have come by then (ns since 1970 UTC)."""
        with self.log.backend.view() as view:
            now = view.now
        return self._ids(
            lambda rows: (
                (_cells(rows, "status") == STATUS_CODES[Status.PENDING])
                & (_cells(rows, "scheduled_at") > now)
                & (_cells(rows, "scheduled_at") <= until)
            )
        )

    def _ids(self, chosen: Callable[[Rows], Any]) -> list[int]:
        return self._read(lambda trials, _: np.sort(_cells(trials.rows, "trial_id")[chosen(trials.rows)]).tolist())

    # ----------------------------------------------------------------------------------------------- configs

    @property
    def tunable_configs(self) -> dict[int, LedgerTunableConfigData]:
        """The configs by id."""
        return {config_id: LedgerTunableConfigData(config_id, self.config(config_id)) for config_id in self._groups()}

    @property
    def tunable_config_trial_groups(self) -> dict[int, LedgerTrialGroupData]:
        """The groups of trials with one config, by the config's id."""
        return {config_id: LedgerTrialGroupData(self, config_id, group) for config_id, group in self._groups().items()}

    def _groups(self) -> dict[int, int]:
        def show(trials: TrialRows, experiments: Experiments) -> dict[int, int]:
            places = live_places(trials)
            ids = trials.rows["config_id"].arrays()[0][places].tolist()
            return dict(sorted(zip(ids, group_ids(trials.rows, places).tolist(), strict=True)))

        return self._read(show)

    @property
    def default_tunable_config_id(self) -> int | None:
        """The config of the first trial whose parameter ``is_defaults`` says so, else of the first trial; None without one."""
        defaults = self._annotation(f"{CONFIG}.is_defaults")

        def show(trials: TrialRows, experiments: Experiments) -> int | None:
            places = live_places(trials)
            ids, configs = (trials.rows[name].arrays()[0][places].tolist() for name in ("trial_id", "config_id"))
            named = (config for number, config in zip(ids, configs, strict=True) if _is_true(defaults.get(number)))
            return next(named, configs[0] if configs else None)

        return self._read(show)

    def config(self, config_id: int) -> dict[str, Any]:
        """Return a config of the ledger by its number; empty when there is none."""
        return self._read(lambda trials, experiments: experiments.config(config_id)) or {}

    def config_id(self, trial_id: int) -> int:
        """Return the number of a trial's config."""
        return self._read(lambda trials, experiments: trials.config_id(trial_id))

    # ------------------------------------------------------------------------------------------------ tables

    def _read(self, show: Callable[[TrialRows, Experiments], T]) -> T:
        return self._tables.read(Experiments, self.id, None, lambda experiments, id_: show(experiments.of(id_), experiments))

    def _annotation(self, name: str) -> dict[int, Any]:
        """Return an attribute of the trials by their ids."""
        frame = self._tables.read(TrialAnnotations, self.id, None, lambda table, id_: table.table(id_))
        found = frame["values"][frame["key"] == _ANNOTATION + name]
        return dict(found.iloc[0]) if len(found) else {}


_MLOS_STATUSES = [status_of(status) for status in _STATUSES]


def origin_of(state: ExperimentState) -> tuple[str, str, str]:
    """Return where the experiment's configs are from: path, git repository and commit; empty texts when nobody said."""
    said = state.attributes.get(NAMESPACE, {})
    return said.get("root_env_config", ""), said.get("git_repo", ""), said.get("git_commit", "")


def _has_runners() -> bool:
    return accepts(TrialData.__init__, "trial_runner_id")


def _is_true(value: Any) -> bool:
    return str(value).lower() in ("1", "true")


def _cells(rows: Rows, name: str) -> Any:
    return rows[name].arrays()[0]


def _texts(values: Rows, places: Any) -> list[dict[str, Any]]:
    """Return the values of rows by name, as texts, without what is missing."""
    found: list[dict[str, Any]] = [{} for _ in range(len(places))]
    for name, buffer in sorted(values.buffers.items()):
        for row, value in zip(found, buffer.values(places), strict=True):
            if value is not MISSING:
                row[name] = text_of(value)
    return found
