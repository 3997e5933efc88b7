"""A process of workers that claim and complete trials for ever, with a clock that jumps. Prints what was acknowledged.

python queue_worker.py PATH NAME THREADS LEASE_SECONDS SEED
"""

from __future__ import annotations

import contextlib
import os
import random
import sys
import threading
import time

import ledger


class JumpingClock:
    """The system's clock, and every now and then some seconds beside it."""

    def __init__(self, seed: int) -> None:
        self._random = random.Random(seed)
        self._offset = 0

    def __call__(self) -> int:
        if self._random.random() < 0.02:
            self._offset = self._random.choice([-2_000_000_000, 0, 0, 0, 300_000_000])
        return time.time_ns() + self._offset


def work(experiment: ledger.Experiment, worker: str, lease_seconds: float, rng: random.Random) -> None:
    """Claim, work and complete, until the process is killed."""
    while True:
        wanted = {"odd": True} if rng.random() < 0.2 else None
        job = experiment.claim(worker=worker, lease_seconds=lease_seconds, timeout=0.1, where=wanted)
        if job is None:
            continue
        token = f"{worker} {time.monotonic_ns()}"
        with contextlib.suppress(ledger.LeaseLost):  # it has reported nothing yet
            if rng.random() < 0.1:
                job.release()
                continue
            job.start()
            time.sleep(rng.choice([0.0, 0.01, 0.05, lease_seconds * 0.5]))
            line = f"{_complete(job, token)} {job.id} {job.attempt} {token}\n"
            os.write(1, line.encode())  # in one piece: print() of two threads would mix


def _complete(job: ledger.Trial, token: str) -> str:
    try:
        job.complete({"token": token})
    except ledger.LeaseLost:
        return "late"
    return "done"


if __name__ == "__main__":
    path, name, threads, lease, seed = sys.argv[1:6]
    with ledger.open(path, durability="relaxed", clock=JumpingClock(int(seed)), lock_timeout=60) as book:
        experiment = book.get_experiment("race")
        print("ready", flush=True)
        workers = [
            threading.Thread(target=work, args=(experiment, f"{name}-{n}", float(lease), random.Random(f"{seed}-{n}")))
            for n in range(int(threads))
        ]
        for each in workers:
            each.start()
        for each in workers:
            each.join()
