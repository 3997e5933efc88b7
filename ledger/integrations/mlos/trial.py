"""The trial that mlos_bench's schedulers run and update."""

from __future__ import annotations

import logging
from collections.abc import Mapping
from datetime import UTC, datetime
from typing import TYPE_CHECKING, Any

from mlos_bench.environments.status import Status
from mlos_bench.storage.base_storage import Storage

from ledger import commands
from ledger import events as ev
from ledger.backends.base import Appended, Command, Staged, View
from ledger.errors import CommandRefused, InvalidValue, LeaseLost
from ledger.integrations.mlos.features import accepted
from ledger.integrations.mlos.handing_out import is_held_by
from ledger.integrations.mlos.telemetry import POLLED, Point, read_points, rows_of, telemetry_events
from ledger.integrations.mlos.transitions import Transitions
from ledger.integrations.mlos.values import CONFIG, NAMESPACE, RUNNER, nanoseconds_of, recordable_point, recordables, text_of
from ledger.log import answers_of
from ledger.status import HELD
from ledger.status import Status as TrialStatus
from ledger.trial import Trial

if TYPE_CHECKING:
    from ledger.integrations.mlos.experiment import LedgerExperiment

_LOG = logging.getLogger(__name__)
_LONG_TEXT = 4_000  # a longer one is not buffered


