"""mlos_bench: SqlStorage on a SQLite file."""

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


class Lives(TrialStore):
    """An experiment of the storage."""

    def __init__(self, directory: Path, variant: str = "") -> None:
        _make_repository(directory)
        self._storage: Any = SqlStorage(
            config={"drivername": "sqlite", "database": str(directory / "mlos.sqlite"), "lazy_schema_create": True},
            global_config={}, service=None,
        )  # fmt: skip
        pragmas = _PRAGMAS[variant]

        def set_up(connection: Any, _: Any) -> None:
            for pragma in pragmas:
                connection.execute(f"PRAGMA {pragma}")

        event.listen(self._storage._engine, "connect", set_up)
        self._storage.update_schema()
        self._tunables = TunableGroups({"group": {"cost": 1, "params": dict.fromkeys(config_of(0), _TUNABLE)}})
        self._experiment: Any = self._storage.experiment(
            experiment_id="lives", trial_id=1, root_env_config=str(directory / "env.jsonc"), description="lives",
            tunables=self._tunables, opt_targets=dict.fromkeys(results_of(0), "min"),
        )  # fmt: skip
        self._experiment.__enter__()

    def live(self, number: int) -> None:
        tunables = self._tunables.copy().assign(config_of(number))
        trial = self._experiment.new_trial(tunables)
        trial.update(Status.RUNNING, _now())
        points = [(_now(), f"cpu{step}", 1.5 * step) for step in range(5)]
        trial.update_telemetry(Status.RUNNING, _now(), points)
        trial.update(Status.SUCCEEDED, _now(), results_of(number))

    def close(self) -> None:
        self._experiment.__exit__(None, None, None)
        self._storage._engine.dispose()


def results_frame(directory: Path) -> Callable[[], pd.DataFrame]:
    """Open the storage that ``Lives`` has left; return what gives the data frame of its trials."""
    storage: Any = SqlStorage(
        config={"drivername": "sqlite", "database": str(directory / "mlos.sqlite"), "lazy_schema_create": True},
        global_config={}, service=None,
    )  # fmt: skip
    return lambda: storage.experiments["lives"].results_df


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
