"""SQL over the tables of a ledger, by DuckDB.

Every table is there for all experiments at once, with the column ``experiment`` first; only those that a query names are
built. Columns have the names that they have as DataFrames, so most are to be put in double quotes: ``"config.lr"``. Columns of
mixed values are JSON texts, as ``projections.export`` describes; DuckDB's JSON functions take them apart. Times are in
microseconds, which is what DuckDB counts with. It does not tell upper case from lower case in names: of two columns that
differ in it alone the second one gets ``_1`` at its end.

A query sees the tables and nothing else: no files, no network, no variables of the program. It cannot change the ledger.
"""

from __future__ import annotations

import datetime as dt
import re
from collections.abc import Callable, Iterable, Sequence
from decimal import Decimal
from typing import TYPE_CHECKING, Any, NoReturn
from uuid import UUID

import numpy as np
import pandas as pd

import ledger
from ledger.errors import InvalidValue
from projections.columns import MISSING, NOT_A_TIME, integer_column, text_column, time_column
from projections.export import to_arrow
from projections.tables import Tables
from projections.timetravel import AsOf
from projections.value_column import value_column

if TYPE_CHECKING:
    import pyarrow as pa

_CLOSED = {
    "enable_external_access": False, "python_enable_replacements": False, "autoinstall_known_extensions": False,
    "autoload_known_extensions": False,
}  # fmt: skip

_DAY = 86_400_000_000_000  # nanoseconds

_KNOWN = frozenset({str, int, float, bool, bytes, UUID, type(None)})

#: The tables of one experiment each: methods of Tables that take the experiment, ``as_of``, and which of the options.
_BY_EXPERIMENT: dict[str, tuple[str, ...]] = {
    "trials": ("amended", "deleted"), "configs": ("deleted",), "groups": ("deleted",), "results": ("amended", "deleted"),
    "metrics": ("deleted",), "telemetry": ("deleted",), "status_history": ("amended", "deleted"), "artifacts": ("deleted",),
    "environments": ("deleted",), "environment_changes": (), "amendments": ("deleted",),
}  # fmt: skip

#: The names of the tables that a query can use.
TABLES = ("experiments", *_BY_EXPERIMENT)


def query(
    tables: Tables, sql: str, *, as_of: AsOf = None, experiment: str | UUID | None = None, amended: bool = True,
    deleted: bool = False,
) -> pd.DataFrame:  # fmt: skip
    """Return what a query of the tables selects, as they are or were as of a position or time.

    ``experiment``: only its rows are in the tables. ``amended=False``: values are as first recorded. ``deleted``: what was
    deleted is in all tables as well. Numbers come back as ``Int64`` and ``float64`` (decimals too: cast one to
    a text for all of its digits), times in UTC, intervals as ``timedelta64[ns]``, dates and times of day as ISO 8601 texts; so
    are intervals where one of them has months or more than 292 years.

    Needs the extra ``query``. Raises InvalidValue for what is no query of the tables, with DuckDB's words and the cure.

    >>> import ledger
    >>> book = ledger.open("memory:")
    >>> exp = book.experiment("demo")
    >>> for lr in (0.1, 0.2, 0.2):
    ...     exp.new_trial({"lr": lr}).complete({"loss": lr * 2})
    >>> query(Tables(book), 'select "config.lr" as lr, count(*) as n from trials group by lr order by lr').values.tolist()
    [[0.1, 1], [0.2, 2]]
    """
    duckdb = _duckdb()
    if not isinstance(sql, str):
        raise InvalidValue(f"the query is {sql!r}; give a text: 'select * from trials'.")
    position = tables.position(as_of)  # one for all tables
    only = None if experiment is None else tables.find_experiment(experiment, position)
    with duckdb.connect(":memory:", config=_CLOSED) as connection:
        try:
            statements = connection.extract_statements(sql)
            if len(statements) != 1:
                raise InvalidValue(f"there are {len(statements)} statements in the query; give one: 'select * from trials'.")
            connection.execute("set TimeZone = 'UTC'")
            for name in _named(sql):
                connection.register(name, _arrow_table(tables, name, position, only, amended=amended, deleted=deleted))
            connection.execute("set lock_configuration = true")
            relation = connection.sql(sql)
        except duckdb.Error as error:
            _refuse(error, sql)
        if relation is None:
            raise InvalidValue("the query gives no rows. Give one that does: 'select * from trials'.")
        try:
            return _frame(relation.to_arrow_table())
        except duckdb.Error as error:  # found when rows were made: a cast that fails, a limit of memory
            _refuse(error, sql)


