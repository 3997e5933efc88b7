"""Studies: the projection of all studies and trials of a ledger, from which a storage answers."""

from __future__ import annotations

from array import array
from bisect import bisect_left
from collections.abc import Iterator
from typing import Any, NamedTuple
from uuid import UUID

import numpy as np
import pandas as pd

from ledger import events as ev
from ledger.codec import decode_experiment_state
from ledger.integrations.optuna.frozen import Folded
from ledger.integrations.optuna.heap import Heap
from ledger.integrations.optuna.study import StudyFold
from ledger.records import Record
from ledger.registry import Event
from ledger.state import evolve_experiment, evolve_trial
from ledger.streams import subject_of
from projections.buffers import IdBuffer
from projections.projection import STATE_EVENTS, Projection
from projections.rows import Rows

_COLUMNS = ("ids", "owners", "numbers", "codes", "offsets")


class Place(NamedTuple):
    """Where a trial is: in which study, and where in it."""

    study: StudyFold
    place: int


class Studies(Projection):
    """Every experiment with its trials, as studies of Optuna; ``fold`` takes in an event, ``apply`` a record.

    >>> import ledger, projections
    >>> book = ledger.open("memory:")
    >>> book.experiment("demo", objectives={"loss": "min"}).new_trial({"lr": 0.1}).complete({"loss": 0.5})
    >>> projections.build(Studies(), book.log).table().values.tolist()
    [[1, 'demo', 1]]
    """

    name = "optuna_studies"
    schema_version = 1
    types = STATE_EVENTS | {"MetricsLogged"}

    def __init__(self) -> None:
        self._heap = Heap()
        self._studies: list[StudyFold] = []  # in order of creation
        self._by_experiment: dict[UUID, tuple[int, StudyFold]] = {}
        self._by_name: dict[str, StudyFold] = {}
        # of all trials, in order of creation: id, number of the study, place in it
        self._ids, self._owners, self._places = array("q"), array("q"), array("q")

    # ------------------------------------------------------------------------------------------------- folding

    def apply(self, record: Record) -> None:
        self.fold(record.position, record.stream, record.event, record.happened_at)

    def fold(self, position: int, stream: str, event: Event, at: int) -> None:
        """Take in the event of the next record of an experiment or a trial; others change nothing."""
        subject = subject_of(stream)
        if subject is None:
            return
        found = self._by_experiment.get(subject.experiment_id)
        if subject.trial_id is None:
            before = None if found is None else found[1].state
            after = evolve_experiment(before, subject, event, at)
            if after is not before:
                self._take_experiment(position, after, found)
            return
        if found is None:
            return  # the log takes no trial of an experiment that there is not
        owner, study = found
        if type(event) is ev.TrialCreated:
            place = study.add(position, subject.trial_id)
            self._ids.append(position)
            self._owners.append(owner)
            self._places.append(place)
            study.take_trial(place, Folded(evolve_trial(None, subject, event, at, is_checked=True), study.names))
            return
        known = study.place_of(subject.trial_id)
        if known is not None:
            _fold_trial(study, known, subject, event, at)

    def _take_experiment(self, position: int, state: Any, found: tuple[int, StudyFold] | None) -> None:
        if found is None:
            study = StudyFold(position, state, self._heap)
            self._by_experiment[state.id] = len(self._studies), study
            self._studies.append(study)
        else:
            study = found[1]
            if self._by_name.get(study.state.name) is study:
                del self._by_name[study.state.name]
            study.take_state(state)
        if state.deleted_at is None and study.is_study:
            self._by_name[state.name] = study

    # ------------------------------------------------------------------------------------------------- finding

    def studies(self) -> Iterator[StudyFold]:
        """Iterate over the studies that are not deleted, in order of creation."""
        return (study for study in self._studies if study.is_study and study.state.deleted_at is None)

    def study(self, study_id: int) -> StudyFold | None:
        """Return a study that is not deleted, by its id."""
        index = bisect_left(self._studies, study_id, key=lambda study: study.study_id)
        if index == len(self._studies) or self._studies[index].study_id != study_id:
            return None
        study = self._studies[index]
        return study if study.is_study and study.state.deleted_at is None else None

    def study_named(self, name: str) -> StudyFold | None:
        """Return the study of that name."""
        return self._by_name.get(name)

    def find(self, trial_id: int) -> Place | None:
        """Return where a trial is, which may be deleted, or its study."""
        row = bisect_left(self._ids, trial_id)
        if row == len(self._ids) or self._ids[row] != trial_id:
            return None
        return Place(self._studies[self._owners[row]], self._places[row])

    def table(self) -> pd.DataFrame:
        """Return one row for each study: ``study_id``, ``name`` and ``trials``, how many there are."""
        rows = [(study.study_id, study.state.name, sum(study.counts[:-1])) for study in self.studies()]
        return pd.DataFrame(rows, columns=["study_id", "name", "trials"])

    # --------------------------------------------------------------------------------------------- checkpoints

    def save(self) -> tuple[dict[str, Rows], dict[str, Any]]:
        if self._heap.is_wasteful:
            heap = Heap()
            for study in self._studies:
                study.move(heap)
            self._heap = heap
        owners = np.array(self._owners, np.int64)
        columns = {"ids": np.array(self._ids, np.int64), "owners": owners}
        order = np.argsort(owners, kind="stable")  # study after study, each in order of its places
        for name in ("numbers", "offsets", "codes"):
            column = columns[name] = np.empty(len(owners), np.int64)
            parts = [np.array(getattr(study, name), np.int64) for study in self._studies]
            column[order] = np.concatenate(parts) if parts else []
        trials = Rows({})
        trials.length = len(owners)
        trials.buffers = {name: IdBuffer.restore([column], []) for name, column in columns.items()}
        heap_rows, words = Rows({}), self._heap.words()
        heap_rows.length, heap_rows.buffers = len(words), {"words": IdBuffer.restore([words], [])}
        memory = {"studies": [study.remember() for study in self._studies], "wasted": self._heap.wasted}
        return {"trials": trials, "heap": heap_rows}, memory

    def load(self, rows: dict[str, Rows], memory: dict[str, Any]) -> None:
        self._heap = Heap(rows["heap"]["words"].arrays()[0])
        self._heap.wasted = memory["wasted"]
        columns = {name: rows["trials"][name].arrays()[0] for name in _COLUMNS}
        order = np.argsort(columns["owners"], kind="stable")
        ends = np.searchsorted(columns["owners"][order], np.arange(len(memory["studies"])), side="right")
        places, first = np.empty(len(order), np.int64), 0
        for number, (study_id, state, live, best, best_value) in enumerate(memory["studies"]):
            study = StudyFold(study_id, decode_experiment_state(state), self._heap)
            chosen, first = order[first : ends[number]], ends[number]
            places[chosen] = np.arange(len(chosen))
            study.recall({name: column[chosen] for name, column in columns.items()}, live, best, best_value)
            self._studies.append(study)
            self._by_experiment[study.state.id] = number, study
            if study.is_study and study.state.deleted_at is None:
                self._by_name[study.state.name] = study
        for name, column in (("_ids", columns["ids"]), ("_owners", columns["owners"]), ("_places", places)):
            setattr(self, name, array("q", column.tobytes()))


def _fold_trial(study: StudyFold, place: int, subject: Any, event: Event, at: int) -> None:
    if type(event) is ev.MetricsLogged:
        if study.metric is not None:
            _take_points(study, place, event)
        return
    folded = study.folded(place)
    after = evolve_trial(folded.state, subject, event, at, is_checked=True)
    if after is folded.state:
        return
    if after.results is not folded.state.results:
        folded.names = study.names
    if type(event) is ev.TrialClaimed and event.attempt > 1:
        folded.steps = {}  # it begins anew
    folded.state = after
    study.take_trial(place, folded)


def _take_points(study: StudyFold, place: int, event: ev.MetricsLogged) -> None:
    """Take in the intermediate values among some points: numbers of the study's metric at whole steps."""
    new: dict[int, Any] = {}
    for points in event.points:
        if study.metric in points.names:
            column = points.values[points.names.index(study.metric)]
            pairs = zip(points.steps, column, strict=False)
            new |= {step: value for step, value in pairs if type(step) is int and type(value) in (float, int)}
    if new:
        folded = study.folded(place)
        folded.steps.update(new)
        study.take_trial(place, folded)
