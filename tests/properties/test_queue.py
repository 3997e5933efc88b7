"""The queue against one of lists and dicts: who is handed which trial, when, and what has become of it."""

from __future__ import annotations

import contextlib
import dataclasses
import tempfile
from pathlib import Path
from typing import Any
from unittest import mock

from hypothesis import HealthCheck, example, given, settings
from hypothesis import strategies as st

import ledger
from ledger import background
from ledger.backends.base import Backend
from ledger.backends.environment import Options
from ledger.backends.lmdb import LmdbBackend
from ledger.backends.memory import MemoryBackend
from ledger.testing import FakeClock

SECOND = 1_000_000_000
WORKERS = ["a", "b"]
ENDED = ("SUCCEEDED", "FAILED", "LOST", "CANCELED")
Step = tuple[str, int, int]


@dataclasses.dataclass
class Plain:
    """A trial of the plain queue."""

    id: int
    priority: int
    time: int
    scheduled_at: int
    worker: str
    depends_on: list[int]
    config: dict[str, Any]
    max_attempts: int
    status: str = "PENDING"
    attempt: int = 0
    lost: int = 0
    deadline: int = 0
    is_deleted: bool = False


class PlainQueue:
    """So plain that it must be right."""

    def __init__(self) -> None:
        self.trials: list[Plain] = []
        self.is_paused = False

    def _late(self, now: int) -> list[Plain]:
        return [t for t in self.trials if t.status == "READY" and t.deadline < now and not t.is_deleted]

    def _may_have(self, trial: Plain, worker: str, wanted: dict[str, Any]) -> bool:
        met = all(self.trials[n - 1].status == "SUCCEEDED" and not self.trials[n - 1].is_deleted for n in trial.depends_on)
        return met and trial.worker in ("", worker) and wanted.items() <= trial.config.items() and not trial.is_deleted

    def claimable(self, worker: str, wanted: dict[str, Any], now: int) -> list[Plain]:
        """Return the trials that the worker may have, the next one first."""
        if self.is_paused:
            return []
        free = [t for t in self.trials if t.status == "PENDING" and t.scheduled_at <= now]
        free += [t for t in self._late(now) if t.lost + 1 < t.max_attempts]
        return sorted((t for t in free if self._may_have(t, worker, wanted)), key=lambda t: (-t.priority, t.time, t.id))

    def claim(self, worker: str, wanted: dict[str, Any], lease: int, now: int) -> Plain | None:
        """Hand out the next trial; whoever's lease has run out loses it, when anything is handed out or could be."""
        if self.is_paused:
            return None
        found = self.claimable(worker, wanted, now)
        if wanted and not found:
            return None
        for trial in self._late(now):
            trial.lost += 1
            trial.status = "PENDING" if trial.lost < trial.max_attempts else "LOST"
        if not found:
            return None
        found[0].status, found[0].attempt, found[0].deadline = "READY", found[0].attempt + 1, now + lease
        return found[0]


