"""What it costs to capture what trials run with."""

from __future__ import annotations

import contextlib
import statistics
import time
from collections.abc import Sequence

from benchmarks.rivals import load
from benchmarks.rivals.contract import Caller
from benchmarks.row import Bound, Figures, Line, Row, Task, quantiles
from benchmarks.size import Size

_AT_MOST = {"daskperiment": 1_000}  # it writes its whole history with each trial


class Capture(Row):
    name = "capture"
    title = "a trial of a trivial function, with capture"
    work = (
        "A decorated function that logs ten values and adds one is called: each call is a trial, recorded with environment, "
        "packages, git state, source and command line. Calls in a store of many trials (10,000; daskperiment 1,000) take turns "
        "with calls in a new one, in one process, so that both meet the same disk; and the first call by itself."
    )
    lines = (
        Line("late_ms", "in a store of many, median", "ms", "less", [Bound(1 / 5, "daskperiment")]),
        Line("early_ms", "in a new store, median", "ms", "less"),
        Line("growth", "many to new", "times", "less", [Bound(1.5)]),
        Line("first_ms", "the first of the process", "ms", "less"),
    )
    rounds = 3
    limit_seconds = 900.0

    def contestants(self, size: Size) -> Sequence[str]:
        return ("ledger", "ledger:off", "daskperiment")

    def name_of(self, contestant: str, size: Size) -> str:
        return "without capture" if contestant == "ledger:off" else ""

    def measure(self, task: Task) -> Figures:
        trials = min(task.size.captured, _AT_MOST.get(task.rival, task.size.captured))
        with contextlib.ExitStack() as stack:
            first, aged = self._open(task, "aged", stack, trials)
            _, young = self._open(task, "young", stack, 2)
            early, late = [], []
            for number in range(max(min(trials // 4, 200), 1)):
                late.append(_seconds(aged, trials + number))
                early.append(_seconds(young, 2 + number))
        medians = {"early_ms": statistics.median(early) * 1e3, "late_ms": statistics.median(late) * 1e3}
        growth = medians["late_ms"] / medians["early_ms"]
        return {"first_ms": first * 1e3, **medians, "growth": growth, **quantiles(late, "late_")}

    def _open(self, task: Task, name: str, stack: contextlib.ExitStack, trials: int) -> tuple[float, Caller]:
        """Open a store and make trials in it; return how long the first took, and the store."""
        place = task.place / name
        place.mkdir()
        store = stack.enter_context(contextlib.closing(load(task.rival, "Calls")(place, task.variant)))
        times = [_seconds(store, number) for number in range(trials)]
        return times[0], store


def _seconds(store: Caller, number: int) -> float:
    begun = time.perf_counter()
    store.call(number)
    return time.perf_counter() - begun
