"""DetailTables: the tables of what is recorded beside trials and their results."""

from __future__ import annotations

import datetime as dt
from abc import ABC, abstractmethod
from collections.abc import Callable, Iterable, Sequence
from functools import partial
from typing import Any, TypeVar
from uuid import UUID

import pandas as pd

import ledger
from ledger.errors import InvalidValue, UnknownExperiment
from projections.amendment_table import AmendmentTable
from projections.artifact_table import ArtifactTable
from projections.changes import compare
from projections.environment_table import EnvironmentTable
from projections.experiments import Experiments
from projections.metric_series import MetricSeries
from projections.metric_table import Alignment, Form, MetricTable, TelemetryTable
from projections.projection import Projection
from projections.result_table import result_table
from projections.status_history_table import StatusHistoryTable
from projections.timetravel import AsOf

P = TypeVar("P", bound=Projection)
T = TypeVar("T")

#: The tables that can be compared, with the columns by which their rows are known.
KEYS: dict[str, tuple[str, ...]] = {
    "experiments": ("experiment_id",),
    "trials": ("trial_id",),
    "configs": ("config_id",),
    "groups": ("group_id",),
    "results": ("trial_id", "name"),
    "metrics": ("trial_id", "name", "position", "step"),
    "telemetry": ("trial_id", "name", "position", "time"),
    "status_history": ("trial_id", "position"),
    "artifacts": ("position",),
    "environments": ("trial_id",),
    "environment_changes": ("position", "kind"),
    "amendments": ("position",),
}


#: Those of which each row is a value that was recorded, be it NaN or None.
_OF_VALUES = ("results", "metrics", "telemetry")


