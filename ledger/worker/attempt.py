"""One attempt of a trial: the program is run, and what has become of it is recorded."""

from __future__ import annotations

import errno
import os
import shutil
import time
from collections.abc import Callable, Mapping
from contextlib import suppress
from pathlib import Path
from typing import TYPE_CHECKING, Any

import msgspec

from ledger import commands
from ledger import events as ev
from ledger.capture.handle import warn_of_changes
from ledger.capture.masking import mask_text, secret_values
from ledger.capture.options import CaptureOptions
from ledger.capture.record import with_captures
from ledger.errors import InvalidTransition, InvalidValue, LeaseLost, LedgerError
from ledger.log import answers_of
from ledger.registry import Event
from ledger.run import error_info
from ledger.state import Status
from ledger.status import HELD
from ledger.trial import Trial
from ledger.worker.output import OutputFile, Show, last_lines
from ledger.worker.program import TIMED_OUT, Ended, NotStarted, Program
from ledger.worker.results import BadResults, read_results
from ledger.worker.settings import Settings
from ledger.worker.surroundings import Places, make_places, variables_for
from ledger.worker.template import Template

if TYPE_CHECKING:
    from ledger.backends.base import Appended, Command, Staged, View
    from ledger.capture.collect import Capture

#: The namespace of a trial's attributes in which a worker says where it runs, and how it ended.
NAMESPACE = "worker"
LOST, STOPPED = "lost", "stopped"
RELEASED = "RELEASED"
_STATE_SECONDS = 0.5  # how soon a trial that was canceled or taken away is noticed
_MOST_REASON = 500
_OF_CONFIG = {errno.E2BIG}  # what keeps a program from being started that is the fault of its arguments


class WorkerFault(Exception):
    """What the worker does not find or must not do: no trial could be run. The trial was handed back."""


class Outcome(msgspec.Struct, frozen=True, kw_only=True):
    """What has become of an attempt; ``status`` is the trial's, RELEASED when it was handed back, LOST when it was taken."""

    experiment: str
    trial_id: int
    attempt: int
    status: str
    exit_code: int | None = None
    signal: str | None = None
    seconds: float = 0.0
    results: dict[str, Any] = {}
    error: str | None = None
    is_requeued: bool = False


