"""The limit: a plain file, appended to and flushed."""

from __future__ import annotations

import os
from collections.abc import Sequence
from pathlib import Path

from benchmarks.payload import Sample
from benchmarks.rivals.contract import EventStore


class Store(EventStore):
    """Length and payload, then fdatasync."""

    def __init__(self, directory: Path) -> None:
        self._fd = os.open(directory / "events.log", os.O_WRONLY | os.O_CREAT | os.O_APPEND, 0o644)
        self.address = str(directory)

    def append(self, samples: Sequence[Sample]) -> int:
        os.write(self._fd, b"".join(len(each.data).to_bytes(4, "little") + each.data for each in samples))
        os.fdatasync(self._fd)
        return 0

    def close(self) -> None:
        os.close(self._fd)
