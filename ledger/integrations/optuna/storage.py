"""LedgerStorage: a ledger as the storage of Optuna's studies."""

from __future__ import annotations

import os
import uuid
from collections.abc import Callable, Container, Iterable, Sequence
from itertools import islice
from typing import Any, Self, TypeVar

import optuna
from optuna.distributions import BaseDistribution
from optuna.storages import BaseStorage
from optuna.storages._base import DEFAULT_STUDY_NAME_PREFIX
from optuna.storages._heartbeat import BaseHeartbeat
from optuna.study._frozen import FrozenStudy
from optuna.study._study_direction import StudyDirection
from optuna.trial import FrozenTrial, TrialState

import ledger
from ledger.identity import new_uuid7
from ledger.integrations.optuna import commands
from ledger.integrations.optuna.artifact_index import linked_name
from ledger.integrations.optuna.connection import Connection
from ledger.integrations.optuna.distributions import internal_of
from ledger.integrations.optuna.heartbeat import HeartbeatRules
from ledger.integrations.optuna.studies import Place, Studies
from ledger.integrations.optuna.study import StudyFold
from ledger.integrations.optuna.templates import Template
from ledger.integrations.optuna.vocabulary import SYSTEM, USER

T = TypeVar("T")

_TRIALS_PER_COMMIT = 256
_logger = optuna.logging.get_logger("optuna.storages.ledger")  # below Optuna's own, whose verbosity it has


