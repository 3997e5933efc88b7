"""The experiment that mlos_bench's schedulers add trials to, and take them from."""

from __future__ import annotations

import logging
import subprocess
from collections.abc import Iterator
from datetime import UTC, datetime
from typing import TYPE_CHECKING, Any
from uuid import UUID

from mlos_bench.environments.status import Status
from mlos_bench.storage.base_storage import Storage

import ledger
from ledger import commands
from ledger import events as ev
from ledger.backends.base import Staged, View
from ledger.errors import UnknownExperiment
from ledger.identity import new_uuid7
from ledger.integrations.mlos.experiment_data import LedgerExperimentData, origin_of
from ledger.integrations.mlos.handing_out import hand_out, has_run_out, is_held_by, is_nobodys
from ledger.integrations.mlos.merging import merge_experiment
from ledger.integrations.mlos.telemetry import read_telemetry
from ledger.integrations.mlos.trial import LedgerTrial
from ledger.integrations.mlos.trial_data import status_of
from ledger.integrations.mlos.values import CONFIG, NAMESPACE, RUNNER, moment_of, nanoseconds_of, recordables, text_of, texts_of
from ledger.log import EventLog
from ledger.state import ExperimentState, TrialState
from ledger.status import Status as TrialStatus
from ledger.streams import experiment_stream, trial_number, trial_stream
from ledger.telemetry import flush_buffers

if TYPE_CHECKING:
    from ledger.integrations.mlos.storage import LedgerStorage

_LOG = logging.getLogger(__name__)
_RESUMED = "mlos.resumed"  # the namespace of what it was resumed with last, where that differs from its beginning


