"""Claiming the next trial, with few and with very many that wait."""

from __future__ import annotations

import time
from collections.abc import Sequence
from pathlib import Path

import ledger
from benchmarks.disk import copy_store
from benchmarks.fixture import PENDING_EXPERIMENT
from benchmarks.rivals.contract import config_of, results_of
from benchmarks.rivals.ledger import NAME
from benchmarks.row import Bound, Figures, Fixture, Line, Row, Task, quantiles
from benchmarks.size import Size


class Claim(Row):
    name = "claim"
    title = "claim a trial with very many pending"
    work = (
        "`experiment.claim()`, durable. After each, outside of the timing, the trial is completed and another is added, so that "
        "the number that waits stays as it is."
    )
    lines = (Line("p50_ms", f"{title}, median", "ms", "less", [Bound(2.0, "ledger:small")], "the same"),)

    def contestants(self, size: Size) -> Sequence[str]:
        return ("ledger", "ledger:small")

    def name_of(self, contestant: str, size: Size) -> str:
        return f"{_pending(contestant, size):,} pending"

    def fixture(self, contestant: str, size: Size) -> Fixture:
        return Fixture("pending", "ledger", _pending(contestant, size))

    def measure(self, task: Task) -> Figures:
        copy_store(Path(task.fixture), task.place)
        return quantiles(claim_times(task.place, task.size.claims))


def _pending(contestant: str, size: Size) -> int:
    return size.few_pending if contestant.endswith(":small") else size.pending


def claim_times(directory: Path, count: int) -> list[float]:
    """Return how long each of some claims took."""
    times = []
    with ledger.open(directory / NAME) as book:
        experiment = book.get_experiment(PENDING_EXPERIMENT)
        for number in range(count + max(count // 10, 1)):
            begun = time.perf_counter()
            trial = experiment.claim(worker="benchmark")
            times.append(time.perf_counter() - begun)
            if trial is None:
                raise AssertionError("there was nothing to claim")
            trial.complete(results_of(number))
            experiment.new_trial(config_of(-number))
    return times[-count:]
