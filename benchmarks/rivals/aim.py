"""Aim."""

from __future__ import annotations

from collections.abc import Mapping
from pathlib import Path
from typing import Any

import aim

from benchmarks.rivals.contract import Tracker as TrackerContract


class Tracker(TrackerContract):
    """A run in a repository of its own."""

    def __init__(self, directory: Path) -> None:
        self._run = aim.Run(
            repo=str(directory), log_system_params=False, system_tracking_interval=None, capture_terminal_logs=False
        )

    def log(self, step: int, values: Mapping[str, Any]) -> None:
        self._run.track(dict(values), step=step)

    def finish(self) -> None:
        self._run.close()
