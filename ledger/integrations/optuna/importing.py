"""Studies of Optuna's other storages, imported into a ledger: journal files, and relational databases.

What becomes of a study and its trials is said of the package. Beside that, an imported experiment has

- the attributes ``from``, ``source`` and ``study_id`` in the namespace ``optuna.import``: where it was read, and its id there;
- the artifact ``optuna-trial-ids``: the ids that its trials had there, by number.

Trials have other ids in a ledger. Where optuna-dashboard names one by its id, in the key of an attribute of the study (a note
on a trial, say), the id is replaced; so is that of an artifact's trial.
"""

from __future__ import annotations

import hashlib
import json
import os
import re
from collections.abc import Mapping
from contextlib import closing
from itertools import islice
from typing import NamedTuple

from optuna.exceptions import DuplicatedStudyError
from optuna.trial import FrozenTrial

from ledger import session
from ledger.errors import InvalidValue
from ledger.experiment import Experiment
from ledger.integrations.optuna.catching_up import catch_up, is_same, leads_to
from ledger.integrations.optuna.journal_file import read_journal
from ledger.integrations.optuna.rdb import read_rdb
from ledger.integrations.optuna.source import Progress, Source, SourceStudy
from ledger.integrations.optuna.storage import LedgerStorage
from ledger.session import Ledger

NAMESPACE = "optuna.import"
IDS = "optuna-trial-ids"
_REASON = "imported from Optuna"
_BATCH = 1000  # trials in a commit
#: Attributes of a study with the id of a trial in their key, as optuna-dashboard writes them.
_WITH_ID = re.compile(r"(dashboard:(?:artifacts:)?|preference:skip_trial:)(\d+)(:.*)?")


class Problem(NamedTuple):
    """What is wrong, and with which study; with none, it is about the source as a whole."""

    study: str
    problem: str


class ImportReport(NamedTuple):
    """What an import has done: trials ``added``, ``changed``, ``known`` before, of ``studies``; and what was ``skipped``.

    ``rejected`` counts the entries of a journal that Optuna itself ignores; ``problems`` are entries that were left out.
    """

    studies: list[str]
    trials: int
    added: int
    changed: int
    known: int
    rejected: int
    skipped: list[Problem]
    problems: list[Problem]


def import_journal(
    source: str | os.PathLike[str], book: Ledger | str | os.PathLike[str], *, study: str | None = None, name: str | None = None,
    progress: Progress | None = None,
) -> ImportReport:  # fmt: skip
    """Import the studies of a journal file (``JournalFileBackend``) into a ledger, open or given by its path.

    ``study`` is the only one to import; ``name`` what to call it in the ledger. ``progress`` is called with the trials done and
    their number. The file is only read.

    Importing again adds what is new: studies, trials, attributes, and what has become of trials that had not ended; so an
    import that was interrupted, or a journal that is still written to, is simply imported again. What Optuna rejected stays
    rejected. Entries that are torn or broken are reported and left out, and hide none of the others; so is a trial that is
    another one in the ledger.

    Raises InvalidValue for what is no journal, and when there is no such study; ExperimentReadOnly when the experiment is
    sealed; what cannot be written as elsewhere. Costs some 10 us an entry, and 0.5 ms a trial that is new.

    >>> import ledger, optuna, pathlib, tempfile
    >>> from optuna.storages import JournalStorage
    >>> from optuna.storages.journal import JournalFileBackend
    >>> optuna.logging.set_verbosity(optuna.logging.WARNING)
    >>> with tempfile.TemporaryDirectory() as place, ledger.open("memory:") as book:
    ...     file = str(pathlib.Path(place, "journal.log"))
    ...     study = optuna.create_study(storage=JournalStorage(JournalFileBackend(file)), study_name="demo")
    ...     study.optimize(lambda trial: trial.suggest_float("x", 0, 1) ** 2, n_trials=3)
    ...     report = import_journal(file, book)
    ...     [trial.status for trial in book.get_experiment("demo").trials()], import_journal(file, book).added
    ([<Status.SUCCEEDED: 'SUCCEEDED'>, <Status.SUCCEEDED: 'SUCCEEDED'>, <Status.SUCCEEDED: 'SUCCEEDED'>], 0)
    """
    return import_source(read_journal(source), book, study=study, name=name, progress=progress)


def import_rdb(
    source: str | os.PathLike[str], book: Ledger | str | os.PathLike[str], *, study: str | None = None, name: str | None = None,
    progress: Progress | None = None,
) -> ImportReport:  # fmt: skip
    """Import the studies of a database (``RDBStorage``) into a ledger: of an SQLite file by its path, or by SQLAlchemy's URL.

    Everything else is as in ``import_journal``. An SQLite file is opened to read only; a database of an older Optuna has to be
    upgraded first (``optuna storage upgrade``), a copy of it best.
    """
    return import_source(read_rdb(source), book, study=study, name=name, progress=progress)