def _duckdb() -> Any:
    try:
        import duckdb
        import pyarrow  # noqa: F401 - tables come and go by it
    except ModuleNotFoundError:
        raise InvalidValue("SQL needs DuckDB and pyarrow: pip install 'experiment-ledger[query]'.") from None
    return duckdb


def _named(sql: str) -> list[str]:
    """Return the tables whose names are in the query, all of them when none is (``show tables``)."""
    words = set(re.findall(r"\w+", sql.lower()))
    return [name for name in TABLES if name in words] or list(TABLES)


def _refuse(error: Exception, sql: str) -> NoReturn:
    text = str(error).strip()
    said = " ".join(text.partition("\n\nLINE ")[0].split())
    said = re.sub(r'Did you mean "(pg_|duckdb_|sqlite_)\w+"\?', "", said).strip()
    hint = f"The tables are {', '.join(TABLES)}."
    dotted = re.search(r'Referenced table "(config|result)" not found', said)
    if dotted:
        hint = f'Put names with dots in double quotes: "{dotted[1]}.name". {hint}'
    elif "disabled by configuration" in said or "disabled through configuration" in said:
        hint = f"A query sees the tables only, no files and no network. {hint}"
    raise InvalidValue(f"the query cannot be answered: {said.rstrip('.')}. {hint}") from error


# ------------------------------------------------------------------------------------------------------ tables to SQL


def _arrow_table(tables: Tables, name: str, position: int, only: UUID | None, **options: bool) -> pa.Table:
    experiments = tables.experiments(as_of=position, deleted=options["deleted"] or only is not None)
    if only is not None:
        experiments = experiments[experiments["experiment_id"] == str(only)].reset_index(drop=True)
    if name == "experiments":
        return _in_microseconds(to_arrow(experiments))
    table: Callable[..., pd.DataFrame] = getattr(tables, name)
    own = {option: options[option] for option in _BY_EXPERIMENT[name]}
    frames = [table(UUID(str(identifier)), as_of=position, **own) for identifier in experiments["experiment_id"]]
    whole = joined(list(experiments["name"]), frames) if frames else joined([""], [_without_rows(name)])
    return _in_microseconds(to_arrow(whole))


def _without_rows(name: str) -> pd.DataFrame:
    """Return a table in which nothing was recorded."""
    with ledger.open("memory:") as book:
        table: Callable[..., pd.DataFrame] = getattr(Tables(book), name)
        return table(book.experiment("none").id)


def _in_microseconds(table: pa.Table) -> pa.Table:
    """Return the table with times as DuckDB can count with them."""
    import pyarrow as pa

    for place, field in enumerate(table.schema):
        if pa.types.is_timestamp(field.type):
            column = table.column(place).cast(pa.timestamp("us", field.type.tz), safe=False)
            table = table.set_column(place, field.name, column)
    return table


