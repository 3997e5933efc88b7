"""A journal file of Optuna's, replayed as ``JournalStorage`` does, but for what it cannot read.

A journal holds what was asked for, not what was done: the storage decides on each entry when it replays it, and ignores
what may not be (a study of a name that is taken, an edit of a finished trial, a parameter of another distribution). Ids
are the order of the entries that were accepted. A line that is torn or damaged keeps ``JournalStorage`` from reading any
that comes after it; here it is told of, and the others are read.
"""

from __future__ import annotations

import datetime as dt
import functools
import json
import os
import re
from collections.abc import Callable, Iterator
from typing import Any, NamedTuple

from optuna.distributions import BaseDistribution, check_distribution_compatibility, json_to_distribution
from optuna.study import StudyDirection
from optuna.trial import FrozenTrial, TrialState

from ledger.errors import InvalidValue
from ledger.integrations.optuna.source import Broken, Progress, Source, SourceStudy, Wanted

_REPORT_EVERY = 4096
_TOO_MANY = 100  # lines that are no entries, before the first that is one
_BEGINNING = b'{"op_code"'  # of an entry; in a text of one the quotes would be escaped
_SQLITE = b"SQLite format 3\0"
_CREATES_TRIAL = re.compile(rb'\{"op_code": ?4,.*?"study_id": ?(\d+)')


