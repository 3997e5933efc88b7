"""The ledger itself, driven through its public surface."""

from __future__ import annotations

from collections.abc import Iterator, Mapping, Sequence
from pathlib import Path
from typing import Any

import ledger
from benchmarks.payload import Observation, Sample
from benchmarks.rivals.contract import METRIC_POINTS, Caller, EventStore, TrialStore, config_of, results_of
from benchmarks.rivals.contract import Tracker as TrackerContract

NAME = "runs.ledger"


class Store(EventStore):
    """A log to which events of the benchmark's own type are appended."""

    def __init__(self, directory: Path) -> None:
        self.book = ledger.open(directory / NAME)
        self.address = str(directory)

    def append(self, samples: Sequence[Sample]) -> int:
        pairs = [(each.stream, Observation(each.step, each.value, each.note)) for each in samples]
        return self.book.log.append_many(pairs).head

    def read(self, variant: str = "") -> int:
        count = 0
        for record in self.book.log.read():
            count += type(record.event) is Observation
        return count

    def history(self, stream: str) -> int:
        return len(list(self.book.log.read(stream=stream)))

    def follow(self, after: int) -> Iterator[tuple[int, int]]:
        with self.book.subscribe(after=after) as records:
            for record in records:
                yield record.position, record.event.step

    def close(self) -> None:
        self.book.close()


class Tracker(TrackerContract):
    """A running trial to which metrics are logged."""

    def __init__(self, directory: Path) -> None:
        self.book = ledger.open(directory / NAME)
        self.trial = self.book.experiment("metrics").new_trial({"lr": 0.1})
        self.trial.start()

    def log(self, step: int, values: Mapping[str, Any]) -> None:
        self.trial.log(step=step, **values)

    def finish(self) -> None:
        self.trial.flush()

    def close(self) -> None:
        self.trial.complete({"loss": 0.1})
        self.book.close()


class Lives(TrialStore):
    """An experiment whose trials are created, run and completed."""

    def __init__(self, directory: Path, variant: str = "") -> None:
        self.book = ledger.open(directory / NAME)
        objectives = dict.fromkeys(results_of(0), "min")
        self.experiment = self.book.experiment("lives", objectives=objectives)

    def live(self, number: int) -> None:
        trial = self.experiment.new_trial(config_of(number))
        with trial.run():
            for step in range(5):
                trial.log_telemetry({"cpu": 1.5 * step}, step=step)
            trial.complete(results_of(number))

    def close(self) -> None:
        self.book.close()


class Calls(Caller):
    """A tracked function; the variant ``off`` is without capture."""

    def __init__(self, directory: Path, variant: str = "") -> None:
        self.book = ledger.open(directory / NAME)
        experiment = self.book.experiment("calls", objectives={"value": "min"})
        self._function = experiment.track(capture=variant != "off")(trivial)

    def call(self, number: int) -> None:
        self._function(number)

    def close(self) -> None:
        self.book.close()


def trivial(number: int) -> int:
    """Log a few values, and do nothing that takes time."""
    trial = ledger.current_trial()
    for step in range(METRIC_POINTS):
        trial.log(step=step, loss=1.5 * step)
    return number + 1