def joined(names: Sequence[str], frames: Sequence[pd.DataFrame]) -> pd.DataFrame:
    """Return the tables of several experiments as one, with the column ``experiment`` first.

    A column that is not of the same type everywhere, or not there everywhere, gets the type that its values have together.
    Tables without rows have no say in it, unless none has any.

    >>> frames = [pd.DataFrame({"config.x": [1]}), pd.DataFrame({"config.x": ["y"], "config.z": [True]})]
    >>> joined(["a", "b"], frames)["config.x"].tolist()
    [1, 'y']
    """
    frames = [frame.reset_index() if frame.index.name is not None else frame for frame in frames]
    columns = {"experiment": text_column([name for name, frame in zip(names, frames, strict=True) for _ in range(len(frame))])}
    frames = [frame for frame in frames if len(frame)] or frames[:1]
    for name in _in_order(str(column) for frame in frames for column in frame.columns):
        parts = [frame.get(name) for frame in frames]
        whole = [part for part in parts if part is not None]
        if len(whole) == len(parts) and len({part.dtype for part in whole}) == 1:
            columns[name] = pd.concat(whole, ignore_index=True)
        else:
            values = [value for part, frame in zip(parts, frames, strict=True) for value in _values(part, len(frame))]
            columns[name] = value_column(values)
    return pd.DataFrame(columns)


def _in_order(names: Iterable[str]) -> list[str]:
    """Return the names, each once: the table's own first, then ``config.`` and ``result.``, sorted."""
    return sorted(dict.fromkeys(names), key=_place)


def _place(name: str) -> tuple[int, str]:
    for place, prefix in enumerate(("config.", "result."), start=1):
        if name.startswith(prefix):
            return place, name
    return 0, ""


def _values(part: pd.Series[Any] | None, length: int) -> list[Any]:
    if part is None:
        return [MISSING] * length
    is_object = part.dtype == object
    return [
        MISSING if (value is None if is_object else bool(pd.isna(value))) else value for value in part.astype(object).tolist()
    ]


# ----------------------------------------------------------------------------------------------------- SQL to a table


def _frame(table: pa.Table) -> pd.DataFrame:
    """Return what DuckDB answered as columns of the dtypes that tables have."""
    columns: dict[str, pd.Series[Any]] = {}
    for place, name in enumerate(table.column_names):
        unique, count = name, 0
        while unique in columns:
            count += 1
            unique = f"{name}_{count}"
        columns[unique] = _column(table.column(place))
    return pd.DataFrame(columns)


def _column(column: Any) -> pd.Series[Any]:
    import pyarrow as pa

    if pa.types.is_timestamp(column.type):
        return time_column(column.cast(pa.timestamp("ns", column.type.tz)).cast(pa.int64()).to_pylist())
    values = column.to_pylist()
    if pa.types.is_signed_integer(column.type):
        return integer_column(values)
    if pa.types.is_interval(column.type):
        return _interval_column(values)
    return value_column([MISSING if value is None else _value(value) for value in values])


def _interval_column(values: Sequence[Any]) -> pd.Series[Any]:
    try:
        cells = [NOT_A_TIME if value is None else _nanoseconds(value) for value in values]
        return pd.Series(np.array(cells, np.int64).view("m8[ns]"))
    except OverflowError:
        return text_column([None if value is None else _value(value) for value in values])


def _nanoseconds(interval: Any) -> int:
    if interval.months:
        raise OverflowError("months have no fixed length")
    return int(interval.days) * _DAY + int(interval.nanoseconds)


def _value(value: Any) -> Any:
    """Return a value in the terms of a table's."""
    if type(value).__name__ == "MonthDayNano":  # as pyarrow has an interval
        seconds = Decimal(value.nanoseconds).scaleb(-9)
        return f"P{value.months}M{value.days}DT{seconds.normalize():f}S"
    if isinstance(value, Decimal):
        return int(value) if value.as_tuple().exponent == 0 else float(value)
    if isinstance(value, dt.datetime):
        return value.to_pydatetime(warn=False) if isinstance(value, pd.Timestamp) else value
    if isinstance(value, dt.date | dt.time):
        return value.isoformat()
    if type(value) in (list, tuple):
        return type(value)(_value(item) for item in value)
    if isinstance(value, dict):
        return {key: _value(item) for key, item in value.items()}
    return value if type(value) in _KNOWN else str(value)
