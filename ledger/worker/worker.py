"""The worker: claims trials, and runs a program for each, several at once."""

from __future__ import annotations

import signal
import tempfile
import threading
from collections import Counter
from collections.abc import Iterator, Mapping, Sequence
from contextlib import contextmanager
from pathlib import Path
from typing import TYPE_CHECKING, Any, Protocol

from ledger import commands
from ledger.capture.options import CaptureOptions
from ledger.claims import Where, find_claimable
from ledger.errors import InvalidValue
from ledger.experiment import Experiment
from ledger.partial import clear_abandoned, partial_directory
from ledger.state import Status
from ledger.streams import MAX_TRIAL_ID
from ledger.tail import Bell
from ledger.trial import Trial
from ledger.waiting import POLL_SECONDS
from ledger.worker.attempt import LOST, RELEASED, STOPPED, Attempt, Outcome
from ledger.worker.output import Show
from ledger.worker.settings import Settings
from ledger.worker.template import Template

if TYPE_CHECKING:
    from ledger.capture.collect import Capture

REQUEUED = "REQUEUED"
_PREFIX = "ledger-worker-"
_SIGNALS = (signal.SIGINT, signal.SIGTERM, signal.SIGHUP)


class Listener(Protocol):
    """Who is told what a worker does; from several threads."""

    def began(self, trial: Trial) -> tuple[Show, Show] | None:
        """Hear that a trial is run; return what is to be shown its standard output and error, if anything is."""

    def ended(self, outcome: Outcome) -> None:
        """Hear what has become of it."""


