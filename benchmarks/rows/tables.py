"""Tables: building them from the log, from a checkpoint, after one more event, and as of a moment in the past."""

from __future__ import annotations

import contextlib
import statistics
import time
from collections.abc import Callable, Iterator, Sequence
from pathlib import Path
from typing import TypeVar

import pandas as pd

import ledger
import projections
from benchmarks.disk import copy_store
from benchmarks.fixture import RUN_EVENTS, RUNS_EXPERIMENT
from benchmarks.machine import forget_peak, process_memory
from benchmarks.rivals.contract import config_of, results_of
from benchmarks.rivals.ledger import NAME
from benchmarks.row import Bound, Figures, Fixture, Line, Row, Task, quantiles
from benchmarks.size import Size

T = TypeVar("T")


class Build(Row):
    name = "tables"
    title = "tables of trials, configs and experiments"
    work = (
        f"A ledger of trials of {RUN_EVENTS} events each. `decode` reads every page of it, typed, and keeps nothing; `cold` "
        "builds the three tables without a checkpoint, and saves some on its way; `first` does in a new handle, nothing new, "
        "while the tables of before are held; `warm` is the median of that and of four more, which are given memory again that "
        "was used a moment ago; "
        "`as_of` is the table of trials at the middle of the log, in a new handle with the same checkpoints. Memory is the "
        "largest resident set while they are built cold, above what it was before, by the size of the finished tables."
    )
    lines = (
        Line("cold_ratio", "cold, rate by that of decoding", "times", "more", [Bound(0.25)], "0.5"),
        Line("first_share", "warm, time by that of cold", "times", "less", [Bound(0.05)]),
        Line("warm_share", "warm, median of five one after the other, by that of cold", "times", "less"),
        Line("as_of_share", "as of the middle, time by that of cold", "times", "less", [Bound(0.25)]),
        Line("memory_ratio", "memory by that of the tables", "times", "less", [Bound(4.0)]),
        Line("cold_rate", "cold", "events/s", "more"),
    )
    limit = (
        "decoding is one C call for a block; then each event is looked at by Python a few times: whose it is, of which type, "
        "its time, its fields, the digest of its config. Columns are written for hundreds of events at once. It is paid "
        "once: see warm. The first tables from a checkpoint are memory more than work: each is the caller's own, and a system "
        "that has to fetch the memory takes longer than to unpack what is put there."
    )
    rounds = 5
    limit_seconds = 600.0

    def contestants(self, size: Size) -> Sequence[str]:
        return ("ledger",)

    def fixture(self, contestant: str, size: Size) -> Fixture:
        return Fixture("runs", "ledger", size.table_trials)

    def measure(self, task: Task) -> Figures:
        with ledger.open(Path(task.fixture) / NAME, readonly=True) as book:
            _decode(book)  # from then on the file is in memory, for all that is timed
            decode, _ = _timed(lambda: _decode(book))
            forget_peak()
            before = process_memory("resident")
            cold, frames = _timed(lambda: _build(book, task.place))
            peak = process_memory("peak") - before
            size = float(sum(frame.memory_usage(deep=True).sum() for frame in frames)) / 2**20
            first, again = _timed(lambda: _build(book, task.place))
            for frame, other in zip(frames, again, strict=True):
                pd.testing.assert_frame_equal(frame, other)
            del frames, again
            warm = statistics.median([first, *(_timed(lambda: _build(book, task.place))[0] for _ in range(4))])
            past, _ = _timed(lambda: _as_of(book, task.place, book.log.head // 2))
            return {
                "cold_ratio": decode / cold, "warm_share": warm / cold, "first_share": first / cold, "as_of_share": past / cold,
                "memory_ratio": peak / size,
                "cold_rate": book.log.head / cold, "cold_s": cold, "warm_s": warm, "as_of_s": past, "decode_s": decode,
            }  # fmt: skip


class Refresh(Row):
    name = "tables-refresh"
    title = "one more event, shown"
    work = (
        "A trial is added, and the next time completed, outside of the timing; then `tables.trials(...)` of all the trials is "
        "timed, until the data frame is there. The one before is held until then, as by who shows it."
    )
    lines = (Line("p50_ms", f"{title}, median", "ms", "less", [Bound(5.0)]),)
    limit = (
        "the data frame is the caller's own, so all columns of all trials are copied for it; texts are Python objects, "
        "whose references are counted one by one."
    )

    def contestants(self, size: Size) -> Sequence[str]:
        return ("ledger",)

    def fixture(self, contestant: str, size: Size) -> Fixture:
        return Fixture("runs", "ledger", size.refreshed_trials)

    def measure(self, task: Task) -> Figures:
        copy_store(Path(task.fixture), task.place)
        times = []
        with ledger.open(task.place / NAME) as book, projections.Tables(book) as tables:
            experiment = book.get_experiment(RUNS_EXPERIMENT)
            tables.trials(RUNS_EXPERIMENT)
            for number in range(task.size.refreshes):
                trial = experiment.new_trial(config_of(-number))
                seconds, frame = _timed(lambda: tables.trials(RUNS_EXPERIMENT))
                times.append(seconds)
                trial.complete(results_of(number))
                seconds, frame = _timed(lambda: tables.trials(RUNS_EXPERIMENT))
                times.append(seconds)
                if frame["status"].iloc[-1] != "SUCCEEDED":
                    raise AssertionError("the last event is not in the table")
        return quantiles(times)


class ResultsFrame(Row):
    name = "tables-mlos"
    title = "the table of an experiment's trials"
    work = (
        "The data frame of all trials with configs and results: `tables.trials(...)`, and mlos_bench's `results_df`. Cold is the "
        "first time after opening (the ledger's without a checkpoint), warm the next time."
    )
    lines = (
        Line("cold_ms", "cold", "ms", "less", [Bound(1 / 3, "mlos")]),
        Line("warm_ms", "warm", "ms", "less", [Bound(1 / 20, "mlos")]),
    )
    limit = (
        "cold, the log is folded, points of telemetry among it, and pandas is set to work for the first time; both are paid once."
    )
    rounds = 5
    limit_seconds = 300.0

    def contestants(self, size: Size) -> Sequence[str]:
        return ("ledger", "mlos")

    def fixture(self, contestant: str, size: Size) -> Fixture:
        return Fixture("lives", contestant, size.stored_trials)

    def measure(self, task: Task) -> Figures:
        with _frames(task) as show:
            cold, frame = _timed(show)
            if len(frame) != task.size.stored_trials:
                raise AssertionError(f"{len(frame)} trials are shown of {task.size.stored_trials}")
            return {"cold_ms": cold * 1e3, "warm_ms": statistics.median(_timed(show)[0] for _ in range(5)) * 1e3}


@contextlib.contextmanager
def _frames(task: Task) -> Iterator[Callable[[], pd.DataFrame]]:
    """Open what ``Lives`` has left; give what makes the data frame of its trials."""
    if task.rival == "ledger":
        with projections.Tables(Path(task.fixture) / NAME, cache_dir=task.place) as tables:
            yield lambda: tables.trials("lives")
    else:
        from benchmarks.rivals.mlos import results_frame

        yield results_frame(Path(task.fixture))


def _timed(work: Callable[[], T]) -> tuple[float, T]:
    begun = time.perf_counter()
    done = work()
    return time.perf_counter() - begun, done


def _decode(book: ledger.Ledger) -> None:
    reached, head = 0, book.log.head
    while reached < head:
        _, reached = book.log.page(reached)


def _build(book: ledger.Ledger, cache: Path) -> list[pd.DataFrame]:
    with projections.Tables(book, cache_dir=cache) as tables:
        return [tables.trials(RUNS_EXPERIMENT), tables.configs(RUNS_EXPERIMENT), tables.experiments()]


def _as_of(book: ledger.Ledger, cache: Path, position: int) -> pd.DataFrame:
    with projections.Tables(book, cache_dir=cache) as tables:
        return tables.trials(RUNS_EXPERIMENT, as_of=position)
