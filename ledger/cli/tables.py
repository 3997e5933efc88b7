"""Commands that show the tables of experiments, trials, configs and groups. They import pandas, by ``projections``."""

from __future__ import annotations

from typing import TYPE_CHECKING, Annotated, Literal

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
    experiment_id,
    only_trials,
    open_tables,
    position_of,
    trials_where,
)
from ledger.cli.opening import ExperimentArgument, PathArgument
from ledger.state import Status

if TYPE_CHECKING:
    import pandas as pd


@command(
    "ledger experiments runs.ledger",
    "ledger experiments runs.ledger --as-of 2d --format json",
    "ledger experiments runs.ledger --sort updated_at --descending --limit 3",
)
def experiments(
    path: PathArgument,
    as_of: AsOfOption = None,
    columns: ColumnsOption = None,
    sort: SortOption = None,
    descending: DescendingOption = False,
    limit: LimitOption = None,
    deleted: DeletedOption = False,
    form: FormatOption = None,
    output: OutputOption = None,
    cache_dir: CacheDirOption = None,
) -> None:
    """List the experiments."""
    with open_tables(path, cache_dir) as tables:
        frame = tables.experiments(as_of=position_of(tables, as_of), deleted=deleted)
    Shape(columns, sort, descending, limit, form, output).show(frame)


@command(
    "ledger trials runs.ledger sqlite-tuning --sort result.latency_ms --limit 5",
    "ledger trials runs.ledger sqlite-tuning --where \"config.journal == 'wal' order by result.latency_ms\"",
    "ledger trials runs.ledger sqlite-tuning --status FAILED --format jsonl",
    "ledger trials runs.ledger sqlite-tuning --as-of 2026-11-20T12:00Z --columns 'trial_id,status,config.*'",
    "ledger trials runs.ledger sqlite-tuning --as-recorded --output trials.parquet",
)  # fmt: skip
def trials(
    path: PathArgument,
    experiment: ExperimentArgument,
    as_of: AsOfOption = None,
    status: Annotated[
        list[Status] | None,
        typer.Option(case_sensitive=False, help="Only trials of this status; repeat for more.", show_default=False),
    ] = None,
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
    """List the trials of an experiment.

    One row a trial: status, times, config and results.
    """
    with open_tables(path, cache_dir) as tables:
        position = position_of(tables, as_of)
        found = experiment_id(tables, experiment, position)
        frame = tables.trials(found, as_of=position, amended=not as_recorded, deleted=deleted)
        frame = only_trials(frame, trials_where(tables, found, where, position, deleted=deleted))
        with tables.book.log.backend.view() as view:
            state = view.experiment(found)
        objectives = list(state.objectives) if state is not None else []
    if status:
        frame = frame[frame["status"].astype(str).isin([str(one) for one in status])]
    Shape(columns, sort, descending, limit, form, output).show(frame, lambda names: _for_people(names, objectives))


@command(
    "ledger configs runs.ledger sqlite-tuning",
    "ledger configs runs.ledger sqlite-tuning --where \"status == 'FAILED'\" --format csv",
)
def configs(
    path: PathArgument,
    experiment: ExperimentArgument,
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
    """List the configs of an experiment.

    One row for each config that was tried, with its digest and their number. --where: those of the trials
    for which it holds.
    """
    frame = _by_config("configs", path, experiment, as_of, where, cache_dir, deleted=deleted)
    Shape(columns, sort, descending, limit, form, output).show(frame, _config_first)


@command(
    "ledger groups runs.ledger sqlite-tuning --sort trials --descending",
    "ledger groups runs.ledger sqlite-tuning --where \"config.journal == 'wal'\"",
)
def groups(
    path: PathArgument,
    experiment: ExperimentArgument,
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
    """List groups of trials with the same config.

    Those whose config it is, run again perhaps. A group is numbered by its first trial. --where: the groups of the trials
    for which it holds.
    """
    frame = _by_config("groups", path, experiment, as_of, where, cache_dir, deleted=deleted)
    Shape(columns, sort, descending, limit, form, output).show(frame, _config_first)


def _by_config(
    table: Literal["configs", "groups"], path: str, experiment: str, as_of: str | None, where: str | None,
    cache_dir: str | None, *, deleted: bool,
) -> pd.DataFrame:  # fmt: skip
    """Return a table of configs, of the trials alone for which the query holds."""
    with open_tables(path, cache_dir) as tables:
        position = position_of(tables, as_of)
        found = experiment_id(tables, experiment, position)
        frame = (tables.configs if table == "configs" else tables.groups)(found, as_of=position, deleted=deleted)
        wanted = trials_where(tables, found, where, position, deleted=deleted)
        if wanted is None:
            return frame
        used = only_trials(tables.trials(found, as_of=position, deleted=deleted), wanted)["config_id"]
        return frame[frame["config_id"].isin(used)].reset_index(drop=True)


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


def _config_first(columns: list[str]) -> list[str]:
    """Put the parameters after the numbers of rows and trials, and before what else there is."""
    early = ("config_id", "group_id", "trials")
    return sorted(columns, key=lambda column: 0 if column in early else 1 if column.startswith("config.") else 2)
