"""Import: the experiments of a SQL database of mlos_bench as those of a ledger.

What becomes of it:

- an experiment of the same name, with its targets, description, and where its configs are from;
- trials of the same numbers; status by ``ledger.integrations.mlos.status``; metrics as results, telemetry as telemetry. A text
  that is a number becomes one if it has just that text again;
- ``trial_param`` and the runner are attributes as the storage has them; ``trial_status`` are the statuses that were polled,
  which ``status_history_df`` shows;
- times are those of the database: a trial is created and begins at its ``ts_start``, which one that waits waits for;
- configs are numbered in order of first appearance in a ledger. Trials are imported in an order in which that gives the
  numbers of the database, if those have no gaps and the ledger has no other configs. What a config's number was is the attribute
  ``config_id`` in the namespace ``mlos.import``, whatever it is here.
"""

from __future__ import annotations

import contextlib
import os
from collections.abc import Callable, Iterator, Mapping, Sequence
from typing import Any, NamedTuple

from ledger import events as ev
from ledger import session
from ledger.backends.base import Staged, Submission, View, config_digest
from ledger.errors import InvalidValue
from ledger.experiment import Experiment
from ledger.identity import new_uuid7
from ledger.integrations.mlos.database import Database, SqlExperiment, SqlTrial
from ledger.integrations.mlos.past_trial import PastTrial, course, record_past_trial
from ledger.integrations.mlos.status import FROM_MLOS
from ledger.integrations.mlos.telemetry import POLLED, Point, read_points, telemetry_events
from ledger.integrations.mlos.values import CONFIG, NAMESPACE, RUNNER
from ledger.session import Ledger
from ledger.state import Status, TrialState
from ledger.status import UNFINISHED
from ledger.streams import experiment_stream, trial_stream
from projections.builder import build
from projections.experiments import Experiments

Progress = Callable[[int, int], None]

_IMPORT = "mlos.import"  # the namespace of what the importer notes
_REASON = "imported from mlos_bench"
_TRIALS_PER_COMMIT = 50


class Problem(NamedTuple):
    """What is wrong with a trial, or with an experiment when ``trial`` is None."""

    experiment: str
    trial: int | None
    problem: str


class ImportReport(NamedTuple):
    """What an import has done: of ``trials`` in the database, ``added``, ``changed``, ``known`` before and not ``skipped``.

    ``problems`` are of what was imported. ``config_ids`` maps the numbers of configs in the database to those here, where they
    are others.
    """

    experiments: list[str]
    trials: int
    added: int
    changed: int
    known: int
    skipped: list[Problem]
    problems: list[Problem]
    config_ids: dict[int, int]


def import_database(
    source: str | os.PathLike[str], book: Ledger | str | os.PathLike[str], *, keep_config_ids: bool = False,
    progress: Progress | None = None,
) -> ImportReport:  # fmt: skip
    """Import all experiments of a database of mlos_bench: a SQLite file, or the URL of a database as SQLAlchemy knows it.

    ``book`` is an open ledger, or the path of one, made when there is none. With ``keep_config_ids`` nothing is imported unless
    configs will have the numbers that they have there. ``progress`` is called with the trials done and their number.

    The database is only read. Some trials are recorded in one commit, each whole or not at all; importing again adds what is
    new: trials, ends, telemetry, statuses. So an import that was interrupted, or a database that is written on, is simply
    imported again. A trial that cannot be imported is reported and skipped, and hides none of the others.

    Raises InvalidValue for a source that is no database of mlos_bench, or without SQLAlchemy; errors of writing as
    elsewhere.
    Costs some 3 ms a trial with five parameters, metrics and points of telemetry.
    """
    with contextlib.ExitStack() as stack:
        database = stack.enter_context(contextlib.closing(Database(source)))
        opened = book if isinstance(book, Ledger) else stack.enter_context(session.open(book))
        return _Import(database, opened, keep_config_ids).run(progress)


