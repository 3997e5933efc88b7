"""Trial: the handle through which a trial is run and recorded."""

from __future__ import annotations

import weakref
from collections.abc import Callable, Iterable, Iterator, Mapping
from typing import TYPE_CHECKING, Any

from ledger import commands
from ledger import events as ev
from ledger.artifact_owner import ArtifactOwner
from ledger.caller import warn_caller
from ledger.capture.handle import Capturing, collect_for, warn_of_changes
from ledger.capture.options import CaptureOptions
from ledger.corrected import CorrectedTrial
from ledger.dependencies import unmet_dependencies
from ledger.errors import LeaseLost, ResultOutOfBounds, UnknownTrial
from ledger.identity import default_actor
from ledger.jobs import Lease
from ledger.metric_owner import MetricOwner
from ledger.records import Record
from ledger.registry import Event
from ledger.run import Run, error_info
from ledger.state import Status, TrialState
from ledger.streams import trial_stream

if TYPE_CHECKING:
    from ledger.backends.base import Appended, Command
    from ledger.experiment import Experiment
    from ledger.log import EventLog

LEASE_SECONDS = 60.0
_HIDDEN = "LeaseRenewed"


class Trial(CorrectedTrial, ArtifactOwner, MetricOwner, Capturing):
    """One trial of an experiment. Made by ``Experiment.new_trial``, ``claim``, ``trial`` and ``trials``.

    **Guarantees.** Every method that records returns when its events are on disk; metrics are buffered (``log``).
    A method that the trial's state forbids raises InvalidTransition or LeaseLost, and records nothing but late results.

    **Threads and processes.** A handle may be used from any thread. Other handles of the same trial, in any process,
    see what is recorded at once: nothing of the trial's state is kept here but the attempt that this handle holds.

    >>> import ledger
    >>> exp = ledger.open("memory:").experiment("demo", objectives={"loss": "min"})
    >>> trial = exp.new_trial({"lr": 0.1})
    >>> with trial.run():
    ...     trial.log(step=1, loss=0.5)
    ...     trial.complete({"loss": 0.4})
    >>> trial.id, trial.status.value, trial.results
    (1, 'SUCCEEDED', {'loss': 0.4})
    """

    def __init__(self, experiment: Experiment, trial_id: int, config: dict[str, Any] | None = None) -> None:
        self.experiment = experiment
        self.id = trial_id
        self.stream = trial_stream(experiment.id, trial_id)
        self._book = experiment.book
        self._config = config
        self._lease: Lease | None = None
        self._attempt: int | None = None  # the one this handle was granted
        self._is_done = False  # this handle has ended that attempt, or handed it back
        self._worker = default_actor()
        self._actor: str | None = None
        self._buffers = {}

    def __repr__(self) -> str:
        return f"<Trial {self.id} of {self.experiment.name!r}>"

    # ------------------------------------------------------------------------------------------------- state

    @property
    def state(self) -> TrialState:
        """The trial as it stands now, read from the ledger."""
        with self._book.log.backend.view() as view:
            state = view.trial(self.experiment.id, self.id)
        if state is None:
            raise UnknownTrial(f"there is no trial {self.id} in experiment {self.experiment.name!r}.")
        return state

    @property
    def config(self) -> dict[str, Any]:
        """The trial's config; parameters added while it ran included."""
        if self._config is None:
            self._config = self.state.config
        return dict(self._config)

    @property
    def status(self) -> Status:
        """Where the trial stands now."""
        return self.state.status

    @property
    def results(self) -> dict[str, Any]:
        """The results that count now."""
        return self.state.results

    @property
    def version(self) -> int:
        """The version of the trial's stream, for ``expected_version``."""
        return self._book.log.version(self.stream)

    @property
    def waits_for(self) -> list[str]:
        """The streams of the trials that have to succeed before this one is claimed; none unless it waits.

        >>> import ledger
        >>> exp = ledger.open("memory:").experiment("demo")
        >>> first = exp.new_trial({})
        >>> exp.new_trial({}, depends_on=[first]).waits_for == [first.stream]
        True
        """
        with self._book.log.backend.view() as view:
            state = view.trial(self.experiment.id, self.id)
            return unmet_dependencies(state.depends_on, view.trial) if state is not None and state.is_waiting else []

    @property
    def attempt(self) -> int | None:
        """The attempt that this handle was granted, or None."""
        return self._attempt

    @property
    def actor(self) -> str:
        """Who records through this handle: the worker that holds the trial, else who opened the ledger."""
        return self._actor or self._book.log.actor

    @property
    def is_done(self) -> bool:
        """Whether this handle has ended its attempt, or handed it back."""
        return self._is_done

    @property
    def is_lost(self) -> bool:
        """Whether the lease was found lost; a long computation may look here and stop."""
        return self._lease is not None and self._lease.is_lost

    def history(self, *, renewals: bool = False) -> Iterator[Record]:
        """Iterate over the trial's records; lease renewals are left out unless asked for.

        >>> import ledger
        >>> trial = ledger.open("memory:").experiment("demo").new_trial({"lr": 0.1})
        >>> [record.type for record in trial.history()]
        ['TrialCreated']
        """
        return (r for r in self._book.log.read(stream=self.stream) if renewals or r.type != _HIDDEN)

    # --------------------------------------------------------------------------------------------------- run

    def run(self, *, lease_seconds: float = LEASE_SECONDS, capture: CaptureOptions | bool | None = None) -> Run:
        """Run the trial: RUNNING inside the block, then SUCCEEDED, or FAILED with the exception, which goes on.

        A trial that was not claimed is claimed first, by this process. Its lease is renewed while the block runs. What
        this handle sets inside (``complete``, ``fail``, ``prune``, ``cancel``, ``release`` ...) stays as it is.
        KeyboardInterrupt and SystemExit are recorded too.

        ``capture`` records what it runs with, in the same step as its start; by default as the experiment's handle was told.

        Raises InvalidTransition when the trial is not waiting, LeaseLost when it was taken away.
        """
        return Run(self, lease_seconds, self.experiment.capture if capture is None else capture)

    def hold(self, attempt: int, lease_seconds: float, worker: str, actor: str | None = None) -> None:
        """Hold an attempt that was claimed for this handle: its records are of that attempt, and its lease is renewed.

        ``claim`` and ``start`` do it by themselves.
        """
        self._attempt, self._worker, self._actor, self._is_done = attempt, worker, actor, False
        self._lease = Lease(
            self._book.log, self._book.background, self.experiment.id, self.id, attempt, lease_seconds,
            self.actor, weakref.ref(self),
        )  # fmt: skip

    def start(
        self, *, lease_seconds: float = LEASE_SECONDS, capture: CaptureOptions | bool = False,
        function: Callable[..., Any] | None = None,
    ) -> None:  # fmt: skip
        """Start work on the trial without a block; end it with ``complete``, ``fail``, ``prune`` or ``release``.

        ``capture`` and ``function`` are as for ``run`` and ``capture``.
        """
        seconds = commands.check_lease(lease_seconds)
        captures = collect_for(capture, function)
        held = None if self._is_done else self._attempt  # an attempt that was handed back is not held any more
        command = commands.start(self.experiment.id, self.id, held, self._worker, seconds)
        appended = self._ask(self._with_captures(captures, command))
        self._is_done = False
        for _, event in appended.events:
            if isinstance(event, ev.TrialClaimed):
                self.hold(event.attempt, event.lease_seconds, self._worker, self._actor)
        warn_of_changes(self, appended)

    def complete(self, results: Mapping[str, Any] | None = None, *, expected_version: int | None = None) -> None:
        """End the trial as SUCCEEDED with its results; metrics are flushed first.

        With a result outside of its objective's bounds the trial is FAILED instead, and ResultOutOfBounds is warned of.

        Raises LeaseLost when the trial is no longer this handle's (the results are kept as late evidence), and
        InvalidTransition when it has ended already.
        """
        event = self._finish(ev.TrialCompleted(_results(results)), expected_version)
        if isinstance(event, ev.TrialFailed) and event.error is not None:
            warn_caller(ResultOutOfBounds(f"{self.stream} is FAILED: {event.error.message}."))

    def fail(
        self,
        error: BaseException | str | None = None,
        results: Mapping[str, Any] | None = None,
        *,
        expected_version: int | None = None,
    ) -> None:
        """End the trial as FAILED; an exception is kept with its traceback."""
        self._finish(ev.TrialFailed(error_info(error), _results(results)), expected_version)

    def prune(self, results: Mapping[str, Any] | None = None, *, expected_version: int | None = None) -> None:
        """End the trial as PRUNED: stopped early as not worth finishing."""
        self._finish(ev.TrialPruned(_results(results)), expected_version)

    def time_out(self, results: Mapping[str, Any] | None = None, *, expected_version: int | None = None) -> None:
        """End the trial as TIMED_OUT."""
        self._finish(ev.TrialTimedOut(_results(results)), expected_version)

    def _finish(self, event: Event, expected_version: int | None) -> Event:
        command = commands.finish(self.experiment.id, self.id, self._attempt, event, self._worker, expected_version)
        appended = self._flush_and_let_go(command, is_first=expected_version is not None)
        self._raise_if_late(appended)
        return appended.events[-1][1]

    def _raise_if_late(self, appended: Appended) -> None:
        _, last = appended.events[-1]
        if isinstance(last, ev.LateResultReceived):
            state = self.state
            raise LeaseLost(self.stream, last.attempt, state.status, state.attempt, state.worker)

    def cancel(self, reason: str | None = None, *, expected_version: int | None = None) -> None:
        """Call the trial off, whoever holds it; its worker gets LeaseLost."""
        self._ask(commands.cancel(self.experiment.id, self.id), reason, expected_version)
        self.let_go(done=True)

    def release(self, reason: str | None = None) -> None:
        """Hand the trial back, to be claimed by another worker."""
        self._flush_and_let_go(commands.release(self.experiment.id, self.id, self._attempt or 0), reason)

    def requeue(self, reason: str | None = None, *, expected_version: int | None = None) -> None:
        """Let the ended trial wait to be claimed again."""
        self._ask(commands.requeue(self.experiment.id, self.id), reason, expected_version)
        self._attempt, self._is_done = None, False

    def assign(self, worker: str | None, *, reason: str | None = None, expected_version: int | None = None) -> None:
        """Let only this worker claim the trial, or with None any; whoever holds it goes on."""
        name = "" if worker is None else commands.check_name(worker, "the worker's name")
        self._record(ev.TrialAssigned(name), reason, expected_version)

    def force_status(
        self, status: Status | str, *, reason: str, results: Mapping[str, Any] | None = None,
        expected_version: int | None = None,
    ) -> None:  # fmt: skip
        """Set the status outside the rules, with the reason why."""
        event = ev.StatusForced(str(status), _results(results))
        self._ask(commands.force_status(self.experiment.id, self.id, event, reason), reason, expected_version)
        self.let_go(done=True)
        state = self.state
        self._attempt = None if state.status is Status.PENDING else state.attempt
        self._is_done = state.status not in (Status.READY, Status.RUNNING)

    def let_go(self, *, done: bool = False) -> None:
        """Renew the lease no more; ``done`` says that the attempt was ended or handed back."""
        self._is_done = self._is_done or done
        if self._lease is not None:
            self._lease.stop()

    # ------------------------------------------------------------------------------------------------ record

    def configure(self, parameters: Mapping[str, Any], *, expected_version: int | None = None) -> None:
        """Add parameters to the config before the trial's end (define-by-run); each is set once.

        Raises LeaseLost when the trial is no longer this handle's.
        """
        self._ask(commands.configure(self.experiment.id, self.id, self._attempt, dict(parameters)), None, expected_version)
        self._config = None

    def report(self, results: Mapping[str, Any], *, expected_version: int | None = None) -> None:
        """Record results before the trial's end, or more of them after it; they are merged.

        Raises LeaseLost when the trial is no longer this handle's; the results are kept as late evidence.
        """
        command = commands.report(self.experiment.id, self.id, self._attempt, _results(results), expected_version)
        self._raise_if_late(self._ask(command))

    def set_group(self, group: str, *, expected_version: int | None = None) -> None:
        """Put the trial into a group, and out of the one it was in; an empty name is no group."""
        self._record(ev.TrialGrouped(group), None, expected_version)

    def _record(self, event: Event, reason: str | None = None, expected_version: int | None = None) -> Appended:
        return self._ask(commands.record_on_trial(self.experiment.id, self.id, event), reason, expected_version)

    def _event_log(self) -> EventLog:
        return self._book.log

    def _records(self, types: Iterable[type[Event]]) -> Iterator[Record]:
        return self._book.log.read(stream=self.stream, types=types)

    def _ask(self, command: Command, reason: str | None = None, expected_version: int | None = None) -> Appended:
        expect = None if expected_version is None else {self.stream: expected_version}
        return self._book.log.execute(command, actor=self._actor, reason=reason, expect=expect)


def _results(results: Mapping[str, Any] | None) -> dict[str, Any]:
    return dict(results or {})
