"""W&B, offline."""

from __future__ import annotations

import os
from collections.abc import Mapping
from pathlib import Path
from typing import Any

from benchmarks.rivals.contract import Tracker as TrackerContract


class Tracker(TrackerContract):
    """An offline run."""

    def __init__(self, directory: Path) -> None:
        for name in ("WANDB_DIR", "WANDB_CACHE_DIR", "WANDB_CONFIG_DIR", "WANDB_DATA_DIR"):
            os.environ[name] = str(directory / "wandb-home")
        os.environ["WANDB_SILENT"] = "true"
        (directory / "wandb-home").mkdir()
        import wandb  # it reads the environment when it is imported

        settings = wandb.Settings(console="off", silent=True, x_disable_stats=True, x_disable_meta=True)
        self._run = wandb.init(project="benchmark", mode="offline", settings=settings)

    def log(self, step: int, values: Mapping[str, Any]) -> None:
        self._run.log(dict(values), step=step)

    def finish(self) -> None:
        self._run.finish()
