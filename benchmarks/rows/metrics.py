"""Metrics logged: what a call costs, how long until they are kept, how many bytes a point takes."""

from __future__ import annotations

import time
from collections.abc import Sequence

from benchmarks.disk import bytes_of
from benchmarks.rivals import load
from benchmarks.row import Bound, Figures, Line, Row, Task
from benchmarks.size import Size

_VALUES = 4
_ONE_HOME = ("trackio", "wandb")  # these read where to write from the environment, once a process: no warm-up


class Metrics(Row):
    name = "metrics"
    title = "metrics logged"
    work = (
        "`trial.log(step=..., ...)` with four values, step after step; the calls alone, then until everything is as safe as the "
        "tracker makes it. A point is one value at one step. Values are floats that differ from step to step."
    )
    lines = (
        Line("calls", "metrics logged, the calls alone", "points/s", "more", [Bound(1.5, "trackio")], "1 M points/s"),
        Line(
            "kept", "metrics logged, until durable", "points/s", "more", [Bound(3.0, "trackio"), Bound(10.0, "wandb")],
            "1 M points/s",
        ),
        Line("bytes", "bytes per metric point", "bytes", "less", [Bound(16.0)], "8"),
    )  # fmt: skip
    rounds = 3
    limit_seconds = 600.0

    def contestants(self, size: Size) -> Sequence[str]:
        return ("ledger", "trackio", "wandb", "tensorboard", "aim")

    def measure(self, task: Task) -> Figures:
        runs = [("timed", task.size.steps)]
        if task.rival not in _ONE_HOME:
            runs.insert(0, ("warm", max(task.size.steps // 100, 1)))
        for name, steps in runs:
            directory = task.place / name
            directory.mkdir()
            tracker = load(task.rival, "Tracker")(directory)
            begun = time.perf_counter()
            for step in range(steps):
                tracker.log(step, {"loss": 1 / (step + 1), "accuracy": step * 0.001, "rate": step * 1e-5, "speed": step * 0.37})
            called = time.perf_counter()
            tracker.finish()
            ended = time.perf_counter()
            tracker.close()
        points = steps * _VALUES
        taken = bytes_of(directory)
        return {"calls": points / (called - begun), "kept": points / (ended - begun), "bytes": taken / points}
