"""The Reader against MLXP's, on the same sweep."""

from __future__ import annotations

import time
from collections.abc import Sequence
from pathlib import Path
from typing import Any

import ledger
import projections
from benchmarks.disk import copy_store
from benchmarks.fixture import SWEEP
from benchmarks.rivals.ledger import NAME
from benchmarks.row import Bound, Figures, Fixture, Line, Row, Task
from benchmarks.size import Size
from benchmarks.sweep import write_run

EPOCHS = 10
_QUERIES = (
    "config.optimizer.lr <= 5.0 & config.seed > 1 & config.model.num_units == 3",
    "config.optimizer.lr >= 2.5 & config.seed < 6 & config.model.num_units != 2",
)


class Search(Row):
    name = "reader"
    title = "a sweep searched"
    work = (
        f"Runs of {EPOCHS} epochs of four metrics. `open` makes a Reader, the ledger's without a checkpoint; `filter` is a query "
        "of three comparisons that was not asked before; `new run` is from when one more run is there until a Reader shows it. "
        "Closing the ledger's, which saves what it folded for the next, is in none of them: see `close`."
    )
    lines = (
        Line("open_ms", "open", "ms", "less", [Bound(1 / 100, "mlxp")]),
        Line("filter_ms", "a new filter", "ms", "less", [Bound(1 / 10, "mlxp")]),
        Line("new_ms", "a new run visible", "ms", "less", [Bound(1 / 1000, "mlxp")]),
        Line("close_ms", "close, with what is saved", "ms", "less"),
    )
    limit = "without a checkpoint opening folds three tables from the log, of which each decodes what it needs."
    rounds = 3
    limit_seconds = 300.0

    def contestants(self, size: Size) -> Sequence[str]:
        return ("ledger", "mlxp")

    def fixture(self, contestant: str, size: Size) -> Fixture:
        return Fixture("sweep", contestant, size.sweep_runs * 10_000 + EPOCHS)

    def measure(self, task: Task) -> Figures:
        return (_search_ledger if task.rival == "ledger" else _search_mlxp)(task)


class Metric(Row):
    name = "reader-metric"
    title = "one metric of a sweep"
    work = (
        "All values of one metric of all runs, as lists: `reader.filter()[:]['train.loss']`, in a Reader that has been opened. "
        "The ledger's has the checkpoint that a reader before it has left; `cold` has none, and reads the points of all metrics "
        "from the log."
    )
    lines = (Line("ms", title, "ms", "less", [Bound(1 / 20, "mlxp")]),)
    limit = (
        "the checkpoint holds the points of all metrics, and all of them are read for the first that is looked at; then "
        "the values are made Python objects, one for each point, as MLXP gives them. Asked for as arrays "
        "(`tables.metric`), they need not be."
    )
    rounds = 3
    limit_seconds = 600.0

    def contestants(self, size: Size) -> Sequence[str]:
        return ("ledger", "ledger:cold", "mlxp")

    def fixture(self, contestant: str, size: Size) -> Fixture:
        return Fixture("sweep", contestant.partition(":")[0], size.sweep_runs * 10_000 + size.sweep_steps)

    def measure(self, task: Task) -> Figures:
        if task.rival == "mlxp":
            return _read_metric(_open_mlxp(task, Path(task.fixture) / SWEEP), task.size)
        if task.variant != "cold":
            with projections.Reader(Path(task.fixture) / NAME, dst_dir=task.place) as reader:
                _read_metric(reader, task.size)
        with projections.Reader(Path(task.fixture) / NAME, dst_dir=task.place) as reader:
            return _read_metric(reader, task.size)


def _read_metric(reader: Any, size: Size) -> Figures:
    begun = time.perf_counter()
    found = reader.filter("")[:]["train.loss"]
    seconds = time.perf_counter() - begun
    count = sum(map(len, found))
    if count != size.sweep_runs * size.sweep_steps:
        raise AssertionError(f"{count} points were read")
    return {"ms": seconds * 1e3}


def _search_ledger(task: Task) -> Figures:
    copy_store(Path(task.fixture), task.place)
    begun = time.perf_counter()
    reader = projections.Reader(task.place / NAME, dst_dir=task.place / "cache")
    opened = time.perf_counter() - begun
    with reader, ledger.open(task.place / NAME) as book:
        filtered = _filter(reader, task.size.sweep_runs)
        trial = book.get_experiment(SWEEP).new_trial({"seed": 99})
        begun = time.perf_counter()
        reader.refresh()
        if len(reader.filter("config.seed == 99")) != 1:
            raise AssertionError(f"{trial} is not shown")
        shown = time.perf_counter() - begun
        begun = time.perf_counter()
        reader.close()
        closed = time.perf_counter() - begun
    return {"open_ms": opened * 1e3, "filter_ms": filtered * 1e3, "new_ms": shown * 1e3, "close_ms": closed * 1e3}


def _search_mlxp(task: Task) -> Figures:
    copy_store(Path(task.fixture), task.place)
    begun = time.perf_counter()
    reader = _open_mlxp(task, task.place / SWEEP)
    opened = time.perf_counter() - begun
    filtered = _filter(reader, task.size.sweep_runs)
    write_run(task.place / SWEEP, task.size.sweep_runs + 1, EPOCHS)
    begun = time.perf_counter()
    if len(_open_mlxp(task, task.place / SWEEP)) != task.size.sweep_runs + 1:
        raise AssertionError("the new run is not shown")
    return {"open_ms": opened * 1e3, "filter_ms": filtered * 1e3, "new_ms": (time.perf_counter() - begun) * 1e3}


def _filter(reader: Any, runs: int) -> float:
    """Return how long a filter took that the reader had not seen, after one that loaded what it needs for the first."""
    first, second = _QUERIES
    reader.filter(first)
    begun = time.perf_counter()
    found = len(reader.filter(second))
    seconds = time.perf_counter() - begun
    if found > runs:
        raise AssertionError("more runs were found than there are")
    return seconds


def _open_mlxp(task: Task, sweep: Path) -> Any:
    from benchmarks.rivals.mlxp import open_reader

    return open_reader(sweep, task.place / "database")