def import_source(
    source: Source, book: Ledger | str | os.PathLike[str], *, study: str | None = None, name: str | None = None,
    progress: Progress | None = None,
) -> ImportReport:  # fmt: skip
    """Import what was read of a storage; see ``import_journal``."""
    studies = selected(source, study, name)
    if isinstance(book, Ledger):
        return _import(source, studies, book, progress)
    with session.open(book) as opened:
        return _import(source, studies, opened, progress)


def selected(source: Source, study: str | None, name: str | None) -> list[SourceStudy]:
    """Return the studies to import, named as they are to be; raises InvalidValue when there is none of that name."""
    found = [each for each in source.studies if study is None or each.name == study]
    if study is not None and not found:
        names = ", ".join(repr(each.name) for each in source.studies[:20]) or "none"
        raise InvalidValue(f"there is no study {study!r} in {source.place}. There are: {names}.")
    if name is None:
        return found
    if len(found) != 1:
        raise InvalidValue(f"there are {len(found)} studies in {source.place}, and one name for them. Say which one: study=.")
    return [found[0]._replace(name=name)]


def _import(source: Source, studies: list[SourceStudy], book: Ledger, progress: Progress | None) -> ImportReport:
    tally = _Tally(sum(study.size for study in studies), progress)
    with closing(LedgerStorage(book)) as storage:
        for study in studies:
            try:
                _import_study(storage, source, study, tally)
            except (_Refused, InvalidValue) as error:  # the others can be had
                tally.skip(study, str(error), study.size)
    tally.tell()
    problems = [Problem("", problem) for problem in source.problems]
    return ImportReport(
        [study.name for study in studies], tally.total, tally.added, tally.changed, tally.known, source.rejected, tally.skipped,
        problems,
    )  # fmt: skip


class _Refused(Exception):
    """A study that cannot be imported; the others can."""


class _Tally:
    """Count what has become of the trials."""

    def __init__(self, total: int, progress: Progress | None) -> None:
        self.total, self._progress = total, progress
        self.added = self.changed = self.known = self._left_out = 0
        self.skipped: list[Problem] = []

    def skip(self, study: SourceStudy, problem: str, trials: int = 1) -> None:
        self.skipped.append(Problem(study.name, problem))
        self._left_out += trials

    def tell(self) -> None:
        if self._progress is not None:
            self._progress(min(self.added + self.changed + self.known + self._left_out, self.total), self.total)


def _import_study(storage: LedgerStorage, source: Source, study: SourceStudy, tally: _Tally) -> None:
    study_id = _study_id(storage, source, study)
    _set_attributes(storage, study_id, study, tally)
    known = {trial.number: trial for trial in storage.get_all_trials(study_id, deepcopy=False)}
    experiment = storage.experiment_of(study_id)
    gone = {trial.id for trial in experiment.trials(deleted=True)} if experiment.state.next_trial_id else set()
    ids: dict[int, tuple[int, int]] = {}  # number -> the id in the source, and in the ledger
    others: list[int] = []
    trials = study.trials()
    while batch := list(islice(trials, _BATCH)):
        new = []
        for trial in batch:
            if isinstance(trial, str):
                tally.skip(study, trial)
            elif trial.number in gone:
                tally.known += 1
            elif trial.number not in known:
                new.append(trial)
            elif _take_known(storage, study_id, study, known[trial.number], trial, tally):
                ids[trial.number] = trial._trial_id, known[trial.number]._trial_id
            else:
                others.append(trial.number)
        added = _add(storage, study_id, study, new, tally)
        ids.update((trial.number, (trial._trial_id, added[trial.number])) for trial in new if trial.number in added)
        tally.added += len(added)
        tally.tell()
    if others:
        tally.skip(study, _of_others(others), len(others))
    _set_attributes(storage, study_id, study, tally, dict(ids.values()))
    _keep_ids(experiment, {number: identifier for number, (identifier, _) in ids.items()})


def _add(
    storage: LedgerStorage, study_id: int, study: SourceStudy, new: list[FrozenTrial], tally: _Tally
) -> dict[int, int]:  # fmt: skip
    """Add trials; return the ids of those that could be, by number."""
    if not new:
        return {}
    try:
        found = storage.add_trials(study_id, new, keep_numbers=True, reason=_REASON)
        return {trial.number: identifier for trial, identifier in zip(new, found, strict=True)}
    except InvalidValue:  # of one of them, and some of the others are there by now
        added = {trial.number: trial._trial_id for trial in storage.get_all_trials(study_id, deepcopy=False)}
    for trial in new:
        if trial.number not in added:
            try:
                (added[trial.number],) = storage.add_trials(study_id, [trial], keep_numbers=True, reason=_REASON)
            except InvalidValue as error:
                tally.skip(study, f"trial {trial.number} cannot be recorded: {error}")
    return {trial.number: added[trial.number] for trial in new if trial.number in added}