class DetailTables(ABC):
    """The part of ``Tables`` that shows what is recorded beside trials and their results, and what has changed.

    Of all of them: ``as_of`` is a position or a time; ``trials`` are numbers of trials, all by default; with ``deleted``
    the trials that were deleted are there as well.
    """

    book: ledger.Ledger

    @abstractmethod
    def trials(
        self, experiment: str | UUID, *, as_of: AsOf = None, now: dt.datetime | int | None = None, amended: bool = True,
        deleted: bool = False,
    ) -> pd.DataFrame:  # fmt: skip
        """Return the table of trials."""

    @abstractmethod
    def position(self, as_of: AsOf = None) -> int:
        """Return the position that ``as_of`` means."""

    @abstractmethod
    def find_experiment(self, experiment: str | UUID, as_of: AsOf = None) -> UUID:
        """Return the id of an experiment."""

    @abstractmethod
    def read(self, kind: type[P], experiment: str | UUID, as_of: AsOf, show: Callable[[P, UUID], T]) -> T:
        """Return what ``show`` makes of a projection as of a place, and of the experiment's id."""

    def metrics(
        self, experiment: str | UUID, *, trials: Iterable[int] | int | None = None, names: Iterable[str] | str | None = None,
        form: Form = "long", by: Alignment | None = None, as_of: AsOf = None, deleted: bool = False,
    ) -> pd.DataFrame:  # fmt: skip
        """Return the metrics of trials, all or those of some ``names``; ``MetricTable`` documents the forms and columns.

        ``form``: ``long`` (a row for each point), ``pivoted`` (a row for each step of a trial, a column for each metric;
        ``by="time"``: for each time) or ``mlos_bench``.

        >>> import ledger, projections
        >>> book = ledger.open("memory:")
        >>> book.experiment("demo").new_trial({}).log_many({"loss": [0.5, 0.25]}, steps=[1, 2])
        >>> projections.Tables(book).metrics("demo", form="pivoted")["loss"].tolist()
        [0.5, 0.25]
        """
        return self.read(
            MetricTable, experiment, as_of,
            lambda table, id_: table.table(id_, trials=trials, names=names, form=form, by=by, deleted=deleted),
        )  # fmt: skip

    def telemetry(
        self, experiment: str | UUID, *, trials: Iterable[int] | int | None = None, names: Iterable[str] | str | None = None,
        form: Form = "long", by: Alignment | None = None, as_of: AsOf = None, deleted: bool = False,
    ) -> pd.DataFrame:  # fmt: skip
        """Return the telemetry of trials, as ``metrics``; pivoted, it has a row for each time."""
        return self.read(
            TelemetryTable, experiment, as_of,
            lambda table, id_: table.table(id_, trials=trials, names=names, form=form, by=by, deleted=deleted),
        )  # fmt: skip

    def metric(
        self, experiment: str | UUID, name: str, *, trials: Iterable[int] | int | None = None, as_of: AsOf = None,
        deleted: bool = False, superseded: bool = False,
    ) -> MetricSeries:  # fmt: skip
        """Return one metric of many trials as arrays; see ``MetricSeries``.

        >>> import ledger, projections
        >>> book = ledger.open("memory:")
        >>> book.experiment("demo").new_trial({}).log_many({"loss": [0.5, 0.25]}, steps=[1, 2])
        >>> projections.Tables(book).metric("demo", "loss").reduce("min").tolist()
        [0.25]
        """
        return self.read(
            MetricTable, experiment, as_of,
            lambda table, id_: table.series(id_, name, trials=trials, deleted=deleted, superseded=superseded),
        )  # fmt: skip

    def results(
        self, experiment: str | UUID, *, form: Form = "long", as_of: AsOf = None, amended: bool = True, deleted: bool = False
    ) -> pd.DataFrame:
        """Return the results of trials in long form, NaN and None among them; ``result_table`` documents the columns.

        ``form="mlos_bench"``: ``trial_id``, ``metric``, ``value``. ``amended=False``: as first recorded.

        >>> import ledger, projections
        >>> book = ledger.open("memory:")
        >>> book.experiment("demo").new_trial({}).complete({"loss": 0.5})
        >>> projections.Tables(book).results("demo").values.tolist()
        [[1, 'loss', 0.5]]
        """
        if form not in ("long", "mlos_bench"):
            raise InvalidValue(f"form is {form!r}; results are shown as 'long' or 'mlos_bench'. Side by side: tables.trials.")
        long = self._results(experiment, as_of=as_of, amended=amended, deleted=deleted)
        return long.rename(columns={"name": "metric"}) if form == "mlos_bench" else long

    def _results(self, experiment: str | UUID, *, as_of: AsOf, **options: bool) -> pd.DataFrame:
        return self.read(Experiments, experiment, as_of, lambda experiments, id_: result_table(experiments.of(id_), **options))

    def status_history(
        self, experiment: str | UUID, *, trials: Iterable[int] | int | None = None, as_of: AsOf = None, amended: bool = True,
        deleted: bool = False,
    ) -> pd.DataFrame:  # fmt: skip
        """Return every change of a status; ``StatusHistoryTable`` documents the columns. ``amended=False``: as recorded."""
        return self.read(
            StatusHistoryTable, experiment, as_of,
            lambda table, id_: table.table(id_, trials=trials, amended=amended, deleted=deleted),
        )  # fmt: skip

    def artifacts(
        self, experiment: str | UUID, *, trials: Iterable[int] | int | None = None, names: Iterable[str] | str | None = None,
        as_of: AsOf = None, deleted: bool = False,
    ) -> pd.DataFrame:  # fmt: skip
        """Return the artifacts of an experiment and its trials; ``ArtifactTable`` documents the columns."""
        return self.read(
            ArtifactTable, experiment, as_of, lambda table, id_: table.table(id_, trials=trials, names=names, deleted=deleted)
        )

    def environments(
        self, experiment: str | UUID, *, trials: Iterable[int] | int | None = None, as_of: AsOf = None, deleted: bool = False
    ) -> pd.DataFrame:
        """Return what trials ran with, a row for each; ``EnvironmentTable`` documents the columns."""
        return self.read(
            EnvironmentTable, experiment, as_of, lambda table, id_: table.table(id_, trials=trials, deleted=deleted)
        )  # fmt: skip

    def environment_changes(self, experiment: str | UUID, *, as_of: AsOf = None) -> pd.DataFrame:
        """Return when trials began to run with something else; see ``EnvironmentTable.changes``."""
        return self.read(EnvironmentTable, experiment, as_of, lambda table, id_: table.changes(id_))

    def amendments(
        self, experiment: str | UUID, *, trials: Iterable[int] | int | None = None, as_of: AsOf = None, deleted: bool = False
    ) -> pd.DataFrame:
        """Return what was corrected or redacted; ``AmendmentTable`` documents the columns."""
        return self.read(
            AmendmentTable, experiment, as_of,
            lambda table, id_: table.table(
                id_, lambda stream: self.book.log.read(stream=stream), trials=trials, deleted=deleted
            ),
        )  # fmt: skip

    # ------------------------------------------------------------------------------------------------- changes

    def changes(
        self, table: str, experiment: str | UUID | None = None, *, after: AsOf = 0, until: AsOf = None,
        keys: Sequence[str] | None = None, **options: Any,
    ) -> pd.DataFrame:  # fmt: skip
        """Return what changed in a table from one place in the log to another, row by row, value by value.

        ``table`` is the name of a table (``trials``, ``metrics``, ``status_history`` ...), ``experiment`` whose it is, as
        named at ``until``; ``after`` and ``until`` are positions or times. The other options are the table's own. Columns:
        those by which the rows are known, ``change`` (added, changed or removed), ``column``, ``before``, ``after``; see
        ``projections.changes.compare``. Of results, metrics and telemetry NaN and None are values like others; in the table of
        trials they are shown, and compared, like what is missing.

        Raises InvalidValue for a table that there is not, for a form other than the long one, and when ``until`` is before
        ``after``.

        >>> import ledger, projections
        >>> book = ledger.open("memory:")
        >>> trial = book.experiment("demo").new_trial({"lr": 0.1})
        >>> trial.complete({"loss": 0.5})
        >>> seen = book.log.head
        >>> _ = trial.amend(results={"loss": 0.25}, reason="read from the wrong line")
        >>> projections.Tables(book).changes("trials", "demo", after=seen).values.tolist()
        [[1, 'changed', 'is_amended', False, True], [1, 'changed', 'result.loss', 0.5, 0.25]]
        """
        if table not in KEYS:
            raise InvalidValue(f"there is no table {table!r} to compare; there are: {', '.join(KEYS)}.")
        first, last = self.position(after), self.position(until)
        if last < first:
            raise InvalidValue(f"until ({until!r}) is position {last}, before after ({after!r}), which is {first}. Swap them.")
        if table in _OF_VALUES and options.pop("form", "long") != "long":
            raise InvalidValue(f"changes of {table} are told in long form, a row for each value. Leave form out.")
        show: Callable[..., pd.DataFrame] = partial(self._results, exact=True) if table == "results" else getattr(self, table)
        if table == "experiments":
            return compare(show(as_of=first, **options), show(as_of=last, **options), keys or KEYS[table])
        if experiment is None:
            raise InvalidValue(f"the table {table!r} is of one experiment; name it: changes({table!r}, 'its name', ...).")
        identifier = self.find_experiment(experiment, last)
        newer = show(identifier, as_of=last, **options)
        try:
            older = show(identifier, as_of=first, **options)
        except UnknownExperiment:  # it was not there yet
            older = newer.iloc[:0]
        return compare(older, newer, keys or KEYS[table], recorded=("value",) if table in _OF_VALUES else ())
