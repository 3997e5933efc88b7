"""One queue and many workers, of which some are killed, some are stopped for longer than their lease, some misjudge the time.

Whatever happens: of each trial the results of one attempt count, those that were acknowledged; and none is forgotten.
"""

from __future__ import annotations

import os
import random
import signal
import subprocess
import sys
import time
from collections.abc import Iterator
from pathlib import Path

import pytest

import ledger
from ledger import Status

WORKER = Path(__file__).with_name("queue_worker.py")
PROCESSES, THREADS = 8, 2
LEASE_SECONDS = 0.5
Acknowledged = tuple[str, int, int, str]


class Workers:
    """The processes, started again whenever one is killed; what they print is kept."""

    def __init__(self, path: Path, place: Path, seed: int) -> None:
        self._path, self._place = path, place
        self.random = random.Random(seed)
        self._count = 0
        self.running: dict[int, subprocess.Popen[bytes]] = {}
        for number in range(PROCESSES):
            self._start(number)

    def _start(self, number: int) -> None:
        self._count += 1
        arguments = [str(self._path), f"p{number}", str(THREADS), str(LEASE_SECONDS), str(self.random.getrandbits(30))]
        with (self._place / f"{self._count}.out").open("wb") as out, (self._place / f"{self._count}.err").open("wb") as err:
            command = [sys.executable, "-W", "error", str(WORKER), *arguments]
            self.running[number] = subprocess.Popen(command, stdout=out, stderr=err)

    def trouble(self) -> None:
        """Kill one and start another in its place, or stop one for longer than its lease."""
        number = self.random.randrange(PROCESSES)
        process = self.running[number]
        if self.random.random() < 0.5:
            process.kill()
            process.wait()
            self._start(number)
            return
        os.kill(process.pid, signal.SIGSTOP)
        time.sleep(LEASE_SECONDS * self.random.choice([0.5, 1.2, 2.0]))
        os.kill(process.pid, signal.SIGCONT)

    def end(self) -> None:
        """Kill them all."""
        for process in self.running.values():
            process.kill()
            process.wait()

    def said(self) -> list[Acknowledged]:
        """Return what the workers were told: done or late, the trial, the attempt, the token."""
        lines = [line for file in self._place.glob("*.out") for line in file.read_text().splitlines(keepends=True)]
        words = [line.rstrip().split(" ", 3) for line in lines if line.endswith("\n") and line != "ready\n"]
        return [(what, int(trial), int(attempt), token) for what, trial, attempt, token in words]

    def errors(self) -> str:
        """Return what they printed of errors; one that is killed prints none."""
        return "".join(file.read_text() for file in self._place.glob("*.err"))


@pytest.fixture
def book(ledger_path: Path) -> Iterator[ledger.Ledger]:
    """A ledger that does not wait for the disk; verified at the end."""
    with ledger.open(ledger_path, durability="relaxed", lock_timeout=60) as opened:
        yield opened


def fill_queue(exp: ledger.Experiment, count: int) -> None:
    """Add trials, some of which are for one worker, some after others, some for later."""
    trials = exp.new_trials(({"n": n, "odd": n % 2 == 1} for n in range(count)), max_attempts=10_000)
    soon = time.time_ns() + 2_000_000_000
    for n in range(count // 10):
        config, most = {"n": count + n, "odd": n % 2 == 1}, 10_000
        exp.new_trial(config, max_attempts=most, depends_on=[trials[n], trials[-1 - n]], priority=n % 3)
        exp.new_trial(config, max_attempts=most, worker=f"p{n % PROCESSES}-{n % THREADS}")
        exp.new_trial(config, max_attempts=most, scheduled_at=soon)


def check_queue(exp: ledger.Experiment, said: list[Acknowledged]) -> None:
    completed: dict[int, tuple[int, str]] = {}
    late = set()
    for trial in exp.trials():
        claims: dict[int, str] = {}
        assert trial.status is Status.SUCCEEDED, f"{trial} was forgotten"
        for record in trial.history():
            event = record.event
            if isinstance(event, ledger.TrialClaimed):
                assert event.attempt == len(claims) + 1
                claims[event.attempt] = event.worker
            elif isinstance(event, ledger.TrialCompleted):
                assert trial.id not in completed, f"two results of {trial} count"
                completed[trial.id] = event.attempt, event.results["token"]
            elif isinstance(event, ledger.LateResultReceived):
                late.add((trial.id, event.attempt, event.results["token"]))
        attempt, token = completed[trial.id]
        assert attempt == len(claims), "the result is not of the last attempt"
        assert trial.results == {"token": token}
        assert token.startswith(claims[attempt] + " ")
        assert trial.state.assigned_to in ("", claims[attempt])
    for what, number, attempt, token in said:
        assert (completed[number] == (attempt, token)) if what == "done" else ((number, attempt, token) in late)


def _race(book: ledger.Ledger, place: Path, trials: int, seconds: float, seed: int) -> tuple[int, int]:
    """Let the workers race; return how many attempts were lost, and how many results came late."""
    exp = book.experiment("race")
    fill_queue(exp, trials)
    place.mkdir()
    workers = Workers(Path(book.path), place, seed)
    try:
        end = time.monotonic() + seconds
        while time.monotonic() < end:
            time.sleep(workers.random.random() * 0.3)
            workers.trouble()
        while any(trial.status is not Status.SUCCEEDED for trial in exp.trials()):
            assert time.monotonic() < end + 120, "the trials are not run any more"
            assert not any(process.poll() is not None for process in workers.running.values()), workers.errors()
            time.sleep(0.2)
    finally:
        workers.end()
    assert workers.errors() == ""
    check_queue(exp, workers.said())
    with pytest.raises(AssertionError):  # it would notice
        check_queue(exp, [("done", 1, 99, "nobody")])
    types = [record.type for record in exp.history(trials=True)]
    print(f"{types.count('TrialLost')} lost, {types.count('LateResultReceived')} late, {len(types)} records")
    return types.count("TrialLost"), types.count("LateResultReceived")


def test_killed_stopped_and_misjudging_workers_run_each_trial_once(book: ledger.Ledger, tmp_path: Path) -> None:
    """8 processes with 16 workers: one attempt of each trial counts, the acknowledged one, and none is forgotten."""
    lost, _ = _race(book, tmp_path / "said", trials=600, seconds=10.0, seed=1)
    assert lost


@pytest.mark.torture
@pytest.mark.timeout(3600)
@pytest.mark.parametrize("seed", range(2, 12))
def test_the_same_for_longer(book: ledger.Ledger, tmp_path: Path, seed: int) -> None:
    """A minute of trouble for each of ten seeds, in which results come late as well."""
    lost, late = _race(book, tmp_path / "said", trials=2000, seconds=60.0, seed=seed)
    assert lost
    assert late
