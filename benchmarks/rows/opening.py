"""Opening a ledger, large and small."""

from __future__ import annotations

import time
from collections.abc import Sequence
from pathlib import Path

import ledger
from benchmarks.rivals.ledger import NAME
from benchmarks.row import Bound, Figures, Fixture, Line, Row, Task, quantiles
from benchmarks.size import Size


class Opening(Row):
    name = "open"
    title = "open the large ledger"
    work = "`ledger.open(path)` until it has returned, closed again each time; once before, so that the file is in the cache."
    lines = (Line("p50_ms", f"{title}, median", "ms", "less", [Bound(2.0, "ledger:small")], "the same"),)

    def contestants(self, size: Size) -> Sequence[str]:
        return ("ledger", "ledger:small")

    def name_of(self, contestant: str, size: Size) -> str:
        return f"{_events(contestant, size):,} events"

    def fixture(self, contestant: str, size: Size) -> Fixture:
        return Fixture("trials", "ledger", _events(contestant, size))

    def measure(self, task: Task) -> Figures:
        return quantiles(opening_times(Path(task.fixture), task.size.openings))


def _events(contestant: str, size: Size) -> int:
    return size.few_to_open if contestant.endswith(":small") else size.trial_events


def opening_times(directory: Path, count: int) -> list[float]:
    """Return how long each of some openings took."""
    times = []
    for _ in range(count + 1):
        begun = time.perf_counter()
        book = ledger.open(directory / NAME)
        times.append(time.perf_counter() - begun)
        book.close()
    return times[1:]
