"""How much each row does: tiny for the tests, small for a look, full for the page."""

from __future__ import annotations

import msgspec


class Size(msgspec.Struct, frozen=True):
    """The number of operations of every row; the same for the ledger and for its rivals."""

    name: str
    rounds: int
    singles: int  # appends of one event
    hundreds: int  # appends of 100
    thousands: int  # appends of 1000
    threads: int
    each_thread: int  # appends of one event, by each thread
    each_process: int  # appends of one event, by each of four processes
    events: int  # events of 300 bytes in the log that is read and searched
    trial_events: int  # events of trials in the large ledger
    few_trial_events: int  # in the small ledger that histories are compared with
    few_to_open: int  # in the small ledger that opening is compared with
    lookups: int
    openings: int
    pending: int
    few_pending: int
    claims: int
    queued: int  # trials that eight processes claim
    lives: int
    kept_lives: int  # for the bytes on disk
    captured: int  # trials of a function, with capture
    steps: int  # of metrics, four values each
    paced: int  # appends whose way to a reader is timed
    burst: int  # events of which none may be missed
    imports: int
    artifact_bytes: int  # of one file
    growth: tuple[int, ...]
    table_trials: int  # of five events, in the ledger whose tables are built
    refreshed_trials: int  # in the table that one more event is added to
    refreshes: int
    stored_trials: int  # in the storages whose data frames are compared
    sweep_runs: int
    sweep_steps: int  # of each run whose metrics are read
    study_trials: int  # of 15 operations, in the study of Optuna's that is opened
    optimized: int  # trials that each process optimizes


TINY = Size(
    "tiny", rounds=1, singles=10, hundreds=2, thousands=1, threads=4, each_thread=3, each_process=3, events=600,
    trial_events=400, few_trial_events=100, few_to_open=100, lookups=5, openings=2, pending=60, few_pending=10, claims=3,
    queued=16, lives=3, kept_lives=5, captured=5,
    steps=50, paced=5, burst=200, imports=1, artifact_bytes=3 << 20, growth=(100, 400),
    table_trials=40, refreshed_trials=20, refreshes=2, stored_trials=4, sweep_runs=4, sweep_steps=12,
    study_trials=60, optimized=2,
)  # fmt: skip
SMALL = Size(
    "small", rounds=3, singles=500, hundreds=50, thousands=10, threads=64, each_thread=20, each_process=200, events=100_000,
    trial_events=100_000, few_trial_events=10_000, few_to_open=1_000, lookups=200, openings=10, pending=50_000,
    few_pending=100, claims=100, queued=800, lives=50, kept_lives=1_000, captured=1_000,
    steps=5_000, paced=200, burst=10_000, imports=3,
    artifact_bytes=256 << 20, growth=(10_000, 100_000),
    table_trials=20_000, refreshed_trials=10_000, refreshes=20, stored_trials=500, sweep_runs=100, sweep_steps=100,
    study_trials=5_000, optimized=40,
)  # fmt: skip
FULL = Size(
    "full", rounds=7, singles=2_000, hundreds=200, thousands=50, threads=64, each_thread=100, each_process=1_000,
    events=1_000_000, trial_events=1_000_000, few_trial_events=10_000, few_to_open=1_000, lookups=500, openings=20,
    pending=1_000_000, few_pending=100, claims=300, queued=2_000, lives=300, kept_lives=20_000, captured=10_000,
    steps=50_000, paced=1_000,
    burst=100_000, imports=5, artifact_bytes=1 << 30, growth=(10_000, 100_000, 1_000_000, 10_000_000),
    table_trials=1_000_000, refreshed_trials=100_000, refreshes=50, stored_trials=5_000, sweep_runs=1_000, sweep_steps=1_000,
    study_trials=100_000, optimized=200,
)  # fmt: skip

SIZES = {size.name: size for size in (TINY, SMALL, FULL)}
