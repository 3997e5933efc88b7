"""What the commands that show tables share: which rows and columns, as of when, and where they go."""

from __future__ import annotations

import datetime as dt
import enum
import fnmatch
import os
import sys
from collections.abc import Callable, Iterator, Sequence
from contextlib import contextmanager
from dataclasses import dataclass
from typing import TYPE_CHECKING, Annotated, Any
from uuid import UUID

import typer

from ledger.cli.opening import find_experiment, open_book, progress_bar, recorded_trial
from ledger.cli.output import Format, print_rows, printable, write_bytes, yes_or_no
from ledger.cli.times import HELP as TIME_HELP
from ledger.cli.times import parse_time
from ledger.nearest import find_nearest
from ledger.values import check_text

if TYPE_CHECKING:
    import pandas as pd

    from projections import Tables

_FLAGS = "is_", "lease_expired"  # what the names of a table's own columns of yes and no begin with


class TableFormat(enum.StrEnum):
    """How a command shows a table, or writes it to a file."""

    TABLE = "table"
    JSON = "json"
    JSONL = "jsonl"
    CSV = "csv"
    PARQUET = "parquet"
    ARROW = "arrow"


AsOfOption = Annotated[
    str | None,
    typer.Option(
        "--as-of",
        metavar="POSITION|TIME",
        show_default=False,
        help=f"As it stood at a position in the log, or at a time: {TIME_HELP}",
    ),
]
ColumnsOption = Annotated[
    list[str] | None,
    typer.Option(
        metavar="NAME,...", help="Only these columns, in this order; * stands for anything; repeat for more.", show_default=False
    ),
]
WhereOption = Annotated[
    str | None,
    typer.Option(
        metavar="QUERY", show_default=False,
        help="Only trials for which this holds: \"config.lr < 0.1 and train.loss.min < 1 order by result.loss\".",
    ),
]  # fmt: skip
SortOption = Annotated[str | None, typer.Option(metavar="COLUMN", help="Sort by this column.", show_default=False)]
DescendingOption = Annotated[bool, typer.Option("--descending", help="The largest first; without --sort, the last row.")]
LimitOption = Annotated[int | None, typer.Option(min=0, help="At most so many rows.", show_default=False)]
DeletedOption = Annotated[bool, typer.Option("--deleted", help="Those that were deleted as well.")]
AsRecordedOption = Annotated[bool, typer.Option("--as-recorded", help="The first values, without amendments.")]
FormatOption = Annotated[
    TableFormat | None,
    typer.Option(
        "--format", show_default=False, help="For people (table, if left out) or for programs; of a file told by its name's end."
    ),
]
OutputOption = Annotated[
    str | None,
    typer.Option(
        "--output", "-o", metavar="FILE", help="Write to this file, which appears when it is whole.", show_default=False
    ),
]
CacheDirOption = Annotated[
    str | None,
    typer.Option(
        metavar="DIRECTORY", help="Keep what was read here, for the next time: for a ledger that one may only read.",
        show_default=False,
    ),
]  # fmt: skip


@dataclass(frozen=True)
class Shape:
    """Which rows and columns of a table are shown, and where."""

    columns: Sequence[str] | None = None
    sort: str | None = None
    descending: bool = False
    limit: int | None = None
    form: TableFormat | None = None
    output: str | None = None

    @property
    def is_for_people(self) -> bool:
        """Whether it is shown as a table on standard output."""
        return self.output is None and self.form in (None, TableFormat.TABLE)

    def show(self, frame: pd.DataFrame, order: Callable[[list[str]], list[str]] | None = None) -> None:
        """Show a table; for people in the order of columns that ``order`` gives, unless columns were chosen."""
        from projections.export import flat

        frame = self._rows(flat(frame))
        names = [str(name) for name in frame.columns]
        if self.columns:
            frame = frame[_chosen(names, self.columns)]
        elif order is not None and self.is_for_people:
            frame = frame[order(names)]
        if self.output is not None:
            _write(frame, self.output, self.form)
        elif self.form in (TableFormat.PARQUET, TableFormat.ARROW):
            _write_stdout(frame, self.form)
        else:
            print_frame(frame, Format(self.form or TableFormat.TABLE))

    def _rows(self, frame: pd.DataFrame) -> pd.DataFrame:
        if self.sort is not None:
            frame = _sorted(frame, self.sort, self.descending)
        elif self.descending:
            frame = frame.iloc[::-1]
        return frame if self.limit is None else frame.head(self.limit)


# ------------------------------------------------------------------------------------------------------------ reading


@contextmanager
def open_tables(path: str, cache_dir: str | None) -> Iterator[Tables]:
    """Open the ledger at the path, and yield its tables, which show how far they are while they read."""
    if cache_dir is not None:
        check_text(cache_dir, "--cache-dir")
    with open_book(path) as book:
        from projections import Tables

        with progress_bar("reading") as progress, Tables(book, cache_dir=cache_dir, progress=progress) as tables:
            yield tables