class Attempt:
    """Run the program of one trial that is held by its handle, in a directory of its own that is gone afterwards.

    ``stop`` is asked why to end it: "" to go on, ``stopped``, ``!stopped`` at once.
    """

    def __init__(
        self, trial: Trial, template: Template, settings: Settings, directory: Path, stop: Callable[[], str],
        machine: Mapping[str, Capture] | None, show: tuple[Show, Show] | None = None,
    ) -> None:  # fmt: skip
        self.trial = trial
        self.attempt = trial.attempt or 0
        self._template, self._settings, self._machine, self._show = template, settings, machine, show
        self._directory, self._stop = directory, stop
        self._log = trial.experiment.book.log
        self._looked = 0.0

    def run(self) -> Outcome:
        """Run it and record its end; raises WorkerFault for a program that cannot be started."""
        try:
            self.trial.start(lease_seconds=self._settings.lease_seconds)
            self.attempt = self.trial.attempt or 0
            places = make_places(self._directory, self.trial.config)
            try:
                return self._run(places)
            finally:
                shutil.rmtree(places.directory, ignore_errors=True)
        except (LeaseLost, InvalidTransition) as problem:
            if isinstance(problem, InvalidTransition) and self._is_held(self.trial.state):
                raise
            return self._outcome(LOST.upper(), None, error=str(problem))  # also one that was canceled in between
        except BaseException as problem:
            with suppress(LedgerError):
                self.trial.release(reason=f"the worker failed: {problem}"[:_MOST_REASON])
            raise

    # ------------------------------------------------------------------------------------------------- program

    def _run(self, places: Places) -> Outcome:
        trial, settings = self.trial, self._settings
        own = {
            "trial": str(trial.id), "attempt": str(self.attempt), "experiment": trial.experiment.name,
            "config": str(places.config), "output": str(places.output),
        }  # fmt: skip
        path = os.path.abspath(trial.experiment.book.path)
        variables = variables_for(places, trial.config, path, own["experiment"], trial.id, self.attempt)
        show = self._show or (None, None)
        try:
            arguments = self._template.fill(trial.config, own)
            out, error = (
                OutputFile(each, settings.max_output_bytes, shown)
                for each, shown in zip((places.stdout, places.stderr), show, strict=True)
            )
            program = Program(arguments, out, error, grace=settings.grace)
            program.start(variables, settings.workplace)
        except NotStarted as problem:
            if problem.errno in _OF_CONFIG:
                return self._fail(None, f"{problem}: take {{config}}, the path of the config as a JSON file")
            raise WorkerFault(f"cannot run {problem} (in {settings.workplace}).") from problem
        except (InvalidValue, ValueError) as problem:
            return self._fail(None, f"the command line cannot be made: {problem}")
        try:
            self._note_start(places, program.pid, arguments)
        except BaseException:
            program.end()
            raise
        ended = program.wait(settings.timeout, self._why_to_end)
        if ended.why == LOST:
            return self._outcome(LOST.upper(), ended, error="the trial is no longer this worker's")
        self._keep_files(places)
        return self._conclude(places, ended)

    def _why_to_end(self) -> str:
        reason = self._stop()
        if reason or self.trial.is_lost:
            return reason or LOST
        if time.monotonic() - self._looked > _STATE_SECONDS:
            self._looked = time.monotonic()
            if not self._is_held(self.trial.state):
                return LOST
        return ""

    def _is_held(self, state: Any) -> bool:
        return state.attempt == self.attempt and state.status in HELD and state.deleted_at is None

    # -------------------------------------------------------------------------------------------------- record

    def _note_start(self, places: Places, pid: int, arguments: list[str]) -> None:
        attributes = {
            "host": os.uname().nodename, "pid": pid, "directory": str(places.directory), "attempt": self.attempt,
            "exit_code": None, "signal": None, "seconds": None,
        }  # fmt: skip
        trial, command = self.trial, self._set_if_held(attributes)
        if self._machine is not None:
            from ledger.capture.program import collect_command  # by those who capture only

            captures = {**self._machine, **collect_command(arguments, self._settings.workplace, CaptureOptions())}
            command = with_captures(trial.experiment.id, trial.id, captures, self.attempt, command)
        warn_of_changes(trial, self._log.execute(command, actor=trial.actor))

    def _set_if_held(self, attributes: dict[str, Any]) -> Command:
        """Return the command that sets the attributes, unless the trial is somebody else's by then."""
        trial = self.trial

        def command(view: View) -> list[Staged]:
            state = view.trial(trial.experiment.id, trial.id)
            if state is None or not self._is_held(state):
                return []
            known = state.attributes.get(NAMESPACE, {})
            changes = {name: value for name, value in attributes.items() if value is not None or name in known}
            return [(trial.stream, ev.AttributesSet(changes, NAMESPACE))]

        return command

    def _keep_files(self, places: Places) -> None:
        """Keep what the program has written as artifacts; what is empty is not."""
        number = "" if self.attempt == 1 else f"-{self.attempt}"
        for path, name in ((places.stdout, f"stdout{number}.txt"), (places.stderr, f"stderr{number}.txt")):
            if path.stat().st_size:
                self.trial.log_artifact(path, name)
        if any(places.output.iterdir()):
            self.trial.log_artifact(places.output, "output")

    def _conclude(self, places: Places, ended: Ended) -> Outcome:
        ids = self.trial.experiment.id, self.trial.id
        if ended.why.endswith(STOPPED):
            self._end(commands.release(*ids, self.attempt), ended, reason="the worker was stopped")
            return self._outcome(RELEASED, ended)
        if ended.why == TIMED_OUT:
            self._end(self._finish(ev.TrialTimedOut()), ended)
            return self._outcome("TIMED_OUT", ended, error=f"it took longer than {self._settings.timeout:g} s")
        if ended.code != 0:
            how = f"exit code {ended.code}" if ended.signal is None else f"ended by {ended.signal}"
            said = last_lines(places.stderr) or last_lines(places.stdout)
            return self._fail(ended, f"{how}: {said}" if said else how)
        try:
            return self._complete(places, ended)
        except (BadResults, InvalidValue) as problem:
            return self._fail(ended, str(problem))

    def _complete(self, places: Places, ended: Ended) -> Outcome:
        settings = self._settings
        results, status = read_results(
            settings.results, places.stdout, places.results, self.trial.experiment.objectives,
            allow_empty=settings.allow_empty_results,
        )  # fmt: skip
        if status == "FAILED":
            return self._fail(ended, "the program says that it failed", results)
        event = ev.TrialPruned(results) if status == "PRUNED" else ev.TrialCompleted(results)
        last = self._end(self._finish(event), ended).events[-1][1]
        if isinstance(last, ev.TrialFailed):  # outside of an objective's bounds
            return self._outcome("FAILED", ended, results=results, error=last.error.message if last.error else None)
        return self._outcome(status, ended, results=results)

    def _fail(self, ended: Ended | None, message: str, results: dict[str, Any] | None = None) -> Outcome:
        """End it as FAILED and, when it has not failed too often, let it wait again: in one step, which nothing comes between."""
        message = mask_text(message, secret_values(os.environ))
        failures = sum(record.type == "TrialFailed" for record in self.trial.history()) + 1
        retries = self._settings.retries
        retry = f"retry {failures} of {retries} after {message.splitlines()[0][:200]}" if failures <= retries else None
        self._end(self._finish(ev.TrialFailed(error_info(message), results or {})), ended, retry=retry)
        return self._outcome("FAILED", ended, results=results or {}, error=message, is_requeued=retry is not None)

    def _finish(self, event: Event) -> Command:
        trial = self.trial
        return commands.finish(trial.experiment.id, trial.id, self.attempt, event, trial.actor)

    def _end(self, command: Command, ended: Ended | None, *, reason: str | None = None, retry: str | None = None) -> Appended:
        """Record how the program ended and what that means for the trial, in one commit; raises LeaseLost when that is late."""
        trial, log = self.trial, self._log
        note: Command = lambda view: []  # noqa: E731
        if ended is not None:
            attributes = {
                "exit_code": ended.code, "signal": ended.signal, "seconds": round(ended.seconds, 3), "directory": None,
                "pid": None,
            }  # fmt: skip
            note = self._set_if_held(attributes)
        submissions = [log.submission(lambda view: [*note(view), *command(view)], actor=trial.actor, reason=reason)]
        if retry is not None:
            submissions.append(log.submission(self._requeue_failed, actor=trial.actor, reason=retry))
        appended = answers_of(log.commit(submissions))[0]
        trial.let_go(done=True)
        _, last = appended.events[-1]
        if isinstance(last, ev.LateResultReceived):
            state = trial.state
            raise LeaseLost(trial.stream, last.attempt, state.status, state.attempt, state.worker)
        return appended

    def _requeue_failed(self, view: View) -> list[Staged]:
        state = view.trial(self.trial.experiment.id, self.trial.id)
        is_own = state is not None and state.attempt == self.attempt and state.status is Status.FAILED
        return [(self.trial.stream, ev.TrialRequeued())] if is_own else []

    def _outcome(self, status: str, ended: Ended | None, **more: Any) -> Outcome:
        code, signal, seconds = (ended.code, ended.signal, ended.seconds) if ended else (None, None, 0.0)
        return Outcome(
            experiment=self.trial.experiment.name, trial_id=self.trial.id, attempt=self.attempt, status=status,
            exit_code=code, signal=signal, seconds=round(seconds, 3), **more,
        )  # fmt: skip
