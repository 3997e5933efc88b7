"""MLXP: the runs of its log directories as trials of a ledger.

What becomes of a run ``<log_id>/``:

- the trial of the number ``log_id``, with ``metadata/config.yaml`` as its config, nested as it is;
- ``metadata/info.yaml``, whole, is the attribute ``info`` in the namespace ``mlxp``; other files of metadata are in
  ``metadata`` there. What was read of the files is in the namespace ``mlxp.import``;
- status by ``projections.mlxp_status``: STARTING waits (PENDING, assigned to the worker ``mlxp``, so that no other is handed
  it), RUNNING, COMPLETE and FAILED; a word that MLXP does not know is UNKNOWN;
- ``metrics/<log>.json`` are metrics ``<log>.<key>``; the step is the line's number from 0, or the value of a key that is
  named. What is no number, text or bool is kept as its JSON text. MLXP does not tell when a line was written: its points
  have the time at which the run began;
- ``artifacts/<type>/<path>`` are artifacts of the same name, their bytes as they are. ``load`` of a pickle needs
  ``allow_pickle=True``; of another type a saver that is registered under its name. Nothing in them is run, neither here nor by
  ``load``, unless it is asked for; the bytecode of types that a user registered (``.keys``) is no artifact, as in MLXP;
- ``log.stdout`` and ``log.stderr`` are what ``ledger logs`` shows.

Its times have no zone: they are read as those of this machine, unless a zone is named.
"""

from __future__ import annotations

import datetime as dt
import os
from collections.abc import Callable
from pathlib import Path
from typing import NamedTuple
from uuid import UUID
from zoneinfo import ZoneInfo

from ledger import session
from ledger.errors import InvalidValue
from ledger.experiment import Experiment
from ledger.integrations.mlxp_record import check_same_run, known_metrics, record_run
from ledger.integrations.mlxp_run import BrokenRun, load_yaml, read_run, run_directories
from ledger.session import Ledger
from ledger.state import TrialState
from ledger.streams import MAX_TRIAL_ID

Progress = Callable[[int, int], None]


class Problem(NamedTuple):
    """What is wrong with a run: the name of its directory, and what it is."""

    run: str
    problem: str


class ImportReport(NamedTuple):
    """What an import has done: of ``runs`` directories, trials ``added``, ``changed``, ``known`` before and ``skipped``.

    ``problems`` are of runs that were imported: a line of metrics that is torn, say.
    """

    experiment: str
    experiment_id: UUID
    runs: int
    added: int
    changed: int
    known: int
    skipped: list[Problem]
    problems: list[Problem]


def import_runs(
    source: str | os.PathLike[str], book: Ledger | str | os.PathLike[str], experiment: str | None = None, *,
    step: str | None = None, timezone: str | None = None, progress: Progress | None = None,
) -> ImportReport:  # fmt: skip
    """Import the runs of MLXP's log directory as trials of an experiment, by default named as the directory.

    ``book`` is an open ledger, or the path of one, made when there is none. ``step`` is the key of the lines of metrics whose
    value is the step (``"epoch"``). ``timezone`` is the zone of the runs' clocks (``"Europe/Paris"``), that of this machine
    when it is left out. ``progress`` is called with the runs done and their number.

    Each run is recorded in one commit, all of it or nothing. Importing again adds what is new: runs, lines of metrics, ends;
    so an import that was interrupted, or a sweep that goes on, is simply imported again. A run that is broken is reported
    and skipped, and hides none of the others.

    Raises InvalidValue when there are no runs, or PyYAML is not installed; ExperimentReadOnly when the experiment is sealed;
    what cannot be written as elsewhere. Costs some 15 ms a run with an artifact, 2 ms one that was imported before.

    >>> import ledger, pathlib, tempfile
    >>> with tempfile.TemporaryDirectory() as place, ledger.open("memory:") as book:
    ...     metadata = pathlib.Path(place, "logs", "1", "metadata")
    ...     metadata.mkdir(parents=True)
    ...     _ = (metadata / "config.yaml").write_text("model: {num_units: 2}")
    ...     _ = (metadata / "info.yaml").write_text("status: COMPLETE")
    ...     report = import_runs(pathlib.Path(place, "logs"), book)
    ...     trial = book.get_experiment("logs").trial(1)
    ...     print(report.added, trial.status, trial.config)
    1 SUCCEEDED {'model': {'num_units': 2}}
    """
    directory, zone = Path(source), _zone(timezone)
    found = check_source(source, timezone)
    if isinstance(book, Ledger):
        return _import(directory, found, book, experiment, step, zone, progress)
    with session.open(book) as opened:
        return _import(directory, found, opened, experiment, step, zone, progress)


def check_source(source: str | os.PathLike[str], timezone: str | None = None) -> list[Path]:
    """Return the directories of the runs; raises InvalidValue for whatever would keep all of them from being imported."""
    _zone(timezone)
    load_yaml()
    return run_directories(Path(source))


def _zone(timezone: str | None) -> dt.tzinfo | None:
    if timezone is None:
        return None
    try:
        return ZoneInfo(timezone)
    except (ValueError, OSError) as error:  # ZoneInfoNotFoundError is a KeyError
        raise InvalidValue(f"{timezone!r} is no time zone: {error}. Give one like 'Europe/Paris' or 'UTC'.") from None
    except KeyError:
        raise InvalidValue(f"there is no time zone {timezone!r}. Give one like 'Europe/Paris' or 'UTC'.") from None


def _import(
    directory: Path, found: list[Path], book: Ledger, name: str | None, step: str | None, zone: dt.tzinfo | None,
    progress: Progress | None,
) -> ImportReport:  # fmt: skip
    name = name or directory.resolve().name
    experiment = book.experiment(name)
    counts = {"added": 0, "changed": 0, "known": 0}
    skipped: list[Problem] = []
    problems: list[Problem] = []
    for done, path in enumerate(found):
        if progress is not None:
            progress(done, len(found))
        try:
            what, told = _import_run(path, experiment, step, zone)
        except InvalidValue as error:
            skipped.append(Problem(path.name, str(error)))
            continue
        counts[what] += 1
        problems += [Problem(path.name, problem) for problem in told]
    if progress is not None:
        progress(len(found), len(found))
    return ImportReport(name, experiment.id, len(found), **counts, skipped=skipped, problems=problems)


def _import_run(path: Path, experiment: Experiment, step: str | None, zone: dt.tzinfo | None) -> tuple[str, list[str]]:
    if str(int(path.name)) != path.name or int(path.name) > MAX_TRIAL_ID:
        raise BrokenRun(f"{path.name} is no number of a run: MLXP begins them with no 0, and a trial's ends at {MAX_TRIAL_ID}.")
    state = _state(experiment, int(path.name))
    run = read_run(path, zone, known_metrics(state))
    if state is not None:
        check_same_run(state, run)
    is_new = record_run(experiment, state, run, step)
    return "known" if not is_new else "added" if state is None else "changed", run.problems


def _state(experiment: Experiment, number: int) -> TrialState | None:
    with experiment.book.log.backend.view() as view:
        return view.trial(experiment.id, number)