def position_of(tables: Tables, as_of: str | None, option: str = "--as-of") -> int | None:
    """Return the position that an option's text means: a number of one, or a time; None for none."""
    if as_of is None:
        return None
    text = check_text(as_of, option).strip()
    if text.isascii() and text.isdigit():
        return int(text)
    nanoseconds = parse_time(text, option)
    moment = dt.datetime(1970, 1, 1, tzinfo=dt.UTC) + dt.timedelta(microseconds=nanoseconds // 1000)
    return tables.position(moment)


def experiment_id(tables: Tables, name: str, position: int | None) -> UUID:
    """Return the id of the experiment that has the name (or id), or had it as of the position."""
    if position is None:
        return find_experiment(tables.book, name).id
    return tables.find_experiment(check_text(name, "the experiment's name"), position)


def check_trial(tables: Tables, experiment: UUID, trial: int | None) -> None:
    """Raise UnknownTrial for a trial that the experiment has never had."""
    with tables.book.log.backend.view() as view:
        state = view.experiment(experiment)
    if trial is not None and state is not None:
        recorded_trial(tables.book, state, trial)


def trials_where(
    tables: Tables, experiment: UUID, where: str | None, position: int | None, *, deleted: bool = False
) -> list[int] | None:
    """Return the numbers of the trials that a query selects, in its order; None without a query."""
    if where is None:
        return None
    from projections import Reader

    with Reader(tables.book, tables.cache_dir, experiment=experiment, as_of=position, deleted=deleted) as reader:
        found: list[int] = list(reader.filter(check_text(where, "--where"))["info.trial_id"])
    return found


def only_trials(frame: pd.DataFrame, trials: Sequence[int] | None) -> pd.DataFrame:
    """Return the rows about these trials, in the order in which they are named; all rows for None."""
    if trials is None:
        return frame
    if "trial_id" not in frame.columns:  # it is in the index
        frame = frame.reset_index()
    places = {trial_id: place for place, trial_id in enumerate(trials)}
    kept = frame[frame["trial_id"].isin(list(places))]
    return kept.sort_values("trial_id", key=lambda ids: ids.map(places), kind="stable").reset_index(drop=True)


# ------------------------------------------------------------------------------------------------ columns, rows, order


def _chosen(names: list[str], wanted: Sequence[str]) -> list[str]:
    chosen: dict[str, None] = {}
    for text in wanted:
        for name in [text] if text in names else [part.strip() for part in text.split(",")]:
            found = [name] if name in names else fnmatch.filter(names, name) if "*" in name else []
            if not found:
                raise unknown_column(name, names, "--columns")
            chosen.update(dict.fromkeys(found))
    return list(chosen)


def unknown_column(column: str, names: list[str], option: str) -> typer.BadParameter:
    """Return the error for a column that a table has not, which names the nearest one."""
    whole = next((name for name in names if column.startswith(f"{name}.")), None)
    nearest = find_nearest(column, names)
    if whole is not None:
        hint = f" It may be a part of {whole!r}: --where knows those, a table has the whole as its column."
    else:
        hint = f" There are: {', '.join(names)}." if nearest is None else f" Did you mean {nearest!r}?"
    return typer.BadParameter(f"there is no column {column!r}.{hint}", param_hint=repr(option))


def _sorted(frame: pd.DataFrame, column: str, descending: bool) -> pd.DataFrame:
    if column not in frame.columns:
        raise unknown_column(column, [str(name) for name in frame.columns], "--sort")
    try:
        return frame.sort_values(column, ascending=not descending, kind="stable", na_position="last")
    except TypeError:  # values of several types, as configs may hold: by their text, which at least is an order
        return frame.sort_values(column, ascending=not descending, kind="stable", key=lambda values: values.astype(str))


# ------------------------------------------------------------------------------------------------------------- output


def print_frame(frame: pd.DataFrame, form: Format) -> None:
    """Print a DataFrame of plain columns."""
    if form is not Format.TABLE:
        from projections.export import csv_pieces, json_pieces

        pieces = csv_pieces(frame) if form is Format.CSV else json_pieces(frame, is_array=form is Format.JSON)
        for piece in pieces:
            write_bytes(piece)
        return
    columns = [str(column) for column in frame.columns]
    rows = frame.astype(object).itertuples(index=False, name=None)
    print_rows(columns, ([_cell(*pair) for pair in zip(columns, row, strict=True)] for row in rows), form)


def _cell(column: str, value: Any) -> Any:
    """Return a value as it is shown: in the table's own columns a tuple is merely a list that cannot change, a flag a word."""
    if column.startswith(("config.", "result.")):
        return value
    if isinstance(value, bool) and column.startswith(_FLAGS):
        return yes_or_no(value)
    return list(value) if isinstance(value, tuple) else value


def _write(frame: pd.DataFrame, output: str, form: TableFormat | None) -> None:
    from projections.export import write_table

    if form is TableFormat.TABLE:
        raise typer.BadParameter(
            "a table for people is not written to a file. Leave it out, or name another.", param_hint="'--format'"
        )
    path = write_table(frame, check_text(output, "--output"), file_format=None if form is None else form.value)
    print(f"Wrote {len(frame):,} row{'' if len(frame) == 1 else 's'} to {printable(os.fspath(path))}.", file=sys.stderr)


def _write_stdout(frame: pd.DataFrame, form: TableFormat) -> None:
    import io

    from projections.export import write_to

    if sys.stdout.isatty():
        raise typer.BadParameter(
            f"{form} is not for a terminal. Give it a file: --output trials.{form}.", param_hint="'--format'"
        )
    made = io.BytesIO()
    write_to(frame, made, form.value)
    write_bytes(made.getvalue())