class LedgerStorage(BaseStorage, BaseHeartbeat):  # type: ignore[misc]
    """Keep Optuna's studies in a ledger, as experiments and trials.

    ``place`` is the path of a ledger, made when there is none, or an open one, which stays the caller's to close.
    ``heartbeat_interval`` (seconds) turns the heartbeat on; it, ``grace_period`` and ``heartbeat_stale_trial_callback`` mean
    what they mean for Optuna's RDBStorage (``failed_trial_callback`` is the last one's older name). ``actor`` names who writes,
    this process by default; ``durability`` and ``lock_timeout`` are those of ``ledger.open``. ``cache_dir``: where checkpoints
    are kept, in the ledger's directory by default.

    **Guarantees.** What a method records is on disk when it returns, all of it or nothing. It is decided inside the write
    transaction, so only what is allowed is recorded, and a waiting trial is given to one caller. Ids are never used again.
    What was returned does not change.

    **Threads and processes.** Share one among threads; their writes share commits. Other processes make their own on the
    path, get it by pickle, or inherit it by fork. Every read sees all that was acknowledged before it.

    **Cost.** A write is one commit. The first read folds the log from the last checkpoint on; trials that have ended are made
    objects when they are asked for. The best trial, the trials that wait, and how many there are in a state are known.

    Raises what the methods of Optuna's storages raise, InvalidValue (a ValueError) for an attribute that no record can hold,
    ExperimentReadOnly for a sealed experiment, and what ``ledger.open`` raises.

    >>> import ledger, optuna
    >>> optuna.logging.set_verbosity(optuna.logging.ERROR)
    >>> book = ledger.open("memory:")
    >>> study = optuna.create_study(storage=LedgerStorage(book), study_name="quadratic")
    >>> study.optimize(lambda trial: trial.suggest_float("x", -10, 10) ** 2, n_trials=3)
    >>> book.get_experiment("quadratic").trial(2).status.value
    'SUCCEEDED'
    """

    def __init__(
        self, place: str | os.PathLike[str] | ledger.Ledger, *, heartbeat_interval: int | None = None,
        grace_period: int | None = None, heartbeat_stale_trial_callback: Callable[[Any, FrozenTrial], None] | None = None,
        failed_trial_callback: Callable[[Any, FrozenTrial], None] | None = None, actor: str | None = None,
        durability: str = "full", lock_timeout: float = 30.0, cache_dir: str | os.PathLike[str] | None = None,
    ) -> None:  # fmt: skip
        callback = failed_trial_callback if heartbeat_stale_trial_callback is None else heartbeat_stale_trial_callback
        self._heartbeat = HeartbeatRules(heartbeat_interval, grace_period, callback)
        options = {"durability": durability, "lock_timeout": lock_timeout}
        self._connection = Connection(place, actor, cache_dir, options)
        self._connection.book  # noqa: B018 - so that a path that cannot be opened is refused here

    @property
    def book(self) -> ledger.Ledger:
        """The ledger, open in this process."""
        return self._connection.book

    def experiment_of(self, study_id: int) -> ledger.Experiment:
        """Return the experiment that a study is."""
        return self.book.get_experiment(self._study(study_id).state.id)

    def close(self) -> None:
        """Close the ledger, if it was opened here; closing again does nothing."""
        self._connection.close()

    def __enter__(self) -> Self:
        return self

    def __exit__(self, *exc: object) -> None:
        self.close()

    def remove_session(self) -> None:
        """Save a checkpoint if that is worth it; Optuna calls this at the end of each ``optimize``."""
        self._connection.save()

    # ------------------------------------------------------------------------------------------------ studies

    def create_new_study(self, directions: Sequence[StudyDirection], study_name: str | None = None) -> int:
        name = DEFAULT_STUDY_NAME_PREFIX + str(uuid.uuid4()) if study_name is None else study_name
        appended = self._connection.execute(commands.create_study(new_uuid7(), name, list(directions)))
        _logger.info("A new study created in the ledger %s with name: %s", self.book.path, name)
        return appended.position

    def delete_study(self, study_id: int) -> None:
        self._connection.execute(commands.delete_study(self._experiment_id(study_id)))

    def set_study_user_attr(self, study_id: int, key: str, value: Any) -> None:
        self._connection.execute(commands.set_study_attribute(self._experiment_id(study_id), key, value, USER))

    def set_study_system_attr(self, study_id: int, key: str, value: Any) -> None:
        logged = self._logged(key, value)
        self._connection.execute(commands.set_study_attribute(self._experiment_id(study_id), key, value, SYSTEM, logged))

    def get_study_id_from_name(self, study_name: str) -> int:
        found = self._connection.read(lambda studies: studies.study_named(study_name))
        if found is None:
            raise KeyError(f"there is no study {study_name!r} in {self.book.path}.")
        return found.study_id

    def get_study_name_from_id(self, study_id: int) -> str:
        return self._read_study(study_id, lambda study: study.state.name)

    def get_study_directions(self, study_id: int) -> list[StudyDirection]:
        return self._read_study(study_id, lambda study: list(study.directions))

    def get_study_user_attrs(self, study_id: int) -> dict[str, Any]:
        return self._read_study(study_id, lambda study: study.attributes(USER))

    def get_study_system_attrs(self, study_id: int) -> dict[str, Any]:
        return self._read_study(study_id, lambda study: study.attributes(SYSTEM))

    def get_all_studies(self) -> list[FrozenStudy]:
        return self._connection.read(lambda studies: [study.freeze() for study in studies.studies()])

    # ------------------------------------------------------------------------------------------------- trials

    def create_new_trial(self, study_id: int, template_trial: FrozenTrial | None = None) -> int:
        if template_trial is not None:
            return self.add_trials(study_id, [template_trial])[0]
        command = commands.create_running(self._experiment_id(study_id), self._connection.actor)
        return self._connection.execute(command).position

    def add_trials(
        self, study_id: int, trials: Iterable[FrozenTrial], *, keep_numbers: bool = False, reason: str | None = None
    ) -> list[int]:
        """Add trials as they are, with their states, values, times and all; return their ids.

        They get the next free numbers, or with ``keep_numbers`` their own. Many share a commit: each trial is recorded
        wholly or not at all, and those before one that is refused stay.

        Raises KeyError for a study that there is not, TrialExists for a number that is taken, InvalidValue for what cannot be
        recorded.
        """
        experiment_id, rest, ids = self._experiment_id(study_id), iter(trials), []
        log, actor = self._connection.log, self._connection.actor
        while chunk := list(islice(rest, _TRIALS_PER_COMMIT)):
            submissions = []
            for trial in chunk:
                artifacts = [(logged, said) for key, said in trial.system_attrs.items() if (logged := self._logged(key, said))]
                template = Template(experiment_id, trial, actor, artifacts, keeps_number=keep_numbers)
                submissions += template.submissions(log, reason)
            answers = self._connection.commit(submissions)
            ids += [each.position for each in answers if type(each.events[0][1]) is ledger.TrialCreated]
        return ids

    def set_trial_param(
        self, trial_id: int, param_name: str, param_value_internal: float, distribution: BaseDistribution
    ) -> None:
        found = self._found(trial_id)
        self._connection.execute(commands.set_parameter(*_subject(found), param_name, param_value_internal, distribution))

    def set_trial_state_values(self, trial_id: int, state: TrialState, values: Sequence[float] | None = None) -> bool:
        found = self._found(trial_id)
        appended = self._connection.execute(commands.set_state(*_subject(found), int(state), values, self._connection.actor))
        return state != TrialState.RUNNING or bool(appended.events)

    def set_trial_intermediate_value(self, trial_id: int, step: int, intermediate_value: float) -> None:
        self._connection.execute(commands.log_intermediate(*_subject(self._found(trial_id)), step, intermediate_value))

    def set_trial_user_attr(self, trial_id: int, key: str, value: Any) -> None:
        self._connection.execute(commands.set_trial_attribute(*_subject(self._found(trial_id)), key, value, USER))

    def set_trial_system_attr(self, trial_id: int, key: str, value: Any) -> None:
        found, logged = self._found(trial_id), self._logged(key, value)
        self._connection.execute(commands.set_trial_attribute(*_subject(found), key, value, SYSTEM, logged))

    # --------------------------------------------------------------------------------------------------- read

    def get_trial(self, trial_id: int) -> FrozenTrial:
        return self._connection.read(lambda studies: _trial(studies, trial_id))

    def get_all_trials(
        self, study_id: int, deepcopy: bool = True, states: Container[TrialState] | None = None
    ) -> list[FrozenTrial]:
        return self._read_study(study_id, lambda study: study.trials(states, fresh=deepcopy))

    def trial_ids(self, study_id: int) -> dict[int, int]:
        """Return the ids of all trials by their numbers, those of deleted ones too."""
        return self._read_study(study_id, lambda study: dict(zip(study.numbers, study.ids, strict=True)))

    def copies(self, study_id: int, numbers: Iterable[int]) -> dict[int, FrozenTrial]:
        """Return those of the trials of some numbers that there are, made for the caller: no memory is taken for them here."""
        return self._read_study(study_id, lambda study: study.copies(numbers))

    def get_n_trials(self, study_id: int, state: tuple[TrialState, ...] | TrialState | None = None) -> int:
        wanted = set(TrialState if state is None else (state,) if isinstance(state, TrialState) else state)
        counts = self._read_study(study_id, lambda study: list(study.counts))
        return sum(count for code, count in enumerate(counts) if code in wanted)

    def get_best_trial(self, study_id: int) -> FrozenTrial:
        def look(study: StudyFold) -> FrozenTrial:
            if study.counts[TrialState.COMPLETE] == 0:
                raise ValueError("No trials are completed yet.")
            if len(study.directions) > 1:
                raise RuntimeError("Best trial can be obtained only for single-objective optimization.")
            return study.best()

        return self._read_study(study_id, look)

    def get_trial_id_from_study_id_trial_number(self, study_id: int, trial_number: int) -> int:
        def look(study: StudyFold) -> int:
            place = study.place_of(trial_number)
            if place is None or study.is_deleted(place):
                raise KeyError(f"there is no trial of the number {trial_number} in study {study.state.name!r}.")
            return study.ids[place]

        return self._read_study(study_id, look)

    def get_trial_number_from_id(self, trial_id: int) -> int:
        return self._connection.read(lambda studies: _numbered(studies, trial_id))

    def get_trial_param(self, trial_id: int, param_name: str) -> float:
        trial = self.get_trial(trial_id)
        return internal_of(trial.distributions[param_name], trial.params[param_name])

    # ---------------------------------------------------------------------------------------------- heartbeat

    def record_heartbeat(self, trial_id: int) -> None:
        rules = self._heartbeat
        command = commands.beat(*_subject(self._found(trial_id)), rules.silent_after_seconds, rules.renew_seconds)
        self._connection.execute(command)

    def _get_stale_trial_ids(self, study_id: int) -> list[int]:
        with self._connection.log.backend.view() as view:
            now = view.now
        return self._read_study(study_id, lambda study: study.silent(now))

    def get_heartbeat_interval(self) -> int | None:
        return self._heartbeat.interval

    def get_heartbeat_stale_trial_callback(self) -> Callable[[Any, FrozenTrial], None] | None:
        return self._heartbeat.callback

    def get_failed_trial_callback(self) -> Callable[[Any, FrozenTrial], None] | None:
        """Return the callback, for versions of Optuna that call it by its older name."""
        return self._heartbeat.callback

    # ------------------------------------------------------------------------------------------------- lookup

    def _read_study(self, study_id: int, look: Callable[[StudyFold], T]) -> T:
        return self._connection.read(lambda studies: look(_study(studies, study_id)))

    def _study(self, study_id: int) -> StudyFold:
        return self._connection.read(lambda studies: _study(studies, study_id))

    def _experiment_id(self, study_id: int) -> uuid.UUID:
        """Return the experiment that a study is, or was when that was looked at last: commands look again."""
        study = self._connection.known(lambda studies: studies.study(study_id))
        if study is None:
            raise KeyError(f"there is no study of the id {study_id}.")
        return study.state.id

    def _found(self, trial_id: int) -> Place:
        found = self._connection.known(lambda studies: studies.find(trial_id))
        if found is None:
            raise KeyError(f"there is no trial of the id {trial_id}.")
        return found

    def _logged(self, key: str, value: Any) -> commands.Logged | None:
        """Return where the artifact is logged that a system attribute gives to whom it is set on, if it gives one."""
        name = linked_name(key, value)
        record = None if name is None else self._connection.find_artifact(name)
        return None if record is None else (record.stream, record.version)


def _subject(found: Place) -> tuple[uuid.UUID, int]:
    return found.study.state.id, found.study.numbers[found.place]


def _study(studies: Studies, study_id: int) -> StudyFold:
    found = studies.study(study_id)
    if found is None:
        raise KeyError(f"there is no study of the id {study_id}.")
    return found


def _place(studies: Studies, trial_id: int) -> Place:
    found = studies.find(trial_id)
    if found is None or found.study.is_deleted(found.place) or found.study.state.deleted_at is not None:
        raise KeyError(f"there is no trial of the id {trial_id}.")
    return found


def _trial(studies: Studies, trial_id: int) -> FrozenTrial:
    study, place = _place(studies, trial_id)
    return study.trial(place)


def _numbered(studies: Studies, trial_id: int) -> int:
    study, place = _place(studies, trial_id)
    return study.numbers[place]
