"""Studies: Optuna's storages, and the large study that each of them holds.

A trial is 15 operations: created, five parameters, five intermediate values, two user attributes, a system attribute, told.
"""

from __future__ import annotations

import contextlib
import datetime as dt
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import optuna
from optuna.distributions import FloatDistribution, distribution_to_json
from optuna.storages import JournalStorage, RDBStorage
from optuna.storages.journal import JournalFileBackend
from optuna.study import StudyDirection
from optuna.trial import FrozenTrial, TrialState, create_trial
from sqlalchemy import event

from benchmarks.rivals.ledger import NAME
from ledger.integrations.optuna import LedgerStorage, commands

STUDY = "study"
_SPACE = FloatDistribution(0.0, 1.0)
_NAMES = [f"p{number}" for number in range(5)]
_STEPS = range(5)
_TRIALS_PER_COMMIT = 50

optuna.logging.set_verbosity(optuna.logging.ERROR)


@contextlib.contextmanager
def open_storage(contestant: str, directory: Path, **options: Any) -> Iterator[Any]:
    """Open a storage in a directory, made as durable as it can be: ``ledger``, ``optuna`` (a journal) or ``optuna:rdb``."""
    if contestant == "ledger":
        with LedgerStorage(directory / NAME, **options) as storage:
            yield storage
    elif contestant == "optuna":
        yield JournalStorage(JournalFileBackend(str(directory / "journal.log")))
    else:
        storage = RDBStorage(f"sqlite:///{directory / 'study.sqlite'}", engine_kwargs={"connect_args": {"timeout": 100}})
        yield storage
        storage.remove_session()
        storage.engine.dispose()


def values_of(number: int) -> dict[str, float]:
    """Return the parameters of a trial."""
    return {name: (number * 7919 + place * 104_729) % 1_000_003 / 1_000_003 for place, name in enumerate(_NAMES)}


def loss_of(number: int) -> float:
    """Return the value of a trial."""
    return sum(values_of(number).values())


def objective(trial: Any) -> float:
    """Do what the trials of the large study have done."""
    total = 0.0
    for name in _NAMES:
        total += trial.suggest_float(name, _SPACE.low, _SPACE.high)
    for step in _STEPS:
        trial.report(total / (step + 1), step)
    trial.set_user_attr("host", "node-1")
    trial.set_user_attr("seconds", 1.5)
    trial.study._storage.set_trial_system_attr(trial._trial_id, "note", trial.number)
    return total


def write_study(contestant: str, directory: Path, trials: int) -> None:
    """Write the large study as the storage would have, in fewer commits."""
    _WRITERS[contestant](directory, trials)


def _parts(trials: int) -> Iterator[range]:
    return (range(first, min(first + _TRIALS_PER_COMMIT, trials)) for first in range(0, trials, _TRIALS_PER_COMMIT))


def _write_ledger(directory: Path, trials: int) -> None:
    with open_storage("ledger", directory) as storage:
        study_id = storage.create_new_study([StudyDirection.MINIMIZE], STUDY)
        experiment, actor = storage.experiment_of(study_id), storage.book.log.actor
        for numbers in _parts(trials):
            asked = [command for number in numbers for command in _commands(experiment.id, number, actor)]
            storage.book.log.execute_all([(command, None) for command in asked])
            storage.get_n_trials(study_id)  # as it folds what it is told, and saves checkpoints


def _commands(experiment: Any, number: int, actor: str) -> Iterator[Any]:
    place = experiment, number
    yield commands.create_running(experiment, actor)
    for name, value in values_of(number).items():
        yield commands.set_parameter(*place, name, value, _SPACE)
    for step in _STEPS:
        yield commands.log_intermediate(*place, step, loss_of(number) / (step + 1))
    yield commands.set_trial_attribute(*place, "host", "node-1", "")
    yield commands.set_trial_attribute(*place, "seconds", 1.5, "")
    yield commands.set_trial_attribute(*place, "note", number, "optuna.system")
    yield commands.set_state(*place, TrialState.COMPLETE, [loss_of(number)], actor)


def _write_journal(directory: Path, trials: int) -> None:
    backend = JournalFileBackend(str(directory / "journal.log"))
    JournalStorage(backend).create_new_study([StudyDirection.MINIMIZE], STUDY)
    for numbers in _parts(trials):
        backend.append_logs([{**line, "worker_id": "fixture"} for number in numbers for line in _lines(number)])


def _lines(number: int) -> Iterator[dict[str, Any]]:
    trial, now = {"trial_id": number}, dt.datetime.now(dt.UTC).isoformat(timespec="microseconds")
    yield {"op_code": 4, "study_id": 0, "datetime_start": now}
    for name, value in values_of(number).items():
        yield {"op_code": 5, **trial, "param_name": name, "param_value_internal": value, "distribution": _JSON}
    for step in _STEPS:
        yield {"op_code": 7, **trial, "step": step, "intermediate_value": loss_of(number) / (step + 1)}
    yield {"op_code": 8, **trial, "user_attr": {"host": "node-1"}}
    yield {"op_code": 8, **trial, "user_attr": {"seconds": 1.5}}
    yield {"op_code": 9, **trial, "system_attr": {"note": number}}
    yield {"op_code": 6, **trial, "state": 1, "values": [loss_of(number)], "datetime_complete": now}


_JSON = distribution_to_json(_SPACE)


def _write_rdb(directory: Path, trials: int) -> None:
    with open_storage("optuna:rdb", directory) as storage:
        # Without flushes it writes the same file, in a fraction of the time.
        event.listen(storage.engine, "connect", lambda connection, _: connection.execute("PRAGMA synchronous=OFF"))
        study_id = storage.create_new_study([StudyDirection.MINIMIZE], STUDY)
        for number in range(trials):
            storage.create_new_trial(study_id, template_trial=_template(number))


def _template(number: int) -> FrozenTrial:
    return create_trial(
        value=loss_of(number), params=values_of(number), distributions=dict.fromkeys(_NAMES, _SPACE),
        user_attrs={"host": "node-1", "seconds": 1.5}, system_attrs={"note": number},
        intermediate_values={step: loss_of(number) / (step + 1) for step in _STEPS},
    )  # fmt: skip


_WRITERS = {"ledger": _write_ledger, "optuna": _write_journal, "optuna:rdb": _write_rdb}
