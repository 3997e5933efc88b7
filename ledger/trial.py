"""Trial: the handle through which a trial is run and recorded."""

from __future__ import annotations

import threading
import warnings
import weakref
from collections.abc import Callable, Iterable, Iterator, Mapping
from typing import TYPE_CHECKING, Any
from uuid import UUID

from ledger import commands, corrections
from ledger import events as ev
from ledger.annotations import Annotated
from ledger.bulk import point_batches
from ledger.capture.handle import Capturing, collect_for
from ledger.capture.options import CaptureOptions
from ledger.errors import LeaseLost, ResultOutOfBounds, UnknownTrial
from ledger.identity import default_actor
from ledger.jobs import Lease
from ledger.records import Record
from ledger.registry import Event
from ledger.rules import check_open
from ledger.run import Run, error_info
from ledger.state import Status, TrialState, evolve_as_recorded
from ledger.streams import Subject, trial_stream
from ledger.telemetry import PointBuffer

if TYPE_CHECKING:
    from ledger.backends.base import Appended, Command
    from ledger.experiment import Experiment

LEASE_SECONDS = 60.0
_HIDDEN = "LeaseRenewed"


class Trial(Annotated, Capturing):
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
        self._buffers: dict[str, PointBuffer] = {}
        self._mutex = threading.Lock()

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
    def attempt(self) -> int | None:
        """The attempt that this handle was granted, or None."""
        return self._attempt

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

    def _hold(self, attempt: int, lease_seconds: float, worker: str, actor: str | None) -> None:
        self._attempt, self._worker, self._actor, self._is_done = attempt, worker, actor, False
        self._lease = Lease(
            self._book.log, self._book.background, self.experiment.id, self.id, attempt, lease_seconds,
            actor or self._book.log.actor, weakref.ref(self),
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
        appended = self._execute(self._with_captures(captures, command))
        self._is_done = False
        for _, event in appended.events:
            if isinstance(event, ev.TrialClaimed):
                self._hold(event.attempt, event.lease_seconds, self._worker, self._actor)
        self._warn_of_changes(appended)

    def complete(self, results: Mapping[str, Any] | None = None) -> None:
        """End the trial as SUCCEEDED with its results; metrics are flushed first.

        With a result outside of its objective's bounds the trial is FAILED instead, and ResultOutOfBounds is warned of.

        Raises LeaseLost when the trial is no longer this handle's (the results are kept as late evidence), and
        InvalidTransition when it has ended already.
        """
        event = self._finish(ev.TrialCompleted(_results(results)))
        if isinstance(event, ev.TrialFailed) and event.error is not None:
            warnings.warn(ResultOutOfBounds(f"{self.stream} is FAILED: {event.error.message}."), stacklevel=2)

    def fail(self, error: BaseException | str | None = None, results: Mapping[str, Any] | None = None) -> None:
        """End the trial as FAILED; an exception is kept with its traceback."""
        self._finish(ev.TrialFailed(error_info(error), _results(results)))

    def prune(self, results: Mapping[str, Any] | None = None) -> None:
        """End the trial as PRUNED: stopped early as not worth finishing."""
        self._finish(ev.TrialPruned(_results(results)))

    def time_out(self, results: Mapping[str, Any] | None = None) -> None:
        """End the trial as TIMED_OUT."""
        self._finish(ev.TrialTimedOut(_results(results)))

    def _finish(self, event: Event) -> Event:
        self.flush()
        command = commands.finish(self.experiment.id, self.id, self._attempt, event, self._worker)
        appended = self._execute(command)
        self._let_go(done=True)
        self._raise_if_late(appended)
        return appended.events[-1][1]

    def _raise_if_late(self, appended: Appended) -> None:
        _, last = appended.events[-1]
        if isinstance(last, ev.LateResultReceived):
            state = self.state
            raise LeaseLost(self.stream, last.attempt, state.status, state.attempt, state.worker)

    def cancel(self, reason: str | None = None) -> None:
        """Call the trial off, whoever holds it; its worker gets LeaseLost."""
        self._execute(commands.cancel(self.experiment.id, self.id), reason=reason)
        self._let_go(done=True)

    def release(self, reason: str | None = None) -> None:
        """Hand the trial back, to be claimed by another worker."""
        self.flush()
        self._execute(commands.release(self.experiment.id, self.id, self._attempt or 0), reason=reason)
        self._let_go(done=True)

    def requeue(self, reason: str | None = None) -> None:
        """Let the ended trial wait to be claimed again."""
        self._execute(commands.requeue(self.experiment.id, self.id), reason=reason)
        self._attempt, self._is_done = None, False

    def force_status(self, status: Status | str, *, reason: str, results: Mapping[str, Any] | None = None) -> None:
        """Set the status outside the rules, with the reason why."""
        event = ev.StatusForced(str(status), _results(results))
        self._execute(commands.force_status(self.experiment.id, self.id, event, reason), reason=reason)
        self._let_go(done=True)
        state = self.state
        self._attempt = None if state.status is Status.PENDING else state.attempt
        self._is_done = state.status not in (Status.READY, Status.RUNNING)

    # --------------------------------------------------------------------------------------------- correct

    def amend(
        self, *, reason: str, results: Mapping[str, Any] | None = None, withdraw: Iterable[str] = (),
        config: Mapping[str, Any] | None = None, label: str | None = None, status: Status | str | None = None,
    ) -> Appended:  # fmt: skip
        """Correct what was recorded, with the reason why; the first values stay in history, and tables can show either.

        ``results`` and ``config`` give names that were recorded another value; ``withdraw`` names results that do not
        count at all; ``label`` is what the config is called; ``status`` is that of a trial that has ended, and still has.
        Where a trial goes on is not for an amendment to say: ``requeue``, ``force_status``.

        >>> import ledger
        >>> trial = ledger.open("memory:").experiment("demo").new_trial({"lr": 0.1})
        >>> trial.complete({"loss": 0.4})
        >>> _ = trial.amend(results={"loss": 0.5}, reason="read from the wrong line")
        >>> trial.results, trial.as_recorded.results
        ({'loss': 0.5}, {'loss': 0.4})
        """
        chosen = None if status is None else str(status)
        event = ev.TrialAmended(_results(results), list(withdraw), _results(config), label, chosen)
        appended = self._ask(corrections.amend_trial(self.experiment.id, self.id, event, reason), reason)
        self._config = None
        return appended

    @property
    def as_recorded(self) -> TrialState:
        """The trial as if nothing of it had been amended, folded from its records."""
        state, subject = None, Subject(self.experiment.id, self.id)
        for record in self.history(renewals=True):
            state = evolve_as_recorded(state, subject, record.event, record.happened_at)
        if state is None:
            raise UnknownTrial(f"there is no trial {self.id} in experiment {self.experiment.name!r}.")
        return state

    def delete(self, reason: str | None = None, *, ensure: bool = True) -> Appended:
        """Delete the trial: tables leave it out, history shows it, ``restore`` brings it back.

        A worker that holds it gets LeaseLost. With ``ensure`` a trial that is gone already raises UnknownTrial; without,
        that is left as it is.
        """
        appended = self._ask(corrections.delete_trial(self.experiment.id, self.id, ensure=ensure), reason)
        self._let_go(done=True)
        return appended

    def restore(self, reason: str | None = None) -> Appended:
        """Bring the deleted trial back; one that was waiting waits again, one that was held is CANCELED."""
        return self._ask(corrections.restore_trial(self.experiment.id, self.id), reason)

    def _let_go(self, *, done: bool = False) -> None:
        self._is_done = self._is_done or done
        if self._lease is not None:
            self._lease.stop()

    # ------------------------------------------------------------------------------------------------ record

    def log(self, *, step: float | None = None, at: int | None = None, **values: Any) -> None:
        """Log metrics: values by name, at a step; buffered for a second or 4096 values (see ``flush``).

        ``at`` is the time in ns since 1970 UTC, now by default. ``log_metrics`` takes names that are no identifiers.
        Raises LeaseLost once the trial is known to be no longer this handle's.
        """
        self.log_metrics(values, step=step, at=at)

    def log_metrics(self, values: Mapping[str, Any], *, step: float | None = None, at: int | None = None) -> None:
        """Log metrics, by name in a dict; as ``log``."""
        self._book.log.backend.check_usable()
        if self._lease is not None:
            self._lease.check()
        self._buffer("metrics").add(step, values, at)

    def log_telemetry(self, values: Mapping[str, Any], *, step: float | None = None, at: int | None = None) -> None:
        """Log telemetry: values about the run itself, buffered like metrics."""
        self._book.log.backend.check_usable()
        self._buffer("telemetry").add(step, values, at)

    def log_many(self, values: Any, *, steps: Any = None, at: Any = None) -> None:
        """Log many points of metrics at once; they are on disk when it returns, all of them or none.

        ``values`` is a dict from names to columns (lists, numpy arrays, pandas Series) or a data frame; ``steps`` and ``at``
        (datetimes with a zone, datetime64, which is UTC without one, or ns since 1970 UTC; now by default) are columns of the
        same length, or names of columns of the frame.

        Raises InvalidValue, naming column and row, for what is no point.

        >>> import ledger
        >>> trial = ledger.open("memory:").experiment("demo").new_trial({})
        >>> trial.log_many({"loss": [0.5, 0.4]}, steps=[1, 2])
        """
        self._record_points(ev.MetricsLogged, values, steps, at)

    def log_telemetry_many(self, values: Any, *, steps: Any = None, at: Any = None) -> None:
        """Log many points of telemetry at once, as ``log_many``."""
        self._record_points(ev.TelemetryLogged, values, steps, at)

    def _record_points(self, kind: Any, values: Any, steps: Any, at: Any) -> None:
        events = [kind([points], self._attempt or 0) for points in point_batches(values, steps, at)]
        self.flush()  # what was logged before comes first
        if events:
            self._execute(commands.record_on_trial(self.experiment.id, self.id, *events))

    def flush(self) -> None:
        """Return when every metric logged so far is on disk."""
        for buffer in list(self._buffers.values()):
            buffer.flush()

    def _buffer(self, kind: str) -> PointBuffer:
        buffer = self._buffers.get(kind)
        if buffer is None:
            with self._mutex:
                event = ev.MetricsLogged if kind == "metrics" else ev.TelemetryLogged

                def append(points: list[ev.Points], append_id: UUID) -> None:
                    command = commands.record_on_trial(self.experiment.id, self.id, event(points, self._attempt or 0))
                    self._book.log.execute(command, actor=self._actor, append_id=append_id)

                buffer = self._buffers.setdefault(kind, PointBuffer(append, self._book.background, self._check_open))
        return buffer

    def _check_open(self) -> None:
        """Raise at the call what would else be raised when the points are flushed."""
        with self._book.log.backend.view() as view:
            check_open(commands.experiment_of(view, self.experiment.id), ev.MetricsLogged([]))

    def configure(self, parameters: Mapping[str, Any]) -> None:
        """Add parameters to the config before the trial's end (define-by-run); each is set once.

        Raises LeaseLost when the trial is no longer this handle's.
        """
        self._execute(commands.configure(self.experiment.id, self.id, self._attempt, dict(parameters)))
        self._config = None

    def report(self, results: Mapping[str, Any]) -> None:
        """Record results before the trial's end, or more of them after it; they are merged.

        Raises LeaseLost when the trial is no longer this handle's; the results are kept as late evidence.
        """
        self._raise_if_late(self._execute(commands.report(self.experiment.id, self.id, self._attempt, _results(results))))

    def set_group(self, group: str) -> None:
        """Put the trial into a group, and out of the one it was in; an empty name is no group."""
        self._record(ev.TrialGrouped(group))

    def _record(self, event: Event) -> Appended:
        return self._execute(commands.record_on_trial(self.experiment.id, self.id, event))

    def _ask(self, command: Command, reason: str | None = None) -> Appended:
        return self._execute(command, reason)

    def _records(self, types: Iterable[type[Event]]) -> Iterator[Record]:
        return self._book.log.read(stream=self.stream, types=types)

    def _execute(self, command: Command, reason: str | None = None) -> Appended:
        return self._book.log.execute(command, actor=self._actor, reason=reason)


def _results(results: Mapping[str, Any] | None) -> dict[str, Any]:
    return dict(results or {})
