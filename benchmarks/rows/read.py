"""Reading: everything, as typed records; and one trial's history out of a million events."""

from __future__ import annotations

import contextlib
import random
import time
from collections.abc import Sequence
from pathlib import Path

import ledger
from benchmarks.fixture import TRIALS_EXPERIMENT, long_trials, short_trials
from benchmarks.payload import stream_of_large_log
from benchmarks.rivals import load
from benchmarks.rivals.ledger import NAME
from benchmarks.row import Bound, Figures, Fixture, Line, Row, Task, quantiles
from benchmarks.size import Size


class ReadAll(Row):
    name = "read"
    title = "read everything as typed records (payload decoded)"
    work = (
        "Read a whole log of events of 300 bytes in order, one record after the other, the payload of each decoded to its "
        "typed event. Rivals' payloads are decoded by msgspec to the same class; `raw` is UmaDB's events as its client hands "
        "them over, payload not even taken out."
    )
    lines = (Line("rate", title, "events/s", "more", [Bound(2.5, "umadb")], "4 times UmaDB"),)

    def contestants(self, size: Size) -> Sequence[str]:
        return ("ledger", "umadb", "umadb:raw", "bare_lmdb", "eventsourcing", "sqlite", "optuna")

    def fixture(self, contestant: str, size: Size) -> Fixture:
        return Fixture("events", contestant.partition(":")[0], size.events)

    def measure(self, task: Task) -> Figures:
        with contextlib.closing(load(task.rival, "Store")(Path(task.fixture))) as store:
            begun = time.perf_counter()
            count = store.read(task.variant)
            seconds = time.perf_counter() - begun
        if count != task.size.events:
            raise AssertionError(f"{count:,} events were read of {task.size.events:,}")
        return {"rate": count / seconds, "seconds": seconds}


class History(Row):
    name = "history"
    title = "one trial's history out of the large log"
    work = (
        "Look up trials at random and read all events of each, typed: `list(experiment.trial(n).history())`. The large ledger "
        "has trials of ten events, a hundred trials growing side by side; `small` is the same with fewer events; `spread` are "
        "trials whose ten events lie evenly over the whole large log. Rivals: one stream of ten events of 300 bytes."
    )
    lines = (Line("p50_ms", f"{title}, median", "ms", "less", [Bound(1.0), Bound(2.0, "ledger:small")], "0.3 ms"),)

    def contestants(self, size: Size) -> Sequence[str]:
        return ("ledger", "ledger:small", "ledger:spread", "umadb", "eventsourcing", "sqlite")

    def name_of(self, contestant: str, size: Size) -> str:
        rival, _, variant = contestant.partition(":")
        events = size.few_trial_events if variant == "small" else size.trial_events if rival == "ledger" else size.events
        return f"{events:,} events{', spread' if variant == 'spread' else ''}"

    def fixture(self, contestant: str, size: Size) -> Fixture:
        rival, _, variant = contestant.partition(":")
        if rival == "ledger":
            return Fixture("trials", rival, size.few_trial_events if variant == "small" else size.trial_events)
        return Fixture("events", rival, size.events)

    def measure(self, task: Task) -> Figures:
        size = task.size
        if task.rival == "ledger":
            events = size.few_trial_events if task.variant == "small" else size.trial_events
            numbers = long_trials(events) if task.variant == "spread" else short_trials(events)
            return quantiles(trial_histories(Path(task.fixture), numbers, size.lookups, task.round))
        chosen = random.Random(task.round)
        streams = [stream_of_large_log(chosen.randrange(10**9), size.events) for _ in range(size.lookups)]
        with contextlib.closing(load(task.rival, "Store")(Path(task.fixture))) as store:
            store.history(streams[0])
            times = []
            for stream in streams:
                begun = time.perf_counter()
                count = store.history(stream)
                times.append(time.perf_counter() - begun)
                if not count:
                    raise AssertionError(f"stream {stream} has no events")
        return quantiles(times)


def trial_histories(directory: Path, numbers: range, lookups: int, seed: int) -> list[float]:
    """Return how long it took to read the history of each of some trials, chosen at random, in a ledger of trials."""
    chosen, times = random.Random(seed), []
    with ledger.open(directory / NAME) as book:
        experiment = book.get_experiment(TRIALS_EXPERIMENT)
        list(experiment.trial(numbers[0]).history())
        for number in chosen.choices(numbers, k=lookups):
            begun = time.perf_counter()
            count = len(list(experiment.trial(number).history()))
            times.append(time.perf_counter() - begun)
            if not count:
                raise AssertionError(f"trial {number} has no history")
    return times