def read_journal(path: str | os.PathLike[str], progress: Progress | None = None) -> Source:
    """Read the studies of a journal file (``JournalFileBackend``); the file is only read, others may go on appending to it.

    ``progress`` is called with the lines read and how many there seem to be. Raises InvalidValue for what is no journal.
    Takes the memory that the trials take, and some 10 us a line.
    """
    replay = Replay()
    number = done = 0
    try:
        with open(path, "rb") as file:
            size = os.fstat(file.fileno()).st_size
            _check_kind(path, file.peek(len(_SQLITE)))
            for number, line in enumerate(file, start=1):
                replay.read(number, line)
                done += len(line)
                if len(replay.problems) == _TOO_MANY and not replay.accepted:
                    break
                if progress is not None and number % _REPORT_EVERY == 0:
                    progress(number, max(number, number * size // done))
    except OSError as error:
        raise InvalidValue(f"{os.fspath(path)!r} cannot be read: {error.strerror}. Give Optuna's journal file.") from error
    if replay.problems and not replay.accepted:
        raise InvalidValue(
            f"{os.fspath(path)!r} is no journal of Optuna's: {replay.problems[0]} For a database of studies: --from optuna-rdb."
        )
    if progress is not None:
        progress(number, number)
    return Source("optuna-journal", os.fspath(path), replay.studies(), replay.problems, replay.rejected)


def _check_kind(path: str | os.PathLike[str], beginning: bytes) -> None:
    if beginning.startswith(_SQLITE):
        raise InvalidValue(
            f"{os.fspath(path)!r} is a database (SQLite), and no journal. Import it as one: --from optuna-rdb, or import_rdb."
        )


class _Study(NamedTuple):
    """A study while its entries are replayed; ``first`` is the first trial with a parameter, and its distribution."""

    id: int
    name: str
    directions: list[StudyDirection]
    user_attrs: dict[str, Any]
    system_attrs: dict[str, Any]
    trials: list[FrozenTrial | None]
    first: dict[str, tuple[int, BaseDistribution]]


class Replay:
    """Replay the lines of a journal; ``accepted`` and ``rejected`` count entries as ``JournalStorage`` takes them.

    >>> replay = Replay()
    >>> line = b'{"op_code":0,"worker_id":"w","study_name":"demo","directions":[1]}'
    >>> for number in (1, 2):
    ...     replay.read(number, line + bytes([10]))
    >>> [study.name for study in replay.studies()], replay.rejected
    (['demo'], 1)
    """

    def __init__(self) -> None:
        self.problems: list[str] = []
        self.accepted = self.rejected = 0
        self._studies: dict[int, _Study] = {}
        self._names: dict[str, int] = {}
        self._trials: list[FrozenTrial | None] = []  # by id; None for one whose entry is broken
        self._all_studies: list[_Study] = []  # by id; deleted ones, too
        self._study_of: list[int] = []  # by the id of a trial
        self._apply: dict[int, Callable[[dict[str, Any]], bool]] = {
            0: self._create_study, 1: self._delete_study, 2: self._set_study_user_attr, 3: self._set_study_system_attr,
            4: self._create_trial, 5: self._set_param, 6: self._set_state, 7: self._set_intermediate_value,
            8: self._set_trial_user_attr, 9: self._set_trial_system_attr, 10: lambda entry: False,
        }  # fmt: skip

    def read(self, number: int, line: bytes) -> None:
        """Replay one line."""
        if not line.strip():
            return
        if not line.endswith(b"\n"):
            self.problems.append(f"line {number} is torn: it does not end. It is left out, as Optuna leaves it out.")
            return
        entry = _parsed(line)
        if entry is None:
            entry = self._after_torn(number, line)
            if entry is None:
                return
        try:
            is_accepted = self._apply[entry["op_code"]](entry)
        except KeyError as error:
            what = f"an operation {error} is not known" if error.args == (entry.get("op_code"),) else f"it has no {error}"
            self.problems.append(f"line {number} is left out: {what}.")
        except (ValueError, TypeError, AttributeError, IndexError, AssertionError) as error:  # whatever its values are
            self.problems.append(f"line {number} is left out: {error}")
        else:
            self.accepted += is_accepted
            self.rejected += not is_accepted

    def _after_torn(self, number: int, line: bytes) -> dict[str, Any] | None:
        """Return the entry that was appended to one that is torn, if that is what the line is."""
        begin = line.rfind(_BEGINNING)
        entry = _parsed(line[begin:]) if begin > 0 else None
        if entry is not None:
            self.problems.append(f"line {number} begins with a torn entry, which is left out; the one that follows it is read.")
            return entry
        self.problems.append(f"line {number} is damaged, and left out: {line[:60]!r}")
        created = _CREATES_TRIAL.match(line)
        if created and int(created.group(1)) in self._studies:
            self._take_number(self._studies[int(created.group(1))])
        return None

    def studies(self) -> list[SourceStudy]:
        """Return the studies as they stand."""
        return [_read(study) for study in self._studies.values()]

    # ----------------------------------------------------------------------------------------------------- studies

    def _create_study(self, entry: dict[str, Any]) -> bool:
        name, directions = entry["study_name"], [StudyDirection(each) for each in entry["directions"]]
        if name in self._names:
            return False
        study = _Study(len(self._all_studies), name, directions, {}, {}, [], {})
        self._all_studies.append(study)
        self._studies[study.id], self._names[name] = study, study.id
        return True

    def _delete_study(self, entry: dict[str, Any]) -> bool:
        study = self._studies.pop(entry["study_id"], None)
        if study is not None:
            del self._names[study.name]
        return study is not None

    def _set_study_user_attr(self, entry: dict[str, Any]) -> bool:
        study = self._studies.get(entry["study_id"])
        if study is not None:
            study.user_attrs.update(entry["user_attr"])
        return study is not None

    def _set_study_system_attr(self, entry: dict[str, Any]) -> bool:
        study = self._studies.get(entry["study_id"])
        if study is not None:
            study.system_attrs.update(entry["system_attr"])
        return study is not None

    # ------------------------------------------------------------------------------------------------------ trials

    def _create_trial(self, entry: dict[str, Any]) -> bool:
        study = self._studies.get(entry["study_id"])
        if study is None:
            return False
        identifier, number = self._take_number(study)
        trial = _created(entry, identifier, number)
        self._trials[identifier] = study.trials[number] = trial
        for name, distribution in trial.distributions.items():
            study.first.setdefault(name, (number, distribution))
        return True

    def _take_number(self, study: _Study) -> tuple[int, int]:
        """Give a trial its id and number, which it has had whether its entry can be read or not."""
        self._trials.append(None)
        study.trials.append(None)
        self._study_of.append(study.id)
        return len(self._trials) - 1, len(study.trials) - 1

    def _updatable(self, entry: dict[str, Any]) -> FrozenTrial | None:
        identifier = entry["trial_id"]
        trial = self._trials[identifier] if 0 <= identifier < len(self._trials) else None
        return None if trial is None or trial.state.is_finished() else trial

    def _set_param(self, entry: dict[str, Any]) -> bool:
        trial = self._updatable(entry)
        if trial is None:
            return False
        name, distribution = entry["param_name"], _distribution(entry["distribution"])
        value = distribution.to_external_repr(entry["param_value_internal"])
        first = self._all_studies[self._study_of[trial._trial_id]].first
        known = first.get(name)
        if known is not None and not _are_compatible(known[1], distribution):
            return False
        trial.params[name], trial.distributions[name] = value, distribution
        if known is None or trial.number <= known[0]:
            first[name] = trial.number, distribution
        return True

    def _set_state(self, entry: dict[str, Any]) -> bool:
        trial, state, values = self._updatable(entry), TrialState(entry["state"]), entry["values"]
        if trial is None or (state == TrialState.RUNNING and trial.state == TrialState.RUNNING):
            return False
        if state == TrialState.RUNNING:
            trial.datetime_start = _time(entry["datetime_start"])
        if state.is_finished():
            trial.datetime_complete = _time(entry["datetime_complete"])
        trial.state = state
        if values is not None:
            trial.values = values
        return True

    def _set_intermediate_value(self, entry: dict[str, Any]) -> bool:
        trial = self._updatable(entry)
        if trial is not None:
            trial.intermediate_values[entry["step"]] = entry["intermediate_value"]
        return trial is not None

    def _set_trial_user_attr(self, entry: dict[str, Any]) -> bool:
        trial = self._updatable(entry)
        if trial is not None:
            trial.user_attrs.update(entry["user_attr"])
        return trial is not None

    def _set_trial_system_attr(self, entry: dict[str, Any]) -> bool:
        trial = self._updatable(entry)
        if trial is not None:
            trial.system_attrs.update(entry["system_attr"])
        return trial is not None


def _created(entry: dict[str, Any], identifier: int, number: int) -> FrozenTrial:
    """Return the trial that an entry creates."""
    distributions = {name: _distribution(text) for name, text in entry.get("distributions", {}).items()}
    return FrozenTrial(
        number=number, trial_id=identifier, state=TrialState(entry.get("state", TrialState.RUNNING)),
        value=entry.get("value"), values=entry.get("values"),
        datetime_start=_time(entry["datetime_start"]), datetime_complete=_time(entry.get("datetime_complete")),
        params={name: distributions[name].to_external_repr(value) for name, value in entry.get("params", {}).items()},
        distributions=distributions,
        user_attrs=dict(entry.get("user_attrs", {})), system_attrs=dict(entry.get("system_attrs", {})),
        intermediate_values={int(step): value for step, value in entry.get("intermediate_values", {}).items()},
    )  # fmt: skip


def _parsed(line: bytes) -> dict[str, Any] | None:
    try:
        entry = json.loads(line)
    except (ValueError, RecursionError):
        return None
    return entry if isinstance(entry, dict) else None


@functools.lru_cache(maxsize=4096)
def _distribution(text: str) -> BaseDistribution:
    return json_to_distribution(text)


@functools.lru_cache(maxsize=4096)
def _are_compatible(known: BaseDistribution, other: BaseDistribution) -> bool:
    try:
        check_distribution_compatibility(known, other)
    except ValueError:
        return False
    return True


def _time(text: str | None) -> dt.datetime | None:
    """Return a time as Optuna has it: of this machine's clock, without its zone."""
    return None if text is None else dt.datetime.fromisoformat(text).astimezone().replace(tzinfo=None)


def _read(study: _Study) -> SourceStudy:
    def trials(is_wanted: Wanted) -> Iterator[FrozenTrial | Broken]:
        for number, each in enumerate(study.trials):
            if is_wanted(number):
                yield Broken(number, f"trial {number} is broken: the entry that creates it.") if each is None else each

    attributes = study.user_attrs, study.system_attrs
    return SourceStudy(study.id, study.name, study.name, study.directions, *attributes, len(study.trials), trials)
