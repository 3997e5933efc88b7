"""Commands that show what is recorded beside trials and their results: metrics, changes of status, what changed."""

from __future__ import annotations

import enum
from typing import Annotated

import typer

from ledger.cli.app import command
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
    WhereOption,
    check_trial,
    experiment_id,
    only_trials,
    open_tables,
    position_of,
    trials_where,
)
from ledger.cli.opening import ExperimentArgument, PathArgument, TrialArgument
from ledger.values import check_text


@command(
    "ledger metrics runs.ledger sqlite-tuning",
    "ledger metrics runs.ledger sqlite-tuning 1 --name throughput --pivoted",
    "ledger metrics runs.ledger sqlite-tuning --where 'exists(result.latency_ms)' --output metrics.parquet",
)  # fmt: skip
def metrics(
    path: PathArgument,
    experiment: ExperimentArgument,
    trial: TrialArgument = None,
    name: Annotated[list[str] | None, typer.Option(help="Only this metric; repeat for more.", show_default=False)] = None,
    pivoted: Annotated[bool, typer.Option("--pivoted", help="A row for each step of a trial, a column for each metric.")] = False,
    telemetry: Annotated[bool, typer.Option("--telemetry", help="What was logged about the run itself instead.")] = False,
    as_of: AsOfOption = None,
    where: WhereOption = None,
    columns: ColumnsOption = None,
    sort: SortOption = None,
    descending: DescendingOption = False,
    limit: LimitOption = None,
    deleted: DeletedOption = False,
    form: FormatOption = None,
    output: OutputOption = None,
    cache_dir: CacheDirOption = None,
) -> None:
    """Show the metrics of trials, a row for each point.

    Of one trial, or of all of an experiment. With --telemetry what was logged about the runs themselves.
    """
    with open_tables(path, cache_dir) as tables:
        position = position_of(tables, as_of)
        found = experiment_id(tables, experiment, position)
        check_trial(tables, found, trial)
        wanted = trials_where(tables, found, where, position, deleted=deleted)
        show = tables.telemetry if telemetry else tables.metrics
        frame = show(
            found, trials=trial, names=[check_text(each, "--name") for each in name] if name else None,
            form="pivoted" if pivoted else "long", as_of=position, deleted=deleted,
        )  # fmt: skip
    Shape(columns, sort, descending, limit, form, output).show(only_trials(frame, wanted))


@command(
    "ledger status-history runs.ledger sqlite-tuning",
    "ledger status-history runs.ledger sqlite-tuning 1 --as-of 2d",
    name="status-history",
)
def status_history(
    path: PathArgument,
    experiment: ExperimentArgument,
    trial: TrialArgument = None,
    as_of: AsOfOption = None,
    where: WhereOption = None,
    columns: ColumnsOption = None,
    sort: SortOption = None,
    descending: DescendingOption = False,
    limit: LimitOption = None,
    as_recorded: AsRecordedOption = False,
    deleted: DeletedOption = False,
    form: FormatOption = None,
    output: OutputOption = None,
    cache_dir: CacheDirOption = None,
) -> None:
    """Show every change of a trial's status.

    From what to what, when, by whom and why; of one trial, or of all of an experiment.
    """
    with open_tables(path, cache_dir) as tables:
        position = position_of(tables, as_of)
        found = experiment_id(tables, experiment, position)
        check_trial(tables, found, trial)
        wanted = trials_where(tables, found, where, position, deleted=deleted)
        frame = tables.status_history(found, trials=trial, as_of=position, amended=not as_recorded, deleted=deleted)
    Shape(columns, sort, descending, limit, form, output).show(only_trials(frame, wanted))


class ChangedTable(enum.StrEnum):
    """The tables of an experiment that can be compared."""

    TRIALS = "trials"
    CONFIGS = "configs"
    GROUPS = "groups"
    RESULTS = "results"
    METRICS = "metrics"
    TELEMETRY = "telemetry"
    STATUS_HISTORY = "status-history"
    ARTIFACTS = "artifacts"
    ENVIRONMENTS = "environments"
    AMENDMENTS = "amendments"


_ABOUT_TRIALS = ("trials", "results", "metrics", "telemetry", "status-history", "environments")


@command(
    "ledger changes runs.ledger sqlite-tuning --after 1d",
    "ledger changes runs.ledger sqlite-tuning --after 100 --as-of 200 --table results",
)
def changes(
    path: PathArgument,
    experiment: ExperimentArgument,
    after: Annotated[str, typer.Option(metavar="POSITION|TIME", help="What came after this position, or time.")] = "0",
    as_of: AsOfOption = None,
    table: Annotated[ChangedTable, typer.Option(help="The table to compare.")] = ChangedTable.TRIALS,
    where: WhereOption = None,
    columns: ColumnsOption = None,
    sort: SortOption = None,
    descending: DescendingOption = False,
    limit: LimitOption = None,
    form: FormatOption = None,
    output: OutputOption = None,
    cache_dir: CacheDirOption = None,
) -> None:
    """Show what changed between two places.

    What is different in a table, row by row, value by value, from --after to --as-of: by default from the beginning to now.
    An added row has a line for each value in it. --where looks at trials as they are at the end.
    """
    with open_tables(path, cache_dir) as tables:
        last = position_of(tables, as_of)
        first = position_of(tables, after, "--after")
        if tables.position(first) > tables.position(last):
            raise typer.BadParameter(
                f"--after {after} is position {tables.position(first)}, behind --as-of {as_of}, which is "
                f"{tables.position(last)}. Swap them."
            )
        found = experiment_id(tables, experiment, last)
        if where is not None and table.value not in _ABOUT_TRIALS:
            raise typer.BadParameter(f"the table {table} is not of trials. Leave it out.", param_hint="'--where'")
        wanted = trials_where(tables, found, where, last)
        frame = tables.changes(table.value.replace("-", "_"), found, after=first, until=last)
    Shape(columns, sort, descending, limit, form, output).show(only_trials(frame, wanted))
