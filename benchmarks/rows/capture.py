"""What it costs to capture what trials run with."""

from __future__ import annotations

import contextlib
import statistics
import time
from collections.abc import Sequence

from benchmarks.rivals import load
from benchmarks.row import Bound, Figures, Line, Row, Task, quantiles
from benchmarks.size import Size

_AT_MOST = {"daskperiment": 1_000}  # it writes its whole history with each trial


class Capture(Row):
    name = "capture"
    title = "a trial of a trivial function, with capture"
    work = (
        "A decorated function that adds one is called: each call is a trial, recorded with environment, packages, git state, "
        "source and command line. The first call of the process by itself, then calls at the beginning, then at the end of so "
        "many trials (10,000; daskperiment 1,000). `off` is the same without capture."
    )
    lines = (
        Line("later_ms", "at the last trials, median", "ms", "less", [Bound(1 / 5, "daskperiment")]),
        Line("early_ms", "after the first trial, median", "ms", "less"),
        Line("growth", "last trials to first", "times", "less", [Bound(1.5)]),
        Line("first_ms", "the first trial of the process", "ms", "less"),
    )
    rounds = 3
    limit_seconds = 900.0

    def contestants(self, size: Size) -> Sequence[str]:
        return ("ledger", "ledger:off", "daskperiment")

    def name_of(self, contestant: str, size: Size) -> str:
        return "without capture" if contestant == "ledger:off" else ""

    def measure(self, task: Task) -> Figures:
        trials = min(task.size.captured, _AT_MOST.get(task.rival, task.size.captured))
        timed = max(min(trials // 4, 100), 1)
        times: list[float] = []
        with contextlib.closing(load(task.rival, "Calls")(task.place, task.variant)) as function:
            for number in range(trials):
                begun = time.perf_counter()
                function.call(number)
                times.append(time.perf_counter() - begun)
        early, later = times[1 : timed + 1], times[-timed:]
        figures = {"first_ms": times[0] * 1e3, "early_ms": statistics.median(early) * 1e3}
        return {**figures, "later_ms": statistics.median(later) * 1e3, **_growth(early, later), **quantiles(later, "later_")}


def _growth(early: Sequence[float], later: Sequence[float]) -> Figures:
    return {"growth": statistics.median(later) / statistics.median(early)}