class LedgerExperiment(Storage.Experiment):  # type: ignore[misc]
    """An experiment in a ledger. Made by ``LedgerStorage.experiment``; nothing is recorded before its ``with`` block.

    Several processes may be in the block of one experiment at once: trials get the next free numbers, and each that waits is
    handed to one of them. Resuming it with another description, other targets or other configs (by git) leaves what it began
    with, records the git state as attributes, and logs a warning.
    """

    def __init__(self, storage: LedgerStorage, state: ExperimentState | None = None, **arguments: Any) -> None:
        self.storage = storage
        self._id: UUID | None = None
        self._held: dict[int, LedgerTrial] = {}  # so that their leases are renewed
        try:
            super().__init__(**arguments)
        except (OSError, subprocess.CalledProcessError):
            if state is None:
                raise
            # Where this process works is not where the experiment's configs are: what was recorded of them will do.
            self._tunables, self._opt_targets = arguments["tunables"].copy(), arguments["opt_targets"]
            self._experiment_id, self._trial_id = arguments["experiment_id"], arguments["trial_id"]
            self._description, self._in_context = arguments["description"], False
        if state is not None:
            self._id, self._trial_id = state.id, state.next_trial_id
            self._root_env_config, self._git_repo, self._git_commit = origin_of(state)

    # ------------------------------------------------------------------------------------------------ ledger

    @property
    def log(self) -> EventLog:
        """The ledger's log."""
        return self.storage.book.log

    @property
    def id(self) -> UUID:
        """The experiment's id in the ledger; raises UnknownExperiment when it is not there yet."""
        if self._id is None:
            with self.log.backend.view() as view:
                self._id = view.experiment_named(self._experiment_id)
            if self._id is None:
                raise UnknownExperiment(f"there is no experiment {self._experiment_id!r} yet: enter its `with` block first.")
        return self._id

    @property
    def _data(self) -> LedgerExperimentData:
        return LedgerExperimentData(self.storage.book, self.storage.tables, self._state())

    def _state(self) -> ExperimentState:
        with self.log.backend.view() as view:
            return commands.experiment_of(view, self.id)

    def _trial_state(self, trial_id: int) -> TrialState | None:
        with self.log.backend.view() as view:
            return view.trial(self.id, trial_id)

    def config_id(self, trial_id: int) -> int:
        """Return the number of a trial's config."""
        return self._data.config_id(trial_id)

    # ----------------------------------------------------------------------------------------------- context

    def _setup(self) -> None:
        super()._setup()
        name, origin = self._experiment_id, self._origin()
        created = ev.ExperimentCreated(name, dict(self._opt_targets), self._description or "")
        stream = experiment_stream(new_uuid7())

        def command(view: View) -> list[Staged]:
            if view.experiment_named(name) is not None:
                return []
            return [(stream, created), (stream, ev.AttributesSet(origin, NAMESPACE))]

        is_new = bool(self.log.execute(command).events)
        state = self._state()
        if state.next_trial_id > 1 or self._trial_state(0) is not None:
            self._trial_id = state.next_trial_id
        _LOG.info("%s experiment: %s from trial %d", "Start new" if is_new else "Continue", name, self._trial_id)
        if not is_new:
            self._tell_of_changes(state, origin)

    def _origin(self) -> dict[str, str]:
        return {"git_repo": self._git_repo, "git_commit": self._git_commit, "root_env_config": self._root_env_config}

    def _tell_of_changes(self, state: ExperimentState, origin: dict[str, str]) -> None:
        """Record what the experiment goes on with, if that differs from what it had last; and warn."""
        known = {**state.attributes.get(NAMESPACE, {}), **state.attributes.get(_RESUMED, {})}
        if any(known.get(name) != value for name, value in origin.items()):
            _LOG.warning("Experiment %s goes on from %s; it was at %s", self, origin, {name: known.get(name) for name in origin})
            self.log.execute(commands.record_on_experiment(self.id, ev.AttributesSet(origin, _RESUMED)))
        if dict(self._opt_targets) != state.objectives:
            _LOG.warning("Experiment %s has the targets %s, not %s", self, state.objectives, self._opt_targets)
        if (self._description or "") != state.description:
            _LOG.warning("Experiment %s has the description %r, not %r", self, state.description, self._description)

    def _teardown(self, is_ok: bool) -> None:
        """Hand back the trials that were handed out and not run; after an exception, also those that ran."""
        for trial in list(self._held.values()):
            trial.release("the experiment's block was left" if is_ok else "the experiment ended in an error", running=not is_ok)
        self._held.clear()
        flush_buffers(self.storage.book.background)
        super()._teardown(is_ok)

    def holding(self, trial: LedgerTrial) -> None:
        """Keep a trial that is held, so that its lease is renewed."""
        self._held[trial.trial_id] = trial

    def has_let_go(self, trial: LedgerTrial) -> None:
        """Forget a trial that is not held any more."""
        self._held.pop(trial.trial_id, None)

    # ------------------------------------------------------------------------------------------------ trials

    def _new_trial(self, tunables: Any, ts_start: datetime | None = None, config: dict[str, Any] | None = None) -> LedgerTrial:
        values = recordables({tunable.name: tunable.value for tunable, _ in tunables})
        scheduled_at = None if ts_start is None else nanoseconds_of(ts_start)
        created = commands.trial_created(values, scheduled_at=scheduled_at)
        said = ev.AttributesSet({CONFIG: recordables(config)}, NAMESPACE) if config else None
        first = self._trial_id

        def command(view: View) -> list[Staged]:
            number = commands.experiment_of(view, self.id).next_trial_id
            if number <= 1 and view.trial(self.id, 0) is None:
                number = first  # there are none yet: they begin where mlos_bench was told
            stream = trial_stream(self.id, number)
            return [(stream, created), *([] if said is None else [(stream, said)])]

        appended = self.log.execute(command)
        trial_id = trial_number(appended.events[0][0])
        self._trial_id = trial_id + 1
        since = appended.recorded_at if scheduled_at is None else scheduled_at
        return LedgerTrial(
            self, self._handle(trial_id), tunables=tunables, config=config, waiting_since=since, is_new=True
        )  # fmt: skip

    def _handle(self, trial_id: int) -> ledger.Trial:
        return ledger.Trial(ledger.Experiment(self.storage.book, self.id), trial_id)

    def get_trial_by_id(self, trial_id: int) -> LedgerTrial | None:
        """Return a trial; None when there is none of that number."""
        state = self._trial_state(trial_id) if trial_id >= 0 else None
        return None if state is None or state.deleted_at is not None else self._restored(state)

    def _restored(self, state: TrialState) -> LedgerTrial:
        said = state.attributes.get(NAMESPACE, {})
        waits = state.status in (TrialStatus.PENDING, TrialStatus.READY)
        return LedgerTrial(
            self, self._handle(state.id), tunables=self._tunables.copy().assign(state.config).reset(),
            config=texts_of(said.get(CONFIG, {})), trial_runner_id=said.get(RUNNER), waiting_since=_waiting_since(state),
            status=Status.PENDING if waits else status_of(state.status),
        )  # fmt: skip

    def pending_trials(
        self, timestamp: datetime, *, running: bool = False, trial_runner_assigned: bool | None = None
    ) -> Iterator[LedgerTrial]:  # fmt: skip
        """Iterate over the trials that wait, claiming each for this storage's process as it is asked for; see ``Storage``.

        First come those that this handle was given before and has not run, and with ``running`` those that it runs. Trials
        that another process holds are left out while that is heard of: when its lease has run out they are handed out again.
        Higher priorities first, then the earlier. ``trial_runner_assigned``: only those that have a runner, or have none.
        """
        moment = nanoseconds_of(timestamp)
        _LOG.info("Hand out pending trials of %s @ %s", self._experiment_id, timestamp)
        for trial in sorted(self._held.values(), key=lambda trial: trial.trial_id):
            is_wanted = _has_runner(trial.trial_runner_id, trial_runner_assigned) and self._is_still_held(trial, running)
            if is_wanted:
                yield trial
        for state in self._waiting(moment, running):
            runner = state.attributes.get(NAMESPACE, {}).get(RUNNER)
            if state.id not in self._held and self._is_ours(state) and _has_runner(runner, trial_runner_assigned):
                now = nanoseconds_of(datetime.now(UTC))
                command = hand_out(self.id, state.id, self.storage.worker, self.storage.lease_seconds, running=running)
                appended = self.log.execute(command, occurred_at=now)
                if any(isinstance(event, ev.TrialClaimed) for _, event in appended.events):
                    trial = self._restored(state)
                    trial.hold(appended, now)
                    yield trial

    def _is_still_held(self, trial: LedgerTrial, running: bool) -> bool:
        state = self._trial_state(trial.trial_id)
        if state is None or not is_held_by(state, self.storage.worker):
            self.has_let_go(trial)
            return False
        return running or state.status is TrialStatus.READY

    def _is_ours(self, state: TrialState) -> bool:
        """Say whether the trial's parameters are tunables here; others' trials are left to them."""
        foreign = [name for name in state.config if name not in self._tunables]
        if foreign:
            _LOG.warning("Trial %s:%d is passed over: %s are no tunables here", self._experiment_id, state.id, foreign)
        return not foreign

    def _waiting(self, moment: int, running: bool) -> Iterator[TrialState]:
        """Iterate over the trials that may be handed out: those that were there when it began, in the order of claims."""
        worker = self.storage.worker
        with self.log.backend.view() as view:
            state = commands.experiment_of(view, self.id)
            late = [each for each in view.expired(self.id, state.next_trial_id) if has_run_out(view, each)]
            is_future = moment > view.now
        yield from late
        if running:
            yield from self._found(self._data.held(), is_nobodys)
        after: TrialState | None = None
        while True:
            with self.log.backend.view() as view:
                page = view.ready(self.id, worker, after=after, limit=1)
            if not page:
                break
            (after,) = page
            if after.id < state.next_trial_id and (after.scheduled_at is None or after.scheduled_at <= moment):
                yield after
        if is_future:
            yield from self._found(self._data.scheduled(until=moment), lambda each: each.status is TrialStatus.PENDING)

    def _found(self, trial_ids: list[int], is_wanted: Any) -> Iterator[TrialState]:
        for trial_id in trial_ids:
            state = self._trial_state(trial_id)
            if state is not None and is_wanted(state):
                yield state

    # -------------------------------------------------------------------------------------------------- read

    def load(self, last_trial_id: int = -1) -> tuple[list[int], list[dict[str, Any]], list[dict[str, Any] | None], list[Status]]:
        """Return ids, configs, metrics (of the successful) and statuses of the trials that have ended, by id; values as texts."""
        return self._data.load(last_trial_id)

    def load_tunable_config(self, config_id: int) -> dict[str, Any]:
        """Return a config by its number, values as texts; empty when there is none."""
        return texts_of(self._data.config(config_id))

    def load_telemetry(self, trial_id: int) -> list[tuple[datetime, str, Any]]:
        """Return a trial's telemetry by time and name, values as texts."""
        flush_buffers(self.storage.book.background)
        points = read_telemetry(self.log, trial_stream(self.id, trial_id)) if trial_id >= 0 else []
        return [(moment_of(at), name, text_of(value)) for at, name, value in points]

    def merge(self, experiment_ids: list[str]) -> None:
        """Take in the trials of other experiments of the ledger that have ended, as ones of this experiment.

        Each gets the next number here, and keeps config, metrics, status and times; its parent is the trial that it is of.
        Parameters that are tunables here and not there get their values of now, those that are none here are left out.
        Merging again takes in what is new. Raises UnknownExperiment, and ValueError for one with other targets.
        """
        current = recordables({tunable.name: tunable.value for tunable, _ in self._tunables})
        for name in experiment_ids:
            count = merge_experiment(self.storage.book, self.id, name, current)
            _LOG.info("Merge: %s <- %s: %d trials", self._experiment_id, name, count)
        self._trial_id = self._state().next_trial_id


def _waiting_since(state: TrialState) -> int:
    return state.created_at if state.scheduled_at is None else state.scheduled_at


def _has_runner(runner: int | None, wanted: bool | None) -> bool:
    return wanted is None or (runner is not None) is wanted
