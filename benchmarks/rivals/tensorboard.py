"""tensorboardX."""

from __future__ import annotations

from collections.abc import Mapping
from pathlib import Path
from typing import Any

from tensorboardX import SummaryWriter

from benchmarks.rivals.contract import Tracker as TrackerContract


class Tracker(TrackerContract):
    """A summary writer."""

    def __init__(self, directory: Path) -> None:
        self._writer = SummaryWriter(str(directory))

    def log(self, step: int, values: Mapping[str, Any]) -> None:
        for name, value in values.items():
            self._writer.add_scalar(name, value, step)

    def finish(self) -> None:
        self._writer.close()