def _study_id(storage: LedgerStorage, source: Source, study: SourceStudy) -> int:
    """Return the id of the study in the ledger, where it is made unless it is there."""
    try:
        study_id: int = storage.get_study_id_from_name(study.name)
    except KeyError:
        try:
            study_id = storage.create_new_study(study.directions, study.name)
        except DuplicatedStudyError:
            raise _Refused("an experiment of that name is there, which is no study. Give the study another name.") from None
    experiment = storage.experiment_of(study_id)
    if storage.get_study_directions(study_id) != list(study.directions):
        raise _Refused("a study of that name is there, with other directions. Give the study another name.")
    said = {"from": source.kind, "source": os.path.abspath(source.place) if os.path.exists(source.place) else source.place}
    known = experiment.state.attributes.get(NAMESPACE)
    if known is None and storage.get_n_trials(study_id):
        raise _Refused("a study of that name is there, with trials that were not imported. Give the study another name.")
    if known is None or known.get("study_id") != study.id or known.get("from") != source.kind:
        experiment.set_attributes({**said, "study_id": study.id}, namespace=NAMESPACE)
    return study_id


def _of_others(numbers: list[int]) -> str:
    what = f"trial {numbers[0]} is" if len(numbers) == 1 else f"trials {', '.join(map(str, numbers[:5]))} are"
    more = f" ({len(numbers):,} in all)" if len(numbers) > 5 else ""
    one = "another one" if len(numbers) == 1 else "others"
    return f"{what}{more} {one} in the ledger, or changed there since; left as they are there."


def _keep_ids(experiment: Experiment, ids: Mapping[int, int]) -> None:
    """Keep the ids that the trials had, unless they are kept."""
    known = experiment.artifact(IDS).load()["trial_ids"] if IDS in experiment.artifacts else []
    merged = {**dict(enumerate(known)), **ids}
    wanted = [merged.get(number) for number in range(max(merged, default=-1) + 1)]
    if wanted != known:
        experiment.log_artifact({"trial_ids": wanted}, name=IDS, reason=_REASON)


def _set_attributes(
    storage: LedgerStorage, study_id: int, study: SourceStudy, tally: _Tally, ids: Mapping[int, int] | None = None
) -> None:  # fmt: skip
    """Set what is new of the study's attributes: what was imported before, and changed here since, stays.

    Those that name a trial by its id are set when ``ids`` are known, the others before: they may name the objectives.
    """
    experiment = storage.experiment_of(study_id)
    seen = experiment.state.attributes.get(NAMESPACE, {}).get("seen", {})
    now = dict(seen)
    setters = ((storage.set_study_user_attr, study.user_attrs), (storage.set_study_system_attr, study.system_attrs))
    for set_attribute, values in setters:
        for key, value in values.items():
            is_system = values is study.system_attrs
            if (is_system and _WITH_ID.fullmatch(key) is not None) is (ids is None):
                continue
            place = f"{'system' if is_system else 'user'} {key}"
            now[place] = hashlib.sha256(json.dumps(value).encode()).hexdigest()[:16]
            if seen.get(place) == now[place]:
                continue
            try:
                set_attribute(study_id, _with_new_id(key, ids) if is_system and ids else key, value)
            except InvalidValue as error:
                tally.skip(study, f"the attribute {key!r:.100} cannot be recorded: {error}", 0)
    if now != seen:
        experiment.set_attributes({"seen": now}, namespace=NAMESPACE)


def _with_new_id(key: str, ids: Mapping[int, int]) -> str:
    """Return the key of an attribute with a trial's id in it with the one that the trial has in the ledger.

    >>> _with_new_id("dashboard:7:note_ver", {7: 1200}), _with_new_id("dashboard:note_ver", {7: 1200})
    ('dashboard:1200:note_ver', 'dashboard:note_ver')
    """
    found = _WITH_ID.fullmatch(key)
    if found is None or int(found.group(2)) not in ids:
        return key
    return f"{found.group(1)}{ids[int(found.group(2))]}{found.group(3) or ''}"


# ------------------------------------------------------------------------------------------------------ known trials


def _take_known(
    storage: LedgerStorage, study_id: int, study: SourceStudy, known: FrozenTrial, trial: FrozenTrial, tally: _Tally
) -> bool:  # fmt: skip
    """Record what has become of a trial since it was imported; return whether it is the one that was."""
    if is_same(known, trial):
        tally.known += 1
    elif leads_to(known, trial):
        try:
            catch_up(storage, study_id, known, trial)
        except ValueError as error:  # a parameter of another distribution than the study has by now
            tally.skip(study, f"trial {trial.number} could not be brought up to date: {error}")
        else:
            tally.changed += 1
    elif leads_to(trial, known):  # it has gone on in the ledger
        tally.known += 1
    else:
        return False
    return True