class LedgerTrial(Storage.Trial):  # type: ignore[misc]
    """A trial of an experiment in a ledger. Made by ``LedgerExperiment``.

    **Guarantees.** What ``update`` records is on disk when it returns; telemetry is a second later at most, and no later than
    the trial's end (``kill -9`` loses what came in that second). A trial that another storage's process holds is refused with
    RuntimeError, as is one that has ended; the handle's status then stays what it was. A trial that was handed out by
    ``pending_trials`` is RUNNING from when its runner asks for ``config(global_config)``, which every scheduler of mlos_bench
    does first; so ``ts_start`` is when it ran.

    **Threads and processes.** One thread at a time. The lease is renewed in the background while the handle is there.
    """

    def __init__(
        self, experiment: LedgerExperiment, trial: Trial, *, tunables: Any, config: dict[str, Any] | None, waiting_since: int,
        status: Status = Status.PENDING, trial_runner_id: int | None = None, is_new: bool = False,
    ) -> None:  # fmt: skip
        storage = experiment.storage
        self._in, self._handle = experiment, trial
        self._transitions = Transitions(trial.experiment.id, trial.id, storage.worker, storage.lease_seconds)
        self._since = waiting_since  # ns: when it was handed to this handle, else when it began to wait
        self._sent: set[Point] | None = set() if is_new else None  # what was logged before, once it is known
        super().__init__(
            **accepted(
                Storage.Trial.__init__,
                tunables=tunables,
                experiment_id=experiment.experiment_id,
                trial_id=trial.id,
                tunable_config_id=None,
                trial_runner_id=trial_runner_id,
                opt_targets=experiment.opt_targets,
                status=status,
                restoring=not is_new,
                config=config,
            )
        )
        self._status, self._trial_runner_id = status, trial_runner_id

    @property
    def experiment_id(self) -> str:
        """The name of the experiment."""
        return self._experiment_id  # type: ignore[no-any-return]

    @property
    def trial_runner_id(self) -> int | None:
        """The id of the trial runner that it is assigned to, if any."""
        return self._trial_runner_id

    @property
    def _tunable_config_id(self) -> int:
        """The number of its config, which the base class keeps: found when it is asked for, as most never are."""
        return self._in.config_id(self._handle.id)

    @_tunable_config_id.setter
    def _tunable_config_id(self, value: object) -> None:
        pass

    def config(self, global_config: dict[str, Any] | None = None) -> dict[str, Any]:
        """Return the global config with the trial's parameters; asked with one, its runner begins."""
        if global_config is not None and not self._status.is_completed():
            self._run_if_handed_out()
        return super().config(global_config)  # type: ignore[no-any-return]

    # ------------------------------------------------------------------------------------------------ runner

    def set_trial_runner(self, trial_runner_id: int) -> int:
        """Assign the trial to a runner if it has none or has not begun; return the one it has then."""

        def command(view: View) -> list[Staged]:
            state = commands.trial_of(view, *self._ids)
            known = state.attributes.get(NAMESPACE, {}).get(RUNNER)
            has_begun = state.started_at is not None or state.status.is_finished
            if known == trial_runner_id or (known is not None and has_begun):
                return []
            return [(state.stream, ev.AttributesSet({RUNNER: trial_runner_id}, NAMESPACE))]

        if self._execute(command).events:
            self._trial_runner_id = trial_runner_id
        else:
            self._trial_runner_id = self._handle.state.attributes.get(NAMESPACE, {}).get(RUNNER)
        if self._trial_runner_id != trial_runner_id:
            _LOG.warning("Trial %s has the runner %s, not %s", self, self._trial_runner_id, trial_runner_id)
        return self._trial_runner_id  # type: ignore[return-value]

    def add_new_config_data(self, new_config_data: Mapping[str, int | float | str]) -> None:
        """Add parameters that are no tunables; ValueError when one of them is there already, by whomever it was added."""
        self._save_new_config_data(new_config_data)
        self._config.update(new_config_data)

    def _save_new_config_data(self, new_config_data: Mapping[str, int | float | str]) -> None:
        new = recordables(new_config_data)

        def command(view: View) -> list[Staged]:
            state = commands.trial_of(view, *self._ids)
            known = state.attributes.get(NAMESPACE, {}).get(CONFIG, {})
            for name in new.keys() & known.keys():
                raise InvalidValue(f"{state.stream} has {name!r} = {known[name]!r} already; a parameter is set once.")
            return [(state.stream, ev.AttributesSet({CONFIG: {**known, **new}}, NAMESPACE))] if new else []

        self._execute(command)

    # ------------------------------------------------------------------------------------------------ update

    def update(self, status: Status, timestamp: datetime, metrics: dict[str, Any] | None = None) -> dict[str, Any] | None:
        """Record the trial's status, and with its end the metrics; see ``Storage.Trial.update``.

        Raises RuntimeError when the trial has ended, or another process holds it: nothing is recorded then but results that
        come too late. InvalidValue for metrics of a trial that goes on.
        """
        before, at = self._status, nanoseconds_of(timestamp)
        kept: dict[str, Any] | None = super().update(status, timestamp, metrics)
        try:
            if status.is_completed():
                self._end(status, at, recordables(kept or {}))
            elif metrics is not None:
                raise InvalidValue(f"metrics were given with the status {status.name}; they come with the end of a trial.")
            else:
                self._go_on(status, at)
        except CommandRefused as refused:
            self._status = before
            raise RuntimeError(f"Failed to update the status of the trial {self} to {status}. {refused}") from refused
        except InvalidValue:
            self._status = before
            raise
        return kept

    def _end(self, status: Status, at: int, results: dict[str, Any]) -> None:
        attempt, log = self._attempt, self._in.log
        began = log.submission(self._transitions.begin(attempt), occurred_at=min(self._held_since(), at))
        ended = log.submission(self._transitions.end(attempt, status.name, results), occurred_at=at)
        steps = [ended] if status.is_canceled() else [began, ended]
        with self._handle.flushing() as buffered:
            answers = answers_of(log.commit([*buffered, *steps]))
        self.let_go()
        _, last = answers[-1].events[-1]
        if isinstance(last, ev.LateResultReceived):
            state = self._handle.state
            raise LeaseLost(state.stream, last.attempt, state.status, state.attempt, state.worker)

    def _held_since(self) -> int:
        """Return when it was handed out, be it to another handle of this worker; else when it began to wait."""
        state = self._handle.state if self._attempt is None else None
        is_held = state is not None and state.deadline is not None and is_held_by(state, self._in.storage.worker)
        return self._since if state is None or not is_held else (state.deadline or 0) - int(state.lease_seconds * 1e9)

    def _go_on(self, status: Status, at: int) -> None:
        attempt = self._attempt
        if status is Status.UNKNOWN:  # which says nothing of the trial
            self._log_points([Point(at, POLLED, status.name)])
            return
        wanted = {Status.RUNNING: self._transitions.run, Status.READY: self._transitions.take}
        appended = self._execute(wanted.get(status, self._transitions.put_back)(attempt), occurred_at=at)
        self.hold(appended, at)
        if not appended.events:
            _LOG.warning("Trial %s :: stays as it is, not %s", self, status)
        elif status.is_pending():
            self.let_go()

    def _run_if_handed_out(self) -> None:
        """Have the trial running if it was handed to this worker, through this handle or one in another process."""
        state, attempt = self._handle.state, self._attempt
        is_ready = state.status is TrialStatus.READY and is_held_by(state, self._in.storage.worker)
        if not is_ready and (attempt is None or state.attempt == attempt):
            return
        try:
            self._execute(self._transitions.run(attempt), occurred_at=nanoseconds_of(datetime.now(UTC)))
        except CommandRefused as refused:  # another one has it by now: it must not be run twice
            raise RuntimeError(f"The trial {self} cannot be run. {refused}") from refused
        self._status = Status.RUNNING

    def hold(self, appended: Appended, at: int) -> None:
        """Take note of the claim among what was appended, if there is one."""
        for _, event in appended.events:
            if isinstance(event, ev.TrialClaimed):
                self._handle.hold(event.attempt, event.lease_seconds, event.worker)
                self._since = at
                self._in.holding(self)

    def let_go(self) -> None:
        """Renew the lease no more: the trial has ended, or waits again."""
        self._handle.let_go(done=True)
        self._in.has_let_go(self)

    def release(self, reason: str, *, running: bool) -> None:
        """Let the trial wait again if this handle holds it and it has not begun; with ``running``, also if it has."""

        def command(view: View) -> list[Staged]:
            state = commands.trial_of(view, *self._ids)
            is_own = state.attempt == self._handle.attempt and state.status in HELD
            if not is_own or (state.started_at is not None and not running):
                return []
            return [(state.stream, ev.TrialReleased(state.attempt))]

        if self._execute(command, reason=reason).events:
            self._handle.let_go(done=True)

    # --------------------------------------------------------------------------------------------- telemetry

    def update_telemetry(self, status: Status, timestamp: datetime, metrics: list[tuple[datetime, str, Any]]) -> None:
        """Record telemetry, and the status that was polled with it, which does not change that of the trial.

        What was sent before is not recorded again; a value that differs from one of the same time and name is kept beside it.
        """
        super().update_telemetry(status, timestamp, metrics)
        points = [Point(nanoseconds_of(at), str(name), recordable_point(value)) for at, name, value in metrics]
        self._log_points([*points, Point(nanoseconds_of(timestamp), POLLED, status.name)])

    def _log_points(self, points: list[Point]) -> None:
        if self._sent is None:
            self._sent = {_as_sent(point) for point in read_points(self._in.log, self._handle.stream)}
        new = {key: point for point in points if (key := _as_sent(point)) not in self._sent}
        self._sent.update(new)
        for at, row in rows_of(new.values()):
            if any(type(value) is str and len(value) > _LONG_TEXT for value in row.values()):
                events = telemetry_events([Point(at, *each) for each in row.items()], self._attempt or 0)
                self._execute(commands.record_on_trial(*self._ids, *events))
            else:
                self._handle.log_telemetry(row, at=at)

    # ------------------------------------------------------------------------------------------------ ledger

    @property
    def _attempt(self) -> int | None:
        """The attempt that this handle was granted and has not ended."""
        return None if self._handle.is_done else self._handle.attempt

    @property
    def _ids(self) -> tuple[Any, int]:
        return self._handle.experiment.id, self._handle.id

    def _execute(self, command: Command, **context: Any) -> Appended:
        return self._in.log.execute(command, **context)


def _as_sent(point: Point) -> Point:
    return point._replace(value=text_of(point.value))
