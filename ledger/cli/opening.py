"""What the commands share: their arguments, opening the ledger, finding what was named, progress on a terminal."""

from __future__ import annotations

import sys
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from typing import Annotated
from uuid import UUID

import typer

import ledger
from ledger.errors import InvalidValue, OpenError, ReadOnlyLedger
from ledger.experiment import Experiment
from ledger.session import Ledger
from ledger.trial import Trial
from ledger.values import check_text

PathArgument = Annotated[str, typer.Argument(metavar="PATH", help="The ledger's directory.")]
ExperimentArgument = Annotated[str, typer.Argument(metavar="EXPERIMENT", help="The experiment's name or id.")]
TrialArgument = Annotated[int | None, typer.Argument(metavar="TRIAL", min=0, help="The trial's number.", show_default=False)]

Progress = Callable[[int, int], None]


def open_book(path: str, *, create: bool = False) -> Ledger:
    """Open the ledger at the path; on a read-only mount, to read only.

    Raises an OpenError, InvalidValue for what is no path of a directory.
    """
    if path == "memory:":
        raise InvalidValue("'memory:' would be empty, and gone when the command ends. Give the path of a directory.")
    check_text(path, "the path")
    try:
        return ledger.open(path, create=create)
    except ReadOnlyLedger as refused:
        if create:
            raise
        try:
            return ledger.open(path, readonly=True)
        except OpenError:
            raise refused from None


def find_experiment(book: Ledger, name: str) -> Experiment:
    """Return the experiment of that name or id; raises UnknownExperiment or InvalidValue."""
    return book.get_experiment(check_text(name, "the experiment's name"))


def find_trial(book: Ledger, experiment: str, number: int) -> Trial:
    """Return a trial of the experiment; raises UnknownExperiment or UnknownTrial."""
    return find_experiment(book, experiment).trial(number)


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
def progress_bar(what: str) -> Iterator[Progress | None]:
    """Show a bar on standard error while the block runs; yields None, and shows nothing, where that is no terminal."""
    if not sys.stderr.isatty():
        yield None
        return
    from rich.console import Console
    from rich.progress import BarColumn, MofNCompleteColumn, Progress, TextColumn, TimeRemainingColumn

    columns = TextColumn("{task.description}"), BarColumn(), MofNCompleteColumn(), TimeRemainingColumn()
    with Progress(*columns, console=Console(file=sys.stderr), transient=True) as bar:
        task = bar.add_task(what, total=None)
        yield lambda done, total: bar.update(task, completed=done, total=total)
