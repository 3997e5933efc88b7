"""The queue: claims against appends, many processes at one queue, and a worker that is killed."""

from __future__ import annotations

import contextlib
import multiprocessing
import time
from collections.abc import Callable, Sequence
from multiprocessing.connection import Connection
from pathlib import Path

import ledger
from benchmarks.disk import copy_store
from benchmarks.fixture import PENDING_EXPERIMENT
from benchmarks.payload import appends
from benchmarks.rivals import load
from benchmarks.rivals.contract import config_of
from benchmarks.rivals.ledger import NAME
from benchmarks.row import Bound, Figures, Fixture, Line, Row, Task, quantiles
from benchmarks.rows.claim import claim_times
from benchmarks.rows.processes import prepare
from benchmarks.size import Size
from benchmarks.workers import run_processes, span_seconds

PROCESSES = 8
_LEASE_SECONDS = 1.0


class ClaimRate(Row):
    name = "claim-rate"
    title = "claims against appends"
    work = (
        "`experiment.claim()` with few pending, durable, timed as in the row claim; and durable appends of one event of 300 "
        "bytes to the same ledger."
    )
    lines = (Line("rate", "claims or appends", "1/s", "more", [Bound(0.7, "ledger:append")], "the same"),)

    def contestants(self, size: Size) -> Sequence[str]:
        return ("ledger", "ledger:append")

    def fixture(self, contestant: str, size: Size) -> Fixture:
        return Fixture("pending", "ledger", size.few_pending)

    def measure(self, task: Task) -> Figures:
        copy_store(Path(task.fixture), task.place)
        times = _append_times(task.place, task.size.claims) if task.variant else claim_times(task.place, task.size.claims)
        return {"rate": len(times) / sum(times), **quantiles(times)}


def _append_times(directory: Path, count: int) -> list[float]:
    with contextlib.closing(load("ledger", "Store")(directory)) as store:
        times = []
        for batch in appends("timed", count + max(count // 10, 1), 1):
            begun = time.perf_counter()
            store.append(batch)
            times.append(time.perf_counter() - begun)
    return times[-count:]


class ClaimProcesses(Row):
    name = "claim-processes"
    title = "8 processes claiming"
    work = (
        "Eight processes, started afresh, open one ledger and begin together; each claims until nothing is left. Bare LMDB: as "
        "many commits of one event, shared out among eight processes. Timed from the first one's begin to the last one's end. "
        "A trial that was claimed twice, or not at all, is an error."
    )
    lines = (Line("rate", title, "1/s", "more", [Bound(0.8, "bare_lmdb")]),)

    def contestants(self, size: Size) -> Sequence[str]:
        return ("ledger", "bare_lmdb")

    def measure(self, task: Task) -> Figures:
        count = task.size.queued
        if task.rival == "bare_lmdb":
            return self._commits(task, count)
        with ledger.open(task.place / NAME) as book:
            book.experiment(PENDING_EXPERIMENT).new_trials(config_of(number) for number in range(count))
        arguments = [(str(task.place / NAME), number) for number in range(PROCESSES)]
        done = run_processes(prepare_claims, arguments, self.limit_seconds)
        if sorted(number for each in done for number in each.answer) != list(range(1, count + 1)):
            raise AssertionError("the trials were not claimed once each")
        return {"rate": count / span_seconds(done)}

    def _commits(self, task: Task, count: int) -> Figures:
        with contextlib.closing(load(task.rival, "Store")(task.place)) as store:
            arguments = [(task.rival, store.address, number, count // PROCESSES) for number in range(PROCESSES)]
            done = run_processes(prepare, arguments, self.limit_seconds)
        return {"rate": sum(len(each.answer) for each in done) / span_seconds(done)}


def prepare_claims(path: str, number: int) -> Callable[[], list[int]]:
    """Open the ledger in a worker, and return the work: to claim all that is to be had."""
    book = ledger.open(path)
    experiment = book.get_experiment(PENDING_EXPERIMENT)

    def work() -> list[int]:
        jobs = []
        while (job := experiment.claim(worker=f"w{number}", lease_seconds=600.0)) is not None:
            jobs.append(job)
        return [job.id for job in jobs]

    return work


class ClaimKilled(Row):
    name = "claim-killed"
    title = "a killed worker's trial claimed by another"
    work = (
        f"A process claims a trial with a lease of {_LEASE_SECONDS:g} s, runs it and is killed with SIGKILL; another that "
        "waits in `experiment.claim(timeout=...)` gets it. From the end of the lease to the claim."
    )
    lines = (Line("after_lease_ms", title, "ms", "less", [Bound(1000.0)], "10"),)

    def contestants(self, size: Size) -> Sequence[str]:
        return ("ledger",)

    def measure(self, task: Task) -> Figures:
        path = str(task.place / NAME)
        with ledger.open(path) as book:
            experiment = book.experiment(PENDING_EXPERIMENT)
            trial = experiment.new_trial(config_of(1))
            context = multiprocessing.get_context("spawn")
            here, there = context.Pipe(duplex=False)
            process = context.Process(target=hold, args=(path, there), daemon=True)
            process.start()
            here.recv()
            process.kill()
            process.join()
            deadline = trial.state.deadline or 0
            if experiment.claim(timeout=self.limit_seconds) is None:
                raise AssertionError("the trial was not to be had again")
            return {"after_lease_ms": (time.time_ns() - deadline) / 1e6}


def hold(path: str, ready: Connection) -> None:
    """Claim a trial, say so, and work on it until killed."""
    with ledger.open(path) as book:
        job = book.get_experiment(PENDING_EXPERIMENT).claim(worker="doomed", lease_seconds=_LEASE_SECONDS)
        if job is None:
            raise AssertionError("there was nothing to claim")
        with job.run():
            ready.send("running")
            time.sleep(3600)