class Worker:
    """Runs a program as the trials of one or more experiments of a ledger. Used by the main thread, which waits for the others.

    Of several experiments the trials of the first go first.

    **Guarantees.** A trial is claimed when there is a slot for it, and every trial claimed is ended, or handed back: also on
    SIGTERM, Ctrl-C and SIGHUP, which end the programs first (a second Ctrl-C at once). When the worker itself is killed, its
    programs end with it, and its trials are LOST when their leases have run out.
    """

    def __init__(
        self, experiments: Sequence[Experiment], template: Template, settings: Settings, listener: Listener, *,
        name: str | None = None, jobs: int = 1, where: Where | None = None, wait: bool = False, max_trials: int | None = None,
    ) -> None:  # fmt: skip
        self.experiments, self.template, self.settings = experiments, template, settings
        self._log = experiments[0].book.log
        self.name = commands.check_worker(name)
        self._given_name = name
        self._listener = listener
        self._jobs, self._where, self._wait, self._max_trials = jobs, where, wait, max_trials
        self.counts: Counter[str] = Counter()
        self.claimed = 0
        self.is_paused = False  # what ended the loop
        self._running: set[threading.Thread] = set()
        self._bell = Bell()
        self._signals = 0
        self._fault: BaseException | None = None
        self._machine: Mapping[str, Capture] | None = None

    @property
    def is_stopped(self) -> bool:
        """Whether a signal has asked it to end."""
        return self._signals > 0

    def run(self) -> None:
        """Claim and run trials until there is nothing more to come, or a signal stops it.

        Raises InvalidValue for a placeholder that the first trial has no parameter for, before it is claimed; WorkerFault for
        a program that cannot be started; and what else keeps the worker from working, when its programs have ended.
        """
        with self._prepared() as place:
            stop_listening = self._log.backend.listen(self._bell.ring)
            try:
                self._loop(place)
            except BaseException as error:
                self._fault = self._fault or error
                raise
            finally:
                stop_listening()
                for thread in list(self._running):
                    thread.join()
        if self._fault is not None:
            raise self._fault

    def run_new(self, config: Mapping[str, Any]) -> None:
        """Add a trial with this config, which no other worker can claim, and run it; CANCELED when it is stopped."""
        self.template.check(config)
        (experiment,) = self.experiments
        if experiment.is_paused:
            raise InvalidValue(f"{experiment.name!r} is paused; `ledger pause --undo` resumes it.")
        with self._prepared() as place:
            trial = experiment.new_trial(config, worker=self._given_name, lease_seconds=self.settings.lease_seconds)
            self._run_one(trial, place)
            if trial.status is Status.PENDING:  # it was for now, and is for no queue
                trial.cancel(reason="the run was stopped" if self.is_stopped else "the program could not be started")
        if self._fault is not None:
            raise self._fault

    @contextmanager
    def _prepared(self) -> Iterator[Path]:
        if self.settings.capture:
            from ledger.capture.program import collect_machine  # by those who capture only

            self._machine = collect_machine(self.settings.workplace, CaptureOptions())
        parent = Path(tempfile.gettempdir())
        clear_abandoned(parent, _PREFIX)
        with self._signals_taken(), partial_directory(parent, _PREFIX) as place:
            yield place

    @contextmanager
    def _signals_taken(self) -> Iterator[None]:
        if threading.current_thread() is not threading.main_thread():
            yield
            return
        heard = [number for number in _SIGNALS if signal.getsignal(number) is not signal.SIG_IGN]  # nohup has SIGHUP ignored
        before = {number: signal.signal(number, self._on_signal) for number in heard}
        try:
            yield
        finally:
            for number, handler in before.items():
                signal.signal(number, handler)

    def _on_signal(self, number: int, frame: object) -> None:
        self._signals += 1
        self._bell.ring()

    def _why_to_stop(self) -> str:
        if self._signals > 1:
            return f"!{STOPPED}"
        return STOPPED if self._signals or self._fault is not None else ""

    # ---------------------------------------------------------------------------------------------------- loop

    def _loop(self, place: Path) -> None:
        while not self._why_to_stop():
            self._bell.clear()  # before looking: what comes after the look rings again
            while self._may_claim() and (trial := self._next_of_any()) is not None:
                self._start(trial, place)
            if not self._running and not self._may_come():
                return
            self._bell.wait(POLL_SECONDS)

    def _may_claim(self) -> bool:
        is_enough = self._max_trials is not None and self.claimed >= self._max_trials
        return len(self._running) < self._jobs and not is_enough and not self._why_to_stop()

    def _next_of_any(self) -> Trial | None:
        return next((trial for each in self.experiments if (trial := self._next(each)) is not None), None)

    def _next(self, experiment: Experiment) -> Trial | None:
        log = self._log
        found = find_claimable(log.backend, experiment.id, self.name, self._where)
        if not found:
            with log.backend.view() as view:
                expired = view.expired(experiment.id, MAX_TRIAL_ID)
            if not expired:
                return None
        elif not self.claimed:
            self.template.check(found[0].config)  # before anything is claimed
        trial = experiment.claim(worker=self._given_name, lease_seconds=self.settings.lease_seconds, where=self._where)
        if trial is not None:
            self.claimed += 1
        return trial

    def _may_come(self) -> bool:
        """Say whether there may be a trial to claim later: one is scheduled, or a lease may run out."""
        if self._max_trials is not None and self.claimed >= self._max_trials:
            return False
        self.is_paused = any(each.is_paused for each in self.experiments)
        return self._wait or any(map(self._may_come_of, self.experiments))

    def _may_come_of(self, experiment: Experiment) -> bool:
        with self._log.backend.view() as view:
            due = view.next_due(experiment.id)
            found = due is not None and due > view.now
        return (found and not experiment.is_paused) or bool(
            find_claimable(self._log.backend, experiment.id, self.name, self._where)
        )

    def _start(self, trial: Trial, place: Path) -> None:
        thread = threading.Thread(target=self._run_one, args=(trial, place), name=f"ledger-worker-{trial.id}")
        self._running.add(thread)
        thread.start()

    def _run_one(self, trial: Trial, place: Path) -> None:
        try:
            shown = self._listener.began(trial)
            directory = place / f"{trial.experiment.id.hex}-{trial.id}-{trial.attempt}"
            outcome = Attempt(
                trial, self.template, self.settings, directory, self._why_to_stop, self._machine, shown
            ).run()  # fmt: skip
            self.counts[REQUEUED if outcome.is_requeued else outcome.status] += 1
            self._listener.ended(outcome)
        except BaseException as error:  # noqa: BLE001 - it is raised by the main thread, when the other programs have ended
            self._fault = self._fault or error
        finally:
            self._running.discard(threading.current_thread())
            self._bell.ring()

    @property
    def is_all_well(self) -> bool:
        """Whether what it ran to its end has SUCCEEDED or was PRUNED; those tried again count when they have ended."""
        return all(status in ("SUCCEEDED", "PRUNED", REQUEUED, RELEASED, LOST.upper()) for status in self.counts)
