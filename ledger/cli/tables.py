"""Commands that show tables: experiments, trials. They alone import pandas, by ``projections``."""

from __future__ import annotations

import difflib
from typing import TYPE_CHECKING, Annotated, Any

import typer

from ledger.cli.app import command
from ledger.cli.opening import ExperimentArgument, PathArgument, find_experiment, open_book, progress_bar
from ledger.cli.output import Format, print_rows
from ledger.state import Status

if TYPE_CHECKING:
    import pandas as pd

AsOfOption = Annotated[
    int | None,
    typer.Option("--as-of", min=0, metavar="POSITION", help="The table as it stood at this position.", show_default=False),
]
DeletedOption = Annotated[bool, typer.Option("--deleted", help="Those that were deleted as well.")]
FormatOption = Annotated[Format, typer.Option("--format", help="For people, or for programs.")]


@command("ledger experiments runs.ledger", "ledger experiments runs.ledger --as-of 1000 --format json")
def experiments(
    path: PathArgument, as_of: AsOfOption = None, deleted: DeletedOption = False, form: FormatOption = Format.TABLE
) -> None:
    """List the experiments."""
    with open_book(path) as book:
        from projections import Tables

        with progress_bar("reading") as progress:
            frame = Tables(book, progress=progress).experiments(as_of=as_of, deleted=deleted)
    print_frame(frame, form)


@command(
    "ledger trials runs.ledger sqlite-tuning --sort result.latency_ms --limit 5",
    "ledger trials runs.ledger sqlite-tuning --status FAILED --format jsonl",
    "ledger trials runs.ledger sqlite-tuning --as-of 1000",
    "ledger trials runs.ledger sqlite-tuning --as-recorded",
)
def trials(
    path: PathArgument,
    experiment: ExperimentArgument,
    as_of: AsOfOption = None,
    status: Annotated[
        list[Status] | None,
        typer.Option(case_sensitive=False, help="Only trials of this status; repeat for more.", show_default=False),
    ] = None,
    sort: Annotated[str | None, typer.Option(metavar="COLUMN", help="Sort by this column.", show_default=False)] = None,
    descending: Annotated[bool, typer.Option("--descending", help="The largest first.")] = False,
    limit: Annotated[int | None, typer.Option(min=0, help="At most so many rows.", show_default=False)] = None,
    as_recorded: Annotated[bool, typer.Option("--as-recorded", help="The first values, without amendments.")] = False,
    deleted: DeletedOption = False,
    form: FormatOption = Format.TABLE,
) -> None:
    """List the trials of an experiment.

    One row a trial: status, times, config and results.
    """
    with open_book(path) as book:
        from projections import Tables

        found = find_experiment(book, experiment)
        objectives = list(found.objectives)
        with progress_bar("reading") as progress:
            tables = Tables(book, progress=progress)
            frame = tables.trials(found.id, as_of=as_of, amended=not as_recorded, deleted=deleted)
    if status:
        frame = frame[frame["status"].astype(str).isin([str(one) for one in status])]
    if sort is not None:
        frame = _sorted(frame, sort, descending)
    elif descending:
        frame = frame.iloc[::-1]
    if limit is not None:
        frame = frame.head(limit)
    if form is Format.TABLE:
        frame = frame[_for_people(list(frame.columns), objectives)]
    print_frame(frame, form)


def print_frame(frame: pd.DataFrame, form: Format) -> None:
    """Print a DataFrame; a named index comes first, as a column."""
    if frame.index.name is not None:
        frame = frame.reset_index()
    columns = [str(column) for column in frame.columns]
    own = [not column.startswith(("config.", "result.")) for column in columns]
    rows = frame.astype(object).itertuples(index=False, name=None)
    print_rows(columns, ([_own(v) if mine else v for v, mine in zip(row, own, strict=True)] for row in rows), form)


def _own(value: Any) -> Any:
    """Return a value of the table's own columns: a tuple there is merely a list that cannot change."""
    return list(value) if isinstance(value, tuple) else value


def _sorted(frame: pd.DataFrame, column: str, descending: bool) -> pd.DataFrame:
    if column not in frame.columns:
        names = [str(name) for name in frame.columns]
        nearest = difflib.get_close_matches(column, names, n=1, cutoff=0.4)
        hint = f" Did you mean {nearest[0]!r}?" if nearest else f" There are: {', '.join(names)}."
        raise typer.BadParameter(f"there is no column {column!r}.{hint}", param_hint="'--sort'")
    try:
        return frame.sort_values(column, ascending=not descending, kind="stable", na_position="last")
    except TypeError:  # values of several types, as configs may hold: by their text, which at least is an order
        return frame.sort_values(column, ascending=not descending, kind="stable", key=lambda values: values.astype(str))


def _for_people(columns: list[str], objectives: list[str]) -> list[str]:
    """Put first what a person looks for: a narrow terminal leaves out the last columns."""

    def rank(column: str) -> int:
        if column in ("trial_id", "status"):
            return 0
        prefix, _, name = column.partition(".")
        if prefix == "result" and name in objectives:
            return 1
        return {"config": 2, "result": 3, "attempts": 4, "worker": 5}.get(prefix, 6)

    return sorted(columns, key=rank)
