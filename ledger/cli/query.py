"""The command that answers SQL."""

from __future__ import annotations

import sys
from typing import Annotated

import typer

from ledger.cli.app import command
from ledger.cli.completion import complete_experiments
from ledger.cli.frames import (
    AsOfOption,
    AsRecordedOption,
    CacheDirOption,
    ColumnsOption,
    DeletedOption,
    DescendingOption,
    FormatOption,
    LimitOption,
    OutputOption,
    Shape,
    SortOption,
    experiment_id,
    open_tables,
    position_of,
)
from ledger.cli.opening import PathArgument
from ledger.values import check_text


@command(
    "ledger query runs.ledger \"select experiment, status, count(*) from trials group by all\"",
    "ledger query runs.ledger 'select \"config.journal\", min(\"result.latency_ms\") from trials group by 1' -e sqlite-tuning",
    "ledger query runs.ledger 'select * from metrics' --as-of 2d --output metrics.parquet",
    "ledger query runs.ledger \"select \\\"config.optimizer\\\"->>'lr' lr, count(*) from trials group by 1\"",
    "ledger query runs.ledger 'describe trials'",
)  # fmt: skip
def query(
    path: PathArgument,
    sql: Annotated[str, typer.Argument(metavar="SQL", help="The query; - reads it from standard input.")],
    experiment: Annotated[
        str | None,
        typer.Option(
            "--experiment", "-e", help="Only of this experiment, by name or id.", show_default=False,
            autocompletion=complete_experiments,
        ),
    ] = None,
    as_of: AsOfOption = None,
    columns: ColumnsOption = None,
    sort: SortOption = None,
    descending: DescendingOption = False,
    limit: LimitOption = None,
    as_recorded: AsRecordedOption = False,
    deleted: DeletedOption = False,
    form: FormatOption = None,
    output: OutputOption = None,
    cache_dir: CacheDirOption = None,
) -> None:  # fmt: skip
    """Answer a query in SQL (that of DuckDB) over the tables.

    The tables are experiments, and with the column experiment: trials, configs, groups, results, metrics, telemetry,
    status_history, artifacts, environments, environment_changes and amendments. Names with dots are put in double quotes;
    dicts, lists and mixed values are JSON. A query sees nothing but these tables, and changes nothing. Needs the extra `query`.
    """
    text = check_text(sys.stdin.read() if sql == "-" else sql, "the query")
    with open_tables(path, cache_dir) as tables:
        from projections.sql import query as answer

        position = position_of(tables, as_of)
        only = None if experiment is None else experiment_id(tables, experiment, position)
        frame = answer(tables, text, as_of=position, experiment=only, amended=not as_recorded, deleted=deleted)
    Shape(columns, sort, descending, limit, form, output).show(frame)
