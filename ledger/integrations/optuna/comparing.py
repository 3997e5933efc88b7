"""Comparing: whether a study of the ledger is the one that is to be imported; looked at before anything is written."""

from __future__ import annotations

import enum
import os
from collections.abc import Callable
from functools import cached_property
from itertools import takewhile

from optuna.trial import FrozenTrial

from ledger.experiment import Experiment
from ledger.integrations.optuna.catching_up import REASON, has_same_course, is_same, leads_to
from ledger.integrations.optuna.source import Broken, Source, SourceStudy, batches
from ledger.integrations.optuna.storage import LedgerStorage
from ledger.integrations.optuna.studies import Studies
from ledger.integrations.optuna.study_attributes import NAMESPACE, are_as_seen
from ledger.integrations.optuna.vocabulary import SYSTEM, USER
from ledger.records import Record
from ledger.streams import trial_stream


class Refused(Exception):
    """A study that cannot be imported; the others can."""


class Standing(enum.Enum):
    """How the ledger's trial stands to the one of its number in the source."""

    KNOWN = "it is the same, or has gone on here"
    CHANGED = "it was changed here since it was imported"
    BEHIND = "it has gone on there"
    UNREAD = "it cannot be read there"


class Compared:
    """What a comparison has found: the trials of which nothing is to be recorded.

    Of them ``known`` are counted, ``changed`` were changed here, ``broken`` cannot be read. ``ids`` are the ids that all but the
    broken ones have there, by number.
    """

    def __init__(self) -> None:
        self.known = 0
        self.changed: list[int] = []
        self.broken: list[Broken] = []
        self.ids: dict[int, int] = {}
        self.is_proved = False  # by a trial that both have

    def take(self, trial: FrozenTrial | Broken, standing: Standing) -> None:
        """Count a trial in."""
        if isinstance(trial, Broken):
            self.broken.append(trial)
            return
        self.is_proved = True
        if standing is not Standing.BEHIND:
            self.ids[trial.number] = trial._trial_id
        if standing is Standing.CHANGED:
            self.changed.append(trial.number)
        self.known += standing is Standing.KNOWN

    @property
    def settled(self) -> set[int]:
        """The numbers of these trials."""
        return self.ids.keys() | {each.number for each in self.broken}


class Comparison:
    """Compare a study of the ledger with the one that is to be imported under its name."""

    def __init__(self, storage: LedgerStorage, study_id: int, source: Source, study: SourceStudy) -> None:
        self._storage, self._study_id, self._study = storage, study_id, study
        self._experiment = storage.experiment_of(study_id)
        self._origin = origin_of(source, study)
        self._here = storage.trial_ids(study_id)

    def run(self, tell: Callable[[int], None]) -> Compared:
        """Return what is there; raises Refused for anything but the same study. ``tell`` is told how many trials are done."""
        attributes = self._experiment.state.attributes
        known = attributes.get(NAMESPACE)
        if self._storage.get_study_directions(self._study_id) != list(self._study.directions):
            raise Refused("a study of that name is there, with other directions.")
        if known is None and self._here:
            raise Refused("a study of that name is there, with trials that were not imported.")
        if known is None and (attributes.get(USER) or attributes.get(SYSTEM)):
            raise Refused("a study of that name is there, with attributes that were not imported.")
        found = self._compared(tell)
        if known is not None and not found.is_proved:
            is_elsewhere = any(known.get(key) != value for key, value in self._origin.items())
            if (self._here or is_elsewhere) and not are_as_seen(self._study, known.get("seen", {})):
                raise Refused(f"another study of that name is there, imported from {known.get('source')}.")
        return found

    def _compared(self, tell: Callable[[int], None]) -> Compared:
        found = Compared()
        for batch in batches(self._study.trials(self._here.__contains__)) if self._here else ():
            here = self._storage.copies(self._study_id, [trial.number for trial in batch])
            for trial in batch:
                found.take(trial, self._standing(trial, here.get(trial.number)))
            tell(len(found.ids) + len(found.broken))
        return found

    def _standing(self, trial: FrozenTrial | Broken, known: FrozenTrial | None) -> Standing:
        if isinstance(trial, Broken):
            return Standing.UNREAD
        if known is not None and is_same(known, trial):
            return Standing.KNOWN
        if not self._was_imported(trial):
            raise Refused(f"another study of that name is there: trial {trial.number} is another one.")
        if known is None or leads_to(trial, known):
            return Standing.KNOWN
        return Standing.BEHIND if leads_to(known, trial) else Standing.CHANGED

    def _was_imported(self, trial: FrozenTrial) -> bool:
        """Say whether the ledger's trial of that number is this one, whatever has become of it since."""
        of_trial = self._experiment.book.log.read(stream=trial_stream(self._experiment.id, trial.number))
        records = list(takewhile(lambda record: record.reason == REASON, of_trial))
        if not records:
            return False
        if any(record.is_redacted for record in records):
            return True  # what is left of it says nothing else
        studies = Studies()
        for record in sorted([*self._of_experiment, *records], key=lambda record: record.position):
            studies.apply(record)
        (study,) = studies.studies()
        was = study.trial(0)
        if was.state.is_finished() and trial.state.is_finished():
            return has_same_course(was, trial)
        return leads_to(was, trial) or leads_to(trial, was)

    @cached_property
    def _of_experiment(self) -> list[Record]:
        return list(self._experiment.book.log.read(stream=self._experiment.state.stream))


def origin_of(source: Source, study: SourceStudy) -> dict[str, object]:
    """Return where a study is read, as it is kept with the experiment."""
    place = os.path.abspath(source.place) if os.path.exists(source.place) else source.place
    return {"from": source.kind, "source": place, "study_id": study.id}


def is_from(experiment: Experiment, source: Source, study: SourceStudy) -> bool:
    """Say whether an experiment was imported from that study, wherever its file lies by now."""
    known, origin = experiment.state.attributes.get(NAMESPACE, {}), origin_of(source, study)
    return all(known.get(key) == origin[key] for key in ("from", "study_id"))