class Session:
    """The ledger's queue and the plain one, asked the same."""

    def __init__(self, backend: Backend, clock: FakeClock) -> None:
        self.book, self.clock, self.plain = ledger.Ledger(backend, "tester"), clock, PlainQueue()
        self.exp = self.book.experiment("queue")
        self.held: dict[tuple[int, int], ledger.Trial] = {}

    def run(self, step: Step) -> None:
        """Take one step, and compare."""
        command, number, other = step
        getattr(self, command)(number, other)
        assert {t.id: t.status.value for t in [*self.exp.trials(), *self.exp.trials(deleted=True)]} == {
            t.id: "CANCELED" if t.is_deleted and t.status == "READY" else t.status for t in self.plain.trials
        }
        for worker in WORKERS:
            assert self.exp.wait(0, worker=worker) == bool(self.plain.claimable(worker, {}, self.clock()))

    def new(self, number: int, other: int) -> None:
        now, count = self.clock(), len(self.plain.trials)
        later = now + number * SECOND if other == 5 else 0
        before = sorted({number % count + 1, other % count + 1}) if count and other in (2, 3) else []
        before = [n for n in before if not self.plain.trials[n - 1].is_deleted]
        made = Plain(
            count + 1, number % 3, later or now, later, ["", *WORKERS][number % 3] if other > 3 else "", before,
            {"x": number % 2}, other % 3 + 1,
        )  # fmt: skip
        self.exp.new_trial(
            made.config, priority=made.priority, scheduled_at=later or None, max_attempts=made.max_attempts,
            worker=made.worker or None, depends_on=[self.exp.trial(n) for n in before],
        )  # fmt: skip
        self.plain.trials.append(made)

    def claim(self, number: int, other: int) -> None:
        worker, wanted = WORKERS[number % 2], {"x": other % 2} if other > 3 else {}
        expected = self.plain.claim(worker, wanted, number * SECOND + SECOND, self.clock())
        job = self.exp.claim(worker=worker, lease_seconds=number + 1, where=wanted or None)
        assert (job and (job.id, job.attempt)) == (expected and (expected.id, expected.attempt))
        if job is not None:
            self.held[job.id, job.attempt or 0] = job

    def finish(self, number: int, other: int) -> None:
        """A worker ends what it was handed: it counts as long as nobody else was handed it."""
        if not self.held:
            return
        key = list(self.held)[number % len(self.held)]
        job, trial = self.held.pop(key), self.plain.trials[key[0] - 1]
        is_its = trial.status == "READY" and trial.attempt == key[1] and not trial.is_deleted
        event = ("complete", "complete", "complete", "complete", "fail", "release")[other]
        with contextlib.nullcontext() if is_its else contextlib.suppress(ledger.LeaseLost, ledger.UnknownTrial):
            getattr(job, event)()
            assert is_its, f"{event} of a lost attempt"
            trial.status = {"complete": "SUCCEEDED", "fail": "FAILED", "release": "PENDING"}[event]

    def _any(self, number: int) -> Plain | None:
        return self.plain.trials[number % len(self.plain.trials)] if self.plain.trials else None

    def requeue(self, number: int, other: int) -> None:
        trial = self._any(number)
        if trial and trial.status in ENDED[1:] and not trial.is_deleted:
            self.exp.trial(trial.id).requeue()
            trial.status = "PENDING"

    def cancel(self, number: int, other: int) -> None:
        trial = self._any(number)
        if trial and trial.status not in ENDED and not trial.is_deleted:
            self.exp.trial(trial.id).cancel()
            trial.status = "CANCELED"

    def assign(self, number: int, other: int) -> None:
        trial = self._any(number)
        if trial and not trial.is_deleted:
            trial.worker = ["", *WORKERS][other % 3]
            self.exp.trial(trial.id).assign(trial.worker or None)

    def amend(self, number: int, other: int) -> None:
        trial = self._any(number)
        if trial and trial.status in ENDED and not trial.is_deleted:
            trial.status = ENDED[other % 4]
            self.exp.trial(trial.id).amend(status=trial.status, reason="wrong")

    def delete(self, number: int, other: int) -> None:
        trial = self._any(number)
        if trial and not trial.is_deleted:
            self.exp.trial(trial.id).delete()
            trial.is_deleted = True
            trial.status = "CANCELED" if trial.status == "READY" else trial.status
        elif trial:
            self.exp.trial(trial.id, deleted=True).restore()
            trial.is_deleted = False

    def pause(self, number: int, other: int) -> None:
        self.plain.is_paused = other == 5
        (self.exp.pause if self.plain.is_paused else self.exp.resume)()

    def wait(self, number: int, other: int) -> None:
        self.clock.advance(number + (1e-9 if other % 2 else 0))


COMMANDS = [
    "new", "new", *["claim"] * 5, *["finish"] * 5, "requeue", "cancel", "assign", "amend", "amend", "delete", "delete", "pause",
    "wait", "wait",
]  # fmt: skip
#: Five trials: the third depends on the first, the fourth is for a worker, the fifth for later.
BEGIN: list[Step] = [("new", 0, 0), ("new", 1, 0), ("new", 0, 2), ("new", 2, 4), ("new", 3, 5)]
#: The first three are run; what the third depended on is amended, deleted and brought back while it waits again.
DEPENDING: list[Step] = [
    ("claim", 1, 0), ("finish", 0, 0), ("claim", 1, 0), ("claim", 1, 0), ("finish", 0, 0), ("claim", 1, 0), ("finish", 0, 5),
    ("amend", 0, 1), ("claim", 1, 0), ("amend", 0, 0), ("delete", 0, 0), ("claim", 1, 0), ("delete", 0, 0), ("claim", 1, 0),
    ("wait", 7, 1), ("claim", 1, 5), ("claim", 1, 0), ("cancel", 2, 0), ("requeue", 2, 0), ("claim", 1, 0),
]  # fmt: skip


@settings(
    max_examples=100, deadline=None, derandomize=True, database=None, print_blob=True, suppress_health_check=list(HealthCheck)
)
@given(
    st.lists(st.tuples(st.sampled_from(COMMANDS), st.integers(0, 7), st.integers(0, 5)), min_size=25, max_size=70), st.booleans()
)
@example(DEPENDING, True)
@example(DEPENDING, False)
def test_the_queue_hands_out_what_a_plain_one_would(steps: list[Step], on_disk: bool) -> None:
    """After any steps, the next claim is that of the plain queue, and so is every status; the index passes the check."""
    clock = FakeClock()
    with contextlib.ExitStack() as stack:
        stack.enter_context(mock.patch.object(background.Background, "schedule"))  # no renewals
        directory = Path(stack.enter_context(tempfile.TemporaryDirectory(prefix="queue-")))
        backend: Backend = LmdbBackend(directory, clock=clock, options=Options("relaxed")) if on_disk else MemoryBackend(clock)
        session = Session(backend, clock)
        stack.callback(session.book.close)
        for step in BEGIN + steps:
            session.run(step)
        backend.check()