class _Import:
    """One import."""

    def __init__(self, database: Database, book: Ledger, keep_config_ids: bool) -> None:
        self._database, self._book = database, book
        self._experiments: dict[str, Experiment] = {}
        self._counts = {"added": 0, "changed": 0, "known": 0}
        self._skipped: list[Problem] = []
        self._problems: list[Problem] = []
        self._trials = database.trials()
        if keep_config_ids:
            self._check_config_ids()

    def run(self, progress: Progress | None) -> ImportReport:
        for each in self._database.experiments():
            self._experiments[each.name] = self._experiment(each)
        count = len(self._trials)
        for first in range(0, count, _TRIALS_PER_COMMIT):
            if progress is not None:
                progress(first, count)
            self._import(self._trials[first : first + _TRIALS_PER_COMMIT])
        if progress is not None:
            progress(count, count)
        return ImportReport(
            list(self._experiments), count, **self._counts, skipped=self._skipped, problems=self._problems,
            config_ids=self._renumbered(),
        )  # fmt: skip

    # ------------------------------------------------------------------------------------------- experiments

    def _experiment(self, found: SqlExperiment) -> Experiment:
        directions = {name: direction for name, direction in found.objectives.items() if direction in ("min", "max")}
        for name in found.objectives.keys() - directions.keys():
            told = f"the target {name!r} has the direction {found.objectives[name]!r}; it is left out."
            self._problems.append(Problem(found.name, None, told))
        stream = experiment_stream(new_uuid7())
        more = {**found.more, **({"weights": found.weights} if found.weights else {})}
        events = [
            ev.ExperimentCreated(found.name, directions, found.description),  # type: ignore[arg-type]
            ev.AttributesSet(dict(found.origin), NAMESPACE),
            *([ev.AttributesSet(more, _IMPORT)] if more else []),
        ]

        def create(view: View) -> list[Staged]:
            return [] if view.experiment_named(found.name) is not None else [(stream, event) for event in events]

        self._book.log.execute(create, reason=_REASON)
        return self._book.get_experiment(found.name)

    # ------------------------------------------------------------------------------------------------ trials

    def _import(self, trials: Sequence[SqlTrial]) -> None:
        """Import some trials in one commit."""
        made: list[tuple[SqlTrial, str, list[Submission]]] = []
        for trial in trials:
            try:
                made.append((trial, *self._submissions(trial)))
            except InvalidValue as error:
                self._skipped.append(Problem(trial.experiment, trial.number, str(error)))
        answers = iter(self._book.log.commit([each for _, _, submissions in made for each in submissions]))
        for trial, what, submissions in made:
            refused = [answer for answer in (next(answers) for _ in submissions) if isinstance(answer, Exception)]
            if len(refused) == len(submissions) and refused:
                self._skipped.append(Problem(trial.experiment, trial.number, str(refused[0])))
                continue
            self._problems += [Problem(trial.experiment, trial.number, str(error)) for error in refused]
            self._counts[what] += 1

    def _submissions(self, trial: SqlTrial) -> tuple[str, list[Submission]]:
        """Return what is to be recorded of a trial, and what that makes of it."""
        experiment = self._experiments.get(trial.experiment)
        if experiment is None:
            raise InvalidValue(f"its experiment {trial.experiment!r} is not in the database.")
        if trial.config_hash is None:
            raise InvalidValue(f"its config {trial.config_id} is not in the database.")
        with self._book.log.backend.view() as view:
            state = view.trial(experiment.id, trial.number)
        past = self._past(trial)
        if state is None:
            return "added", record_past_trial(self._book.log, experiment.id, past, _REASON)
        _check_same(state, trial)
        found = list(self._new(experiment, state, past))
        return ("changed" if found else "known"), found

    def _past(self, trial: SqlTrial) -> PastTrial:
        status = FROM_MLOS.get(trial.status)
        if status is None:
            self._problems.append(Problem(trial.experiment, trial.number, f"its status {trial.status!r} is none: UNKNOWN."))
            status = Status.UNKNOWN
        if status not in UNFINISHED and status is not Status.UNKNOWN and trial.ts_end is None:
            self._problems.append(Problem(trial.experiment, trial.number, f"it is {trial.status} without an end: it ends now."))
        statuses = self._database.statuses(trial)
        parameters = self._database.parameters(trial)
        said = {**({CONFIG: parameters} if parameters else {}), **({} if trial.runner is None else {RUNNER: trial.runner})}
        waits = status is Status.PENDING
        return PastTrial(
            trial.number, self._database.configs[trial.config_id], status, trial.ts_start if not waits else None,
            trial.ts_start, trial.ts_end, self._database.results(trial),
            {NAMESPACE: said, _IMPORT: {"config_id": trial.config_id, "config_hash": trial.config_hash}},
            scheduled_at=trial.ts_start if waits else None,
            points=(*self._database.telemetry(trial), *(Point(at, POLLED, name) for at, name in statuses)),
        )  # fmt: skip

    def _new(self, experiment: Experiment, state: TrialState, past: PastTrial) -> Iterator[Submission]:
        """Yield what records what has happened to a trial since it was imported; nothing of one that went on here."""
        log, stream = self._book.log, trial_stream(experiment.id, state.id)

        def submission(events: Sequence[Any], at: int | None = None) -> Submission:
            return log.submission(lambda view: [(stream, event) for event in events], reason=_REASON, occurred_at=at)

        known = {(point.at, point.name, str(point.value)) for point in read_points(log, stream)}
        points = [point for point in past.points if (point.at, point.name, str(point.value)) not in known]
        for event in telemetry_events(points, 0):
            yield submission([event])
        is_ours = state.status in UNFINISHED and state.worker is None and state.status is not past.status
        if is_ours and past.status is not Status.PENDING:
            steps = course(past, state.attempt - (state.status is Status.RUNNING))
            for events, at in steps[state.status is Status.RUNNING and len(steps) > 1 :]:
                yield submission(events, at)

    # ----------------------------------------------------------------------------------------------- configs

    def _check_config_ids(self) -> None:
        """Raise InvalidValue when the configs of the database cannot have the same numbers here."""
        used = sorted({trial.config_id for trial in self._trials if trial.config_hash is not None})
        gap = next((wanted for wanted, found in enumerate(used, start=1) if wanted != found), None)
        cure = "Import without keeping them: the numbers that they had are kept as an attribute of the trials."
        if gap is not None:
            raise InvalidValue(f"the configs of {self._database.source!r} are not numbered from 1 on: {gap} is missing. {cure}")
        digests = [config_digest(self._database.configs[config_id]) for config_id in used]
        if len(set(digests)) < len(digests):
            raise InvalidValue(f"two configs of {self._database.source!r} have the same values, and are one here. {cure}")
        known = build(Experiments(), self._book.log).config_ids.digests()
        if not b"".join(digests).startswith(known) and not known.startswith(b"".join(digests)):
            raise InvalidValue(f"{self._book.path} has other configs, which have their numbers. {cure}")

    def _renumbered(self) -> dict[int, int]:
        ids = build(Experiments(), self._book.log).config_ids
        there = [trial.config_id for trial in self._trials if trial.config_hash is not None]
        here = ids.numbers([self._database.configs[config_id] for config_id in there])
        return {before: after for before, after in sorted(zip(there, here, strict=True)) if before != after}


def _check_same(state: TrialState, trial: SqlTrial) -> None:
    """Raise InvalidValue when the trial of that number is something else than this one, imported before."""
    noted: Mapping[str, Any] = state.attributes.get(_IMPORT, {})
    if noted.get("config_hash") != trial.config_hash:
        raise InvalidValue(f"trial {trial.number} of {trial.experiment!r} is there already, and is another. Use another ledger.")
    if state.deleted_at is not None:
        raise InvalidValue(f"trial {trial.number} of {trial.experiment!r} was deleted here. Restore it first, or leave it.")
