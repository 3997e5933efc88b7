"""Studies of Optuna's other storages, imported into a ledger: journal files, and relational databases.

What becomes of a study and its trials is said of the package. Beside that, an imported experiment has

- the attributes ``from``, ``source`` and ``study_id`` in the namespace ``optuna.import``: where it was read, and its id there;
- the artifact ``optuna-trial-ids``: the ids that its trials had there, by number.

Trials have other ids in a ledger. Where attributes of the study name them by id, the id is replaced: in keys of
optuna-dashboard's (a note on a trial, say, or an artifact of one), and where a sampler keeps the parents of a generation.
"""

from __future__ import annotations

import os
from collections.abc import Mapping
from contextlib import closing
from typing import NamedTuple

from optuna.exceptions import DuplicatedStudyError
from optuna.trial import FrozenTrial

from ledger import session
from ledger.errors import InvalidValue
from ledger.experiment import Experiment
from ledger.integrations.optuna.catching_up import REASON, catch_up, is_same, leads_to
from ledger.integrations.optuna.comparing import Compared, Comparison, Refused, is_from, origin_of
from ledger.integrations.optuna.journal_file import read_journal
from ledger.integrations.optuna.rdb import read_rdb
from ledger.integrations.optuna.source import Broken, Progress, Source, SourceStudy, Wording, batches, in_python
from ledger.integrations.optuna.storage import LedgerStorage
from ledger.integrations.optuna.study_attributes import NAMESPACE, set_attributes
from ledger.session import Ledger

IDS = "optuna-trial-ids"


class Problem(NamedTuple):
    """What is wrong, and with which study; with none, it is about the source as a whole."""

    study: str
    problem: str


class ImportReport(NamedTuple):
    """What an import has done: of ``trials`` in ``studies``, ``added``, ``changed``, ``known`` before and ``left_out``.

    ``refused`` are studies of which nothing was imported: another one has the name. ``skipped`` says which trials and attributes
    were left out of the others, and why. ``rejected`` counts the entries of a journal that Optuna itself ignores;
    ``problems`` are entries that cannot be read.
    """

    studies: list[str]
    trials: int
    added: int
    changed: int
    known: int
    left_out: int
    rejected: int
    refused: list[Problem]
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
    import that was interrupted, or a journal that is still written to, is simply imported again. What was done in the ledger
    since stays. What Optuna rejected stays rejected. Entries that are torn or broken are reported and left out, and hide
    none of the others.

    A study whose name another one has in the ledger is refused: nothing of it is imported, and the report says under which
    name it can be. It is another one unless its trials are those that were imported, be it that they have gone on.

    Raises InvalidValue for what is no journal, and when there is no study, or none of that name; ExperimentReadOnly when the
    experiment is sealed; what cannot be written as elsewhere. Costs some 10 us an entry, and 0.5 ms a trial that is new.

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
    progress: Progress | None = None, wording: Wording = in_python,
) -> ImportReport:  # fmt: skip
    """Import what was read of a storage; see ``import_journal``. ``wording`` is that of what is to be done about problems."""
    studies = selected(source, study, name, wording)
    if isinstance(book, Ledger):
        return _import(source, studies, book, progress, wording)
    with session.open(book) as opened:
        return _import(source, studies, opened, progress, wording)


def selected(source: Source, study: str | None, name: str | None, wording: Wording = in_python) -> list[SourceStudy]:
    """Return the studies to import, with what they are to be called; raises InvalidValue when there is none of that name."""
    if not source.studies:
        raise InvalidValue(f"there are no studies in {source.place}; nothing was imported. Give the file of one that was begun.")
    names = ", ".join(repr(each.name) for each in source.studies[:20])
    found = [each for each in source.studies if study is None or each.name == study]
    if not found:
        raise InvalidValue(f"there is no study {study!r} in {source.place}. There are: {names}.")
    if name is None:
        return found
    if len(found) > 1:
        raise InvalidValue(
            f"{name!r} is one name, and there are {len(found)} studies in {source.place}: {names}. Say which of them is meant: "
            f"{wording(found[0].name, name)}."
        )
    return [found[0]._replace(called=name)]


def _import(
    source: Source, studies: list[SourceStudy], book: Ledger, progress: Progress | None, wording: Wording
) -> ImportReport:  # fmt: skip
    tally = _Tally(sum(study.size for study in studies), progress)
    tally.tell()
    with closing(LedgerStorage(book)) as storage:
        for study in studies:
            before = tally.done
            try:
                _import_study(storage, source, study, tally)
            except Refused as error:
                cure = f"Import this one under another name: {wording(study.name, f'{study.called}-2')}."
                tally.refused.append(Problem(study.called, f"{error} {cure} Nothing of it was imported."))
                tally.left_out += study.size
            except InvalidValue as error:  # the others can be had
                tally.skip(study, str(error), max(study.size - (tally.done - before), 0))
    tally.tell()
    problems = [Problem("", problem) for problem in source.problems]
    return ImportReport(
        [study.called for study in studies], tally.total, tally.added, tally.changed, tally.known, tally.left_out,
        source.rejected, tally.refused, tally.skipped, problems,
    )  # fmt: skip


