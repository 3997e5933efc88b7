"""mlos_bench: SqlStorage on a SQLite file, and what drives any storage of mlos_bench."""

from __future__ import annotations

import datetime as dt
import subprocess
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pandas as pd
import pytz
from mlos_bench.environments.status import Status
from mlos_bench.storage.sql.storage import SqlStorage
from mlos_bench.tunables.tunable_groups import TunableGroups
from sqlalchemy import event

from benchmarks.rivals.contract import TrialStore, config_of, results_of

_PRAGMAS = {
    "": (),
    "wal": ("journal_mode=WAL", "synchronous=NORMAL"),
    # For the bytes on disk only: without flushes it writes the same file, in a fraction of the time.
    "nosync": ("synchronous=OFF",),
}
_TUNABLE = {"type": "int", "range": [0, 2**40], "default": 1}
_NAME = "lives"


class StorageLives(TrialStore):
    """An experiment of a storage of mlos_bench, through its interface."""

    def __init__(self, directory: Path, variant: str = "") -> None:
        _make_repository(directory)
        self._storage = self._open(directory, variant)
        self._experiment = _experiment(self._storage, directory)
        self._experiment.__enter__()
        self._tunables = _tunables()

    def _open(self, directory: Path, variant: str) -> Any:
        raise NotImplementedError

    def live(self, number: int) -> None:
        tunables = self._tunables.copy().assign(config_of(number))
        trial = self._experiment.new_trial(tunables)
        trial.update(Status.RUNNING, _now())
        points = [(_now(), f"cpu{step}", 1.5 * step) for step in range(5)]
        trial.update_telemetry(Status.RUNNING, _now(), points)
        trial.update(Status.SUCCEEDED, _now(), results_of(number))

    def close(self) -> None:
        self._experiment.__exit__(None, None, None)


class Lives(StorageLives):
    """An experiment of ``SqlStorage``."""

    def _open(self, directory: Path, variant: str) -> Any:
        storage: Any = sql_storage(directory)
        pragmas = _PRAGMAS[variant]

        def set_up(connection: Any, _: Any) -> None:
            for pragma in pragmas:
                connection.execute(f"PRAGMA {pragma}")

        event.listen(storage._engine, "connect", set_up)
        storage.update_schema()
        return storage

    def close(self) -> None:
        super().close()
        self._storage._engine.dispose()


def sql_storage(directory: Path) -> Any:
    """Open the ``SqlStorage`` of a directory."""
    config = {"drivername": "sqlite", "database": str(directory / "mlos.sqlite"), "lazy_schema_create": True}
    return SqlStorage(config=config, global_config={}, service=None)


def results_frame(directory: Path) -> Callable[[], pd.DataFrame]:
    """Open the storage that ``Lives`` has left; return what gives the data frame of its trials."""
    return frame_of(sql_storage(directory))


def frame_of(storage: Any) -> Callable[[], pd.DataFrame]:
    """Return what gives the data frame of the trials of a storage."""
    return lambda: storage.experiments[_NAME].results_df


def loader_of(storage: Any, directory: Path) -> Callable[[], int]:
    """Return what loads the trials of a storage, as a scheduler does to warm up its optimizer, and says how many there are."""
    _make_repository(directory)
    experiment = _experiment(storage, directory)
    return lambda: len(experiment.load()[0])


def _experiment(storage: Any, directory: Path) -> Any:
    return storage.experiment(
        experiment_id=_NAME, trial_id=1, root_env_config=str(directory / "env.jsonc"), description=_NAME,
        tunables=_tunables(), opt_targets=dict.fromkeys(results_of(0), "min"),
    )  # fmt: skip


def _tunables() -> Any:
    return TunableGroups({"group": {"cost": 1, "params": dict.fromkeys(config_of(0), _TUNABLE)}})


def _now() -> dt.datetime:
    return dt.datetime.now(pytz.UTC)


def _make_repository(directory: Path) -> None:
    """Make a git repository with an origin, without which mlos_bench refuses to run."""
    (directory / "env.jsonc").write_text("{}")
    git = ["git", "-C", str(directory), "-c", "user.name=benchmark", "-c", "user.email=benchmark@localhost"]
    for arguments in (
        ["init", "--quiet"],
        ["remote", "add", "origin", "https://example.invalid/benchmark.git"],
        ["add", "env.jsonc"],
        ["commit", "--quiet", "--message", "benchmark"],
    ):
        subprocess.run([*git, *arguments], check=True, stdout=subprocess.DEVNULL)
