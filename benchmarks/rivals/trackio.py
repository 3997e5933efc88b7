"""trackio, local."""

from __future__ import annotations

import os
from collections.abc import Mapping
from pathlib import Path
from typing import Any

from benchmarks.rivals.contract import Tracker as TrackerContract


class Tracker(TrackerContract):
    """A local run."""

    def __init__(self, directory: Path) -> None:
        os.environ["TRACKIO_DIR"] = str(directory)
        os.environ["HF_HUB_OFFLINE"] = "1"
        import trackio  # it reads the environment when it is imported

        self._run = trackio.init(project="benchmark", embed=False, auto_log_cpu=False, auto_log_gpu=False)

    def log(self, step: int, values: Mapping[str, Any]) -> None:
        self._run.log(dict(values), step=step)

    def finish(self) -> None:
        self._run.finish()
