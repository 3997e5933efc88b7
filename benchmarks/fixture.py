"""The large stores, built once a run."""

from __future__ import annotations

import contextlib
from collections.abc import Iterator
from pathlib import Path
from uuid import UUID

import ledger
from benchmarks.payload import LIFE, large_log
from benchmarks.rivals import load
from benchmarks.rivals.contract import config_of, results_of
from benchmarks.rivals.ledger import NAME
from benchmarks.row import Fixture
from benchmarks.sweep import write_sweep
from ledger.integrations.mlxp import import_runs
from ledger.streams import trial_stream

TRIALS_EXPERIMENT = "trials"
PENDING_EXPERIMENT = "pending"
RUNS_EXPERIMENT = "runs"
RUN_EVENTS = 5
SWEEP = "sweep"
_LONG = 20
_SIDE_BY_SIDE = 100
_NANOSECONDS = 1_800_000_000_000_000_000

Pairs = list[tuple[str, ledger.Event]]


def build(fixture: Fixture, directory: Path) -> None:
    """Build a large store in the directory."""
    _BUILDERS[fixture.kind](fixture, directory)


def _build_events(fixture: Fixture, directory: Path) -> None:
    with contextlib.closing(load(fixture.rival, "Store")(directory)) as store:
        for batch in large_log(fixture.count):
            store.append(batch)


def _build_pending(fixture: Fixture, directory: Path) -> None:
    with ledger.open(directory / NAME) as book:
        experiment = book.experiment(PENDING_EXPERIMENT, objectives=dict.fromkeys(results_of(0), "min"))
        for first in range(0, fixture.count, 1000):
            experiment.new_trials(config_of(number) for number in range(first, min(first + 1000, fixture.count)))


def _build_trials(fixture: Fixture, directory: Path) -> None:
    """Fill a ledger with trials of ten events, so that it has about as many events as asked for."""
    with ledger.open(directory / NAME) as book:
        experiment = book.experiment(TRIALS_EXPERIMENT, objectives=dict.fromkeys(results_of(0), "min"))
        for pairs in _trial_appends(experiment.id, fixture.count):
            book.log.append_many(pairs)


def _build_runs(fixture: Fixture, directory: Path) -> None:
    """Fill a ledger with trials of five events each, some hundreds side by side."""
    with ledger.open(directory / NAME) as book:
        experiment = book.experiment(RUNS_EXPERIMENT, objectives=dict.fromkeys(results_of(0), "min"))
        for first in range(1, fixture.count + 1, 2 * _SIDE_BY_SIDE):
            numbers = range(first, min(first + 2 * _SIDE_BY_SIDE, fixture.count + 1))
            pairs: Pairs = []
            for phase in range(RUN_EVENTS):
                pairs += [(trial_stream(experiment.id, number), _run_event(number, phase)) for number in numbers]
            book.log.append_many(pairs)


def _run_event(number: int, phase: int) -> ledger.Event:
    """Return an event of a run: created, claimed, started, a result on the way, completed."""
    if phase == RUN_EVENTS - 2:
        return ledger.ResultsReported({"first": number * 0.5}, 1)
    return _event(number, LIFE - 1 if phase == RUN_EVENTS - 1 else phase)


def _build_lives(fixture: Fixture, directory: Path) -> None:
    """Let trials live in a rival's storage, whatever it takes to make them durable left out where that can be."""
    variant = "nosync" if fixture.rival == "mlos" else ""
    with contextlib.closing(load(fixture.rival, "Lives")(directory, variant)) as store:
        for number in range(fixture.count):
            store.live(number)


def _build_stored(fixture: Fixture, directory: Path) -> None:
    """Let trials live in a storage of mlos_bench, through its interface."""
    driver, variant = ("mlos", "nosync") if fixture.rival == "mlos" else ("mlos_ledger", "")
    with contextlib.closing(load(driver, "Lives")(directory, variant)) as store:
        for number in range(fixture.count):
            store.live(number)


def _build_sweep(fixture: Fixture, directory: Path) -> None:
    """Write MLXP's log directory; for the ledger, the import of it."""
    runs, steps = divmod(fixture.count, 10_000)
    write_sweep(directory / SWEEP, runs, steps)
    if fixture.rival == "ledger":
        import_runs(directory / SWEEP, directory / NAME, SWEEP)


def _build_study(fixture: Fixture, directory: Path) -> None:
    """Write the large study as one of Optuna's storages keeps it."""
    from benchmarks.studies import write_study  # here: Optuna is one of the rivals

    write_study(fixture.rival.replace("-", ":"), directory, fixture.count)


_BUILDERS = {
    "events": _build_events, "trials": _build_trials, "pending": _build_pending, "runs": _build_runs, "lives": _build_lives,
    "stored": _build_stored, "sweep": _build_sweep, "study": _build_study,
}  # fmt: skip


def long_trials(events: int) -> range:
    """Return the numbers of the trials whose ten events lie evenly over a whole ledger of so many events."""
    return range(1, min(_LONG, events // (2 * LIFE)) + 1)


def short_trials(events: int) -> range:
    """Return the numbers of the trials that live side by side with a hundred others."""
    spread = long_trials(events)
    return range(spread.stop, events // LIFE + 1)


def _trial_appends(experiment: UUID, events: int) -> Iterator[Pairs]:
    """Yield appends: the lives of a hundred trials side by side in each, and now and then an event of the long ones."""
    spread, numbers = long_trials(events), short_trials(events)
    windows = -(-len(numbers) // _SIDE_BY_SIDE)
    for window in range(windows):
        pairs: Pairs = []
        for phase in range(LIFE):
            for place, number in enumerate(spread):  # no two at the same place, where one would warm a cache for the other
                if (phase * len(spread) + place) * windows // (LIFE * len(spread)) == window:
                    pairs += _phase(experiment, range(number, number + 1), phase)
        for phase in range(LIFE):
            pairs += _phase(experiment, numbers[window * _SIDE_BY_SIDE : (window + 1) * _SIDE_BY_SIDE], phase)
        yield pairs


def _phase(experiment: UUID, numbers: range, phase: int) -> Pairs:
    """Return the events of one phase of some trials' lives."""
    return [(trial_stream(experiment, number), _event(number, phase)) for number in numbers]


def _event(number: int, phase: int) -> ledger.Event:
    """Return an event of a life: created, claimed, started, six of metrics, completed."""
    if phase == 0:
        return ledger.TrialCreated(config_of(number))
    if phase == 1:
        return ledger.TrialClaimed(f"worker-{number % _SIDE_BY_SIDE}", 1, 60.0, _NANOSECONDS + number)
    if phase == 2:
        return ledger.TrialStarted(1)
    if phase == LIFE - 1:
        return ledger.TrialCompleted(results_of(number), 1)
    values: list[list[int | float | str | bool | None]] = [[number * 0.001 + step] for step in range(4)]
    points = ledger.Points(["loss", "accuracy", "rate", "speed"], [phase], [_NANOSECONDS + number], values)
    return ledger.MetricsLogged([points], 1)
