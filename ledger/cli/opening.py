"""What the commands share: their arguments, opening the ledger, finding what was named, progress on a terminal."""

from __future__ import annotations

import sys
import time
from collections.abc import Callable, Iterable, Iterator
from contextlib import contextmanager, suppress
from typing import Annotated
from uuid import UUID

import typer

import ledger
from ledger.cli.completion import complete_experiments, complete_trials, complete_types
from ledger.cli.output import ObjectFormat, printable
from ledger.errors import InvalidValue, OpenError, ReadOnlyLedger, UnknownExperiment, UnknownTrial
from ledger.experiment import Experiment
from ledger.nearest import find_nearest
from ledger.records import Record
from ledger.registry import all_types
from ledger.session import Ledger
from ledger.state import ExperimentState, TrialState
from ledger.trial import Trial
from ledger.values import check_text

PathArgument = Annotated[str, typer.Argument(metavar="PATH", help="The ledger's directory.")]
ExperimentArgument = Annotated[
    str, typer.Argument(metavar="EXPERIMENT", help="The experiment's name or id.", autocompletion=complete_experiments)
]
FormatOption = Annotated[ObjectFormat, typer.Option("--format", help="For people, or for programs.")]
TrialNumber = Annotated[int, typer.Argument(metavar="TRIAL", min=0, help="The trial's number.", autocompletion=complete_trials)]
TrialArgument = Annotated[
    int | None,
    typer.Argument(metavar="TRIAL", min=0, help="The trial's number.", show_default=False, autocompletion=complete_trials),
]
TypesOption = Annotated[
    list[str] | None,
    typer.Option(
        "--type", metavar="TYPE", help="Only this event type; repeat for more.", show_default=False, autocompletion=complete_types
    ),
]

_REPORT_EVERY = 256
_PATIENCE_SECONDS = 0.5  # work that is done by then shows no bar
Progress = Callable[[int, int], None]


def open_book(path: str, *, create: bool = False, actor: str | None = None) -> Ledger:
    """Open the ledger at the path; where it can only be read, to read only. ``actor`` is who writes, if not this process.

    Raises an OpenError, InvalidValue for what is no path of a directory.
    """
    if path == "memory:":
        raise InvalidValue("'memory:' would be empty, and gone when the command ends. Give the path of a directory.")
    check_text(path, "the path")
    try:
        return ledger.open(path, create=create, actor=actor)
    except ReadOnlyLedger as refused:
        if create:
            raise
        try:
            return ledger.open(path, readonly=True, actor=actor)
        except ReadOnlyLedger:
            raise  # it says what readers need
        except OpenError:
            raise refused from None


def find_experiment(book: Ledger, name: str) -> Experiment:
    """Return the experiment of that name or id; raises UnknownExperiment or InvalidValue."""
    return book.get_experiment(check_text(name, "the experiment's name"))


def find_trial(book: Ledger, experiment: str, number: int) -> Trial:
    """Return a trial of the experiment; raises UnknownExperiment or UnknownTrial."""
    return find_experiment(book, experiment).trial(number)


def recorded_experiment(book: Ledger, name: str) -> ExperimentState:
    """Return the experiment of that name or id, live or else deleted: tables leave that out, histories tell of it.

    Raises UnknownExperiment or InvalidValue.
    """
    try:
        return find_experiment(book, name).state
    except UnknownExperiment:
        with suppress(UnknownExperiment):
            return book.get_experiment(name, deleted=True).state
        raise


def recorded_trial(book: Ledger, experiment: ExperimentState, number: int) -> TrialState:
    """Return the trial of that number, also a deleted one; raises UnknownTrial."""
    with book.log.backend.view() as view:
        state = view.trial(experiment.id, number)
    if state is None:
        last = experiment.next_trial_id - 1
        raise UnknownTrial(f"there is no trial {number} in experiment {experiment.name!r}; its last one is {last}.")
    return state


def note_unknown_types(types: Iterable[str]) -> None:
    """Say when a type is none of the package's: it may be a caller's own, or a slip of the pen."""
    known = list(all_types())
    for name in types:
        if name not in known:
            nearest = find_nearest(name, known)
            hint = f" Did you mean {nearest}?" if nearest else ""
            print(f"note: {printable(name)!r} is no event type of this package.{hint}", file=sys.stderr)


class Names:
    """Names of experiments by id, looked up once each."""

    def __init__(self, book: Ledger) -> None:
        self._book = book
        self._known: dict[UUID, str] = {}

    def __call__(self, experiment_id: UUID) -> str:
        if experiment_id not in self._known:
            with self._book.log.backend.view() as view:
                state = view.experiment(experiment_id)
            self._known[experiment_id] = str(experiment_id) if state is None else state.name
        return self._known[experiment_id]

    def forget(self, experiment_id: UUID) -> None:
        """Look the name up again: it was changed."""
        self._known.pop(experiment_id, None)


@contextmanager
def progress_bar(what: str, *, output: bool = False, unit: str = "records") -> Iterator[Progress | None]:
    """Show a bar with percentage, records (or another ``unit``) a second and time left on standard error while the block runs.

    Yields None, and shows nothing, where that is no terminal; with ``output``, for work that prints as it goes, also where
    standard output is one: the two would overwrite each other. Work that is done at once shows no bar either.
    """
    if not sys.stderr.isatty() or (output and sys.stdout.isatty()):
        yield None
        return
    from rich.console import Console
    from rich.progress import BarColumn, MofNCompleteColumn, Progress, TaskProgressColumn, TextColumn, TimeRemainingColumn

    columns = (
        TextColumn("{task.description}"),
        BarColumn(),
        TaskProgressColumn(),
        MofNCompleteColumn(),
        TextColumn("{task.fields[rate]}"),
        TimeRemainingColumn(),
    )
    bar = Progress(*columns, console=Console(file=sys.stderr), transient=True)
    task = bar.add_task(what, total=None, rate="")
    begun = time.monotonic()

    def update(done: int, total: int) -> None:
        seconds = time.monotonic() - begun
        if seconds > _PATIENCE_SECONDS:
            bar.update(task, completed=done, total=total, rate=f"{done / seconds:,.0f} {unit}/s")
            bar.start()  # again does nothing

    try:
        yield update
    finally:
        bar.stop()


def counted(records: Iterable[Record], progress: Progress | None, after: int, last: int) -> Iterator[Record]:
    """Pass records on, and report every so often how far their positions have come between two."""
    if progress is None:
        yield from records
        return
    for count, record in enumerate(records, start=1):
        yield record
        if count % _REPORT_EVERY == 0:
            progress(min(record.position, last) - after, last - after)
