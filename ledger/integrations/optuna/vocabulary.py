"""Vocabulary: under which names Optuna's things stand in a ledger, and whose states are which.

``optuna`` holds what events of the ledger have no other place for, ``optuna.system`` the system attributes,
``optuna.distributions`` the distributions of parameters; user attributes are the plain ones.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from typing import Any, Final

from optuna.study import StudyDirection
from optuna.trial import TrialState

from ledger.events import Direction
from ledger.status import ExperimentState, Status

USER: Final = ""
OWN: Final = "optuna"
SYSTEM: Final = "optuna.system"
DISTRIBUTIONS: Final = "optuna.distributions"

#: In ``OWN``, of a study: the names of its objectives, in order.
OBJECTIVES: Final = "objectives"
#: In ``OWN``, of a trial: what the template said that its events do not say.
STARTED: Final = "datetime_start"
COMPLETED: Final = "datetime_complete"
VALUES: Final = "values"
PARAMS: Final = "params"  # the names of the parameters, in order

#: The system attribute by which Optuna itself names the objectives.
METRIC_NAMES: Final = "study:metric_names"
#: The metric of intermediate values in a study of several objectives; in one of one, they are named as it is.
INTERMEDIATE: Final = "intermediate_value"

#: What a trial in a state of Optuna's is recorded as.
STATUS_OF: Final = {
    TrialState.WAITING: Status.PENDING,
    TrialState.RUNNING: Status.RUNNING,
    TrialState.COMPLETE: Status.SUCCEEDED,
    TrialState.PRUNED: Status.PRUNED,
    TrialState.FAIL: Status.FAILED,
}

#: As what a trial is shown to Optuna. One that SUCCEEDED without a number for each objective is shown as FAIL.
STATE_OF: Final = {
    Status.PENDING: TrialState.WAITING,
    Status.READY: TrialState.RUNNING,
    Status.RUNNING: TrialState.RUNNING,
    Status.SUCCEEDED: TrialState.COMPLETE,
    Status.PRUNED: TrialState.PRUNED,
    Status.FAILED: TrialState.FAIL,
    Status.TIMED_OUT: TrialState.FAIL,
    Status.CANCELED: TrialState.FAIL,
    Status.LOST: TrialState.FAIL,
    Status.ABANDONED: TrialState.FAIL,
    Status.UNKNOWN: TrialState.FAIL,
}

_DIRECTIONS: Final[dict[Any, Direction]] = {StudyDirection.MINIMIZE: "min", StudyDirection.MAXIMIZE: "max"}
_STUDY_DIRECTIONS: Final = {"min": StudyDirection.MINIMIZE, "max": StudyDirection.MAXIMIZE}


def default_names(count: int) -> list[str]:
    """Return what the objectives of a new study are called.

    >>> default_names(1), default_names(2)
    (['value'], ['value_0', 'value_1'])
    """
    return ["value"] if count == 1 else [f"value_{number}" for number in range(count)]


def objectives_of(names: Sequence[str], directions: Sequence[Any]) -> dict[str, Direction]:
    """Return the objectives of an experiment; one whose direction is not set is left out."""
    pairs = zip(names, directions, strict=True)
    return {name: _DIRECTIONS[direction] for name, direction in pairs if direction in _DIRECTIONS}


def is_study(state: ExperimentState) -> bool:
    """Say whether the experiment is shown to Optuna."""
    return bool(names_of(state))


def names_of(state: ExperimentState) -> list[str]:
    """Return the names of the objectives in order: that which Optuna gave, what came later behind it."""
    names = texts_of(state.attributes.get(OWN, {}).get(OBJECTIVES)) or []
    if not state.objectives:
        return list(names)  # their directions are not set
    kept = [name for name in names if name in state.objectives]
    return kept + [name for name in state.objectives if name not in kept]


def directions_of(state: ExperimentState, names: Sequence[str]) -> list[Any]:
    """Return the direction of each objective."""
    return [_STUDY_DIRECTIONS.get(state.objectives.get(name, ""), StudyDirection.NOT_SET) for name in names]


def metric_of(names: Sequence[str]) -> str:
    """Return the name of the metric that intermediate values are."""
    return names[0] if len(names) == 1 else INTERMEDIATE


def values_of(results: Mapping[str, Any], names: Sequence[str]) -> list[Any] | None:
    """Return the results as the values of a trial, or None unless there is a number for each objective.

    >>> values_of({"loss": 0.5, "size": 3}, ["size", "loss"]), values_of({"loss": "low"}, ["loss"])
    ([3, 0.5], None)
    """
    found = [results.get(name) for name in names]
    return found if are_numbers(found) else None


def are_numbers(values: Sequence[Any]) -> bool:
    """Say whether there are values, all of them numbers."""
    return bool(values) and all(type(value) is float or type(value) is int for value in values)


def texts_of(value: Any) -> list[str] | None:
    """Return a value that is a list of texts, each once; None for any other, which somebody may have set an attribute to."""
    is_one = type(value) is list and all(type(each) is str for each in value) and len(set(value)) == len(value)
    return value if is_one else None