class _Tally:
    """Count what has become of the trials."""

    def __init__(self, total: int, progress: Progress | None) -> None:
        self.total, self._progress = total, progress
        self.added = self.changed = self.known = self.left_out = 0
        self.refused: list[Problem] = []
        self.skipped: list[Problem] = []

    @property
    def done(self) -> int:
        return self.added + self.changed + self.known + self.left_out

    def skip(self, study: SourceStudy, problem: str, trials: int = 1) -> None:
        self.skipped.append(Problem(study.called, problem))
        self.left_out += trials

    def tell(self, more: int = 0) -> None:
        """Tell what is done, and ``more`` of which it is not known yet what becomes of them."""
        if self._progress is not None:
            self._progress(min(self.done + more, self.total), self.total)


# ------------------------------------------------------------------------------------------------------------ a study


def _import_study(storage: LedgerStorage, source: Source, study: SourceStudy, tally: _Tally) -> None:
    study_id, compared = _place(storage, source, study, tally)
    for problem in set_attributes(storage, study_id, study):
        tally.skip(study, problem, 0)
    tally.known += compared.known
    for broken in compared.broken:
        tally.skip(study, broken.problem)
    if compared.changed:
        tally.skip(study, _of_changed(compared.changed), len(compared.changed))
    ids, settled, here = compared.ids, compared.settled, storage.trial_ids(study_id)
    for batch in batches(study.trials(lambda number: number not in settled)):
        _add(storage, study_id, study, _take_known(storage, study_id, study, batch, here, tally), tally)
        ids.update((trial.number, trial._trial_id) for trial in batch if not isinstance(trial, Broken))
        tally.tell()
    here = storage.trial_ids(study_id)
    new_ids = {identifier: here[number] for number, identifier in ids.items() if number in here}
    for problem in set_attributes(storage, study_id, study, new_ids):
        tally.skip(study, problem, 0)
    if is_from(storage.experiment_of(study_id), source, study):
        _keep_ids(storage.experiment_of(study_id), {number: each for number, each in ids.items() if number in here})


def _place(storage: LedgerStorage, source: Source, study: SourceStudy, tally: _Tally) -> tuple[int, Compared]:
    """Return the id of the study in the ledger, where it is made unless it is there, and what there is of it."""
    compared = Compared()
    try:
        study_id: int = storage.get_study_id_from_name(study.called)
    except KeyError:
        try:
            study_id = storage.create_new_study(study.directions, study.called)
        except DuplicatedStudyError:
            raise Refused("an experiment of that name is there, which is no study.") from None
    else:
        compared = Comparison(storage, study_id, source, study).run(tally.tell)
    experiment = storage.experiment_of(study_id)
    if not storage.trial_ids(study_id) and not is_from(experiment, source, study):
        experiment.set_attributes(origin_of(source, study), namespace=NAMESPACE)
    return study_id, compared


def _of_changed(numbers: list[int]) -> str:
    if len(numbers) == 1:
        return f"trial {numbers[0]} was changed in the ledger since it was imported; it stays as it is there."
    some = ", ".join(map(str, numbers[:5])) + (" ..." if len(numbers) > 5 else "")
    return f"{len(numbers):,} trials were changed in the ledger since they were imported; they stay as they are there: {some}"


def _keep_ids(experiment: Experiment, ids: Mapping[int, int]) -> None:
    """Keep the ids that the trials had, unless they are kept."""
    known = experiment.artifact(IDS).load()["trial_ids"] if IDS in experiment.artifacts else []
    merged = {**ids, **{number: identifier for number, identifier in enumerate(known) if identifier is not None}}
    wanted = [merged.get(number) for number in range(max(merged, default=-1) + 1)]
    if wanted != known:
        experiment.log_artifact({"trial_ids": wanted}, name=IDS, reason=REASON)


# ------------------------------------------------------------------------------------------------------------- trials


def _take_known(
    storage: LedgerStorage, study_id: int, study: SourceStudy, batch: list[FrozenTrial | Broken], here: Mapping[int, int],
    tally: _Tally,
) -> list[FrozenTrial]:  # fmt: skip
    """Record what has become of trials that are here; return those that are not."""
    new: list[FrozenTrial] = []
    known = storage.copies(study_id, (trial.number for trial in batch if trial.number in here))
    for trial in batch:
        if isinstance(trial, Broken):
            tally.skip(study, trial.problem)
        elif trial.number not in here:
            new.append(trial)
        else:
            _bring_up_to_date(storage, study_id, study, known.get(trial.number), trial, tally)
    return new


def _bring_up_to_date(
    storage: LedgerStorage, study_id: int, study: SourceStudy, known: FrozenTrial | None, trial: FrozenTrial, tally: _Tally
) -> None:  # fmt: skip
    """Record what has become of a trial since it was imported; ``known`` is how it is here, None if it is deleted."""
    if known is None or is_same(known, trial) or not leads_to(known, trial):
        tally.known += 1
        return
    try:
        catch_up(storage, study_id, known, trial)
    except ValueError as error:  # a parameter of another distribution than the study has by now
        tally.skip(study, f"trial {trial.number} could not be brought up to date: {error}")
    else:
        tally.changed += 1


def _add(storage: LedgerStorage, study_id: int, study: SourceStudy, new: list[FrozenTrial], tally: _Tally) -> None:
    """Add trials; those that cannot be recorded are told of."""
    if not new:
        return
    try:
        tally.added += len(storage.add_trials(study_id, new, keep_numbers=True, reason=REASON))
        return
    except InvalidValue:  # of one of them, and some of the others are there by now
        there = storage.trial_ids(study_id)
    for trial in new:
        try:
            if trial.number not in there:
                storage.add_trials(study_id, [trial], keep_numbers=True, reason=REASON)
        except InvalidValue as error:
            tally.skip(study, f"trial {trial.number} cannot be recorded: {error}")
        else:
            tally.added += 1
