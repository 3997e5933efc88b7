"""A soak: writers, a queue of workers, readers, a tailer, backups, redactions, kills, stops and compactions, all at once.

It runs for LEDGER_SOAK_SECONDS (3,600 unless set). With LEDGER_SOAK_DIRECTORY it keeps its ledger and its sums there, and a
run that was ended goes on where it was; ``summary.json`` in it says what was done.
"""

from __future__ import annotations

import faulthandler
import json
import os
import random
import signal
import time
import uuid
from collections import Counter
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path

import pytest

import ledger
from ledger.maintenance.backup import backup, restore
from ledger.maintenance.compaction import compact
from tests.concurrency.test_queue import Workers, check_queue, fill_queue
from tests.torture import oracle
from tests.torture.children import end, lines_of, program, start, wait_for_line

SECONDS = float(os.environ.get("LEDGER_SOAK_SECONDS", "3600"))
PHASE_SECONDS = min(max(SECONDS / 12, 15.0), 300.0)
OPTIONS = [("--seal-records", 40), ("--durability", "relaxed"), ("--padding", 3000), ("--reopen",)]


class Soak:
    """The ledger, what its writers were told, and the sums so far."""

    def __init__(self, place: Path) -> None:
        self._place = place
        self.path = place / "runs.ledger"
        self.told = place / "told"
        self.told.mkdir(parents=True, exist_ok=True)
        self._summary = place / "summary.json"
        self.sums: Counter[str] = Counter(json.loads(self._summary.read_text()) if self._summary.exists() else {})
        self.random = random.Random(f"soak {self.sums['phases']}")

    def run(self) -> None:
        """Go through phases until the time is over; after each all is checked, and the sums are kept."""
        while self.sums["seconds"] < SECONDS:
            begun = time.monotonic()
            self._phase()
            self._check()
            self.sums["phases"] += 1
            self.sums["seconds"] += round(time.monotonic() - begun)
            self._summary.write_text(json.dumps(self.sums, indent=1))
            print(json.dumps(self.sums))

    # -- a phase

    def _phase(self) -> None:
        with ledger.open(self.path, durability="relaxed", lock_timeout=60) as book:
            exp = book.experiment("race")
            if not exp.state.next_trial_id > 1:
                fill_queue(exp, 200)
        said = self._place / f"queue-{uuid.uuid4().hex[:8]}"
        said.mkdir()
        followed = said / "tailer.seen"
        tailer = start(program("tailer", self.path), followed)
        workers = Workers(self.path, said, self.random.getrandbits(30))
        try:
            with self._writers():
                deadline = time.monotonic() + PHASE_SECONDS
                while time.monotonic() < deadline:
                    troubles = [self._trouble, self._trouble, self._trouble, workers.trouble, self._back_up, self._redact]
                    self.random.choice(troubles)()
            self._finish_queue(workers)
            with ledger.open(self.path) as book:
                wait_for_line(followed, str(book.log.head), seconds=120)
        finally:
            workers.end()
            end(tailer)
        assert workers.errors() == ""
        self._check_queue(workers)
        seen = [int(line) for line in lines_of(followed) if line.strip().isdigit()]
        assert seen == list(range(1, len(seen) + 1)), "the tailer missed or repeated an event"
        self._compact()

    @contextmanager
    def _writers(self) -> Iterator[None]:
        self._running = []
        for number in range(len(OPTIONS)):
            self._start(number)
        try:
            yield
        finally:
            end(*(process for _, process in self._running))

    def _start(self, number: int) -> None:
        name = f"{self.sums['phases']}-{number}-{uuid.uuid4().hex[:8]}"
        out = self.told / f"{name}.out"
        self._running.append((number, start(program("writer", self.path, name, *OPTIONS[number]), out)))

    def _trouble(self) -> None:
        """Kill a writer and start another, or stop one for a while."""
        time.sleep(self.random.uniform(0.0, 0.5))
        place = self.random.randrange(len(self._running))
        number, process = self._running[place]
        assert process.poll() is None, "a writer ended by itself"
        if self.random.random() < 0.7:
            del self._running[place]
            end(process)
            self._start(number)
            self.sums["kills"] += 1
            return
        os.kill(process.pid, signal.SIGSTOP)
        time.sleep(self.random.uniform(0.0, 2.0))
        os.kill(process.pid, signal.SIGCONT)
        self.sums["stops"] += 1

    def _back_up(self) -> None:
        if self.random.random() < 0.3:
            made, again = self._place / "made.tar", self._place / "again"
            backup(self.path, made)
            restore(made, again)
            for file in (*again.iterdir(), made):
                file.unlink()
            again.rmdir()
            self.sums["backups"] += 1

    def _redact(self) -> None:
        with ledger.open(self.path, lock_timeout=60) as book:
            position = book.log.append([ledger.NoteAdded("a secret")], stream="secrets").position
            book.redact(position, reason="a test")
        self.sums["redactions"] += 1

    def _finish_queue(self, workers: Workers) -> None:
        deadline = time.monotonic() + 120 + PHASE_SECONDS
        with ledger.open(self.path, readonly=True) as book:
            exp = book.get_experiment("race")
            while any(trial.status is not ledger.Status.SUCCEEDED for trial in exp.trials()):
                assert time.monotonic() < deadline, "the trials are not run any more"
                time.sleep(0.5)

    def _check_queue(self, workers: Workers) -> None:
        with ledger.open(self.path, durability="relaxed") as book:
            exp = book.get_experiment("race")
            check_queue(exp, workers.said())
            types = Counter(record.type for record in exp.history(trials=True))
            for name in ("TrialLost", "LateResultReceived", "TrialCompleted"):
                self.sums[name] += types[name]
            exp.rename(f"race {uuid.uuid4()}")

    def _compact(self) -> None:
        """Compact, now and then killed in the middle."""
        code = "import sys\nfrom ledger.maintenance.compaction import compact\ncompact(sys.argv[1])\n"
        for _ in range(3):
            compactor = start([program("writer")[0], "-c", code, str(self.path)], self._place / "compactor.out")
            time.sleep(self.random.uniform(0.0, 1.5))
            end(compactor)
        compact(self.path)
        self.sums["compactions"] += 1

    def _check(self) -> None:
        told = oracle.read_told(lines_of(*self.told.glob("*.out")))
        self.sums["records"] = oracle.check(self.path, told)
        self.sums["acknowledged"] = len(told)
        self.sums["bytes"] = (self.path / "data.mdb").stat().st_size


@pytest.mark.torture
@pytest.mark.timeout(0)
def test_everything_at_once_for_an_hour(tmp_path: Path) -> None:
    """Nothing that was acknowledged is lost, twice or torn; the queue counts each trial once; the tailer sees all, in order."""
    faulthandler.cancel_dump_traceback_later()  # pytest's, after minutes: this is no hang
    soak = Soak(Path(os.environ.get("LEDGER_SOAK_DIRECTORY", tmp_path / "soak")))
    soak.run()
    assert soak.sums["kills"] > 0
    assert soak.sums["acknowledged"] > 100
